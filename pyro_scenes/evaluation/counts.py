"""How many objects: the guide's presences, read and compared with the truth."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pyro import poutine
from torch import Tensor, nn

from ..checks import check_sizes
from ..pairs import check_same_model, replay, warn_training_mode
from ..render import box
from .arguments import checked, split
from .canvases import canvas_of

__all__ = [
    "Counting",
    "Interpretation",
    "count_accuracy",
    "count_accuracy_floor",
    "count_probabilities",
    "counting",
    "drawn_objects",
    "interpret",
    "likeliest_counts",
    "presence_sites",
    "sample_counts",
]

#: Largest probability of presence after a 0 that is taken for none.
IMPOSSIBLE = 1e-3
#: Images that the guide gets at a time, to bound memory.
CHUNK = 1000


class Counting(NamedTuple):
    """Shares of images whose count is right, in [0, 1]."""

    count_accuracy: float  # of the guide's likeliest count
    count_accuracy_sample: float  # of the count in one draw of the guide
    count_accuracy_floor: float  # of the commonest true count, given for every image


@checked
def counting(
    guide: Callable, images: Float[Tensor, "n c h w"], truth: Int[Tensor, " n"], *, draws: int = 10
) -> Counting:
    """How often the guide counts right, beside the share that one count for all images reaches.

    Args:
        guide: As for :func:`count_probabilities`.
        images: Float images in [0, 1], any number: the guide gets 1000 at a time.
        truth: How many objects each has (``Scenes.counts``).
        draws: As for :func:`count_probabilities`.
    """
    mode = likeliest_counts(guide, images, draws=draws)
    sample = torch.cat([sample_counts(guide, each) for each in split(images, CHUNK)])
    right, right_sample = count_accuracy(mode, truth), count_accuracy(sample, truth)
    return Counting(right, right_sample, count_accuracy_floor(truth))


@checked
def likeliest_counts(
    guide: Callable, images: Float[Tensor, "n c h w"], *, draws: int = 10
) -> Int[Tensor, " n"]:
    """The likeliest count of each image, the *mode*.

    Args:
        guide, draws: As for :func:`count_probabilities`.
        images: Float images in [0, 1], any number: the guide gets 1000 at a time.
    """
    chunks = split(images, CHUNK)
    return torch.cat([count_probabilities(guide, each, draws=draws).argmax(-1) for each in chunks])


@checked
def count_probabilities(
    guide: Callable, images: Float[Tensor, "n c h w"], *, draws: int = 10
) -> Float[Tensor, "n counts"]:
    """q(count | image) for counts 0 .. N: exact in the presences, averaged over draws of the rest.

    Its argmax is the *mode* count. Reads the Bernoulli sites ``z_pres_0 .. z_pres_{N-1}`` of the guide, which
    must be in unary code: after a 0 there are only 0s.

    Raises:
        ValueError: There are no such sites, or they are in no unary code, as those of a grid are.

    Warns:
        TrainingModeWarning: The guide is in training mode.
    """
    warn_training_mode(guide)
    check_sizes(draws=draws)
    names = presence_sites(poutine.trace(guide).get_trace(images))
    for first in range(len(names) - 1):
        later = _goes_on(guide, images, names, first)[:, first + 1 :]
        if later.max() > IMPOSSIBLE:
            raise ValueError(
                f"the presences of this guide are not in unary code: after {names[first]} = 0 another is "
                f"1 with probability {later.max():.2g}. Count draws by sample_counts"
            )
    total = images.new_zeros(len(images), len(names) + 1)
    for _ in range(draws):
        goes_on = _goes_on(guide, images, names, len(names))
        reached = nn.functional.pad(goes_on.cumprod(-1), (1, 0), value=1.0)  # P(count >= k)
        total += reached - nn.functional.pad(reached[:, 1:], (0, 1))
    return total / draws


def _goes_on(
    guide: Callable, images: Float[Tensor, "n c h w"], names: list[str], count: int
) -> Float[Tensor, "n steps"]:
    """The probability of each presence, if the first ``count`` are 1 and the others 0."""
    present = {
        name: images.new_full((len(images),), float(k < count)) for k, name in enumerate(names)
    }
    trace = poutine.trace(poutine.condition(guide, data=present)).get_trace(images)
    choices = [trace.nodes[name]["fn"] for name in names]
    if any(getattr(each, "probs", images).shape != images.shape[:1] for each in choices):
        raise ValueError(f"{', '.join(names)} must be Bernoulli, one number for each image")
    return torch.stack([each.probs for each in choices], -1)


@checked
def sample_counts(guide: Callable, images: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """The count in one draw of the guide for each image: a *sample*, not the mode.

    The sum of the sites ``z_pres_...``, in unary code or not.

    Warns:
        TrainingModeWarning: The guide is in training mode.
    """
    warn_training_mode(guide)
    trace = poutine.trace(guide).get_trace(images)
    return sum(trace.nodes[name]["value"] for name in presence_sites(trace)).long()


def presence_sites(trace: poutine.Trace) -> list[str]:
    """The names z_pres_0, z_pres_1, ... of a guide's trace, in its order; a ValueError if there are none."""
    names = [name for name in trace.stochastic_nodes if name.startswith("z_pres_")]
    if not names:
        raise ValueError(
            "this guide has no sites z_pres_0, z_pres_1, ...: it does not count objects"
        )
    return names


@checked
def count_accuracy(counts: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """The share of images whose count is right, in [0, 1]."""
    if counts.shape != truth.shape or len(truth) == 0:
        raise ValueError(f"needs as many counts as truths, got {len(counts)} and {len(truth)}")
    return (counts == truth.to(counts.device)).double().mean().item()


@checked
def count_accuracy_floor(truth: Int[Tensor, " n"]) -> float:
    """The share of images, in [0, 1], that have the commonest count: one answer for all reaches it."""
    commonest = truth.bincount().argmax().expand_as(truth) if len(truth) else truth
    return count_accuracy(commonest, truth)


class Interpretation(NamedTuple):
    """One draw of the guide for each image, and what the model makes of it."""

    boxes: Float[Tensor, "n steps 4"]  # left, top, right, bottom in pixels; NaN where no object is
    counts: Int[Tensor, " n"]
    canvas: Float[Tensor, "n c h w"]  # the reconstruction
    objects: Float[Tensor, "n steps c h w"]  # each alone on the canvas; NaN where no object is


@checked
@torch.no_grad()
def interpret(model: Callable, guide: Callable, images: Float[Tensor, "n c h w"]) -> Interpretation:
    """Draws one interpretation of each image: where objects are, how many, and the image they explain.

    Reads ``z_pres_t`` and ``z_where_t`` of the guide, a pose (scale, x, y) on the whole canvas, and
    ``canvas`` of the model.

    Raises:
        ValueError: A site is missing, a pose has other than three numbers, or model and guide do not agree.

    Warns:
        TrainingModeWarning: The guide is in training mode.
    """
    check_same_model(model, guide)
    warn_training_mode(guide)
    trace = poutine.trace(guide).get_trace(images)
    present, poses = drawn_objects(trace)
    boxes = box(poses, images.shape).where(present.bool()[..., None], torch.nan)
    scene = replay(model, trace, size=len(images))
    canvas = canvas_of(scene)
    return Interpretation(
        boxes, present.sum(1).long(), canvas, _alone(model, trace, present, canvas)
    )


def _alone(
    model: Callable, trace: poutine.Trace, present: Float[Tensor, "n steps"], canvas: Tensor
) -> Float[Tensor, "n steps c h w"]:
    """The canvas if of all objects of a trace but one were there."""
    objects, names = [], presence_sites(trace)
    for step, own in enumerate(present.unbind(1)):
        alone = canvas
        if (present.sum(1) > own).logical_and(own > 0).any():  # another object is there as well
            values = {k: own if i == step else own * 0 for i, k in enumerate(names)}
            latents = {k: node["value"] for k, node in trace.iter_stochastic_nodes()} | values
            conditioned = poutine.condition(model, data=latents)
            alone = poutine.trace(conditioned).get_trace(size=len(own)).nodes["canvas"]["value"]
        objects.append(alone.where(own.bool()[:, None, None, None], torch.nan))
    return torch.stack(objects, 1)


def drawn_objects(
    trace: poutine.Trace,
) -> tuple[Float[Tensor, "n steps"], Float[Tensor, "n steps 3"]]:
    """Presences and poses of the objects in a trace of the guide; a ValueError if it has none."""
    names = presence_sites(trace)
    where = [name.replace("z_pres", "z_where") for name in names]
    shapes = {
        tuple(trace.nodes[name]["fn"].event_shape) if name in trace else None for name in where
    }
    if shapes != {(3,)}:
        raise ValueError(
            f"boxes are read from poses (scale, x, y) at {', '.join(where)}: this guide has none, or of "
            "another shape"
        )
    present, poses = (
        torch.stack([trace.nodes[name]["value"] for name in each], 1) for each in (names, where)
    )
    return present, poses
