"""Pixels: their places, every so many-th of them, and the colour that most of a region has."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["places", "subsample", "typical_colour"]

#: Colours that differ by more than this from a region's own count little for it, in units of intensity.
STRAY = 0.1


def places(image_shape: tuple[int, ...]) -> Float[Tensor, "2 h w"]:
    """(x, y) of the centres of pixels, from -1 to 1 at the outer edges of the image."""
    across, down = ((torch.arange(size) + 0.5) * 2 / size - 1 for size in image_shape[:0:-1])
    return torch.stack(torch.meshgrid(across, down, indexing="xy"))


def subsample(maps: Float[Tensor, "*batch h w"], stride: int) -> Float[Tensor, "*batch h1 w1"]:
    """Every ``stride``-th pixel of maps (..., H, W), down and across."""
    first = stride // 2
    return maps[..., first::stride, first::stride]


def typical_colour(
    images: Float[Tensor, "n c h w"], regions: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c"]:
    """The colour that most of a region has: a mean in which stray colours count little (Cauchy weights)."""
    weights = regions
    for _ in range(3):
        colour = _mean(images, weights)
        stray = (images - colour[..., None, None]).square().sum(1, keepdim=True) / STRAY**2
        weights = regions / (1 + stray)
    return _mean(images, weights)


def _mean(
    images: Float[Tensor, "n c h w"], weights: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c"]:
    return (weights * images).sum((2, 3)) / (weights.sum((2, 3)) + 1e-4)
