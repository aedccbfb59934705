"""Proposals that are certain of a value where one is known."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions.constraints import Constraint

__all__ = ["CERTAIN", "Pinned"]

#: How much less likely than the known value another one is, in nats. An infinite number would make NaN of
#: sums over all values, in which such a branch has no weight.
CERTAIN = 30.0


class Pinned(TorchDistribution):
    """A distribution that is certain of the value of those images of which it is known.

    There it draws that value and log q is 0; where nothing is known it is the distribution that it was.

    Args:
        base_dist: The distribution, with batch shape (..., n).
        value: One for each image, on its device; NaN is not known, and a vector is known as a whole.

    Attributes:
        known: Of which images the value is known, (n,).
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(
        self, base_dist: Any, value: Float[Tensor, "n *event"], *, validate_args: bool | None = None
    ) -> None:
        unknown = value.isnan()
        self.base_dist, self.value = base_dist, value.masked_fill(unknown, 0.0)
        self.known = ~_any_of_event(unknown, base_dist.event_dim)
        self._given = value
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:
        return self.base_dist.has_enumerate_support

    @property
    def support(self) -> Constraint:
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Pinned":
        return Pinned(self.base_dist.expand(batch_shape), self._given)

    def enumerate_support(self, expand: bool = True) -> Shaped[Tensor, "..."]:
        return self.base_dist.enumerate_support(expand=expand)

    def sample(self, sample_shape: Any = torch.Size()) -> Shaped[Tensor, "..."]:
        return self.fill(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Shaped[Tensor, "..."]:
        return self.fill(self.base_dist.rsample(sample_shape))

    def fill(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """The known value where there is one, and this one elsewhere."""
        known = self.known[(..., *[None] * self.event_dim)]
        return torch.where(known, self.value.to(value), value)

    def log_prob(self, value: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        log_q = self.base_dist.log_prob(value)
        sure = torch.zeros_like(log_q)
        if self.support.is_discrete:
            others = _any_of_event(value != self.value.to(value), self.event_dim)
            sure = sure.masked_fill(others, -CERTAIN)
        return torch.where(self.known, sure, log_q)


def _any_of_event(condition: Tensor, event_dim: int) -> Tensor:
    return condition.flatten(-event_dim).any(-1) if event_dim else condition
