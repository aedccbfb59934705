"""Compositing layers, front to back (Porter and Duff, 1984).

A layer is **premultiplied**: its colours times its opacity, which is its ``mask``. ``scope`` is the
share of a pixel that the layers so far leave uncovered; before the first layer it is 1.
"""

from jaxtyping import Float
from torch import Tensor

__all__ = ["under"]


def under(
    canvas: Float[Tensor, "*#batch c h w"],
    scope: Float[Tensor, "*#batch #c h w"],
    layer: Float[Tensor, "*#batch c h w"],
    mask: Float[Tensor, "*#batch #c h w"],
) -> tuple[Float[Tensor, "*#batch c h w"], Float[Tensor, "*#batch #c h w"]]:
    """Puts a layer behind the canvas: the over operator, ``canvas over layer``.

    Returns:
        The new canvas, and the scope that is left for the layers behind it.
    """
    return canvas + scope * layer, scope * (1 - mask)
