"""Objectives in which some sites count more or less than in the ELBO."""

import re
from collections.abc import Callable, Collection
from typing import Any

from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

__all__ = ["Weighted", "as_printed"]


class Weighted(ELBO):
    """An ELBO of Pyro with weights on sites: both log p and log q of a site are multiplied by its weight.

    For a latent that is a weight on its KL divergence: the beta of a beta-VAE, or a warm-up::

        elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0)
        for record in fit(model, guide, batches, elbo=elbo):
            elbo.weights["z_what"] = min(1.0, record.step / 1000)

    With any weight but 1 it is no ELBO of the model; below 1 it is not even a bound. Evaluate by
    :func:`pyro_scenes.evaluation.log_weights`, which no weight enters.

    Args:
        elbo: Does the work.
        weights: By the name of a site, without the number of its step: ``z_what`` is all ``z_what_0``,
            ``z_what_1``, ... Numbers from 0 up.

    Raises:
        ValueError: A weight that is no number from 0 up; in a step, one of a site that there is not.
    """

    def __init__(self, elbo: ELBO, **weights: float) -> None:
        super().__init__()
        if not isinstance(elbo, ELBO):
            raise TypeError(f"elbo must be an object such as Trace_ELBO(), got {elbo!r}")
        self.elbo, self.weights, self.prior_only = elbo, _checked(weights), False

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
        weigh = _Weigh(_checked(self.weights))
        found = loss(weigh(model), guide if self.prior_only else weigh(guide), *args, **kwargs)
        if lacking := self.weights.keys() - weigh.names:
            known = ", ".join(sorted(weigh.names))
            raise ValueError(f"there is no site {', '.join(sorted(lacking))} to weigh, but {known}")
        return found

    def _get_trace(self, *args: Any) -> Any:
        return self.elbo._get_trace(*args)


def as_printed(latents: Collection[str] = ("z_where", "z_what")) -> Weighted:
    """Eq. 3.1 of Huang and Murphy (2016) as it is printed: E_q[log p(image | z) - log q(z)].

    It lacks log p(z), so it is no bound on log p(image), and rewards any latent that the image does not
    need for spreading without end. For comparison only.
    """
    if isinstance(latents, str):
        raise TypeError(f"latents must be a collection of names, got {latents!r}: ({latents!r},)")
    objective = Weighted(Trace_ELBO(), **dict.fromkeys(latents, 0.0))
    objective.prior_only = True
    return objective


def _checked(weights: dict[str, float]) -> dict[str, float]:
    wrong = {
        name: weight
        for name, weight in weights.items()
        if not (isinstance(weight, int | float) and 0 <= weight < float("inf"))
    }
    if wrong:
        raise ValueError(f"weights must be numbers from 0 up, got {wrong}")
    return weights


class _Weigh(Messenger):
    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights
        self.names: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name = re.sub(r"_\d+$", "", msg["name"])
        self.names.add(name)
        if name in self.weights:
            msg["scale"] = msg["scale"] * self.weights[name]
