"""Random states: draws that leave the draws around them as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["fork_rng"]


@contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Restores torch's random state on leaving, on the CPU and on GPUs in use.

    Args:
        seed: Seed of the draws inside. None: they continue from the state before.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield
