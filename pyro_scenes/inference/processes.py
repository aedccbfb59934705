"""The processes of ``torch.distributed`` that train together: how many they are, and what they exchange.

A program that has started no group of processes is one process, the first of one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as world
from torch import Tensor

__all__ = ["broadcast", "count", "gathered", "is_first", "of_first", "own_share", "rank", "total"]

Value = TypeVar("Value")


def count() -> int:
    """How many processes there are."""
    return world.get_world_size() if _is_group() else 1


def rank() -> int:
    """The number of this process, from 0 up."""
    return world.get_rank() if _is_group() else 0


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def of_first(function: Callable[[], Value]) -> Value:
    """What a function returns in the first process, the only one that calls it. Every process must ask."""
    values = [function() if is_first() else None]
    if count() > 1:
        with _together():
            world.broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]  # of the others the broadcast has filled it


def own_share(batch: Any) -> Any:
    """What this process takes of a tensor (n, ...), or of each tensor of a tuple."""
    return tuple(map(own_share, batch)) if isinstance(batch, tuple) else batch[rank() :: count()]


def gathered(value: Value) -> list[Value]:
    """The values of all processes, in their order. Every process must give its own."""
    values = [value] * count()
    if count() > 1:
        with _together():
            world.all_gather_object(values, value)
    return values


@torch.no_grad()
def broadcast(tensors: list[Tensor]) -> None:
    """Gives tensors of all processes the values of the first one's, in place."""
    for tensor in (tensor for tensor in tensors if tensor.numel()):
        # A copy that is contiguous: gloo reads and writes other layouts as if they were, without an error.
        copy = _sent(tensor)
        with _together():
            world.broadcast(copy, src=0)
        if not torch.equal(copy := copy.to(tensor.device), tensor):  # else its version stays
            tensor.copy_(copy)


@torch.no_grad()
def total(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, the same to the last digit in all of them."""
    copy = _sent(tensor)
    with _together():
        world.all_reduce(copy)
    return copy.to(tensor.device)


def _is_group() -> bool:
    return world.is_available() and world.is_initialized()


def _sent(tensor: Tensor) -> Tensor:
    device = "cuda" if world.get_backend() == "nccl" else tensor.device  # it takes no other
    return tensor.detach().to(device, copy=True, memory_format=torch.contiguous_format)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"process {rank()} of {count()} has lost another one, which was killed, or ended by an error of "
            "its own: start all of them again, from the last checkpoint if there is one "
            f"({str(error).splitlines()[0]:.200})"
        ) from error
