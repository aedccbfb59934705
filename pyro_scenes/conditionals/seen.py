"""The likelihood of the numbers that are seen: NaN is "not seen"."""

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import transform_to
from torch.distributions.constraints import Constraint

__all__ = ["Seen"]


class Seen(dist.Independent):
    """Independent numbers, of which those that are NaN were not seen: their log p is 0.

    As numbers are independent given the canvas, log p of the others is the marginal likelihood of what was
    seen, exactly. Draws have no NaN. Write ``Seen(dist.Laplace(scene.canvas, 0.3), 3)`` for
    ``dist.Laplace(scene.canvas, 0.3).to_event(3)``.

    Args:
        base_distribution: Of single numbers, such as a Normal.
        reinterpreted_batch_ndims: How many of its dimensions, the last ones, are of one event: 3 of images.
    """

    base_dist: Any
    reinterpreted_batch_ndims: int

    @constraints.dependent_property
    def support(self) -> Constraint:
        each = _OrUnseen(self.base_dist.support)
        return constraints.independent(each, self.reinterpreted_batch_ndims)

    def log_prob(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*both"]:
        unseen = value.isnan()
        # Filled before it is scored: the gradient of what is scored and then left out would be NaN.
        filled = torch.where(unseen, _inside(self.base_dist.support, value), value)
        log_prob = self.base_dist.log_prob(filled).masked_fill(unseen, 0.0)
        # In the order of .to_event, so that without unseen numbers the sums are equal bit by bit.
        return log_prob.reshape(*log_prob.shape[: -self.reinterpreted_batch_ndims], -1).sum(-1)


class _OrUnseen(Constraint):
    """What a constraint has for valid, and NaN."""

    def __init__(self, seen: Constraint) -> None:
        self.seen, self.is_discrete, self.event_dim = seen, seen.is_discrete, seen.event_dim
        super().__init__()

    def check(self, value: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        return self.seen.check(value) | value.isnan()

    def __repr__(self) -> str:
        return f"{self.seen} or NaN"


def _inside(support: Constraint, like: Tensor) -> Tensor:
    """A number of the support, as a LogNormal, for one, has no density at 0."""
    zero = like.new_zeros(())
    try:
        return transform_to(support)(zero)
    except NotImplementedError:  # of integers and booleans, which have 0
        return zero
