"""Proposals: from features, or from a picture, to the latents of an object."""

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import biject_to

from ..networks import mlp

__all__ = ["Amortised", "carried"]


class Amortised(nn.Module):
    """A proposal: features to a Normal, carried to the support of a prior.

    Before training it proposes about what the prior draws: its location and scale start at the
    prior's, measured on draws, so that a swapped prior needs no other change.

    Args:
        inputs: Size of the features.
        like: The prior, read for its event shape (one dimension) and support (continuous).
        hidden: Sizes of hidden layers between features and parameters.
        narrow: Its scale starts at this times the prior's.
    """

    start: Tensor
    spread: Tensor

    def __init__(
        self,
        inputs: int,
        like: Distribution,
        *,
        hidden: tuple[int, ...] = (),
        narrow: float = 1.0,
    ) -> None:
        super().__init__()
        if like.support.is_discrete or len(like.event_shape) != 1:
            raise ValueError(
                f"Amortised proposes continuous vectors; this prior has support {like.support} and "
                f"event shape {tuple(like.event_shape)}: write a proposal of your own for it"
            )
        self.support = like.support
        try:
            (size,) = biject_to(like.support).inverse_shape(like.event_shape)  # a simplex: one less
        except NotImplementedError as error:
            raise ValueError(
                f"Amortised has no proposal for the support {like.support}: write one of your own"
            ) from error
        self.head = mlp(inputs, *hidden, 2 * size)
        start, spread = _moments(like, narrow)
        self.register_buffer("start", start)
        self.register_buffer("spread", spread)

    def forward(self, features: Tensor) -> Distribution:
        return self.read(self.head(features))

    def guess(self, features: Tensor) -> Tensor:
        """The proposal's median (of each number on the unconstrained line), without drawing."""
        return self.median(self.head(features))

    def read(self, made: Tensor) -> Distribution:
        """The proposal of what the head makes of features: locations, and scales before softplus."""
        return carried(self.scaled(made, self.start), self.support)

    def median(self, made: Tensor) -> Tensor:
        """As :meth:`guess`, of what the head makes of features."""
        return biject_to(self.support)(self.start + made.chunk(2, -1)[0])

    def scaled(self, made: Tensor, about: Tensor) -> Tensor:
        """From what the head makes to locations about a point, and scales, on the unconstrained line."""
        loc, raw = made.chunk(2, -1)
        return torch.cat([about + loc, nn.functional.softplus(raw + self.spread) + 1e-4], -1)


def carried(parameters: Tensor, support: constraints.Constraint) -> Distribution:
    """A Normal of locations and scales, carried to a support."""
    plain = dist.Normal(*parameters.chunk(2, -1)).to_event(1)
    if getattr(support, "base_constraint", None) is constraints.real:
        return plain
    return dist.TransformedDistribution(plain, biject_to(support))


@torch.no_grad()
def _moments(like: Distribution, narrow: float) -> tuple[Tensor, Tensor]:
    """Median and (before softplus) spread of a prior, on the unconstrained line; robust to heavy tails."""
    draws = biject_to(like.support).inv(like.sample(torch.Size([1000])))
    draws = draws.flatten(0, -2)
    low, middle, high = torch.quantile(draws, draws.new_tensor([0.16, 0.5, 0.84]), dim=0)
    return middle, torch.expm1((narrow * (high - low) / 2).clamp(1e-3, 20.0)).log()
