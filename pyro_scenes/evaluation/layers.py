"""Layers of a scene: the complete objects behind what is visible."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn

from ..checks import check_sizes
from ..handlers import expected
from ..pairs import check_same_model, warn_training_mode
from ..render import scopes
from ..sites import check_pair
from .arguments import checked, split
from .bounds import log_weight

__all__ = ["Layers", "doubt", "explanations", "see_layers", "visible_layers"]


SITES = ("layers", "masks", "transforms", "canvas")


class Layers(NamedTuple):
    """A scene taken apart, front layer first. Pictures are premultiplied: colour times opacity."""

    complete: Float[Tensor, "n layers c h w"]  # each object, hidden parts included
    masks: Float[Tensor, "n layers #c h w"]  # its opacity
    visible: Float[Tensor, "n layers c h w"]  # what the layers before leave to be seen of it
    canvas: Float[Tensor, "n c h w"]  # all together: the reconstruction
    transforms: Float[Tensor, "n layers 2 3"]  # T of each, from the canvas to its window


@checked
@torch.no_grad()
def see_layers(
    model: nn.Module,
    guide: nn.Module,
    images: Float[Tensor, "n c h w"],
    *,
    draw: bool = False,
    chunk: int = 500,
) -> Layers:
    """Takes images apart into layers and completes what is hidden (amodal completion).

    Args:
        model: With the sites ``layers``, ``masks``, ``transforms`` and ``canvas`` of ``CSTVAE``.
        guide: Its guide.
        images: What is to be explained, on the model's device.
        draw: One draw of the guide. Otherwise each latent is at its proposal's median, given those before.
        chunk: Images at a time, which bounds the memory. The result is on the CPU.

    Raises:
        ValueError: The model has no such sites, the guide is of another model, or there are no images.
    """
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    parts = []
    for part in split(images, chunk):
        with poutine.trace() as proposed, nullcontext() if draw else expected():
            guide(part)
        parts.append([value.cpu() for value in _read(model, proposed.trace, len(part))])
    return Layers(*(torch.cat(values) for values in zip(*parts, strict=True)))


@checked
def explanations(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"], *, draws: int = 8
) -> tuple[list[Layers], Float[Tensor, "draws n"]]:
    """Several draws of the guide, and how much each counts among them in the posterior of its image.

    Returns:
        The draws, and their importance weights p(image, z) / q(z | image), normalised to sum to 1 over
        the draws of an image.
    """
    check_sizes(draws=draws)
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    scenes, weights = [], []
    for _ in range(draws):
        proposed = poutine.trace(guide).get_trace(images)
        weights.append(log_weight(model, proposed, images))
        scenes.append(_read(model, proposed, len(images)))
    return scenes, torch.stack(weights).softmax(0)


@checked
def doubt(scenes: Sequence[Layers], weights: Float[Tensor, "draws n"]) -> Float[Tensor, " n"]:
    """How much explanations of an image differ: the variance of complete layers, summed over pixels.

    Args:
        scenes, weights: Of :func:`explanations`.
    """
    layers = torch.stack([scene.complete for scene in scenes])
    shares = weights[:, :, None, None, None, None]
    mean = (shares * layers).sum(0)
    return (shares * (layers - mean).square()).sum((0, 2, 3, 4, 5))


def _read(model: nn.Module, proposed: poutine.Trace, size: int) -> Layers:
    drawn = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(size=size)
    check_pair(drawn, proposed)
    missing = [name for name in SITES if name not in drawn.nodes]
    if missing:
        raise ValueError(f"this model draws no {', '.join(missing)}: it has no layers")
    complete, masks, transforms, canvas = (drawn.nodes[name]["value"] for name in SITES)
    return Layers(complete, masks, visible_layers(complete, masks), canvas, transforms)


def visible_layers(
    complete: Float[Tensor, "n layers c h w"], masks: Float[Tensor, "n layers #c h w"]
) -> Float[Tensor, "n layers c h w"]:
    """What the layers before leave to be seen of each."""
    return scopes(masks) * complete
