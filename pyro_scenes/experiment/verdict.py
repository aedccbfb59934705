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
    count_layers,
    likeliest_counts,
    reconstruct,
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


def count_verdict(model: Any, guide: nn.Module, scenes: Scenes) -> str:
    """Of a model that counts by ``z_pres_t``, such as ``AIR``. Use ``torch.no_grad()``."""
    images = scenes.floats(model.blank.device)
    found = likeliest_counts(guide, images).cpu()
    canvas = canvas_error(reconstruct(model, guide, images[:SOME]), images[:SOME])
    lines = [_counts(found, scenes.counts), _explained(canvas.explained_variance)]
    advice = _stuck(found, scenes, model.steps) or _full(found, scenes, model.steps, "--objects")
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
        lines.append(f"{used}; whether each is one object, the pictures tell")
    return _text(lines, _poor(numbers["explained_variance"], CURES["layers"]))


def region_verdict(answer: Decomposition, scenes: Scenes, extra_share: float) -> str:
    """Of scenes taken apart into regions of experts, and of the share of pixels that spare layers take."""
    found, most = count_layers(answer), answer.regions.shape[1] - 1
    explained = canvas_error(answer.canvas, scenes.floats()).explained_variance
    lines = [_counts(found, scenes.counts), _explained(explained)]
    lines[1] += f"; spare layers take {_percent(extra_share)} of the pixels"
    advice = _full(found, scenes, most, "--layers", 1) or _poor(explained, CURES["regions"])
    return _text(lines, advice)


def _text(lines: list[str], advice: str | None) -> str:
    return "\n".join([*lines, *([advice] if advice else [])])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _counts(found: Int[Tensor, " n"], truth: Int[Tensor, " n"] | None) -> str:
    size = f"{len(found):,} scene{'s' * (len(found) > 1)}"
    if truth is None:
        low, high = int(found.min()), int(found.max())
        number = f"{low} to {high}" if low < high else f"{low}"
        return f"found {number} objects a scene (mean {found.double().mean():.1f}) in {size}"
    right = f"counts right in {_percent(count_accuracy(found, truth))} of {size}"
    return f"{right} (one answer for all: {_percent(_one_for_all(truth))})"


def _explained(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "all images are of one colour each: there is nothing to reconstruct"
    if share <= 0:
        return "reconstructions are no nearer to the images than one flat colour each"
    told = f"reconstructions explain {_percent(share)} of the variance of pixels"
    return f"{told} (one flat colour each: 0 %)"


def _stuck(found: Int[Tensor, " n"], scenes: Scenes, most: int) -> str | None:
    """If scenes with objects were given the most or none, or counts are no better than one for all."""
    busy, truth = ~scenes.empty().cpu(), scenes.counts
    counts = found[busy]
    if len(counts) == 0 or (truth is not None and _is_better(counts, truth[busy])):
        return None
    full, none = ((counts == count).double().mean().item() for count in (most, 0))
    if full + none >= STUCK and (most > 1 or max(full, none) >= STUCK):
        given = f"{most} of {most} ({_percent(full)}) or none ({_percent(none)})"
        unless = "" if truth is not None else "if they differ, "
        told = f"scenes with objects were given {given}: {unless}it cannot count yet"
        return f"{told}\n{CURES['counts']}"
    if truth is not None and not _is_better(found, truth):
        return f"that is no better than one answer for all\n{CURES['counts']}"
    return None


def _is_better(found: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> bool:
    """Whether counts are right more often than one answer for all, or always."""
    right = count_accuracy(found, truth)
    return right == 1 or right > _one_for_all(truth)


def _one_for_all(truth: Int[Tensor, " n"]) -> float:
    """The share of scenes in which the commonest count is right."""
    return count_accuracy(truth.bincount().argmax().expand_as(truth), truth)


def _full(
    found: Int[Tensor, " n"], scenes: Scenes, most: int, flag: str, more: int = 0
) -> str | None:
    """If many scenes have as many objects as there may be, and nobody knows that these are all."""
    share = (found == most).double().mean().item()
    if scenes.counts is not None or share < FULL:
        return None
    full = f"{_percent(share)} of the scenes have the most objects there may be, {most}"
    return f"{full}: if some show more, give {flag} {most + more + 2}"


def _poor(explained: float | None, cure: str) -> str | None:
    if explained is None or not explained < POOR:
        return None
    return f"that is little\n{cure}"
