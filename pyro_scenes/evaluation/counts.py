"""How many objects: the guide's presences, read and compared with the truth."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pyro import poutine
from torch import Tensor, nn

from ..render import box

__all__ = [
    "Interpretation",
    "count_accuracy",
    "count_confusion",
    "count_probabilities",
    "interpret",
    "sample_counts",
]


def count_probabilities(
    guide: nn.Module, images: Float[Tensor, "n c h w"], *, draws: int = 10
) -> Float[Tensor, "n counts"]:
    """q(count | image) for counts 0 .. N: exact in the presences, averaged over draws of the rest.

    Its argmax is the *mode* count. Reads the Bernoulli sites ``z_pres_0 .. z_pres_{N-1}`` of the guide.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    names = _presence(poutine.trace(guide).get_trace(images))
    present = {name: images.new_ones(len(images)) for name in names}
    total = images.new_zeros(len(images), len(names) + 1)
    for _ in range(draws):
        trace = poutine.trace(poutine.condition(guide, data=present)).get_trace(images)
        goes_on = torch.stack([trace.nodes[name]["fn"].probs for name in names], -1)
        reached = nn.functional.pad(goes_on.cumprod(-1), (1, 0), value=1.0)  # P(count >= k)
        total += reached - nn.functional.pad(reached[:, 1:], (0, 1))
    return total / draws


def sample_counts(guide: nn.Module, images: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """The count in one draw of the guide for each image: a *sample*, not the mode."""
    trace = poutine.trace(guide).get_trace(images)
    return sum(trace.nodes[name]["value"] for name in _presence(trace)).long()


def _presence(trace: poutine.Trace) -> list[str]:
    names = [name for name in trace.nodes if name.startswith("z_pres_")]
    if not names:
        raise ValueError(
            "this guide has no sites z_pres_0, z_pres_1, ...: it does not count objects"
        )
    return names


def count_accuracy(counts: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """The share of images whose count is right, in [0, 1]."""
    if counts.shape != truth.shape or len(truth) == 0:
        raise ValueError(f"needs as many counts as truths, got {len(counts)} and {len(truth)}")
    return (counts == truth.to(counts.device)).double().mean().item()


def count_confusion(
    counts: Int[Tensor, " n"], truth: Int[Tensor, " n"]
) -> Int[Tensor, "most most"]:
    """How often a true count (row) was given as another (column)."""
    if counts.shape != truth.shape or len(truth) == 0:
        raise ValueError(f"needs as many counts as truths, got {len(counts)} and {len(truth)}")
    size = int(max(counts.max(), truth.max())) + 1
    pairs = truth.to(counts.device) * size + counts
    return pairs.bincount(minlength=size * size).reshape(size, size)


class Interpretation(NamedTuple):
    """One draw of the guide for each image, and what the model makes of it."""

    boxes: Float[Tensor, "n steps 4"]  # left, top, right, bottom in pixels; NaN where no object is
    counts: Int[Tensor, " n"]
    canvas: Float[Tensor, "n c h w"]  # the reconstruction


def interpret(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"]
) -> Interpretation:
    """Draws one interpretation of each image: where objects are, how many, and the image they explain.

    Reads ``z_pres_t`` and ``z_where_t`` (a pose) of the guide, and ``canvas`` of the model.
    """
    trace = poutine.trace(guide).get_trace(images)
    names = _presence(trace)
    present = torch.stack([trace.nodes[name]["value"] for name in names], 1)
    poses = [trace.nodes[name.replace("z_pres", "z_where")]["value"] for name in names]
    boxes = box(torch.stack(poses, 1), images.shape).where(present.bool()[..., None], torch.nan)
    scene = poutine.trace(poutine.replay(model, trace=trace)).get_trace(size=len(images))
    return Interpretation(boxes, present.sum(1).long(), scene.nodes["canvas"]["value"])
