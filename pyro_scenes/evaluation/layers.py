"""Layers of a scene: the complete objects behind what is visible, and how true they are."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pyro import poutine
from torch import Tensor, nn

from ..handlers import expected
from .bounds import check_pair, log_weight

__all__ = [
    "Layers",
    "Match",
    "best_match",
    "explanations",
    "iou",
    "layer_iou",
    "match_layers",
    "overlap",
    "r_squared",
    "see_layers",
]


SITES = ("layers", "masks", "transforms", "canvas")


class Layers(NamedTuple):
    """A scene taken apart, front layer first. Pictures are premultiplied: colour times opacity."""

    complete: Float[Tensor, "n layers c h w"]  # each object, hidden parts included
    masks: Float[Tensor, "n layers #c h w"]  # its opacity
    visible: Float[Tensor, "n layers c h w"]  # what the layers before leave to be seen of it
    canvas: Float[Tensor, "n c h w"]  # all together: the reconstruction
    transforms: Float[Tensor, "n layers 2 3"]  # T of each, from the canvas to its window


def see_layers(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"], *, draw: bool = False
) -> Layers:
    """Takes images apart into layers and completes what is hidden (amodal completion).

    Args:
        model: With the sites ``layers``, ``masks``, ``transforms`` and ``canvas`` of ``CSTVAE``.
        guide: Its guide.
        images: What is to be explained.
        draw: One draw of the guide. Otherwise each latent is at its proposal's median, given those before.

    Raises:
        ValueError: The model has no such sites.
    """
    with poutine.trace() as proposed, nullcontext() if draw else expected():
        guide(images)
    return _read(model, proposed.trace, len(images))


def explanations(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"], *, draws: int = 8
) -> tuple[list[Layers], Float[Tensor, "draws n"]]:
    """Several draws of the guide, and how much each counts among them in the posterior of its image.

    Returns:
        The draws, and their importance weights p(image, z) / q(z | image), normalised to sum to 1 over
        the draws of an image.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    found, weights = [], []
    for _ in range(draws):
        proposed = poutine.trace(guide).get_trace(images)
        weights.append(log_weight(model, proposed, images))
        found.append(_read(model, proposed, len(images)))
    return found, torch.stack(weights).softmax(0)


def _read(model: nn.Module, proposed: poutine.Trace, size: int) -> Layers:
    drawn = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(size=size)
    check_pair(drawn, proposed)
    lacking = [name for name in SITES if name not in drawn.nodes]
    if lacking:
        raise ValueError(f"this model draws no {', '.join(lacking)}: it has no layers")
    complete, masks, transforms, canvas = (drawn.nodes[name]["value"] for name in SITES)
    scopes = torch.cat([torch.ones_like(masks[:, :1]), 1 - masks[:, :-1]], 1).cumprod(1)
    return Layers(complete, masks, scopes * complete, canvas, transforms)


def iou(
    masks: Bool[Tensor, "*#batch h w"], truth: Bool[Tensor, "*#batch h w"]
) -> Float[Tensor, "*batch"]:
    """Intersection over union, in [0, 1]; 1 where both are empty."""
    both, either = (masks & truth).sum((-2, -1)), (masks | truth).sum((-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def best_match(scores: Float[Tensor, "n rows columns"]) -> Int[Tensor, "n rows"]:
    """For each row its column, so that the scores of the pairs sum to the most; -1 if there is none left."""
    from scipy.optimize import (  # here, as importing it changes warning filters
        linear_sum_assignment,
    )

    found = torch.full(scores.shape[:2], -1)
    for one, table in zip(found, scores.cpu().numpy(), strict=True):
        rows, columns = linear_sum_assignment(table, maximize=True)
        one[rows] = torch.as_tensor(columns)
    return found.to(scores.device)


class Match(NamedTuple):
    """For each true object the layer that shows it best, one to one."""

    layer: Int[Tensor, "n objects"]  # -1: there is none
    iou: Float[Tensor, "n objects"]  # 0 without a layer; NaN for padding


def match_layers(
    masks: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Match:
    """Matches objects to layers so that the IoUs of their full shapes sum to the most.

    Args:
        masks: Opacities of layers; what is above one half counts.
        truth: The objects' full shapes (``Scenes.masks``). Empty ones are padding.

    Raises:
        ValueError: Their shapes or numbers differ, a mask is not finite, or the truth is not bool.
    """
    alike = (len(masks), *masks.shape[2:]) == (len(truth), *truth.shape[2:])
    if masks.dim() != 4 or not alike or truth.dtype != torch.bool or not masks.isfinite().all():
        raise ValueError(
            "needs finite masks (n, layers, H, W), of see_layers: masks.amax(2), and bool truth (n, "
            f"objects, H, W), got {tuple(masks.shape)}, and {truth.dtype} {tuple(truth.shape)}"
        )
    truth = truth.to(masks.device)
    there = truth.flatten(2).any(-1)
    table = iou(truth[:, :, None], (masks > 0.5)[:, None]) * there[..., None]
    layer = best_match(table).where(there, -1)
    found = table.gather(2, layer.clamp(min=0)[..., None])[..., 0] * (layer >= 0)
    return Match(layer, found.where(there, torch.nan))


def layer_iou(
    masks: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Float[Tensor, " n"]:
    """Each scene's mean IoU by :func:`match_layers`, hidden parts included; NaN without objects."""
    return match_layers(masks, truth).iou.nanmean(1)


def overlap(truth: Bool[Tensor, "n objects h w"]) -> Float[Tensor, " n"]:
    """How much of the smaller object the larger one shares, in [0, 1]: the most over pairs of a scene."""
    if truth.dtype != torch.bool or truth.dim() != 4 or truth.shape[1] < 1:
        raise ValueError(f"needs bool (n, objects, H, W), got {truth.dtype} {tuple(truth.shape)}")
    shapes = truth.flatten(2).float()
    shared = shapes @ shapes.mT
    sizes = shapes.sum(-1)
    smaller = torch.minimum(sizes[:, :, None], sizes[:, None]).clamp(min=1)
    return (shared / smaller).triu(diagonal=1).amax((1, 2))


def r_squared(found: Float[Tensor, "n k"], truth: Float[Tensor, "n k"]) -> float:
    """The share of the truth's variance that is found, at most 1; a constant error does not count."""
    if found.shape != truth.shape or len(truth) < 2:
        raise ValueError(f"needs two or more pairs, got {tuple(found.shape)}, {tuple(truth.shape)}")
    if not (truth.var(0) > 0).all():
        raise ValueError("the truth must vary, and have no NaN: there is nothing to find")
    return (1 - (found - truth.to(found)).var(0) / truth.to(found).var(0)).mean().item()
