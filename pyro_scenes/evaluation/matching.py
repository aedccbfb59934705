"""Matching: which layer shows which true object, by the IoU of their shapes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .arguments import checked

__all__ = ["Match", "best_match", "iou", "layer_iou", "match_layers", "overlap"]


@checked
def iou(
    masks: Bool[Tensor, "*#batch h w"], truth: Bool[Tensor, "*#batch h w"]
) -> Float[Tensor, "*batch"]:
    """Intersection over union, in [0, 1]; 1 where both are empty."""
    both, either = (masks & truth).sum((-2, -1)), (masks | truth).sum((-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


@checked
def best_match(scores: Float[Tensor, "n rows columns"]) -> Int[Tensor, "n rows"]:
    """For each row its column, so that the scores of the pairs sum to the most; -1 if there is none left."""
    # Imported here, as importing scipy.optimize changes warning filters.
    from scipy.optimize import linear_sum_assignment

    match = torch.full(scores.shape[:2], -1)
    for row_match, table in zip(match, scores.cpu().numpy(), strict=True):
        rows, columns = linear_sum_assignment(table, maximize=True)
        row_match[rows] = torch.as_tensor(columns)
    return match.to(scores.device)


class Match(NamedTuple):
    """For each true object the layer that shows it best, one to one."""

    layer: Int[Tensor, "n objects"]  # -1: there is none
    iou: Float[Tensor, "n objects"]  # 0 without a layer; NaN for padding


@checked
def match_layers(
    masks: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Match:
    """Matches objects to layers so that the IoUs of their full shapes sum to the most.

    Args:
        masks: Opacities of layers (of :func:`see_layers`: ``masks.amax(2)``); what is above one half counts.
        truth: The objects' full shapes (``Scenes.masks``). Empty ones are padding.

    Raises:
        ValueError: Their shapes or numbers differ, or a mask is not finite.
    """
    alike = (len(masks), *masks.shape[2:]) == (len(truth), *truth.shape[2:])
    if not alike or not masks.isfinite().all():
        raise ValueError(
            "needs finite masks (n, layers, H, W), and truth (n, objects, H, W) of the same scenes, got "
            f"{tuple(masks.shape)} and {tuple(truth.shape)}"
        )
    truth = truth.to(masks.device)
    is_object = truth.flatten(2).any(-1)
    table = iou(truth[:, :, None], (masks > 0.5)[:, None]) * is_object[..., None]
    layer = best_match(table).where(is_object, -1)
    score = table.gather(2, layer.clamp(min=0)[..., None])[..., 0] * (layer >= 0)
    return Match(layer, score.where(is_object, torch.nan))


@checked
def layer_iou(
    masks: Float[Tensor, "n layers h w"], truth: Bool[Tensor, "n objects h w"]
) -> Float[Tensor, " n"]:
    """Each scene's mean IoU by :func:`match_layers`, hidden parts included; NaN without objects."""
    return match_layers(masks, truth).iou.nanmean(1)


@checked
def overlap(truth: Bool[Tensor, "n objects h w"]) -> Float[Tensor, " n"]:
    """How much of the smaller object the larger one shares, in [0, 1]: the most over pairs of a scene."""
    if truth.shape[1] < 1:
        raise ValueError(f"needs one object or more in each scene, got {tuple(truth.shape)}")
    shapes = truth.flatten(2).float()
    shared = shapes @ shapes.mT
    sizes = shapes.sum(-1)
    smaller = torch.minimum(sizes[:, :, None], sizes[:, None]).clamp(min=1)
    return (shared / smaller).triu(diagonal=1).amax((1, 2))
