"""Pixels: their coordinates, subsampling, and the typical colour of a region."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["coordinates", "subsample", "typical_colour"]

#: A colour at this distance from the typical colour has half the weight; in units of intensity.
STRAY = 0.1


def coordinates(image_shape: tuple[int, ...]) -> Float[Tensor, "2 h w"]:
    """(x, y) of the pixels' centres; -1 and 1 are the outer edges of the image."""
    across, down = ((torch.arange(size) + 0.5) * 2 / size - 1 for size in image_shape[:0:-1])
    return torch.stack(torch.meshgrid(across, down, indexing="xy"))


def subsample(maps: Float[Tensor, "*batch h w"], stride: int) -> Float[Tensor, "*batch h1 w1"]:
    """Every ``stride``-th pixel, down and across, from ``stride // 2`` on."""
    first = stride // 2
    return maps[..., first::stride, first::stride]


def typical_colour(
    images: Float[Tensor, "n c h w"], regions: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c"]:
    """The colour of most of a region: a mean with Cauchy weights, in which stray colours count little."""
    weights = regions
    for _ in range(3):
        colour = _mean(images, weights)
        distance = (images - colour[..., None, None]).square().sum(1, keepdim=True) / STRAY**2
        weights = regions / (1 + distance)
    return _mean(images, weights)


def _mean(
    images: Float[Tensor, "n c h w"], weights: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c"]:
    return (weights * images).sum((2, 3)) / (weights.sum((2, 3)) + 1e-4)
