"""The spatial transformer (Jaderberg et al., 2015) for any affine map T, used by models with layers.

T (2, 3) maps **canvas coordinates to window coordinates**, ``window = A canvas + b``. So
``warp(glimpse, T, canvas_shape)`` places a glimpse on a canvas, STN(C, T) of Huang and Murphy (2016), and
``warp(canvas, inverse(T), window_shape)`` reads it back. Coordinates are those of
:mod:`pyro_scenes.render.transform`; its pose ``(scale, x, y)`` is the T of rows (scale, 0, x) and
(0, scale, y), so here too **a big scale is a small object**. If A is scale times
(cos a, sin a; -sin a, cos a), the object is turned clockwise by a, because y points down. Both axes run from
-1 to 1, so a rotation also shears unless canvas and window are square.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["MIN_DETERMINANT", "centre", "centroid", "inverse", "warp"]

#: Before a division, a determinant is kept this far from 0.
MIN_DETERMINANT = 1e-3


def warp(
    picture: Float[Tensor, "*#batch c h w"],
    transform: Float[Tensor, "*#batch 2 3"],
    shape: tuple[int, ...],
) -> Float[Tensor, "*batch c height width"]:
    """Samples a picture bilinearly where T maps the pixels of a target ``(..., height, width)``.

    Outside its edges the picture is 0. Gradients reach the picture and the transform.
    """
    height, width = shape[-2:]
    batch = transform.shape[:-2]
    # Broadcasting costs time even where the shapes agree.
    if picture.shape[:-3] != batch:
        batch = torch.broadcast_shapes(picture.shape[:-3], batch)
        picture = picture.expand(*batch, *picture.shape[-3:])
        transform = transform.expand(*batch, 2, 3)
    x, y = (_coordinates(size, transform) for size in (width, height))
    across, down, shift = transform.reshape(-1, 1, 1, 2, 3).unbind(-1)
    grid = across * x[:, None] + (down * y[:, None, None] + shift)
    target = grid_sample(picture.reshape(-1, *picture.shape[-3:]), grid, align_corners=False)
    return target.reshape(*batch, *target.shape[1:])


def inverse(transform: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The inverse map. It is always finite: the determinant is kept ``MIN_DETERMINANT`` from 0."""
    (a, b), (c, d) = (row.unbind(-1) for row in transform[..., :2].unbind(-2))
    determinant = a * d - b * c
    guarded = determinant.abs().clamp(min=MIN_DETERMINANT).copysign(determinant)
    linear = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2)) / guarded[..., None, None]
    shift = -(linear * transform[..., None, :, 2]).sum(-1, keepdim=True)
    return torch.cat([linear, shift], -1)


def centre(
    transform: Float[Tensor, "*batch 2 3"], shape: tuple[int, ...]
) -> Float[Tensor, "*batch 2"]:
    """The window's centre ``(x, y)`` in pixels of a canvas ``(..., height, width)``, from its top left."""
    size = torch.as_tensor([shape[-1], shape[-2]], device=transform.device, dtype=transform.dtype)
    return (inverse(transform)[..., 2] + 1) / 2 * size


def centroid(pictures: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch 2"]:
    """Centre of mass (x, y) in the picture's coordinates, -1 to 1; (0, 0) for a picture of zeros."""
    mass = pictures.sum(-3) + 1e-6
    x, y = (_coordinates(size, mass) for size in (mass.shape[-1], mass.shape[-2]))
    across, down = mass.sum(-2), mass.sum(-1)
    return torch.stack([across @ x, down @ y], -1) / across.sum(-1, keepdim=True)


def _coordinates(size: int, like: Float[Tensor, "..."]) -> Float[Tensor, " size"]:
    """The centres of a row of pixels, between -1 and 1, with the device and dtype of ``like``."""
    pixels = torch.arange(size, device=like.device, dtype=like.dtype)
    return (2 * pixels + 1) / size - 1
