"""Importance-weighted bounds in which discrete latents are summed out, not drawn."""

from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.infer.enum import get_importance_trace
from pyro.ops import packed
from pyro.ops.contract import contract_to_tensor
from torch import Tensor

from ..checks import check_sizes
from ..particles import count_images, is_counted, log_mean_exp, repeat
from ..sites import check_sites, latents
from .importance import as_loss, check_runs_alone, check_scales, score, without_each
from .objective import Objective, enumerated
from .paths import Paths

__all__ = ["Summed"]


class Summed(Objective):
    """The importance-weighted bound with every finite discrete latent of the guide summed out exactly.

    The weight of a draw z of the other latents is ``w = sum over d of p(image, d, z) / q(z | d, image)``: the
    guide's q(d) is not in it. So the bound is tighter than :class:`Importance`'s with as many particles, and
    what the guide believes about d changes neither its value nor the gradients of the rest. In the same step
    q(d) is trained to predict the model's own posterior, by the gradient of
    ``E[log q(d | z, image)]`` over p(d | z, image), self-normalised over particles (wake-phase phi, in which d
    is summed out, too)::

        for record in fit(model, guide, batches, elbo=Summed(8)): ...

    Enumerated are the guide's latents of one number each, unless a site says ``infer={"enumerate": None}``,
    and sites of the model that say ``"parallel"`` and are not in the guide. Sums are as efficient as those of
    Pyro's ``TraceEnum_ELBO``, and ask the same of model and guide (``pyro.markov``, broadcasting). Continuous
    latents have the gradient ``"iwae"`` of :class:`Importance`, discrete ones that are drawn VIMCO's.

    Args:
        particles: K, from 1 up. With 1 it is above the ELBO still, unless q(d) is the posterior.
        max_plate_nesting: The number of dimensions of plates; 2 for models with a plate of pixels. More than
            there are does no harm.

    Raises:
        TypeError: In a step, a batch has a part that cannot be repeated.
        ValueError: An argument is outside its range; or, in a step, model and guide do not have the same
            latents, a site is not in the plate of the images, or one is scaled, so that there is no bound.
    """

    def __init__(self, particles: int = 1, *, max_plate_nesting: int = 2) -> None:
        check_sizes(particles=particles, max_plate_nesting=max_plate_nesting)
        super().__init__(max_plate_nesting=max_plate_nesting)
        self.particles = particles

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        shape = self.particles, count_images(args, kwargs)
        batch, paths = repeat(self.particles, args, kwargs), Paths()
        joint, proposed = self._traces(model, paths(enumerated(guide)), *batch)
        images, chances = _plate_of_images(prod(shape), joint, proposed), _summed(proposed)
        leaves = {name: _zeros_like(log_q) for name, log_q in chances.items()}
        log_w = _contract(joint, proposed, leaves, images, prod(shape)).reshape(shape)
        bound = log_mean_exp(log_w)
        if not torch.is_grad_enabled():
            return -bound.sum()
        surrogate = bound.sum() + score(bound - without_each(log_w), proposed, "unscaled_log_prob")
        if leaves:
            posterior = torch.autograd.grad(bound.sum(), [*leaves.values()], retain_graph=True)
            wake = sum((p * q).sum() for p, q in zip(posterior, chances.values(), strict=True))
            surrogate = surrogate + wake - paths.through(wake)
        return as_loss(bound, surrogate)

    def _traces(
        self, model: Callable, guide: Callable, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[poutine.Trace, poutine.Trace]:
        """Of the model at the guide's draws, and of the guide, with packed log probabilities."""
        check_runs_alone(guide)
        nesting = self.max_plate_nesting
        guide = poutine.enum(guide, first_available_dim=-1 - int(nesting))
        traces = get_importance_trace("flat", nesting, poutine.enum(model), guide, args, kwargs)
        joint, proposed = traces
        lacking = {*latents(joint)} - {*latents(proposed)}
        summed = {name for name in lacking if joint.nodes[name]["infer"].get("_enumerate_dim")}
        if {*latents(joint)} - summed != {*latents(proposed)}:
            check_sites(joint, proposed)
        check_scales(*traces)
        proposed.pack_tensors()
        joint.pack_tensors(proposed.plate_to_symbol)
        return traces


def _contract(
    joint: poutine.Trace,
    proposed: poutine.Trace,
    leaves: dict[str, Tensor],
    images: str,
    size: int,
) -> Float[Tensor, " n"]:
    """log w of each image: the sum over all discrete latents that are enumerated.

    Args:
        leaves: What is added to the logarithm of each term of the sum, by enumerated site of the guide: zeros,
            whose gradients are the posterior probabilities of the values.
        images: The symbol of the plate of images.
        size: The number of images, particles included.
    """
    some = next(site["log_prob"] for site in joint.nodes.values() if is_counted(site))
    terms = OrderedDict({frozenset(images): [_with_dims(some.new_zeros(size), images)]})
    for trace in (joint, proposed):
        for name, site in trace.nodes.items():
            if is_counted(site):
                plates = frozenset(trace.plate_to_symbol[frame.name] for frame in _plates(site))
                of_site = [site["packed"]["log_prob"]]
                if trace is proposed:
                    of_site = [packed.neg(of_site[0])]
                    if name in leaves:
                        of_site = [leaves[name], *_certainty(site)]
                terms.setdefault(plates, []).extend(of_site)
    symbols = {symbol for each in terms.values() for term in each for symbol in term._pyro_dims}
    summed = symbols - {*joint.plate_to_symbol.values()}
    return contract_to_tensor(terms, summed, target_ordinal=frozenset(images))


def _certainty(site: Any) -> list[Tensor]:
    """log q where the guide is certain, of a latent whose value is known there: it leaves no other value.

    The distribution of such a site says by its attribute ``known``, bool (n,), for which images it is.
    """
    fn = site["fn"]
    while hasattr(fn, "base_dist") and not hasattr(fn, "known"):
        fn = fn.base_dist
    if not hasattr(fn, "known"):
        return []
    log_q = torch.where(fn.known, site["log_prob"], 0.0)
    return [packed.pack(log_q, site["infer"]["_dim_to_symbol"])]


def _summed(proposed: poutine.Trace) -> dict[str, Tensor]:
    """log q, packed, of the sites that are enumerated."""
    return {
        name: proposed.nodes[name]["packed"]["log_prob"]
        for name in proposed.stochastic_nodes
        if proposed.nodes[name]["infer"].get("_enumerate_dim")
    }


def _plates(site: Any) -> list[Any]:
    return [frame for frame in site["cond_indep_stack"] if frame.vectorized]


def _plate_of_images(size: int, *traces: poutine.Trace) -> str:
    """The symbol of the plate in which all sites are."""
    symbols = set()
    for trace in traces:
        for name, site in trace.nodes.items():
            if is_counted(site):
                frames = [f.name for f in _plates(site) if f.dim == -1 and f.size == size]
                if not frames:
                    raise ValueError(
                        f"{name} is of all images at once. Draw it inside "
                        'pyro.plate("images", len(images), dim=-1)'
                    )
                symbols.add(trace.plate_to_symbol[frames[0]])
    if len(symbols) > 1:
        raise ValueError("images must be in one plate of the same name in model and guide")
    return symbols.pop()


def _zeros_like(log_q: Tensor) -> Tensor:
    zeros = torch.zeros_like(log_q, requires_grad=torch.is_grad_enabled())
    return _with_dims(zeros, log_q._pyro_dims)  # type: ignore[attr-defined]


def _with_dims(tensor: Tensor, dims: str) -> Tensor:
    tensor._pyro_dims = dims  # type: ignore[attr-defined]  # what makes a packed tensor
    return tensor
