"""What a run has found, in words: its last lines, beside what a trivial answer has, and what to do next."""

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from ..data import Scenes
from ..evaluation import (
    Decomposition,
    canvas_error,
    count_accuracy,
    count_accuracy_floor,
    count_layers,
    likeliest_counts,
    reconstruct,
    repaint,
)

__all__ = ["count_verdict", "layer_verdict", "region_verdict"]

#: Images whose reconstructions are judged.
SOME = 500
#: What less than this share of the variance explains is no reconstruction.
POOR = 0.5
#: What to try, by the model.
CURES = {
    "counts": "take more --steps, another --seed, or --scale (the size of the objects)",
    "layers": "take more --steps, another --seed, or --window (the size of the objects)",
    "regions": "take more --steps, or another --seed",
}
#: A share of scenes with as many objects as there may be from which more are worth a try.
FULL = 0.1
#: A share of scenes with the most objects or none, from which a model does not count.
STUCK = 0.95


def count_verdict(model: Any, guide: nn.Module, scenes: Scenes, numbers: Mapping[str, Any]) -> str:
    """Of a model that counts by ``z_pres_t``, such as ``AIR``. Use ``torch.no_grad()``.

    Args:
        model: With its number of ``steps``.
        guide: Of this model.
        scenes: What was measured.
        numbers: With ``count_accuracy``, as ``evaluation.counting`` measured it, if the counts are known.
    """
    images = scenes.floats(model.blank.device)
    canvas = canvas_error(reconstruct(model, guide, images[:SOME]), images[:SOME])
    if scenes.counts is not None:
        counts = _right(numbers["count_accuracy"], scenes.counts)
        advice = _no_better(numbers["count_accuracy"], scenes.counts)
    else:
        found = likeliest_counts(guide, images).cpu()
        counts, busy = _found(found), found[~scenes.empty().cpu()]
        advice = _stuck(busy, model.steps) or _full(found, model.steps, "--objects", 2)
    lines = [counts, _explained(canvas.explained_variance)]
    return _text(lines, advice or _poor(canvas.explained_variance, CURES["counts"]))


def layer_verdict(numbers: Mapping[str, Any], layers: int) -> str:
    """Of what :class:`LayeredScorer` measures of a model with so many layers."""
    lines = [_explained(numbers["explained_variance"])]
    if "layer_iou" in numbers:
        iou, floor = numbers["layer_iou"], numbers["layer_iou: image cut in two"]
        lines.append(
            f"layers fit the true shapes by an IoU of {iou:.2f} (image cut in two: {floor:.2f})"
        )
    elif "layers_in_use" in numbers:
        used = f"{numbers['layers_in_use']:.1f} of {layers} layers show something in a scene"
        lines.append(f"{used}; see in the pictures whether each is one object")
    return _text(lines, _poor(numbers["explained_variance"], CURES["layers"]))


def region_verdict(answer: Decomposition, scenes: Scenes, extra_share: float) -> str:
    """Of scenes taken apart into regions of experts, and of the share of pixels that spare layers take."""
    found, most = count_layers(answer), answer.regions.shape[1] - 1
    explained = canvas_error(answer.canvas, scenes.floats()).explained_variance
    spare = f"spare layers take {_percent(extra_share)} of the pixels"
    if scenes.counts is not None:
        counts, advice = _right(count_accuracy(found, scenes.counts), scenes.counts), None
    else:
        counts, advice = _found(found), _full(found, most, "--layers", 3)
    lines = [counts, f"{_explained(explained)}; {spare}"]
    return _text(lines, advice or _poor(explained, CURES["regions"]))


def _text(lines: list[str], advice: str | None) -> str:
    return "\n".join([*lines, *([advice] if advice else [])])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _right(accuracy: float, truth: Int[Tensor, " n"]) -> str:
    floor = _percent(count_accuracy_floor(truth))
    return f"counts right in {_percent(accuracy)} of {_size(truth)} (one answer for all: {floor})"


def _found(counts: Int[Tensor, " n"]) -> str:
    low, high, mean = int(counts.min()), int(counts.max()), counts.double().mean()
    if low == high:
        return f"found {low} object{'s' * (low != 1)} a scene in {_size(counts)}"
    return f"found {low} to {high} objects a scene (mean {mean:.1f}) in {_size(counts)}"


def _size(counts: Int[Tensor, " n"]) -> str:
    return f"{len(counts):,} scene{'s' * (len(counts) > 1)}"


def _explained(share: float | None, what: str = "reconstructions") -> str:
    if share is None or math.isnan(share):
        return "all images are of one colour each: there is nothing to reconstruct"
    if share <= 0:
        return f"{what} are no nearer to the images than one flat colour each"
    told = f"{what} explain {_percent(share)} of the variance of pixels"
    return f"{told} (one flat colour each: 0 %)"


def _no_better(accuracy: float, truth: Int[Tensor, " n"]) -> str | None:
    """If counts are no better than the commonest one for each scene with objects, and 0 for others."""
    commonest = truth.bincount(minlength=2)[1:].argmax() + 1
    if accuracy == 1 or accuracy > count_accuracy(commonest.where(truth > 0, 0), truth):
        return None
    told = "counts are no better than one answer for all scenes with objects: it cannot count yet"
    return f"{told}\n{CURES['counts']}"


def _stuck(counts: Int[Tensor, " n"], most: int) -> str | None:
    """If scenes with objects were given the most or none."""
    if len(counts) == 0:
        return None
    full, none = ((counts == count).double().mean().item() for count in (most, 0))
    if full + none < STUCK or (most == 1 and max(full, none) < STUCK):
        return None
    got = f"all {most} or none" if most > 1 else "the same count"
    told = f"{'nearly ' * (full + none < 1)}every scene with objects got {got}"
    return f"{told}: if that is wrong, it cannot count yet\n{CURES['counts']}"


def _full(counts: Int[Tensor, " n"], most: int, flag: str, more: int) -> str | None:
    """If many scenes have as many objects as there may be, and nobody knows that these are all."""
    share = (counts == most).double().mean().item()
    if share < FULL:
        return None
    full = f"{_percent(share)} of the scenes have the most objects there may be, {most}"
    return f"{full}: if some show more, give {flag} {most + more}"


def _poor(explained: float | None, cure: str) -> str | None:
    if explained is None or not explained < POOR:
        return None
    return f"that is little\n{cure}"
