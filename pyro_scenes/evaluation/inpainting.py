"""Inpainting: what a model paints where an image is not seen."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from ..checks import check_sizes, check_tensors
from ..missing import Blind
from ..pairs import check_same_model, replay, warn_training_mode
from .arguments import checked, split
from .bounds import log_weight
from .canvases import canvas_of

__all__ = ["Inpainting", "inpaint", "unseen_error"]


class Inpainting(NamedTuple):
    """Whole canvases of images of which only some pixels are seen."""

    likeliest: Float[
        Tensor, "n c h w"
    ]  # of the draw of the largest importance weight: one explanation
    mean: Float[
        Tensor, "n c h w"
    ]  # over draws, by their weights: blurred where the seen pixels leave a choice


@checked
@torch.no_grad()
def inpaint(
    model: Callable,
    guide: Callable,
    images: Float[Tensor, "n c h w"],
    *,
    draws: int = 20,
    chunk: int = 100,
) -> Inpainting:
    """Explains the seen pixels by draws of the guide, weighed by p(seen pixels, z) / q(z | image).

    A ``Blind`` guide gets the canvas of the draw before for the unseen pixels, from the second draw on: the
    chain by which Rezende, Mohamed and Wierstra (2014) impute missing data.

    Args:
        model: With the site ``canvas``.
        guide: Its guide; of one that takes no NaN, ``Blind(guide, fill_nearest)``.
        images: NaN where a pixel is not seen, on the model's device.
        draws: Of the guide, for each image.
        chunk: Images at a time, which bounds the memory. The result is on the CPU.

    Raises:
        ValueError: The model has no such site, model and guide do not agree, or one of them makes NaN of
            unseen pixels.

    Warns:
        TrainingModeWarning: One of them is in training mode.
    """
    check_sizes(draws=draws)
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    parts = [_inpaint(model, guide, part, draws) for part in split(images, chunk)]
    return Inpainting(*(torch.cat(canvases) for canvases in zip(*parts, strict=True)))


def _inpaint(model: Callable, guide: Callable, images: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    drawn = []
    for _ in range(draws):
        proposed = poutine.trace(guide).get_trace(images)
        canvas = canvas_of(replay(model, proposed, size=len(images)))
        drawn.append((log_weight(model, proposed, images), canvas))
        if isinstance(guide, Blind):
            guide = Blind(guide.guide, partial(_paste, canvas))
    weights, canvases = (torch.stack(part) for part in zip(*drawn, strict=True))
    shares = weights.softmax(0)[..., None, None, None]
    likeliest = canvases[weights.argmax(0), torch.arange(len(images), device=images.device)]
    return likeliest.cpu(), (shares * canvases).sum(0).cpu()


def _paste(canvas: Tensor, images: Tensor) -> Tensor:
    return torch.where(images.isnan(), canvas, images)


@checked
def unseen_error(
    canvas: Float[Tensor, "n c h w"],
    truth: Float[Tensor, "n c h w"],
    seen: Float[Tensor, "n c h w"],
) -> float:
    """Mean squared error of the numbers that are NaN in ``seen``, of colours in [0, 1], on the CPU.

    Floors: the mean picture of other scenes, and ``networks.fill_nearest(seen)``.

    Raises:
        ValueError: The three are not of one shape, or all is seen.
    """
    hole = seen.isnan()
    alike = canvas.shape == truth.shape == seen.shape and hole.any()
    check_tensors(alike, "canvas, truth and images with NaN, of one shape", canvas, truth, seen)
    return (canvas.cpu() - truth.cpu())[hole.cpu()].square().mean().item()
