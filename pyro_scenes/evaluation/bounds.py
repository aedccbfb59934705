"""Bounds on the likelihood of images."""

import math

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

__all__ = ["importance_bound", "log_weights"]


def log_weights(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"], *, particles: int = 1
) -> Float[Tensor, "particles n"]:
    """log p(image, z) - log q(z | image) for draws z of the guide, in nats.

    Its mean over particles estimates the ELBO of each image; :func:`importance_bound` a tighter bound.
    """
    if particles < 1:
        raise ValueError(f"particles must be at least 1, got {particles}")
    proposals = (poutine.trace(guide).get_trace(images) for _ in range(particles))
    return torch.stack([log_weight(model, proposed, images) for proposed in proposals])


def log_weight(model: nn.Module, proposed: poutine.Trace, images: Tensor) -> Float[Tensor, " n"]:
    """The same for one draw, a trace of the guide."""
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    check_pair(joint, proposed)
    return _log_prob(joint) - _log_prob(proposed)


def check_pair(joint: poutine.Trace, proposed: poutine.Trace) -> None:
    """Raises a ValueError unless the guide drew just what the model draws: the rest would be of the prior."""
    drawn, guessed = (_latents(trace) for trace in (joint, proposed))
    if drawn != guessed or not drawn:
        raise ValueError(
            f"model and guide do not belong together: the model draws {sorted(drawn)}, the guide "
            f"{sorted(guessed)}"
        )


def _latents(trace: poutine.Trace) -> set[str]:
    names = (name for name in trace.stochastic_nodes if not site_is_subsample(trace.nodes[name]))
    return {*names} - {"image"}


def _log_prob(trace: poutine.Trace) -> Tensor:
    """Of each image (n,): the last dimension of a site's batch; others, as of pixels, are summed over."""
    trace.compute_log_prob()
    sites = (site for site in trace.nodes.values() if site["type"] == "sample")
    terms = (site["log_prob"] for site in sites if not site_is_subsample(site))
    return sum(term.flatten(0, -2).sum(0) if term.dim() > 1 else term for term in terms)


def importance_bound(weights: Float[Tensor, "particles n"]) -> Float[Tensor, " n"]:
    """The importance-weighted bound (Burda et al., 2016, Eq. 8) of each image, in nats.

    It is never looser than the ELBO in expectation, and tightens as particles grow.
    """
    return weights.logsumexp(0) - math.log(len(weights))
