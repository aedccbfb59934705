"""Independent families for the parts of one vector, such as a pose with a positive scale."""

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, TorchDistribution, constraints
from torch import Tensor, nn
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from .families import Conditional

__all__ = ["Concatenated", "Product", "each_number", "without_mixtures"]


class Product(nn.Module):
    """Independent distributions of the parts of one vector, concatenated in the order of the keywords.

    Each keyword becomes an attribute, such as ``prior.scale``.

    Args:
        parts: Conditionals. Each returns a continuous distribution with one event dimension whose support
            constrains each number independently (no simplex).

    Raises:
        ValueError: There are no parts, or (when called) a part returns another kind of distribution.

    Example:
        Poses ``(scale, x, y)`` with a positive scale::

            Product(
                scale=Prior(dist.LogNormal, loc=[1.0], scale=[0.2]),
                shift=Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.0, 1.0]),
            )
    """

    def __init__(self, **parts: Conditional) -> None:
        super().__init__()
        if not parts:
            raise ValueError("Product needs at least one part, such as scale=Prior(...)")
        for name, part in parts.items():
            if hasattr(self, name):
                raise ValueError(
                    f"{name} is an attribute of all modules: give the part another name"
                )
            setattr(self, name, part)
        self.names = tuple(parts)

    def forward(self, scene: Any) -> Distribution:
        return Concatenated([self._part(name, scene) for name in self.names])

    def _part(self, name: str, scene: Any) -> Distribution:
        part = getattr(self, name)(scene)
        if not hasattr(part, "to_event"):
            raise ValueError(
                f"{name} must return a distribution of pyro.distributions, got {part!r}"
            )
        if (
            len(part.event_shape) != 1
            or part.support.is_discrete
            or each_number(part.support).event_dim
        ):
            raise ValueError(
                f"{name} must return a continuous distribution with one event dimension (give lists: "
                f"loc=[1.0]) whose support constrains each number independently, got event shape "
                f"{tuple(part.event_shape)} and support {part.support}"
            )
        return part

    def extra_repr(self) -> str:
        functions = {name: getattr(self, name) for name in self.names if name not in self._modules}
        return "\n".join(f"({name}): {part!r}" for name, part in functions.items())


class Concatenated(TorchDistribution):
    """Independent vectors, concatenated.

    Args:
        parts: Continuous distributions with one event dimension; their batch shapes are broadcast.
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(self, parts: list[Distribution], *, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        self.parts = [part.expand(batch_shape) for part in parts]
        self.lengths = [part.event_shape[0] for part in parts]
        super().__init__(batch_shape, torch.Size([sum(self.lengths)]), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        return all(part.has_rsample for part in self.parts)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Constraint:
        each = [each_number(part.support) for part in self.parts]
        if all(constraint is constraints.real for constraint in each):
            return constraints.real_vector
        return constraints.independent(constraints.cat(each, -1, self.lengths), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Concatenated":
        return Concatenated([part.expand(batch_shape) for part in self.parts], validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Float[Tensor, "*shape size"]:
        return torch.cat([part.sample(sample_shape) for part in self.parts], -1)

    def rsample(self, sample_shape: Any = torch.Size()) -> Float[Tensor, "*shape size"]:
        return torch.cat([part.rsample(sample_shape) for part in self.parts], -1)

    def log_prob(self, value: Float[Tensor, "*shape size"]) -> Float[Tensor, "*both"]:
        values = value.split(self.lengths, -1)
        return sum(part.log_prob(value) for part, value in zip(self.parts, values, strict=True))

    @property
    def mean(self) -> Float[Tensor, "*batch size"]:
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Float[Tensor, "*batch size"]:
        return torch.cat([part.variance for part in self.parts], -1)


def without_mixtures(support: Constraint) -> Constraint:
    """The support with each mixture's replaced by its components', for which ``biject_to`` is defined."""
    if isinstance(support, MixtureSameFamilyConstraint):
        return without_mixtures(support.base_constraint)
    if isinstance(support, constraints.independent):
        inner = without_mixtures(support.base_constraint)
        return constraints.independent(inner, support.reinterpreted_batch_ndims)
    return support


def each_number(support: Constraint) -> Constraint:
    """The constraint of each number of a vector; if there is none, it has event dimensions."""
    support = without_mixtures(support)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support
