"""Objectives of layered scenes that are no bound, as their papers print them: to compare a bound with.

They are for any pair whose pixels draw the layer that they show: sites ``z_region`` (a categorical over the
layers, front first, in plates ``images``, dim=-1, and ``pixels``, dim=-2), ``z_what_0``, ``z_what_1``, ...,
and ``image``. The guide's probabilities are the regions r, the model's are pi. What a layer has of what those
in front of it leave, alpha of the one and the mask m of the other, follows; all of it in logarithms, since
masks saturate.

Evaluate what was trained so by :func:`pyro_scenes.evaluation.log_weights`, which is a bound.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.nn.functional import pad

from ..render import behind, opacities

__all__ = ["MaskLoss", "Surrogate"]


class Terms(NamedTuple):
    """What both objectives are made of, of one draw of the guide."""

    # Parts are the layers, front first; and last that a pixel shows none, unless the last layer is opaque.
    regions: Float[Tensor, "parts pixels n"]  # log r
    shown: Float[Tensor, "parts pixels n"]  # log pi
    fits: Float[Tensor, "parts pixels n"]  # log p(pixel | it shows this part)
    code: Tensor  # log q - log p of all z_what, in nats
    others: Tensor  # of all other latents but z_region
    layers: int


class _OfRegions(ELBO):
    """Pyro's interface. ``beta`` and ``gamma`` may be changed between steps."""

    def __init__(self, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        for name, weight in (("beta", beta), ("gamma", gamma)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{name} must be a number from 0 up, got {weight}")
        self.beta, self.gamma = beta, gamma

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        terms = _terms(*self._get_trace(model, guide, args, kwargs))
        return self.of_pixels(terms).sum() + self.beta * terms.code + terms.others

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    @abstractmethod
    def of_pixels(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        """The part of the loss that is of each pixel."""

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        """A draw of the guide, and the model as if each pixel showed each layer in turn."""
        proposed = poutine.trace(guide).get_trace(*args, **kwargs)
        given = proposed.copy()
        if "z_region" in given:
            given.remove_node("z_region")
        each = poutine.infer_config(poutine.replay(model, trace=given), _enumerated)
        joint = poutine.trace(poutine.enum(each, first_available_dim=-3))
        return joint.get_trace(*args, **kwargs), proposed


class Surrogate(_OfRegions):
    """The paper's own objective, Eq. 13 of von Kuegelgen et al. (2020), with Eq. 10 to 12 as printed.

    L_r is a divergence of one layer's region at a time, KL(Ber(r_t) || Ber(s_t m_t)), with s_t the guide's
    scope. By joint convexity that is never more than s_t KL(Ber(alpha_t) || Ber(m_t)), and these add up to
    the ``KL(Cat(r) || Cat(pi))`` of the ELBO: so with beta = gamma = 1 this is never above minus the ELBO,
    and no bound. The two differ in nothing else: the likelihood's normaliser, which Eq. 10 leaves out, and
    z_expert count here too, so that their values can be compared.

    All draws of the guide but ``z_region`` must be reparameterised, or of proposals that carry no gradient.

    Args:
        beta: Weight of L_z, log q - log p of z_what at one draw.
        gamma: Weight of L_r.
    """

    def of_pixels(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        appearance = -(terms.regions.exp() * terms.fits).sum(0)
        return appearance + self.gamma * region_divergence(terms.regions, terms.shown).sum(0)


class MaskLoss(_OfRegions):
    """MONet's objective (Burgess et al., 2019, Eq. 3), https://arxiv.org/abs/1901.11390.

    A pixel is of a mixture of all layers, -log sum_t r_t p(pixel | layer t), and the masks that the regions
    are compared with are a softmax over the layers of their opacities' logits: hidden parts, too, must give
    way to what hides them. A layer that is opaque by construction has logit 0, that it has no other. Without
    such a layer the shift of the softmax is free: read opacities by ``decompose(..., softmax=True)``, which
    tells them against the last layer's. ``ECON.sample`` does not.

    Args:
        beta: Weight of log q - log p of z_what at one draw.
        gamma: Weight of the divergence of the masks.
    """

    def of_pixels(self, terms: Terms) -> Float[Tensor, "pixels n"]:
        regions, fits = terms.regions[: terms.layers], terms.fits[: terms.layers]
        masks = opacities(terms.shown)
        masks = pad(masks, (0, 0, 0, 0, 0, terms.layers - len(masks))).log_softmax(0)
        divergence = (regions.exp() * (regions - masks)).sum(0)
        return self.gamma * divergence - (regions + fits).logsumexp(0)


def region_divergence(
    regions: Float[Tensor, "parts *pixels"], shown: Float[Tensor, "parts *pixels"]
) -> Float[Tensor, "parts *pixels"]:
    """Eq. 12, KL(Ber(r_t) || Ber(s_t m_t)), of log r and log pi. The last takes the rest: 0."""
    scope, free = behind(regions), behind(shown)
    mask, rest = shown - free, free[1:] - free[:-1]  # log m, log(1 - m)
    covered = torch.cat([torch.full_like(scope[:1], -torch.inf), regions.logcumsumexp(0)[:-2]])
    outside = torch.logaddexp(covered, scope[1:])  # log(1 - r)
    expected = torch.logaddexp(covered, scope[:-1] + rest)  # log(1 - s m)
    inside = regions[:-1].exp() * (regions - scope - mask)[:-1]
    return torch.cat([inside + outside.exp() * (outside - expected), torch.zeros_like(regions[:1])])


def _enumerated(site: Any) -> dict:
    return {"enumerate": "parallel"} if site["name"] == "z_region" else site["infer"]


def _terms(joint: poutine.Trace, proposed: poutine.Trace) -> Terms:
    if "z_region" not in joint or "z_region" not in proposed:
        raise ValueError("model and guide must draw z_region: there is none, or it is summed out")
    joint.compute_log_prob(), proposed.compute_log_prob()
    shown, regions = (trace.nodes["z_region"]["fn"].logits for trace in (joint, proposed))
    code, others, layers = shown.new_zeros(()), shown.new_zeros(()), 0
    for name in proposed.stochastic_nodes:
        site = proposed.nodes[name]
        if site_is_subsample(site) or name == "z_region":
            continue
        divergence = _drawn(name, site) - joint.nodes[name]["log_prob"].sum()
        if name.startswith("z_what"):
            code, layers = code + divergence, layers + 1
        else:
            others = others + divergence
    fits = joint.nodes["image"]["log_prob"]
    return Terms(regions.movedim(-1, 0), shown.movedim(-1, 0), fits, code, others, layers)


def _drawn(name: str, site: Any) -> Tensor:
    log_prob = site["log_prob"].sum()
    if log_prob.requires_grad and not site["fn"].has_rsample:
        raise ValueError(f"{name} is not reparameterised: its proposal would get a wrong gradient")
    return log_prob
