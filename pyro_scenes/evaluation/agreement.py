"""Agreement of decompositions with the truth: segments, full shapes, depth order and experts in one row."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from .arguments import checked
from .decomposition import Decomposition
from .depth import amodal_iou, background_first, depth_order, object_counts
from .segments import adjusted_rand, mean_iou, segments
from .specialisation import specialisation

__all__ = ["Agreement", "agreement", "count_layers"]


class Agreement(NamedTuple):
    """Means over scenes, or over their objects or pairs. NaN, or None, where there is nothing to compare.

    Each field has its range and the floor that a trivial answer reaches on ``coloured_shapes`` of three
    objects: flood fill by colour, the largest segment in front, unless another is named. The floors of any
    scenes are those of ``evaluation.floors``.
    """

    ari_fg: float  # adjusted Rand index of the pixels of objects, up to 1. Floor 1.00
    ari: float  # that of all pixels, up to 1. Floor 1.00; objects as one: .92
    mean_iou: float  # of true segments, the background among them, in [0, 1]. Floor 1.00
    amodal_iou: float  # of full shapes of objects that are partly hidden, in [0, 1]. Floor .61
    invisible_iou: float  # of their hidden parts alone, in [0, 1]. Floor 0
    # Share of scenes with the right number of objects. Floor .97, which is the ceiling: some are hidden.
    count_accuracy: float
    # Share of scenes whose first layer is mostly background: 0 is right. Floor 0
    background_first: float
    # Share of overlapping pairs in the right order, weighted by their overlap, in [0, 1]. Floor .92
    depth_order: float
    depth_order_pairs: float  # the same, each pair counts alike. Floor .80
    depth_order_seen: float  # the same, weighted by what is seen of the overlap. Floor .93
    # Share of visible objects in their expert's commonest class, in [0, 1]. One expert for all: .33
    purity: float
    nmi: float  # mutual information of expert and class, in [0, 1]. One expert for all: 0
    wins: list[list[int]] | None  # objects by expert (row) and class


@checked
def agreement(
    decomposition: Decomposition,
    masks: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"] | None = None,
    *,
    experts: int | None = None,
    classes: int | None = None,
) -> Agreement:
    """How true regions, shapes, order and experts are.

    Objects are counted by :func:`count_layers`.

    Args:
        decomposition: Of :func:`decompose`, or a floor of ``evaluation.floors``.
        masks: Full shapes, front to back (``Scenes.masks``). Empty ones are padding.
        labels: The class, from 0, of each object (``Scenes.labels``).
        experts: Rows of ``wins``. Default: the largest number of an expert in use, plus one.
        classes: Columns of ``wins``. Default: the largest label, plus one.

    Raises:
        ValueError: Shapes or types are others, or an expert or a label is out of range.
    """
    regions = decomposition.of_objects(decomposition.regions)
    partition, truth = decomposition.regions.argmax(1), segments(masks)
    full = amodal_iou(decomposition.of_objects(decomposition.masks), masks)
    order = depth_order(regions, masks)
    counts = count_layers(decomposition)
    wins = _wins(decomposition, masks, labels, experts, classes)
    return Agreement(
        adjusted_rand(partition, truth, foreground=True).nanmean().item(),
        adjusted_rand(partition, truth).mean().item(),
        mean_iou(partition, truth).mean().item(),
        full.iou[full.occluded].mean().item(),
        full.invisible_iou[full.occluded].nanmean().item(),
        (counts == masks.flatten(2).any(2).sum(1)).float().mean().item(),
        background_first(regions, masks).float().mean().item(),
        *order,
        *wins,
    )


@checked
def count_layers(decomposition: Decomposition) -> Int[Tensor, " n"]:
    """How many objects the layers of each scene show: those that take more than 1 % of the pixels.

    In a scene none of whose layers is known to show no object (``experts`` -1), one that is in use is taken
    for the background.
    """
    regions = decomposition.of_objects(decomposition.regions)
    return object_counts(regions) - (decomposition.experts >= 0).all(1).long()


def _wins(
    decomposition: Decomposition,
    masks: Tensor,
    labels: Tensor | None,
    experts: int | None,
    classes: int | None,
) -> tuple[float, float, list[list[int]] | None]:
    if labels is None or labels.numel() == 0:
        return torch.nan, torch.nan, None
    special = specialisation(
        decomposition.experts,
        decomposition.of_objects(decomposition.regions),
        masks,
        labels,
        experts=max(1, int(decomposition.experts.max()) + 1) if experts is None else experts,
        classes=max(1, int(labels.max()) + 1) if classes is None else classes,
    )
    return special.purity, special.mutual_information, special.wins.tolist()
