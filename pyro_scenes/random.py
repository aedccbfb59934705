"""Random states: draws that do not change the draws after them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["fork_rng"]


@contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Restores torch's random state when the block ends; the block starts from a seed, if one is given."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield
