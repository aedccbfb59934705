"""The spatial transformer (Jaderberg et al., 2015), and the one place that states the pose convention.

A pose is ``(scale, x, y)``, the convention of the AIR literature, so published priors keep their numbers.
Canvas and window coordinates run over [-1, 1], left to right and top to bottom, from the outer edge of the
first pixel to the outer edge of the last (``align_corners=False``)::

    window coordinate = scale * canvas coordinate + (x, y)

So **a big scale is a small object**: at scale 3 the window covers a third of the canvas. The object's
**centre lies at -(x, y) / scale**: for the pose (3, 1, 0) it is left of the middle, at x = -1/3.

Scale and shift act on rows and columns separately, so bilinear sampling is two small matrix products,
``rows @ picture @ columns``. The result equals ``torch.nn.functional.grid_sample`` with zero padding, at half
the cost on a CPU.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MIN_SCALE", "box", "glance", "place"]

#: Before a division, a pose's scale is kept this far from 0 (a window 20 canvases wide).
MIN_SCALE = 0.05


def place(
    glimpse: Float[Tensor, "*#batch c h w"],
    pose: Float[Tensor, "*#batch 3"],
    shape: tuple[int, ...],
) -> Float[Tensor, "*batch c height width"]:
    """Places a glimpse on an empty canvas of shape ``(..., height, width)``; outside the window it is 0.

    Gradients reach the glimpse and the pose, at any scale.
    """
    scale, shift = pose[..., :1], pose[..., 1:]
    return _resample(glimpse, scale, shift, shape)


def glance(
    canvas: Float[Tensor, "*#batch c h w"], pose: Float[Tensor, "*#batch 3"], shape: tuple[int, ...]
) -> Float[Tensor, "*batch c height width"]:
    """Reads a glimpse of shape ``(..., height, width)`` at a pose: the inverse of :func:`place`.

    Pixels outside the canvas are 0. A scale nearer to 0 than ``MIN_SCALE`` counts as ``MIN_SCALE``.
    """
    scale = _away_from_zero(pose[..., :1])
    return _resample(canvas, 1 / scale, -pose[..., 1:] / scale, shape)


def box(pose: Float[Tensor, "*batch 3"], shape: tuple[int, ...]) -> Float[Tensor, "*batch 4"]:
    """The pose's window as ``(left, top, right, bottom)`` in pixels of a canvas ``(..., height, width)``.

    0 is the canvas' left or top edge; a window may reach beyond the canvas. A scale nearer to 0 than
    ``MIN_SCALE`` counts as ``MIN_SCALE``.
    """
    scale = _away_from_zero(pose[..., :1])
    half, centre = 1 / scale.abs(), -pose[..., 1:] / scale
    size = torch.as_tensor([shape[-1], shape[-2]], device=pose.device, dtype=pose.dtype)
    corners = [(centre - half + 1) / 2 * size, (centre + half + 1) / 2 * size]
    return torch.cat(corners, -1)


def _resample(
    picture: Float[Tensor, "*#batch c h w"],
    scale: Float[Tensor, "*#batch 1"],
    shift: Float[Tensor, "*#batch 2"],
    shape: tuple[int, ...],
) -> Float[Tensor, "*batch c height width"]:
    """Samples a picture where ``scale * coordinate + shift`` maps the pixels of the target."""
    rows = _tent(scale, shift[..., 1:], picture.shape[-2], shape[-2])
    columns = _tent(scale, shift[..., :1], picture.shape[-1], shape[-1])
    return rows.unsqueeze(-3) @ picture @ columns.unsqueeze(-3).mT


def _tent(
    scale: Float[Tensor, "*batch 1"], shift: Float[Tensor, "*batch 1"], source: int, target: int
) -> Float[Tensor, "*batch target source"]:
    """Bilinear weights of the source pixels in each target pixel; all but the two nearest are 0."""
    pixels = torch.arange(max(source, target), device=scale.device, dtype=scale.dtype)
    coordinate = (2 * pixels[:target] + 1) / target - 1
    position = ((scale * coordinate + shift + 1) * source - 1) / 2
    return (1 - (position.unsqueeze(-1) - pixels[:source]).abs()).clamp(min=0)


def _away_from_zero(scale: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch 1"]:
    """The scale, kept at least ``MIN_SCALE`` from 0, with its sign."""
    return scale.abs().clamp(min=MIN_SCALE).copysign(scale)
