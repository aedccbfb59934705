"""Samples painted on request: scenes of given experts, and whether they show what was asked for."""

from collections.abc import Sequence
from inspect import signature
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pyro import poutine
from torch import Tensor, nn

from ..checks import check_sizes
from ..render import under
from .arguments import checked
from .segments import visible_parts
from .specialisation import count_classes

__all__ = [
    "Request",
    "Requested",
    "Roles",
    "Sample",
    "as_request",
    "mostly_visible",
    "paint",
    "paint_alone",
    "paint_request",
    "requested",
    "roles",
]


class Sample(NamedTuple):
    """Scenes painted by given experts, front layer first."""

    images: Float[Tensor, "n c h w"]  # without noise
    layers: Float[Tensor, "n layers c h w"]  # premultiplied, hidden parts included
    masks: Float[Tensor, "n layers 1 h w"]  # opacities, 0 or 1


@torch.no_grad()
def paint(model: nn.Module, experts: Sequence[int], size: int = 1) -> Sample:
    """Draws scenes whose layers, from the front, are of these experts, with codes from their prior.

    Opacities are rounded: each pixel shows one layer, or none, and is black (the paper's Fig. 1C and 7).

    Args:
        model: With the sites ``z_expert_0``, ..., ``colours`` and ``masks`` of ``ECON``, and a number of
            layers that is an argument of the call.
        experts: One for each layer. The experts of the background, if there are any, are the last.
        size: Number of scenes.

    Raises:
        ValueError: There are no experts, or no such ones, or the model draws no such sites.
    """
    check_sizes(size=size)
    experts = [int(expert) for expert in experts]
    if not experts:
        raise ValueError("experts must be numbers, one for each layer: got none")
    if "layers" not in signature(model.forward).parameters:
        raise ValueError(f"{type(model).__name__} takes no layers=: it has no experts")
    device = next(model.parameters()).device
    choices = {
        f"z_expert_{i}": torch.full((size,), expert, device=device)
        for i, expert in enumerate(experts)
    }
    conditioned = poutine.condition(model, data=choices)
    trace = poutine.trace(conditioned).get_trace(size=size, layers=len(experts))
    missing = {*choices, "colours", "masks"} - trace.nodes.keys()
    if missing:
        raise ValueError(f"this model draws no {', '.join(sorted(missing))}: it has no experts")
    known = len(trace.nodes["z_expert_0"]["fn"].enumerate_support(expand=False))
    if not all(0 <= expert < known for expert in experts):
        raise ValueError(f"experts must be numbers from 0 to {known - 1}, got {experts}")
    colours, masks = (trace.nodes[name]["value"].cpu() for name in ("colours", "masks"))
    masks = (masks > 0.5).to(colours)
    canvas, scope = torch.zeros_like(colours[:, 0]), torch.ones_like(masks[:, 0])
    for colour, mask in zip(colours.unbind(1), masks.unbind(1), strict=True):
        canvas, scope = under(canvas, scope, colour * mask, mask)
    return Sample(canvas, colours * masks, masks)


@checked
def mostly_visible(masks: Bool[Tensor, "n objects h w"]) -> Bool[Tensor, " n"]:
    """Scenes in which more than a quarter of each object is visible. Empty masks hide nothing."""
    sizes, visible = masks.sum((2, 3)), visible_parts(masks).sum((2, 3))
    return ((visible > sizes / 4) | (sizes == 0)).all(1)


class Roles(NamedTuple):
    """Which experts make objects, and of which class."""

    object_experts: tuple[int, ...]  # make objects
    background_experts: tuple[int, ...]  # all others, painted behind them
    # For each class the expert that won most of its objects, of those that won no class more often; -1: none.
    by_class: tuple[int, ...]


@checked
def roles(
    wins: Int[Tensor, "experts classes"], object_experts: Sequence[int] | None = None
) -> Roles:
    """Reads roles from what experts won (``Agreement.wins``, of a row for every expert).

    Args:
        wins: Objects of each class that each expert won.
        object_experts: Those that make objects, as the model has them. None: not known; then, of two experts
            or more, the one that won fewest objects is taken for the background's.
    """
    experts = range(len(wins))
    if object_experts is None:
        fewest = int(wins.sum(1).argmin()) if len(wins) > 1 else -1
        object_experts = [k for k in experts if k != fewest]
    object_experts = [int(k) for k in object_experts]
    if not {*object_experts} <= {*experts}:
        raise ValueError(f"wins are of {len(wins)} experts, got object_experts={object_experts}")
    by_class = []
    for number in range(wins.shape[1]):
        candidates = [
            k for k in object_experts if wins[k, number] > 0 and wins[k].argmax() == number
        ]
        by_class.append(max(candidates, key=wins[:, number].tolist().__getitem__, default=-1))
    return Roles(
        tuple(object_experts), tuple(sorted({*experts} - {*object_experts})), tuple(by_class)
    )


@checked
def paint_alone(
    model: nn.Module, roles: Roles, size: int = 200
) -> Float[Tensor, "experts size h w"]:
    """The masks of single objects of each object expert, before the background."""
    samples = [
        paint(model, [k, *roles.background_experts], size).masks[:, 0, 0]
        for k in roles.object_experts
    ]
    return torch.stack(samples)


class Request(NamedTuple):
    """Scenes painted on request, of which more than a quarter of each object is visible."""

    images: Tensor  # (n, C, H, W), float in [0, 1], or as true scenes have them
    counts: Int[Tensor, "n classes"]  # of the objects that were requested
    made: Bool[Tensor, " classes"]  # whether there is an expert for the class


@checked
def paint_request(
    model: nn.Module, roles: Roles, *, objects: int = 3, requests: int = 60, size: int = 16
) -> Request:
    """Requests scenes of 1 to ``objects`` objects of random classes, and paints those there are experts for.

    Args:
        roles: Of :func:`roles`.
        objects: The most objects in a scene; every number and class is as likely.
        requests: How many combinations of classes.
        size: Scenes painted of each.
    """
    images, counts = [], []
    classes = len(roles.by_class)
    for _ in range(requests):
        number = int(torch.randint(1, objects + 1, ()))
        wanted = torch.randint(classes, (number,))
        experts = [roles.by_class[i] for i in wanted.tolist() if roles.by_class[i] >= 0]
        pictures, masks = _before_background(model, experts, roles.background_experts, size)
        images.append(pictures[mostly_visible(masks)])
        counts.append(wanted.bincount(minlength=classes).expand(len(images[-1]), -1))
    made = torch.tensor(roles.by_class) >= 0
    return Request(torch.cat(images), torch.cat(counts), made)


@checked
def as_request(
    images: Tensor,
    masks: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"],
    classes: int,
) -> Request:
    """True scenes as a request, of which more than a quarter of each object is visible.

    A reader is trained on some (``train_reader(request.images, request.counts)``); what
    :func:`requested` says of others is the ceiling.

    Args:
        images: (n, C, H, W), as the scenes have them.
        masks: Full shapes, front to back (``Scenes.masks``). Empty ones are padding.
        labels: The class, from 0, of each object; -1 is padding.
        classes: How many there are.
    """
    clear = mostly_visible(masks)
    counts = count_classes(labels, classes)
    return Request(images[clear], counts[clear], torch.ones(classes, dtype=torch.bool))


def _before_background(
    model: nn.Module, experts: list[int], background_experts: Sequence[int], size: int
) -> tuple[Float[Tensor, "size c h w"], Bool[Tensor, "size objects h w"]]:
    if not experts and not background_experts:
        blank = torch.zeros(size, *getattr(model, "image_shape"))
        return blank, blank[:, :0].bool()
    sample = paint(model, [*experts, *background_experts], size)
    return sample.images, sample.masks[:, : len(experts), 0] > 0.5


class Requested(NamedTuple):
    """What a reader reads of scenes painted on request, in [0, 1].

    Floors: ``floors.requested_floors``. Ceiling: the reader's own figures on true scenes.
    """

    # Share of the counts, one for each scene and class, that are as requested.
    requested_counts: float
    requested_scenes: float  # share of scenes in which all are


@checked
def requested(read: Int[Tensor, "n classes"], request: Request) -> Requested:
    """Compares what is read with what was requested. A class without an expert is wrong in every scene."""
    if read.shape != request.counts.shape:
        shapes = f"{tuple(read.shape)} and {tuple(request.counts.shape)}"
        raise ValueError(f"what is read and the request are of other scenes or classes: {shapes}")
    same = (read == request.counts) & request.made
    return Requested(same.float().mean().item(), same.all(1).float().mean().item())
