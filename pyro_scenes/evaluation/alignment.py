"""Alignment: whether windows show all objects of a class alike (Huang and Murphy, 2016, Fig. 5b)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..render import centroid, inverse, warp
from .arguments import checked
from .layers import Layers
from .matching import match_layers

__all__ = ["Alignment", "alignment"]


class Alignment(NamedTuple):
    """The true objects as the windows of their layers see them."""

    # The mean picture of each class; black for one without objects.
    means: Float[Tensor, "classes 1 h w"]
    # Deviation of the centre of mass, in pixels of the window: 0 if all lie at one place.
    spread: float


@checked
def alignment(
    layers: Layers,
    truth: Bool[Tensor, "n objects height width"],
    labels: Int[Tensor, "n objects"],
    window: tuple[int, ...],
    *,
    classes: int = 10,
) -> Alignment:
    """Looks at each true object through the window of the layer that shows it best.

    Objects without a layer are left out.

    Args:
        layers: Of :func:`see_layers`.
        truth: The objects' full shapes (``Scenes.masks``).
        labels: The class, from 0, of each object.
        window: (C, h, w) of the model's windows.
    """
    layer = match_layers(layers.masks.amax(2), truth).layer
    matched = layer >= 0
    transforms = layers.transforms[torch.arange(len(truth))[:, None], layer][matched]
    shapes = truth[matched][:, None].to(transforms)
    pictures, numbers = warp(shapes, inverse(transforms), window), labels[matched]
    means = [pictures[numbers == number].mean(0) for number in range(classes)]
    half = torch.tensor([window[2], window[1]]) / 2
    spread = (centroid(pictures) * half).std(0).mean().item()
    return Alignment(torch.stack(means).nan_to_num(), spread)
