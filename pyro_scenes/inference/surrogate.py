"""The objectives of layered models as their papers print them, which are no bounds: to compare a bound with.

They take any model and guide that draw which layer each pixel shows: with the sites ``z_region`` (a
categorical over the layers, front first, in the plates ``images``, dim=-1, and ``pixels``, dim=-2),
``z_what_0``, ``z_what_1``, ... and ``image``. The guide's probabilities of ``z_region`` are the regions r,
the model's are pi. A layer's share of what the layers in front leave free follows: alpha from r, the
mask m from pi. All is computed in logarithms, as masks saturate.

Evaluate a model that was trained so by :func:`pyro_scenes.evaluation.log_weights`, which gives a bound.
"""

from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.nn.functional import pad

from ..render import behind, opacity_logits
from .objective import Objective

__all__ = ["MaskLoss", "Surrogate"]


class Terms(NamedTuple):
    """The terms of both objectives at one draw of the guide, in nats."""

    # A part is a layer, front first. The last part is "no layer", unless the last layer is opaque.
    log_regions: Float[Tensor, "parts pixels n"]  # log r
    log_prior: Float[Tensor, "parts pixels n"]  # log pi
    log_likelihood: Float[Tensor, "parts pixels n"]  # log p(pixel | it shows this part)
    code: Float[Tensor, ""]  # log q - log p of all z_what
    others: Float[Tensor, ""]  # log q - log p of all other latents but z_region
    layers: int  # how many


class _RegionObjective(Objective):
    """What both objectives share. ``beta`` and ``gamma`` may be changed between steps."""

    def __init__(self, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        for name, weight in (("beta", beta), ("gamma", gamma)):
            if not (isinstance(weight, Real) and 0 <= weight < float("inf")):
                raise ValueError(f"{name} must be a number from 0 up, got {weight!r:.60}")
        self.beta, self.gamma = beta, gamma

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        terms = _terms(*self._get_trace(model, guide, args, kwargs))
        return self.pixel_loss(terms).sum() + self.beta * terms.code + terms.others

    @abstractmethod
    def pixel_loss(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        """The terms of the loss that belong to one pixel."""

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        """Traces of the model, with ``z_region`` enumerated, and of the guide."""
        proposed = poutine.trace(guide).get_trace(*args, **kwargs)
        given = proposed.copy()
        if "z_region" in given:
            given.remove_node("z_region")
        each = poutine.infer_config(poutine.replay(model, trace=given), _enumerated)
        joint = poutine.trace(poutine.enum(each, first_available_dim=-3))
        return joint.get_trace(*args, **kwargs), proposed


class Surrogate(_RegionObjective):
    """The objective of von Kuegelgen et al. (2020), Eq. 13, with Eq. 10 to 12 as printed.

    L_r is the sum of one divergence for each layer, KL(Ber(r_t) || Ber(s_t m_t)), with s_t the guide's scope.
    By joint convexity each is at most s_t KL(Ber(alpha_t) || Ber(m_t)), and these sum to the
    KL(Cat(r) || Cat(pi)) of the ELBO. So with beta = gamma = 1 this objective is never above minus the ELBO,
    and is no bound. That is the only difference: the likelihood's normaliser, which Eq. 10 leaves out, and
    z_expert are included here, so that the two values can be compared.

    All latents of the guide but ``z_region`` must be reparameterised, or have proposals without gradients.

    Args:
        beta: Weight of L_z, log q - log p of z_what at one draw.
        gamma: Weight of L_r.
    """

    def pixel_loss(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        appearance = -(terms.log_regions.exp() * terms.log_likelihood).sum(0)
        return appearance + self.gamma * region_divergence(terms.log_regions, terms.log_prior).sum(
            0
        )


class MaskLoss(_RegionObjective):
    """MONet's objective (Burgess et al., 2019, Eq. 3), https://arxiv.org/abs/1901.11390.

    A pixel has the likelihood of a mixture of all layers, -log sum_t r_t p(pixel | layer t). The regions are
    compared with a softmax over the layers of the logits of their opacities, so hidden parts of an object,
    too, compete with the layer that hides them. The softmax does not determine the mean of the logits: read
    opacities by ``decompose(..., softmax=True)``, which takes them relative to the last layer's. It is for
    experts that are alike: beside a layer that is opaque by construction (``sprite_scenes``) no other counts.

    Args:
        beta: Weight of log q - log p of z_what at one draw.
        gamma: Weight of the divergence of the masks.
    """

    def pixel_loss(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        log_regions = terms.log_regions[: terms.layers]
        log_likelihood = terms.log_likelihood[: terms.layers]
        log_masks = opacity_logits(terms.log_prior)
        log_masks = pad(log_masks, (0, 0, 0, 0, 0, terms.layers - len(log_masks)))
        divergence = (log_regions.exp() * (log_regions - log_masks.log_softmax(0))).sum(0)
        return self.gamma * divergence - (log_regions + log_likelihood).logsumexp(0)


def region_divergence(
    log_regions: Float[Tensor, "parts *pixels"], log_prior: Float[Tensor, "parts *pixels"]
) -> Float[Tensor, "parts *pixels"]:
    """Eq. 12, KL(Ber(r_t) || Ber(s_t m_t)) for each part, of log r and log pi; 0 for the last part."""
    scope, free = behind(log_regions), behind(log_prior)
    log_mask, log_rest = log_prior - free, free[1:] - free[:-1]  # log m, log(1 - m)
    in_front = log_regions.logcumsumexp(0)[:-2]
    in_front = torch.cat([torch.full_like(scope[:1], -torch.inf), in_front])
    log_outside = torch.logaddexp(in_front, scope[1:])  # log(1 - r)
    log_expected = torch.logaddexp(in_front, scope[:-1] + log_rest)  # log(1 - s m)
    inside = log_regions[:-1].exp() * (log_regions - scope - log_mask)[:-1]
    outside = log_outside.exp() * (log_outside - log_expected)
    return torch.cat([inside + outside, torch.zeros_like(log_regions[:1])])


def _enumerated(site: Any) -> dict:
    return {"enumerate": "parallel"} if site["name"] == "z_region" else site["infer"]


def _terms(joint: poutine.Trace, proposed: poutine.Trace) -> Terms:
    if "z_region" not in joint or "z_region" not in proposed:
        raise ValueError("model and guide must draw z_region: one of them does not")
    joint.compute_log_prob(), proposed.compute_log_prob()
    log_prior, log_regions = (trace.nodes["z_region"]["fn"].logits for trace in (joint, proposed))
    code, others, layers = log_prior.new_zeros(()), log_prior.new_zeros(()), 0
    for name in proposed.stochastic_nodes:
        site = proposed.nodes[name]
        auxiliary = site["infer"].get("is_auxiliary")  # drawn by the guide alone
        if site_is_subsample(site) or auxiliary or name == "z_region":
            continue
        divergence = _log_q(name, site) - joint.nodes[name]["log_prob"].sum()
        if name.startswith("z_what"):
            code, layers = code + divergence, layers + 1
        else:
            others = others + divergence
    log_likelihood = joint.nodes["image"]["log_prob"]
    log_regions, log_prior = log_regions.movedim(-1, 0), log_prior.movedim(-1, 0)
    return Terms(log_regions, log_prior, log_likelihood, code, others, layers)


def _log_q(name: str, site: Any) -> Tensor:
    log_prob = site["log_prob"].sum()
    if log_prob.requires_grad and not site["fn"].has_rsample:
        raise ValueError(
            f"{name} is not reparameterised, so its proposal would get a biased gradient: use a "
            "reparameterised proposal, or one without gradients"
        )
    return log_prob
