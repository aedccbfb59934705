"""The posterior of the count under the model, with presences summed out."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checks import check_sizes
from ..pairs import check_same_model, warn_training_mode
from .summed import Summed

__all__ = ["count_posterior"]


@torch.no_grad()
def count_posterior(
    model: Callable, guide: Callable, *batch: Any, particles: int = 100
) -> Float[Tensor, "n counts"]:
    """p(count | image) for counts 0 .. N: the guide's q(count), corrected by the evidence for each count.

    Presences are summed out exactly, of each of K draws of the other latents (:class:`Summed`), and draws
    weigh as much as the model says. Where they are good for one count and bad for another, this is no better
    than they are. Beside :func:`pyro_scenes.evaluation.count_probabilities` it says what the guide believes
    against the evidence.

    Args:
        model: A model and its guide with sites ``z_pres_0, z_pres_1, ...`` in unary code, in evaluation mode.
        guide: Its q(count) is not used.
        batch: What both are called with: the images, at least; the other parts have a row for each.
        particles: K. Memory is that of K images for each.

    Raises:
        ValueError: The pair does not count so, or does not agree; particles is no whole number from 1 up.

    Warns:
        TrainingModeWarning: The model or the guide is in training mode.
    """
    check_sizes(particles=particles)
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    found = Summed(particles).posteriors(model, guide, *batch)
    names = [name for t in range(len(found)) if (name := f"z_pres_{t}") in found]
    if not names or any(found[name].shape[-1] != 2 for name in names):
        raise ValueError(
            "this pair does not count objects: it has no sites z_pres_0, z_pres_1, ... of 0 or 1 that are "
            "summed out"
        )
    reached = nn.functional.pad(torch.stack([found[n][:, 1] for n in names], -1), (1, 0), value=1.0)
    each = (reached - nn.functional.pad(reached[:, 1:], (0, 1))).clamp(min=0)  # rounding
    return each / each.sum(1, keepdim=True)
