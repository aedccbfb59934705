"""Importance-weighted bounds, of each image, whose gradients are right for discrete and dependent latents.

With log weights ``log w_k = log p(image, z_k) - log q(z_k | image)`` of K draws the bound of an image is
``L = log mean_k w_k`` (Burda et al., 2016, https://arxiv.org/abs/1509.00519, Eq. 8). Below, v is the softmax
of log w over the K draws, and S_k is log q of those latents that are not reparameterised. Their score
function is charged with L less what L is if log w_k is the mean of the other log weights (VIMCO: Mnih and
Rezende, 2016, https://arxiv.org/abs/1602.06725).
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from math import prod
from numbers import Number
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..checks import check_sizes
from ..particles import by_image, count_images, image_log_probs, is_counted, log_mean_exp, repeat
from ..sites import check_sites, latents
from .objective import Objective
from .paths import Paths

__all__ = ["Importance"]

GRADIENTS = "iwae", "stl", "dreg", "wake"


class Importance(Objective):
    """The importance-weighted bound, as an ELBO object: ``fit(model, guide, batches, elbo=Importance(8))``.

    The loss is the same for all gradients, minus the sum over images of the bound. The gradient of the model
    is unbiased under each. They differ in that of the guide:

    ``"iwae"``
        Unbiased for the bound. Its signal vanishes against its noise as K grows (Rainforth et al., 2018).
    ``"dreg"``
        Unbiased for the bound, doubly reparameterised (Tucker et al., 2019, https://arxiv.org/abs/1810.04152):
        it gets better as K grows, and is 0 in each draw where q is the posterior. Latents without a
        reparameterisation have the signal L - v_k, less the control variate.
    ``"stl"``
        "Sticking the landing" (Roeder et al., 2017): biased for K > 1, for comparisons.
    ``"wake"``
        Wake-phase phi (Bornschein and Bengio, 2015; Le et al., 2019): of the self-normalised KL(p || q), no
        gradient of the bound. It needs no reparameterisation. Weights that model and guide share get both.

    Model and guide run once on K copies of the batch, so memory is K times that of one draw (see
    :mod:`pyro_scenes.particles`). AIR's baselines are not trained.

    Args:
        particles: K, from 1 up. With 1 the bound is the ELBO.
        gradient: Of the guide, as above.

    Raises:
        TypeError: In a step, a batch has a part that cannot be repeated; or the guide is one of Pyro's that
            runs inside the model.
        ValueError: An argument is outside its range; or, in a step, model and guide do not agree, a site is
            of all images at once, or one is scaled, as by ``Weighted``, so that there is no bound.

    Warns:
        UserWarning: ``"stl"`` with more than one particle.
    """

    def __init__(self, particles: int = 8, *, gradient: str = "dreg") -> None:
        check_sizes(particles=particles)
        if gradient not in GRADIENTS:
            raise ValueError(
                f"gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r:.60}"
            )
        if gradient == "stl" and particles > 1:
            warnings.warn(
                "gradient='stl' is biased for more than one particle: for training use 'dreg'",
                stacklevel=2,
            )
        super().__init__()
        self.particles, self.gradient = particles, gradient

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        shape = self.particles, count_images(args, kwargs)
        batch = repeat(self.particles, args, kwargs)
        check_runs_alone(guide)
        paths, model_paths = Paths(0.0 if self.gradient == "wake" else 1.0), Paths()
        with nullcontext() if self.gradient == "iwae" else paths:
            proposed = _trace(guide, batch)
        with model_paths if self.gradient == "dreg" else nullcontext():
            joint = _trace(poutine.replay(model, trace=proposed), batch)
        if {*latents(joint)} != {*latents(proposed)}:
            check_sites(joint, proposed)
        check_scales(joint, proposed)
        log_p, log_q = (image_log_probs(t, prod(shape)).reshape(shape) for t in (joint, proposed))
        bound = log_mean_exp(log_p - log_q)
        if not torch.is_grad_enabled():
            return -bound.sum()
        share = (log_p - log_q).detach().softmax(0)
        signal = bound - without_each(log_p - log_q)
        if self.gradient == "wake":
            surrogate = (share * (log_p + log_q)).sum()
        elif self.gradient == "iwae":
            surrogate = bound.sum() + score(signal, proposed)
        elif self.gradient == "stl":
            along = paths.through((share * log_q).sum())
            surrogate = (share * log_p).sum() - along + score(signal, proposed)
        else:
            # d log p is weighed with v in the model, and with v^2 where it runs through a draw.
            model_paths.factor = share.flatten()
            along = paths.through((share.square() * log_q).sum())
            surrogate = (share * log_p).sum() - along + score(signal - share, proposed)
        return as_loss(bound, surrogate)


def _trace(program: Callable, batch: tuple[tuple, dict[str, Any]]) -> poutine.Trace:
    return poutine.trace(program).get_trace(*batch[0], **batch[1])


def check_runs_alone(guide: Callable) -> None:
    if isinstance(poutine.unwrap(guide), Messenger):
        raise TypeError(
            "this guide runs inside the model: give one that is called with the batch alone"
        )


def check_scales(*traces: poutine.Trace) -> None:
    """Raises a ValueError if a site is multiplied by a number."""
    for trace in traces:
        for name, site in trace.nodes.items():
            scale = site["scale"] if site["type"] == "sample" else 1
            if isinstance(scale, Number) and scale != 1:
                raise ValueError(
                    f"{name} is scaled by {scale}, so the mean of the weights is no estimate of "
                    "p(image): remove poutine.scale, or use an ELBO of one particle"
                )


def without_each(log_w: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """VIMCO's control variate: the bound if log w_k is the mean of the others. 0 for one particle."""
    particles = len(log_w)
    if particles == 1:
        return torch.zeros_like(log_w)
    own = torch.eye(particles, dtype=torch.bool, device=log_w.device).unsqueeze(-1)
    mean = log_w.masked_fill(own, 0.0).sum(1) / (particles - 1)
    return log_mean_exp(torch.where(own, mean, log_w).movedim(1, 0))


def score(
    signal: Float[Tensor, "k n"], proposed: poutine.Trace, kind: str = "log_prob"
) -> Tensor | float:
    """What adds the score function's gradient: the signals times log q of what is not reparameterised.

    Args:
        kind: Which of a site's: ``unscaled_log_prob`` is that without its mask.
    """
    total: Tensor | float = 0.0
    for name in proposed.nonreparam_stochastic_nodes:
        site = proposed.nodes[name]
        if is_counted(site) and not site["infer"].get("_enumerate_dim"):
            log_q = by_image(name, site[kind], signal.numel())
            total = total + (signal.detach() * log_q.reshape(signal.shape)).sum()
    return total


def as_loss(bound: Float[Tensor, " n"], surrogate: Tensor) -> Tensor:
    """Minus the bound of all images, with the gradient of the surrogate."""
    return surrogate.detach() - surrogate - bound.detach().sum()
