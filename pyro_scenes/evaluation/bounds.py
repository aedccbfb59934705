"""Bounds on the log likelihood of images, with their standard errors."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float
from pyro import poutine
from torch import Tensor, stack

from ..checks import check_sizes, check_tensors
from ..pairs import check_same_model, replay, warn_training_mode
from ..particles import image_log_probs, log_mean_exp
from .arguments import checked

__all__ = ["Bounds", "estimate", "importance_bound", "log_weights"]


class Bounds(NamedTuple):
    """Two lower bounds on log p(image), in nats, as means over images.

    Floor: the bound of a model that explains nothing, such as an untrained one. Ceiling: log p(image), which
    the gap between the two bounds says something about: both reach it under the exact posterior.
    """

    elbo: float  # the evidence lower bound: the mean of the log weights, unbiased for any particles
    elbo_error: float  # its standard error, over images and draws together; NaN for one image
    iwae: float  # the importance-weighted bound, tighter the more particles
    iwae_error: float  # its standard error, alike
    particles: int  # draws of the guide for each image
    images: int  # how many


@checked
def log_weights(
    model: Callable,
    guide: Callable,
    images: Float[Tensor, "n c h w"],
    *rest: Any,
    particles: int = 1,
) -> Float[Tensor, "particles n"]:
    """log p(image, z) - log q(z | image) for draws z of the guide, in nats.

    Its mean over particles estimates the ELBO of each image; :func:`importance_bound` a tighter bound;
    :func:`estimate` gives both with standard errors.

    Args:
        model: Called as ``model(images, *rest)``.
        guide: Called alike. Call ``guide.eval()`` before.
        images: Each has a weight of its own, so they must be independent of each other in both.
        particles: Draws of the guide.

    Raises:
        ValueError: The guide is of another model, or the two do not agree in what they draw (see
            :func:`pyro_scenes.check_guide`); a latent is shared by several images; a weight is NaN.

    Warns:
        TrainingModeWarning: The model or the guide is in training mode.
    """
    check_sizes(particles=particles)
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    proposals = (poutine.trace(guide).get_trace(images, *rest) for _ in range(particles))
    weights = stack([log_weight(model, proposed, images, *rest) for proposed in proposals])
    if weights.isnan().any():
        raise ValueError(
            "log weights are NaN: a parameter of the model or the guide is not finite, or the likelihood "
            "is not defined at these images"
        )
    return weights


def log_weight(
    model: Callable, proposed: poutine.Trace, images: Float[Tensor, "n c h w"], *rest: Any
) -> Float[Tensor, " n"]:
    """The same for one draw, a trace of the guide."""
    joint = replay(model, proposed, images, *rest)
    return image_log_probs(joint, len(images)) - image_log_probs(proposed, len(images))


@checked
def importance_bound(weights: Float[Tensor, "particles n"]) -> Float[Tensor, " n"]:
    """The importance-weighted bound (Burda et al., 2016, Eq. 8) of each image, in nats.

    It is never looser than the ELBO in expectation, and tightens as particles grow.

    Raises:
        ValueError: There are none.
    """
    check_tensors(weights.numel(), "log weights (particles, n)", weights)
    return log_mean_exp(weights)


@checked
def estimate(weights: Float[Tensor, "particles n"]) -> Bounds:
    """Both bounds with their standard errors, of the weights of :func:`log_weights`.

    The error is the spread between images, divided by the root of their number: of the mean over other
    images of the same kind, each with other draws. With K particles the importance-weighted bound lies
    below log p(image) in expectation, the less so the larger K.

    Raises:
        ValueError: There are none.
    """
    bounds = importance_bound(weights).double(), weights.double().mean(0)
    (iwae, iwae_error), (elbo, elbo_error) = (_mean(each) for each in bounds)
    return Bounds(elbo, elbo_error, iwae, iwae_error, *weights.shape)


def _mean(values: Float[Tensor, " n"]) -> tuple[float, float]:
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error
