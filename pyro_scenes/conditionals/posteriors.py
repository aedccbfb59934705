"""Families of proposals on the line, before they are mapped to the support of a prior.

A guide takes one by the keyword ``posterior``: ``AIRGuide(model, posterior=full_covariance)``. A family reads
a vector of numbers that a network returns, so that one expert's can be selected from those of several.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.nn.functional import softplus

from ..checks import check_sizes

__all__ = ["Posterior", "flow", "full_covariance", "normal"]

#: Scales are at least this.
LEAST_SCALE = 1e-4
#: softplus(UNIT) is 1.
UNIT = 0.5413248546
#: What a network says beyond locations and scales counts this much: at random weights it is near them alone.
GENTLE = 0.3
#: Bounds of the logarithm of the tails' weight, and of the skewness, in a layer of a flow.
TAIL, SKEW = 0.5, 2.0


@runtime_checkable
class Posterior(Protocol):
    """A family of distributions of d real numbers: what a guide's ``posterior`` must have."""

    def size(self, d: int) -> int:
        """How many numbers it reads."""

    def start(self, loc: Float[Tensor, " d"], scale: Float[Tensor, " d"]) -> Float[Tensor, " size"]:
        """The numbers of independent normal distributions; the first d of them are ``loc``."""

    def read(self, numbers: Float[Tensor, "*batch size"], d: int) -> Distribution:
        """The distribution of these numbers, with one event dimension; any numbers will do."""


@dataclass(frozen=True)
class _Normal:
    """Independent normal distributions."""

    def size(self, d: int) -> int:
        return 2 * d

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        return torch.cat([loc, torch.expm1(scale).log()])

    def read(self, numbers: Tensor, d: int) -> Distribution:
        loc, scale = numbers.split(d, -1)
        return dist.Normal(loc, softplus(scale) + LEAST_SCALE).to_event(1)


@dataclass(frozen=True)
class _FullCovariance:
    """A multivariate normal distribution."""

    def size(self, d: int) -> int:
        return 2 * d + d * (d - 1) // 2

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        numbers = normal.start(loc, scale)
        return torch.cat([numbers, numbers.new_zeros(self.size(len(loc)) - len(numbers))])

    def read(self, numbers: Tensor, d: int) -> Distribution:
        loc, scale, lower = numbers.tensor_split([d, 2 * d], -1)
        return dist.MultivariateNormal(loc, scale_tril=_triangle(scale, GENTLE * lower))


@dataclass(frozen=True)
class _Flow:
    """Layers of a normalising flow, each an elementwise :class:`Bend`, then a triangular :class:`Mix`."""

    layers: int

    def size(self, d: int) -> int:
        return self.layers * self._layer(d)

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        numbers = normal.start(loc, scale)
        return torch.cat([numbers, numbers.new_zeros(self.size(len(loc)) - len(numbers))])

    def read(self, numbers: Tensor, d: int) -> Distribution:
        last, others = numbers.tensor_split([2 * d], -1)
        layers = torch.cat([last, GENTLE * others], -1).split(self._layer(d), -1)
        transforms: list[Transform] = []
        for i, layer in enumerate(layers):  # the last layer's numbers come first
            loc, scale, tail, skew, lower = layer.tensor_split([d, 2 * d, 3 * d, 4 * d], -1)
            matrix, is_upper = _triangle(scale if i == 0 else scale + UNIT, lower), i % 2 == 1
            matrix = matrix.mT if is_upper else matrix
            transforms = [Bend(tail, skew), Mix(loc, matrix, is_upper), *transforms]
        zeros = torch.zeros_like(numbers[..., :d])
        base = dist.Normal(zeros, torch.ones_like(zeros)).to_event(1)
        return dist.TransformedDistribution(base, transforms)

    def _layer(self, d: int) -> int:
        return full_covariance.size(d) + 2 * d


#: Independent normal distributions: the default of every guide.
normal = _Normal()
#: A multivariate normal distribution, which knows how latents depend on each other given the image.
full_covariance = _FullCovariance()


def flow(layers: int = 2) -> Posterior:
    """A normalising flow: skewed, heavy-tailed or curved distributions.

    A layer is a sinh-arcsinh map of each number (Jones and Pewsey, 2009), then a triangular affine map, lower
    and upper in turn. All their parameters depend on the image, and both directions have a formula, so that
    values that another program has drawn are scored at the same cost.

    Args:
        layers: How many; each has 4 d + d (d - 1) / 2 numbers for d latents.
    """
    check_sizes(layers=layers)
    return _Flow(layers)


class Bend(Transform):
    """y = sinh(exp(tail) arcsinh(x) + skew) of each number, with tail and skew bounded."""

    domain = codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, tail: Tensor, skew: Tensor) -> None:
        super().__init__(cache_size=1)
        self.log_tail = TAIL * torch.tanh(tail / TAIL)
        self.skew = SKEW * torch.tanh(skew / SKEW)

    def _call(self, x: Tensor) -> Tensor:
        return torch.sinh(self.log_tail.exp() * torch.asinh(x) + self.skew)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.sinh((torch.asinh(y) - self.skew) * torch.exp(-self.log_tail))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log_tail + (torch.log1p(y * y) - torch.log1p(x * x)) / 2


class Mix(Transform):
    """y = matrix x + loc, with a triangular matrix."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(
        self, loc: Float[Tensor, "*batch d"], matrix: Float[Tensor, "*batch d d"], is_upper: bool
    ) -> None:
        super().__init__(cache_size=1)
        self.loc, self.matrix, self.is_upper = loc, matrix, is_upper

    def _call(self, x: Tensor) -> Tensor:
        return (self.matrix @ x.unsqueeze(-1)).squeeze(-1) + self.loc

    def _inverse(self, y: Tensor) -> Tensor:
        column = (y - self.loc).unsqueeze(-1)
        matrix = self.matrix.expand(*column.shape[:-2], *self.matrix.shape[-2:])
        return torch.linalg.solve_triangular(matrix, column, upper=self.is_upper).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        diagonal = self.matrix.diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1).expand(x.shape[:-1])


def _triangle(
    scale: Float[Tensor, "*batch d"], lower: Float[Tensor, "*batch below"]
) -> Float[Tensor, "*batch d d"]:
    """A lower triangular matrix of the numbers of its diagonal, and of those below, relative to it."""
    d = scale.shape[-1]
    rows, columns = torch.tril_indices(d, d, -1, device=scale.device).tolist()
    matrix = torch.eye(d, dtype=scale.dtype, device=scale.device).repeat(*scale.shape[:-1], 1, 1)
    matrix[..., rows, columns] = lower
    return (softplus(scale) + LEAST_SCALE).unsqueeze(-1) * matrix
