"""How true layers are: shapes, what two objects share, the right object for each pixel, places, classes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..render import centre
from .arguments import checked
from .layers import Layers
from .matching import Match, iou, match_layers, overlap
from .reading import ShapeReader

__all__ = ["LayerMetrics", "layer_metrics", "r_squared"]

#: Objects of a scene overlap much if they share more than this part of the smaller one.
MUCH = 0.25


class LayerMetrics(NamedTuple):
    """Means over scenes, in [0, 1] but for ``centre_r2``. NaN where nothing is known.

    Each field has the floors that the image cut in two | copied whole into both layers reaches, for two
    handwritten digits on a canvas of 50; ``evaluation.floors`` has those of any scenes.
    """

    layer_iou: float  # of full shapes. Floors .69 | .53
    layer_iou_overlapping: float  # the same of scenes whose objects overlap much. Floors .52 | .59
    # What lies under an overlap: IoU of the pixels that two layers or more have with those that two objects
    # or more have. Scenes that overlap much. Floors 0 | .17
    overlap_iou: float
    # Share of the pixels of one object alone that its layer has, and no other layer. Scenes that overlap
    # much. Floors .69 | 0
    attribution: float
    # R^2 of centres, up to 1; a missed object counts as if at the image's centre. Floors .90 | .47
    centre_r2: float
    # Share of objects whose class is read from their layer's shape. Floors .47 | .16; true layers .97
    shapes_read: float
    scenes_read: float  # share of scenes of which all are read. Floors .32 | .03; true layers .94


@checked
def layer_metrics(
    layers: Layers,
    truth: Bool[Tensor, "n objects h w"],
    *,
    labels: Int[Tensor, "n objects"] | None = None,
    centres: Float[Tensor, "n objects 2"] | None = None,
    reader: ShapeReader | None = None,
) -> LayerMetrics:
    """Compares layers with the objects that they are matched to (:func:`match_layers`).

    Args:
        layers: Of :func:`see_layers`, or a floor of ``evaluation.floors``.
        truth: The objects' full shapes (``Scenes.masks``). Empty ones are padding.
        labels: The class, from 0, of each object; read where there is a reader.
        centres: Of the objects, (x, y) in pixels (``Scenes.centres``).
        reader: Of single shapes (:func:`train_shape_reader`).

    Raises:
        ValueError: Shapes or types are others.
    """
    shapes = layers.masks.amax(2)
    match = match_layers(shapes, truth)
    own = _chosen(shapes > 0.5, match)
    much = overlap(truth) > MUCH
    ious = match.iou.nanmean(1)
    reading = _read(reader, own, labels, match)
    return LayerMetrics(
        ious.nanmean().item(),
        ious[much].mean().item(),
        iou((shapes[much] > 0.5).sum(1) > 1, truth[much].sum(1) > 1).mean().item(),
        _attribution((shapes > 0.5)[much], own[much], truth[much]),
        torch.nan if centres is None else _centre_r2(layers, match, centres),
        *reading,
    )


def _chosen(shapes: Bool[Tensor, "n layers h w"], match: Match) -> Bool[Tensor, "n objects h w"]:
    """Each object's layer; empty where it has none."""
    scene = torch.arange(len(shapes))[:, None]
    return shapes[scene, match.layer.clamp(min=0)] & (match.layer >= 0)[..., None, None]


def _attribution(
    shapes: Bool[Tensor, "n layers h w"],
    own: Bool[Tensor, "n objects h w"],
    truth: Bool[Tensor, "n objects h w"],
) -> float:
    single = truth & (truth.sum(1, keepdim=True) == 1)
    claimed_once = shapes.sum(1, keepdim=True) == 1
    return ((single & own & claimed_once).sum() / single.sum()).item()


def _centre_r2(layers: Layers, match: Match, centres: Float[Tensor, "n objects 2"]) -> float:
    is_object = ~match.iou.isnan()
    size = layers.canvas.shape[-2:]
    scene = torch.arange(len(centres))[:, None]
    places = centre(layers.transforms[scene, match.layer.clamp(min=0)], (1, *size))
    middle = places.new_tensor([size[1] / 2, size[0] / 2])
    places = places.where((match.layer >= 0)[..., None], middle)
    return r_squared(places[is_object], centres[is_object])


def _read(
    reader: ShapeReader | None,
    own: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"] | None,
    match: Match,
) -> tuple[float, float]:
    if reader is None or labels is None:
        return torch.nan, torch.nan
    is_object = ~match.iou.isnan()
    same = (reader.read(own.flatten(0, 1)).view(labels.shape) == labels) & (match.layer >= 0)
    scenes = (same | ~is_object).all(1)[is_object.any(1)]
    return same[is_object].float().mean().item(), scenes.float().mean().item()


@checked
def r_squared(values: Float[Tensor, "n k"], truth: Float[Tensor, "n k"]) -> float:
    """1 less the mean squared error over the truth's variance, at most 1, the mean over columns.

    Constant errors count. The best constant has 0; what is worse than it is negative.

    Raises:
        ValueError: Fewer than two pairs, other shapes, or a truth that is constant or has NaN.
    """
    if values.shape != truth.shape or len(truth) < 2:
        raise ValueError(
            f"needs two or more pairs, got {tuple(values.shape)}, {tuple(truth.shape)}"
        )
    truth = truth.to(values)
    variance = truth.var(0, correction=0)
    if not (variance > 0).all():
        raise ValueError("the truth must vary, and have no NaN: there is nothing to explain")
    return (1 - (values - truth).square().mean(0) / variance).mean().item()
