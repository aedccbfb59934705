"""Random states: draws that do not change the draws after them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RandomState", "fork_rng", "random_state", "with_random_state"]


class RandomState(NamedTuple):
    """Torch's random states."""

    cpu: Tensor
    cuda: list[Tensor]  # of each device, where CUDA is in use


def random_state() -> RandomState:
    """Torch's random state now, of the CPU and of all CUDA devices."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return RandomState(torch.get_rng_state(), cuda)


@contextmanager
def with_random_state(state: RandomState) -> Iterator[None]:
    """The block draws the random numbers that followed a state; the present one is restored after it."""
    with fork_rng():
        torch.set_rng_state(state.cpu)
        if state.cuda:
            torch.cuda.set_rng_state_all(state.cuda)
        yield


@contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Restores torch's random state when the block ends; the block starts from a seed, if one is given."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield
