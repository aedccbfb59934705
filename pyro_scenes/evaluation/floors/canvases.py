"""Reconstructions that nobody learned."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..canvases import Canvases, canvas_error

__all__ = ["canvas_floors"]


@checked
def canvas_floors(images: Float[Tensor, "n c h w"]) -> dict[str, Canvases]:
    """Every floor of :func:`~pyro_scenes.evaluation.canvas_error`, by name.

    Args:
        images: In [0, 1].
    """
    answers = {
        "one flat colour": images.mean((2, 3), keepdim=True),
        "mean image": images.mean(0, keepdim=True),
        "black": torch.zeros_like(images),
    }
    return {
        name: canvas_error(answer.expand_as(images), images) for name, answer in answers.items()
    }
