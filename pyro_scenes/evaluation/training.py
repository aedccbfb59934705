"""The loop that trains small networks to read codes and pictures."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["descend"]


def descend(
    optim: torch.optim.Optimizer,
    batches: Sequence[Int[Tensor, " batch"]],
    loss: Callable[[Int[Tensor, " batch"]], Float[Tensor, ""]],
) -> None:
    """A step for each batch of indices, the learning rate falling linearly to 0."""
    lr = optim.param_groups[0]["lr"]
    for step, index in enumerate(batches):
        optim.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        optim.zero_grad()
        loss(index).backward()
        optim.step()
