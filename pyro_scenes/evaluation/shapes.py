"""Shapes: whether masks are true shapes, wherever they lie."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import conv2d

from .arguments import checked

__all__ = ["ShapeFit", "SingleShapes", "shape_fit", "single_shapes"]


class ShapeFit(NamedTuple):
    """How well each mask is one of the known shapes."""

    iou: Float[Tensor, " n"]  # the best, in [0, 1]; 0 for an empty mask
    label: Int[Tensor, " n"]  # of which class; -1 for an empty mask


@checked
def shape_fit(
    masks: Float[Tensor, "n height width"],
    stencils: Bool[Tensor, "classes h w"],
    *,
    least: float = 0.5,
) -> ShapeFit:
    """The best IoU of each mask with any class's shape, at any place by whole pixels.

    A place may be partly outside the canvas, which then crops the shape as it does the mask.

    Args:
        masks: What is above one half counts.
        stencils: The shape of each class (``data.shape_masks``).
        least: The share of a shape's area that must lie on the canvas, so that no corner or strip fits.
    """
    shapes, kernels = (masks > 0.5)[:, None].float(), stencils[:, None].to(masks.device).float()
    edge = kernels.shape[2] - 1, kernels.shape[3] - 1
    both = conv2d(shapes, kernels, padding=edge)
    on_canvas = conv2d(torch.ones_like(shapes[:1]), kernels, padding=edge)
    either = shapes.sum((2, 3), keepdim=True) + on_canvas - both
    large = on_canvas >= least * kernels.sum((1, 2, 3))[:, None, None]
    scores = (both / either.clamp(min=1)).where(large, 0)
    best = scores.flatten(2).amax(2).max(1)
    return ShapeFit(best.values, best.indices.where(best.values > 0, -1))


class SingleShapes(NamedTuple):
    """Samples of one object of each expert, in [0, 1]. Blank images have 0 and 0; read both fields."""

    # Share of samples that are one true shape, IoU above 0.8: 1 for experts that all make one class.
    single_expert_shapes: float
    # Share of classes that some expert makes most often: 1 / classes for experts that all make one class.
    classes_made: float


@checked
def single_shapes(
    masks: Float[Tensor, "experts n height width"], stencils: Bool[Tensor, "classes h w"]
) -> SingleShapes:
    """Compares samples of each expert (:func:`paint_alone`) with the true shapes."""
    fit = shape_fit(masks.flatten(0, 1), stencils)
    valid = (fit.iou > 0.8).view(masks.shape[:2])
    labels = fit.label.view(masks.shape[:2])
    made = {row[good].mode().values.item() for row, good in zip(labels, valid) if good.any()}
    return SingleShapes(valid.float().mean().item(), len(made) / len(stencils))
