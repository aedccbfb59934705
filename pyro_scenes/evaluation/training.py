"""What trains small networks to read codes and pictures."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = ["as_floats", "descend"]


def as_floats(
    images: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Images in [0, 1]."""
    return images / 255 if images.dtype == torch.uint8 else images


def descend(
    optim: torch.optim.Optimizer,
    batches: Sequence[Int[Tensor, " _"]],
    loss: Callable[[Int[Tensor, " _"]], Float[Tensor, ""]],
) -> None:
    """A step for each batch of indices, the learning rate falling linearly to 0."""
    lr = optim.param_groups[0]["lr"]
    for step, index in enumerate(batches):
        optim.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        optim.zero_grad()
        loss(index).backward()
        optim.step()
