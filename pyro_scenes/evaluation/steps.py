"""Inference step by step: what a guide that finds one object after another makes of an image."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import pad

from ..handlers import expected
from ..pairs import check_same_model, replay, warn_training_mode
from ..render import box
from .arguments import checked
from .counts import IMPOSSIBLE, drawn_objects, presence_sites

__all__ = ["Steps", "see_steps"]


class Steps(NamedTuple):
    """Each image explained by every number of objects, 0 .. N; each latent at its proposal's median."""

    count_probabilities: Float[Tensor, "n counts"]  # q(count | image), at these poses and codes
    boxes: Float[Tensor, "n steps 4"]  # left, top, right, bottom in pixels, as if all were present
    canvases: Float[Tensor, "n counts c h w"]  # the reconstruction by the first 0 .. N objects


@checked
@torch.no_grad()
def see_steps(model: Any, guide: Any, images: Float[Tensor, "n c h w"]) -> Steps:
    """Explains images by 0, 1, ... objects, in one run of the guide and one of the model.

    Nothing is drawn: an image always gets the same answer. The memory that it takes grows with n * (N + 1).

    Args:
        model: With the attribute ``steps`` and the site ``canvas`` of ``AIR``.
        guide: Its guide, with presences ``z_pres_t`` in unary code, and poses ``z_where_t``.
        images: What is to be explained, on the model's device.

    Raises:
        ValueError: Model or guide has no such sites or attribute, or they do not agree.

    Warns:
        TrainingModeWarning: One of them is in training mode.
    """
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    if not hasattr(model, "steps"):
        raise ValueError(f"{type(model).__name__} has no attribute steps: it finds no objects")
    # Of the copies of an image the k-th has the first k objects.
    counts = torch.arange(model.steps + 1, device=images.device)
    copies = images.repeat_interleave(len(counts), 0)
    present = {
        f"z_pres_{t}": (t < counts).to(images).repeat(len(images)) for t in range(model.steps)
    }
    with poutine.trace() as proposed, expected(), _Chosen(present):
        guide(copies)
    goes_on = _goes_on(proposed.trace, len(counts))
    _, poses = drawn_objects(proposed.trace)
    with expected():  # the image as well, which no latent is
        scene = replay(model, proposed.trace, size=len(copies))
    if "canvas" not in scene.nodes:
        raise ValueError("this model has no site canvas: there is no reconstruction to show")
    reached = pad(pad(goes_on.cumprod(-1), (1, 0), value=1.0), (0, 1))  # P(count >= 0 .. N + 1)
    boxes = box(poses[model.steps :: len(counts)], images.shape)
    canvases = scene.nodes["canvas"]["value"].unflatten(0, (-1, len(counts)))
    return Steps(reached[:, :-1] - reached[:, 1:], boxes, canvases)


class _Chosen(Messenger):
    """Inside, some sites take given values. They are no data, as those of ``poutine.condition`` are."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        msg["value"] = self.values.get(msg["name"], msg["value"])


def _goes_on(proposed: poutine.Trace, counts: int) -> Float[Tensor, "n steps"]:
    """The probability of each presence after those before; ``counts`` copies of each image were seen."""
    names = presence_sites(proposed)
    if len(names) != counts - 1:
        raise ValueError(
            f"the model has {counts - 1} steps, and this guide draws {len(names)} z_pres"
        )
    probs = torch.stack([proposed.nodes[name]["fn"].probs for name in names], -1)
    probs = probs.unflatten(0, (-1, counts))
    later = probs.triu(1)[:, :-1]  # after k objects and an absent one, from step k + 1 on
    if later.max() > IMPOSSIBLE:
        raise ValueError(
            "the presences of this guide are not in unary code: after an absent object another is "
            f"present with probability {later.max():.2g}"
        )
    return probs[:, -1]
