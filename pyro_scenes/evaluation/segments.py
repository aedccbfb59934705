"""Segments: each pixel belongs to one part of the scene, and how well two such partitions agree."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..checks import check_tensors
from .arguments import checked
from .matching import best_match

__all__ = ["adjusted_rand", "mean_iou", "segments", "visible_parts"]


@checked
def visible_parts(truth: Bool[Tensor, "n objects h w"]) -> Bool[Tensor, "n objects h w"]:
    """What the objects in front leave to be seen of each object.

    Args:
        truth: Full shapes, front to back (``Scenes.masks``). Empty ones are padding.
    """
    return truth & (truth.cumsum(1) == 1)


@checked
def segments(truth: Bool[Tensor, "n objects h w"]) -> Int[Tensor, "n h w"]:
    """The true partition: 0 is the background, 1 + i what is visible of object i.

    A model's own is ``regions.argmax(1)``. Its numbers need not be the true ones: nothing here reads them
    but for 0 in the truth.

    Args:
        truth: Full shapes, front to back (``Scenes.masks``). Empty ones are padding.
    """
    visible = visible_parts(truth)
    numbers = torch.arange(1, visible.shape[1] + 1, device=visible.device)
    return (visible * numbers[:, None, None]).sum(1)


@checked
def adjusted_rand(
    partition: Int[Tensor, "n h w"], truth: Int[Tensor, "n h w"], *, foreground: bool = False
) -> Float[Tensor, " n"]:
    """The adjusted Rand index (Hubert & Arabie, 1985, Eq. 5): 1 for equal partitions, 0 by chance.

    It can be negative. Two partitions that are trivial in the same way, one part each or a part for every
    pixel, are equal and have 1; if only one of them is trivial it is 0.

    Args:
        partition: Any number for each part.
        truth: The same, as :func:`segments` gives it.
        foreground: Counts only the pixels whose true segment is not 0; NaN for scenes without any.

    Raises:
        ValueError: Two shapes, or no pixel.
    """
    # Squares of the number of pairs overflow int64.
    table = contingency(partition, truth, foreground=foreground).double()
    together = _pairs(table).sum((1, 2))
    in_partition, in_truth = _pairs(table.sum(2)).sum(1), _pairs(table.sum(1)).sum(1)
    pixels = table.sum((1, 2))
    expected = in_partition * (in_truth / _pairs(pixels).clamp(min=1))
    room = (in_partition + in_truth) / 2 - expected
    score = torch.where(room > 0, (together - expected) / room, 1.0)
    return score.where(pixels > 0, torch.nan).float()


def _pairs(count: Tensor) -> Tensor:
    return count * (count - 1) / 2


@checked
def mean_iou(partition: Int[Tensor, "n h w"], truth: Int[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """The mean IoU, in [0, 1], of the true segments, the background among them, with matching parts.

    The match is one to one, and its IoUs sum to the most; a true segment without a part has 0.

    Args:
        partition: Any number for each part.
        truth: The same, as :func:`segments` gives it.

    Raises:
        ValueError: Two shapes, or no pixel.
    """
    # Rows are true segments.
    both = contingency(partition, truth).mT.double()
    sizes, others = both.sum(2, keepdim=True), both.sum(1, keepdim=True)
    table = both / (sizes + others - both).clamp(min=1)
    match = best_match(table)[..., None]
    matched = table.gather(2, match.clamp(min=0)) * (match >= 0)
    return (matched.sum((1, 2)) / (sizes > 0).sum((1, 2))).float()


def contingency(
    partition: Int[Tensor, "n h w"], truth: Int[Tensor, "n h w"], *, foreground: bool = False
) -> Int[Tensor, "n parts segments"]:
    """How many pixels of each image lie in a part (row) and a true segment (column), in order of number.

    A part of any image has a row or column in all of them. Arguments and errors are those of
    :func:`adjusted_rand`.
    """
    check_tensors(
        partition.shape == truth.shape and min(truth.shape[1:]) > 0,
        "a partition and the true one, both (n, H, W), of a pixel at least",
        partition,
        truth,
    )
    truth = truth.to(partition.device)
    counted = truth != 0 if foreground else torch.ones_like(truth, dtype=torch.bool)
    rows, row = partition.unique(return_inverse=True)
    columns, column = truth.unique(return_inverse=True)
    shape = (len(truth), len(rows), len(columns))
    image = torch.arange(len(truth), device=truth.device)[:, None, None]
    # Each image has a table of its own.
    cell = (image * shape[1] + row) * shape[2] + column
    return cell[counted].bincount(minlength=shape[0] * shape[1] * shape[2]).reshape(shape)
