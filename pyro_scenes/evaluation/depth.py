"""Depth: what layers make of objects behind others, and in which order they take a scene.

Throughout, ``regions`` are the share in [0, 1] of each pixel that a front layer takes, front first; 0
for layers that show no object. The truth is ``Scenes.masks``: full shapes front to back, empty ones padding.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..checks import check_tensors
from .arguments import checked
from .matching import Match, iou, match_layers
from .segments import visible_parts

__all__ = [
    "Amodal",
    "DepthOrder",
    "amodal_iou",
    "background_first",
    "depth_order",
    "match_visible",
    "object_counts",
    "solved",
]

SMALLEST = 0.01  # of the pixels: a layer that takes no more is empty


class Amodal(NamedTuple):
    """How well each true object is completed. Padding is NaN, and not occluded."""

    iou: Float[Tensor, "n objects"]  # of full shapes; 0 without a layer
    visible: Float[Tensor, "n objects"]  # the share that is visible: what copying it has for IoU
    occluded: Bool[Tensor, "n objects"]  # 5 to 95 % are visible: what there is to complete
    invisible_iou: Float[Tensor, "n objects"]  # behind objects only; NaN if nothing is hidden


@checked
def amodal_iou(
    masks: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Amodal:
    """Compares objects with the layers that :func:`match_layers` gives them, hidden parts included.

    ``invisible_iou`` looks only at the pixels covered by true objects in front of the object, so what a
    layer spills over the background or over objects behind does not count there. (It does in ``iou``.)
    Layers that copy what is visible have ``iou`` equal to ``visible``: the floor to beat. (Only if a copy
    resembles a hidden object behind it may the match, which is generous, give it to that one instead.)

    Args:
        masks: Opacities in [0, 1] of front layers; what is above one half counts.
        truth: Full shapes, front to back.

    Raises:
        ValueError: Their shapes or values are others.
    """
    _check(masks, truth)
    truth = truth.to(masks.device)
    match = match_layers(masks, truth)
    covered = (truth.cumsum(1) - truth.long()) > 0  # by objects in front
    layers = torch.arange(len(masks), device=masks.device)[:, None], match.layer.clamp(min=0)
    shapes = (masks > 0.5)[layers] & (match.layer >= 0)[..., None, None]
    hidden = (truth & covered).flatten(2).any(-1)
    invisible = iou(shapes & covered, truth & covered).where(hidden, torch.nan)
    share = (truth & ~covered).sum((-2, -1)) / truth.sum((-2, -1))  # NaN for padding
    return Amodal(match.iou, share, (share >= 0.05) & (share <= 0.95), invisible)


@checked
def solved(
    masks: Float[Tensor, "n layers h w"],
    truth: Bool[Tensor, "n objects h w"],
    *,
    least: float = 0.5
) -> Bool[Tensor, " n"]:
    """Scenes in which each visible object has a layer of its own that shows it, hidden parts included.

    Args:
        masks, truth: As for :func:`amodal_iou`.
        least: What the IoU of their full shapes must exceed, in [0, 1].
    """
    found = amodal_iou(masks, truth)
    return ((found.iou > least) | ~(found.visible > 0)).all(1)


@checked
def match_visible(
    regions: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Match:
    """Matches objects to front layers one to one by the IoU of what is visible, regions above one half.

    An object has no layer (-1) where that IoU is 0: it is wholly hidden, or missed, or shares a layer with
    one that fits better.

    Raises:
        ValueError: Shapes or values are others than those that the head of this module names.
    """
    _check(regions, truth)
    match = match_layers(regions, visible_parts(truth))
    return Match(match.layer.where(match.iou > 0, -1), match.iou)


class DepthOrder(NamedTuple):
    """The share, in [0, 1], of pairs of overlapping objects that are in the right order; NaN without any."""

    # With perfect regions of shapes of one size, the largest visible area first has .92, .80 and .93.
    weighted: float  # by the pixels in which the full shapes of a pair overlap
    pairs: float  # each pair counts alike
    seen: float  # by the pixels in which one is seen to cover the other, which is visible elsewhere


@checked
def depth_order(
    regions: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> DepthOrder:
    """Whether, of two objects whose full shapes overlap, the layer of the front one comes first.

    A pair counts as wrong if one of its objects has no layer by :func:`match_visible`. So one layer that
    takes all is never right; nor is, whatever the regions are, a pair with a wholly hidden object. And a
    pair of which a third object covers the overlap is in the right order by chance. Neither counts in
    ``seen``.

    Args:
        regions: What front layers take of each pixel.
        truth: Full shapes, front to back.

    Raises:
        ValueError: Their shapes or values are others.
    """
    layer = match_visible(regions, truth).layer
    visible, shapes = (
        part.to(layer.device).flatten(2).float() for part in (visible_parts(truth), truth)
    )
    shared, seen = ((front @ shapes.mT).triu(diagonal=1).double() for front in (shapes, visible))
    seen = seen * visible.any(-1)[:, None]
    # The row's object comes before the column's.
    ordered = (layer[:, :, None] >= 0) & (layer[:, :, None] < layer[:, None])
    weights = shared, (shared > 0).double(), seen
    return DepthOrder(*(((weight * ordered).sum() / weight.sum()).item() for weight in weights))


@checked
def background_first(
    regions: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Bool[Tensor, " n"]:
    """Whether the first layer takes more than 1 % of the pixels, and mostly where no object is.

    Such a model explains the background before objects, and needs no hidden parts. One without any front
    layer in use does not, so read :func:`object_counts` with it.

    Raises:
        ValueError: Shapes or values are others than those that the head of this module names.
    """
    _check(regions, truth)
    first, background = regions[:, 0].double(), ~truth.to(regions.device).any(1)
    return _in_use(regions)[:, 0] & ((first * background).sum((1, 2)) > first.sum((1, 2)) / 2)


@checked
def object_counts(regions: Float[Tensor, "n layers h w"]) -> Int[Tensor, " n"]:
    """How many front layers take more than 1 % of the pixels, by the sum of their shares.

    Raises:
        ValueError: Shapes or values are others than those that the head of this module names.
    """
    _check(regions)
    return _in_use(regions).sum(1)


def _in_use(regions: Tensor) -> Bool[Tensor, "n layers"]:
    return regions.double().sum((2, 3)) > SMALLEST * regions.shape[2:].numel()


def _check(shares: Tensor, *truth: Tensor) -> None:
    """Raises a ValueError unless shares, and the truth if there is one, are as this module's head says."""
    valid = min(shares.shape[1:]) > 0
    for part in truth:
        valid = valid and (len(part), *part.shape[2:]) == (len(shares), *shares.shape[2:])
    # A product of rounded factors may stray a little; NaN is in no range.
    valid = valid and bool(((shares > -1e-3) & (shares < 1.001)).all())
    what = "shares in [0, 1] (n, layers, H, W), one layer at least"
    check_tensors(valid, what + ", and truth (n, objects, H, W)" * len(truth), shares, *truth)
