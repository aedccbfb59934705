"""Priors and likelihoods: families whose parameters are buffers, or weights."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import transform_to
from torch.distributions.constraints import is_dependent

from ..networks import CERTAIN
from .seen import Seen

__all__ = ["Conditional", "Persist", "Pixels", "Prior", "persist"]

#: A model's keyword argument: from the scene drawn so far to a distribution.
Conditional = Callable[[Any], Distribution]

#: Probabilities of pixels are kept this far from 0 and 1, so that no pixel has log p = -inf.
MIN_PROBABILITY = 1e-3

_OTHERS = "Other arguments need a function, such as lambda scene: dist.Multinomial(3, probs)"


class _Family(nn.Module):
    """A family of distributions whose parameters are buffers, or trained within their constraints."""

    def __init__(self, family: type[Any], learn: bool, parameters: dict[str, Any]) -> None:
        super().__init__()
        if not (isinstance(family, type) and hasattr(family, "to_event")):
            wanted = "a class of pyro.distributions (torch's will not do), such as dist.Normal"
            raise TypeError(f"give the family, {wanted}, got {family!r:.60}")
        self.family, self.learn, self._constraints = family, learn, _constraints(family)
        for name, value in parameters.items():
            value = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
            constraint = self._constraints.get(name)
            if constraint is None or value.numel() == 0 or not constraint.check(value).all():
                got = f"{name}={value.tolist()}. {_OTHERS}"
                raise ValueError(f"{family.__name__} takes {self._constraints}, got {got}")
            if learn and not constraint.is_discrete:  # such as the number of trials
                self.register_parameter(name, nn.Parameter(transform_to(constraint).inv(value)))
            else:
                self.register_buffer(name, value)

    def values(self) -> dict[str, Tensor]:
        """The family's parameters, by name."""
        trained = {n: transform_to(self._constraints[n])(p) for n, p in self._parameters.items()}
        return {**trained, **self._buffers}

    def extra_repr(self) -> str:
        words = [self.family.__name__] * ("family" in signature(type(self)).parameters)
        for name, value in self.values().items():
            numbers = [f"{number:.4g}" for number in value.flatten()[:4].tolist()]
            text = ", ".join([*numbers, *["..."] * (value.numel() > 4)])
            words.append(f"{name}=[{text}]" if value.dim() else f"{name}={text}")
        return ", ".join([*words, *["learn=True"] * self.learn])


def _constraints(family: type[Any]) -> dict[str, Any]:
    """By parameter. Where a family has none, or parameters constrain each other, the family checks."""
    arguments, known = signature(family).parameters, family.arg_constraints
    known = dict.fromkeys(arguments, constraints.real) if isinstance(known, property) else known
    relaxed = {"temperature": constraints.positive} if "temperature" in arguments else {}
    return {n: constraints.real if is_dependent(c) else c for n, c in {**known, **relaxed}.items()}


class Prior(_Family):
    """A distribution that does not depend on the scene.

    Args:
        family: A class of ``pyro.distributions`` such as ``dist.Normal``.
        learn: Whether the parameters are trained, within their constraints; counts are not.
        parameters: The family's parameters, numbers or sequences; all their dimensions are event dimensions.

    Raises:
        TypeError: The family is not of ``pyro.distributions``.
        ValueError: The family cannot be built of these parameters, or a value is outside its constraint.

    Example:
        ``Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])`` draws poses.
    """

    def __init__(self, family: type[Any], *, learn: bool = False, **parameters: Any) -> None:
        super().__init__(family, learn, parameters)
        try:
            self(None)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{family.__name__} of {[*parameters]}: {error}. {_OTHERS}") from error

    def forward(self, scene: Any) -> Distribution:
        distribution = self.family(**self.values())
        return distribution.to_event(len(distribution.batch_shape))


class Persist(_Family):
    """z_pres in unary code: one more object with probability ``probs``, and none after an absent one.

    With one number rho the count n is geometric, p(n) = rho^n (1 - rho), truncated at the number of steps.

    Args:
        probs: Probability of one more object, in [0, 1]: one number, or one for each step.
        learn: Whether it is trained. One number for each step gives any distribution of counts.
    """

    def __init__(self, probs: float | list[float], *, learn: bool = False) -> None:
        super().__init__(dist.Bernoulli, learn, {"probs": probs})

    def forward(self, scene: Any) -> Distribution:
        probs = self.values()["probs"]
        if probs.dim():
            if scene.step >= len(probs):
                raise ValueError(f"Persist has {len(probs)} probs: give one for each step")
            probs = probs[scene.step]
        return persist(torch.logit(probs), scene.z_pres)


def persist(logits: Float[Tensor, "*#batch"], z_pres: Float[Tensor, "*#batch"]) -> Distribution:
    """Bernoulli with these logits where ``z_pres`` of the step before is 1; certainly 0 where it is 0."""
    logits = logits.clamp(-CERTAIN, CERTAIN)  # finite for probabilities 0 and 1, too
    return dist.Bernoulli(logits=torch.where(z_pres.bool(), logits, -CERTAIN))


class Pixels(_Family):
    """The likelihood of independent pixels with location, or probability, ``scene.canvas``.

    Pixels that are NaN are not seen, and their log p is 0 (:class:`Seen`).

    Args:
        family: A family with ``loc`` (Normal, Laplace) or ``probs`` (Bernoulli, for images of 0 and 1).
        learn: Whether the other parameters are trained.
        parameters: The family's other parameters, such as ``scale=0.3``, in units of intensity.
    """

    def __init__(
        self, family: type[Any] = dist.Normal, *, learn: bool = False, **parameters: Any
    ) -> None:
        super().__init__(family, learn, parameters)
        names = self._constraints
        self.centre = "loc" if "loc" in names else "probs"
        if set(names) - {"logits"} != {self.centre, *parameters} or self.centre in parameters:
            raise ValueError(
                "Pixels takes a family with loc or probs, and its other parameters; "
                f"{family.__name__} takes {sorted(names)}, got {sorted(parameters)}"
            )

    def forward(self, scene: Any) -> Distribution:
        canvas = scene.canvas
        if self.centre == "probs":
            # Not clamped: a clamp has no gradient at bright pixels that are not explained yet.
            canvas = MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * canvas.clamp(0, 1)
        return Seen(self.family(**{self.centre: canvas}, **self.values()), 3)
