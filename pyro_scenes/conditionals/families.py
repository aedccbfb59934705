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

from ..networks import CERTAIN

__all__ = ["Conditional", "Persist", "Pixels", "Prior", "persist"]

#: A model's keyword argument: from the scene drawn so far to a distribution.
Conditional = Callable[[Any], Distribution]

#: Probabilities of pixels are kept this far from 0 and 1, so that no pixel has log p = -inf.
MIN_PROBABILITY = 1e-3


class _Family(nn.Module):
    """A family of distributions whose parameters are buffers, or trained within their constraints."""

    def __init__(self, family: type[Any], learn: bool, parameters: dict[str, Any]) -> None:
        super().__init__()
        if not (isinstance(family, type) and hasattr(family, "to_event")):
            wanted = "a class of pyro.distributions (torch's will not do), such as dist.Normal"
            raise TypeError(f"give the family, {wanted}, got {family!r:.60}")
        self.family, self.learn = family, learn
        names = self.constraints
        for name, value in parameters.items():
            value = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
            if name not in names or value.numel() == 0 or not names[name].check(value).all():
                got = f"{name}={value.tolist()}"
                raise ValueError(f"{family.__name__} takes {dict(names)}, got {got}")
            if learn:
                self.register_parameter(name, nn.Parameter(transform_to(names[name]).inv(value)))
            else:
                self.register_buffer(name, value)

    @property
    def constraints(self) -> dict[str, Any]:
        """The constraint of each parameter that the family takes."""
        names = self.family.arg_constraints
        if isinstance(names, property):  # Uniform's bounds constrain each other
            names = dict.fromkeys(signature(self.family).parameters, constraints.real)
        return names

    def values(self) -> dict[str, Tensor]:
        """The family's parameters, by name."""
        stored: dict[str, Any] = {**self._parameters, **self._buffers}
        if self.learn:
            stored = {name: transform_to(self.constraints[name])(stored[name]) for name in stored}
        return stored

    def extra_repr(self) -> str:
        words = [self.family.__name__] * ("family" in signature(type(self)).parameters)
        for name, value in self.values().items():
            numbers = [f"{number:.4g}" for number in value.flatten()[:4].tolist()]
            numbers += ["..."] * (value.numel() > 4)
            words.append(
                f"{name}=[{', '.join(numbers)}]" if value.dim() else f"{name}={numbers[0]}"
            )
        return ", ".join([*words, *["learn=True"] * self.learn])


class Prior(_Family):
    """A distribution that does not depend on the scene.

    Args:
        family: A class of ``pyro.distributions`` such as ``dist.Normal``.
        learn: Whether the parameters are trained, within their constraints.
        parameters: The family's parameters, numbers or sequences; all their dimensions are event dimensions.

    Raises:
        TypeError: The family is not of ``pyro.distributions``.
        ValueError: The family does not take a parameter, or a value is outside its constraint.

    Example:
        ``Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])`` draws poses.
    """

    def __init__(self, family: type[Any], *, learn: bool = False, **parameters: Any) -> None:
        super().__init__(family, learn, parameters)
        self(None)  # raises for parameters that do not go together

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
    # Probabilities 0 and 1 need finite logits.
    logits = logits.clamp(-CERTAIN, CERTAIN)
    return dist.Bernoulli(logits=torch.where(z_pres.bool(), logits, -CERTAIN))


class Pixels(_Family):
    """The likelihood of independent pixels with location, or probability, ``scene.canvas``.

    Args:
        family: A family with ``loc`` (Normal, Laplace) or ``probs`` (Bernoulli, for images of 0 and 1).
        learn: Whether the other parameters are trained.
        parameters: The family's other parameters, such as ``scale=0.3``, in units of intensity.
    """

    def __init__(
        self, family: type[Any] = dist.Normal, *, learn: bool = False, **parameters: Any
    ) -> None:
        super().__init__(family, learn, parameters)
        names = self.constraints
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
        return self.family(**{self.centre: canvas}, **self.values()).to_event(3)
