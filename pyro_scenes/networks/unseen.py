"""Unseen pixels, which are NaN: where they are, and what may stand in their place."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["fill", "fill_nearest", "is_seen", "with_mask"]


def is_seen(images: Float[Tensor, "*batch c h w"]) -> Bool[Tensor, "*batch 1 h w"]:
    """Which pixels are seen, in all of their channels."""
    return ~images.isnan().any(-3, keepdim=True)


def fill(
    images: Float[Tensor, "*batch c h w"], value: float = 0.0
) -> Float[Tensor, "*batch c h w"]:
    """The images with one value where they are NaN."""
    return images.masked_fill(images.isnan(), value)


def fill_nearest(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The images with unseen pixels like the nearest seen ones: rings of 3 x 3 means, from the rim inwards.

    An image without a seen pixel becomes black.
    """
    seen = (~images.isnan()).to(images)
    images = fill(images)
    for _ in range(max(images.shape[-2:])):
        share = avg_pool2d(seen, 3, stride=1, padding=1)
        mean = avg_pool2d(images * seen, 3, stride=1, padding=1) / share.clamp(min=1e-6)
        images = torch.where(seen > 0, images, mean)
        seen = (share > 0).to(images)
    return images


def with_mask(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
    """The images with 0 where they are NaN and, as the last channel, 1 where a pixel is seen, else 0."""
    return torch.cat([fill(images), is_seen(images).to(images)], -3)
