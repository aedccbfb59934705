"""Random states: draws that do not change the draws after them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["fork_rng", "random_state", "set_random_state", "with_random_state"]


@contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Restores torch's random state when the block ends; the block starts from a seed, if one is given."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Any]:
    """torch's random state: ``cpu``, and that of each device of ``cuda``."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Restores what :func:`random_state` returned; on a machine with other devices, on the CPU alone.

    Raises:
        KeyError, RuntimeError, TypeError: It is none; then nothing has changed.
    """
    torch.Generator().set_state(state["cpu"])  # raises where the state is none
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    torch.set_rng_state(state["cpu"])


@contextmanager
def with_random_state(state: dict[str, Any]) -> Iterator[None]:
    """The block draws the random numbers that followed a state; the present one is restored after it."""
    with fork_rng():
        set_random_state(state)
        yield
