"""Reconstructions: the canvas that a model paints from what its guide says of an image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from ..checks import check_tensors
from ..handlers import expected
from ..pairs import check_same_model, replay, warn_training_mode
from .arguments import checked, split

__all__ = ["Canvases", "canvas_error", "canvas_of", "reconstruct"]


@checked
@torch.no_grad()
def reconstruct(
    model: Callable, guide: Callable, images: Float[Tensor, "n c h w"], *, chunk: int = 500
) -> Float[Tensor, "n c h w"]:
    """Reconstructions, each latent at its proposal's median or mode, given those before.

    Args:
        model: With the site ``canvas``.
        guide: Its guide.
        images: What is to be explained, on the model's device.
        chunk: Images at a time, which bounds the memory. The result is on the CPU.

    Raises:
        ValueError: The model has no such site, the guide is of another model, or there are no images.

    Warns:
        TrainingModeWarning: The guide is in training mode.
    """
    check_same_model(model, guide)
    warn_training_mode(guide)
    parts = []
    for part in split(images, chunk):
        with poutine.trace() as proposed, expected():
            guide(part)
        parts.append(canvas_of(replay(model, proposed.trace, size=len(part))).cpu())
    return torch.cat(parts)


def canvas_of(trace: poutine.Trace) -> Tensor:
    """The canvas in a trace of a model; a ValueError if it has none."""
    if "canvas" not in trace.nodes:
        raise ValueError("this model has no site canvas: there is no reconstruction to show")
    return trace.nodes["canvas"]["value"]


class Canvases(NamedTuple):
    """How near canvases are to their images. Colours are in [0, 1]."""

    mse: float  # mean squared error
    # The share of the variance of an image's pixels about its mean colour, up to 1. One flat colour an image
    # has 0; the mean image of all (``floors.canvas_floors``) may have more. NaN where all images are flat.
    explained_variance: float


@checked
def canvas_error(canvas: Float[Tensor, "n c h w"], images: Float[Tensor, "n c h w"]) -> Canvases:
    """Compares canvases with their images, on the CPU.

    Raises:
        ValueError: They are not of one shape, or there are none.
    """
    alike = canvas.shape == images.shape and len(images) > 0
    check_tensors(alike, "canvases and images of one shape, one at least", canvas, images)
    images = images.cpu()
    # Rounding leaves a variance about the mean of an image of one colour.
    varied = (images != images[..., :1, :1]).any()
    flat = images - images.mean((2, 3), keepdim=True)
    error, variance = ((canvas.cpu() - images).square().mean(), flat.square().mean())
    return Canvases(error.item(), (1 - error / variance).item() if varied else torch.nan)
