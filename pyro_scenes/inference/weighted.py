"""Objectives in which some sites count more or less than in the ELBO."""

import re
from collections.abc import Callable, Collection
from numbers import Real
from typing import Any

import pyro.distributions as dist
from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from .compiled import JIT
from .importance import Importance
from .objective import innermost
from .summed import Summed

__all__ = ["Weighted", "as_printed"]


class Weighted(ELBO):
    """An ELBO of Pyro in which the log p and the log q of chosen sites are multiplied by a weight.

    For a latent this is a weight on its KL divergence: the beta of a beta-VAE, or a warm-up::

        elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0)
        for record in fit(model, guide, batches, elbo=elbo):
            elbo.weights["z_what"] = min(1.0, record.step / 1000)

    With weights other than 1 it is not the ELBO of the model, and with weights below 1 no bound. Evaluate by
    :func:`pyro_scenes.evaluation.log_weights`, which has no weights.

    Args:
        elbo: The ELBO that is weighted.
        weights: Numbers from 0 up by the name of a site without its step: ``z_what`` stands for
            ``z_what_0``, ``z_what_1``, ... The factors of a model (``pyro.factor``), such as the increments
            of AIR's likelihood, have the weight of ``image``, or their own where they are named.

    Raises:
        TypeError: ``elbo`` is not an ELBO object, or a compiled one, or an :class:`Importance` or ``Summed``.
        ValueError: A weight is not a number from 0 up; or, in a step, there is no site of that name.
    """

    def __init__(self, elbo: ELBO, *, _prior_only: bool = False, **weights: float) -> None:
        super().__init__()
        if not isinstance(elbo, ELBO):
            raise TypeError(f"elbo must be an object such as Trace_ELBO(), got {elbo!r:.60}")
        if isinstance(elbo, JIT):
            raise TypeError(
                f"{type(elbo).__name__} is compiled at its first step and would not see weights that "
                f"change: weigh {type(elbo).__name__[3:]}"
            )
        if isinstance(innermost(elbo), Importance | Summed):
            raise TypeError(
                f"{type(innermost(elbo)).__name__} is a bound on log p(image) by weights of whole draws: "
                "with sites weighed it is none. Weigh Trace_ELBO() or another of Pyro's"
            )
        self.elbo, self.weights, self._prior_only = elbo, _check_weights(weights), _prior_only

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.elbo.loss, model, guide, args, kwargs)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Any:
        return self._run(self.elbo.differentiable_loss, model, guide, args, kwargs)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.elbo.loss_and_grads, model, guide, args, kwargs)

    def _run(
        self, loss: Callable, model: Callable, guide: Callable, args: tuple, kwargs: dict
    ) -> Any:
        weights = _check_weights(self.weights)
        prior = _Weigh(weights, factors=weights.get("image", 1.0))
        proposal = _Weigh({} if self._prior_only else weights)
        result = loss(prior(model), proposal(guide), *args, **kwargs)
        names = prior.names | proposal.names
        if unknown := weights.keys() - names:
            raise ValueError(
                f"there is no site {', '.join(sorted(unknown))} to weigh; there are "
                f"{', '.join(sorted(names))}"
            )
        return result

    def _get_trace(self, *args: Any) -> Any:
        return self.elbo._get_trace(*args)


def as_printed(latents: Collection[str] = ("z_where", "z_what")) -> Weighted:
    """Eq. 3.1 of Huang and Murphy (2016) as it is printed: E_q[log p(image | z) - log q(z)].

    It lacks log p(z), so it is no bound on log p(image): a latent that the image does not determine gains
    without limit as its proposal widens. For comparison only.

    Args:
        latents: Names of the sites whose log p is left out, without the number of the step.
    """
    if isinstance(latents, str) or not (
        isinstance(latents, Collection) and all(isinstance(name, str) for name in latents)
    ):
        raise TypeError(
            f"latents must be a collection of names, got {latents!r:.60}: write ('z_what',)"
        )
    return Weighted(Trace_ELBO(), _prior_only=True, **dict.fromkeys(latents, 0.0))


def _check_weights(weights: dict[str, float]) -> dict[str, float]:
    if not isinstance(weights, dict):
        raise TypeError(f"weights must be a dictionary by names of sites, got {weights!r:.60}")
    wrong = {
        name: weight
        for name, weight in weights.items()
        if not (isinstance(weight, Real) and 0 <= weight < float("inf"))
    }
    if wrong:
        raise ValueError(f"weights must be numbers from 0 up, got {wrong!r:.80}")
    return weights


class _Weigh(Messenger):
    """Weighs sites, and factors that have no weight of their own, such as a likelihood's increments."""

    def __init__(self, weights: dict[str, float], factors: float = 1.0) -> None:
        super().__init__()
        self.weights, self.factors = weights, factors
        self.names: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name = _base(msg["name"])
        self.names.add(name)
        other = self.factors if isinstance(msg["fn"], dist.Unit) else 1.0
        msg["scale"] = msg["scale"] * self.weights.get(name, other)


def _base(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
