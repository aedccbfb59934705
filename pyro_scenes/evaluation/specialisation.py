"""Specialisation: whether each expert has a class of objects to itself."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..checks import check_tensors
from .arguments import checked
from .depth import match_visible
from .segments import visible_parts

__all__ = ["Specialisation", "count_classes", "describe_wins", "specialisation"]


class Specialisation(NamedTuple):
    """Which experts make which classes. Read the wins as well: one expert that wins all may look pure."""

    wins: Int[Tensor, "experts classes"]  # objects of a class whose layer an expert made
    unmatched: int  # visible objects that have no layer, or one without an expert
    # Share in [0, 1] of visible objects in their expert's commonest class; NaN for none. One expert for all
    # has the share of the commonest class (1/3 of three), random ones about .4.
    purity: float
    # Of expert and class, normalised to [0, 1]; 0 for one expert or random ones. NaN without wins.
    mutual_information: float


@checked
def specialisation(
    winners: Int[Tensor, "n layers"],
    regions: Float[Tensor, "n layers h w"],
    truth: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"],
    *,
    experts: int,
    classes: int,
) -> Specialisation:
    """Counts for each expert the objects that its layers show, by class. The background does not count.

    Objects are matched to front layers by what is visible (``depth.match_visible``); wholly hidden ones are
    left out. Unmatched ones make it less pure. Mutual information is over the matched ones alone, divided
    by the mean of the two entropies: 0 if there is but one expert or one class among them, and 1 if there
    is one of both, which tells nothing.

    Args:
        winners: The expert, from 0, that made each front layer; -1 is none.
        regions: The share in [0, 1] of each pixel that it takes, front first.
        truth: Full shapes, front to back; empty ones are padding.
        labels: The class, from 0, of each object; that of padding is not looked at.
        experts: How many there are.
        classes: How many there are.

    Raises:
        ValueError: Shapes are others, or a winner or label is out of range.
    """
    match = match_visible(regions, truth)
    truth, labels = truth.to(regions.device), labels.to(regions.device)
    check_tensors(winners.shape == regions.shape[:2], "winners (n, layers)", winners)
    check_tensors(labels.shape == truth.shape[:2], "labels (n, objects)", labels)
    _check_range("winners", winners, -1, experts)
    _check_range("labels", labels[truth.flatten(2).any(-1)], 0, classes)
    winner = winners.to(match.layer).gather(1, match.layer.clamp(min=0))
    won = (match.layer >= 0) & (winner >= 0)
    cells = winner[won] * classes + labels[won]
    wins = cells.bincount(minlength=experts * classes).reshape(experts, classes)
    seen = visible_parts(truth).flatten(2).any(-1).sum()
    purity = wins.amax(1).sum() / seen  # NaN for 0 / 0
    return Specialisation(
        wins, int(seen - won.sum()), purity.item(), _normalised_information(wins.double())
    )


def _check_range(name: str, numbers: Tensor, low: int, high: int) -> None:
    outside = (numbers < low) | (numbers >= high)
    if high < 1 or outside.any():
        raise ValueError(
            f"{name} must be from {low} to below {high}, got {numbers[outside].unique().tolist()}"
        )


def _normalised_information(wins: Tensor) -> float:
    if wins.sum() == 0:
        return float("nan")
    joint = wins / wins.sum()
    apart = (_entropy(joint.sum(1)) + _entropy(joint.sum(0))).item()
    shared = apart - _entropy(joint).item()
    # Rounding may leave [0, 1].
    return min(max(2 * shared / apart, 0.0), 1.0) if apart > 0 else 1.0


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum()


@checked
def describe_wins(wins: Int[Tensor, "experts classes"], names: Sequence[str] = ()) -> list[str]:
    """What each expert won, in words: "expert 0: won 4 circles, 1 square".

    Args:
        wins: Objects of each class that each expert won.
        names: Of the classes, in the singular. Default: "4 of class 0".
    """
    lines = []
    for expert, row in enumerate(wins.tolist()):
        parts = [
            f"{won} {names[i]}{'s' * (won > 1)}" if names else f"{won} of class {i}"
            for i, won in enumerate(row)
            if won
        ]
        lines.append(f"expert {expert}: won {', '.join(parts) or 'nothing'}")
    return lines


@checked
def count_classes(labels: Int[Tensor, "n objects"], classes: int) -> Int[Tensor, "n classes"]:
    """How many objects of each class there are.

    Args:
        labels: The class, from 0, of each object; -1 is padding.
        classes: How many there are.

    Raises:
        ValueError: A label is out of range.
    """
    if ((labels < -1) | (labels >= classes)).any():
        raise ValueError(
            f"labels must be from -1 to below {classes}, got {labels.unique().tolist()}"
        )
    return (labels[..., None] == torch.arange(classes, device=labels.device)).sum(1)
