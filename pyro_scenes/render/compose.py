"""Compositing layers, front to back (Porter and Duff, 1984).

A layer is **premultiplied**: its colours are multiplied by its opacity, the ``mask``. ``scope`` is the share
of a pixel that the layers in front leave uncovered; it is 1 before the first layer.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["scopes", "under"]


def under(
    canvas: Float[Tensor, "*#batch c h w"],
    scope: Float[Tensor, "*#batch #c h w"],
    layer: Float[Tensor, "*#batch c h w"],
    mask: Float[Tensor, "*#batch #c h w"],
) -> tuple[Float[Tensor, "*#batch c h w"], Float[Tensor, "*#batch #c h w"]]:
    """Puts a layer behind the canvas (``canvas over layer``); returns the new canvas and the new scope."""
    return canvas + scope * layer, scope * (1 - mask)


def scopes(masks: Float[Tensor, "n layers *size"]) -> Float[Tensor, "n layers *size"]:
    """The scope before each layer, from the masks of all layers, front first."""
    return torch.cat([torch.ones_like(masks[:, :1]), 1 - masks[:, :-1]], 1).cumprod(1)
