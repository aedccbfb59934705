"""Decompositions that nobody learned: flood fill, order by area, objects as one; the ideal."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..agreement import Agreement, agreement
from ..arguments import checked
from ..decomposition import Decomposition
from ..segments import visible_parts
from ..training import as_floats

__all__ = [
    "agreement_floors",
    "flood_fill",
    "foreground_only",
    "ideal",
    "largest_first",
    "one_expert",
]


@checked
def agreement_floors(
    images: Tensor,
    masks: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"] | None = None,
) -> dict[str, Agreement]:
    """Every floor of :func:`agreement`, and its ceiling, by name.

    Args:
        images: (n, C, H, W), as the scenes have them.
        masks: Full shapes, front to back (``Scenes.masks``).
        labels: The class of each object (``Scenes.labels``), if known.
    """
    answers = {
        "flood fill": flood_fill(images),
        "flood fill, connected": flood_fill(images, connected=True),
        "true regions, largest first": largest_first(images, masks),
        "objects as one": foreground_only(images, masks),
        "ideal, one expert for all": one_expert(ideal(images, masks, labels)),
        "ideal": ideal(images, masks, labels),
    }
    return {name: agreement(answer, masks, labels) for name, answer in answers.items()}


@checked
def flood_fill(images: Tensor, *, layers: int = 16, connected: bool = False) -> Decomposition:
    """Pixels of exactly one colour are one segment: the largest is the background, then objects by area.

    The largest object is in front. Its full shape is what is visible of it, and one expert makes all.

    Args:
        images: (n, C, H, W).
        layers: The most segments; smaller ones belong to the background.
        connected: Whether a segment is also connected, by its pixels' sides.
    """
    # Numbers of colours, the same in all images.
    pixels = images.movedim(1, -1)
    colour = pixels.flatten(0, 2).unique(dim=0, return_inverse=True)[1].view(pixels.shape[:3])
    segment = _connected(colour) if connected else colour
    rank = torch.stack([_rank_by_area(part) for part in segment])
    front = rank[:, None] == torch.arange(1, layers)[:, None, None]
    return _copied(images, front)


def _connected(colour: Int[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
    """Numbers of connected segments: the largest number of a pixel spreads over its segment."""
    label = torch.arange(colour[0].numel()).view(colour.shape[1:]).expand_as(colour).clone()
    before = torch.full_like(label, -1)
    while not torch.equal(before, label):
        before = label.clone()
        for dim in (1, 2):
            size = colour.shape[dim] - 1
            first, second = (label.narrow(dim, start, size) for start in (0, 1))
            same = colour.narrow(dim, 0, size) == colour.narrow(dim, 1, size)
            larger = torch.maximum(first, second)
            first.copy_(larger.where(same, first))
            # Read again, as the two parts overlap and the first has changed.
            second.copy_(torch.maximum(first, second).where(same, second))
    return label


def _rank_by_area(segment: Int[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """0 for the pixels of the largest segment, 1 for those of the next, ..."""
    _, number, sizes = segment.unique(return_inverse=True, return_counts=True)
    return sizes.argsort(descending=True, stable=True).argsort()[number]


@checked
def largest_first(images: Tensor, masks: Bool[Tensor, "n objects h w"]) -> Decomposition:
    """The true regions, the largest visible area in front; full shapes are what is visible."""
    visible = visible_parts(masks)
    order = visible.sum((2, 3)).argsort(dim=1, descending=True, stable=True)
    return _copied(images, visible[torch.arange(len(order))[:, None], order])


@checked
def foreground_only(images: Tensor, masks: Bool[Tensor, "n objects h w"]) -> Decomposition:
    """All objects of a scene as one, before the background."""
    return _copied(images, masks.any(1, keepdim=True))


@checked
def ideal(
    images: Tensor,
    masks: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"] | None = None,
) -> Decomposition:
    """The truth itself, the ceiling of all metrics; each class has an expert, if there are labels."""
    answer = _copied(images, visible_parts(masks))
    full = torch.cat([masks, torch.ones_like(masks[:, :1])], 1).float()
    if labels is None:
        return answer._replace(masks=full)
    experts = torch.cat([labels, torch.full_like(labels[:, :1], -1)], 1)
    return answer._replace(masks=full, experts=experts.where(answer.experts >= 0, -1))


@checked
def one_expert(decomposition: Decomposition) -> Decomposition:
    """The same, as if expert 0 had made every object."""
    return decomposition._replace(experts=decomposition.experts.clamp(max=0))


def _copied(images: Tensor, front: Bool[Tensor, "n layers h w"]) -> Decomposition:
    """These visible parts before a background, whose masks are no more than that: the image is copied."""
    parts = torch.cat([front, ~front.any(1, keepdim=True)], 1)
    experts = front.flatten(2).any(2).long() - 1
    experts = torch.nn.functional.pad(experts, (0, 1), value=-1)
    pictures = as_floats(images)
    colours = pictures[:, None].expand(-1, parts.shape[1], -1, -1, -1)
    return Decomposition(parts.float(), parts.float(), colours, experts, pictures)
