"""Proposals: from features, or from a picture, to the latents of an object."""

from collections.abc import Callable
from copy import copy
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint

from ..networks import mlp
from .families import as_numbers
from .product import without_mixtures

__all__ = ["Amortised", "transformed_normal"]


class Amortised(nn.Module):
    """A proposal: features to a Normal, transformed to the support of a prior.

    Its location and scale start at the prior's, measured on 1,000 draws, so that a swapped prior needs no
    other change.

    Args:
        inputs: Size of the features.
        like: The prior, read for its event shape (one dimension) and support (continuous).
        hidden: Sizes of hidden layers between features and parameters.
        narrow: Factor of its scale at the start, relative to the prior's.

    Raises:
        ValueError: A discrete prior, another number of event dimensions, or a support without a bijection.
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
        self.support = without_mixtures(like.support)
        if like.support.is_discrete or len(like.event_shape) != 1:
            raise ValueError(
                f"Amortised proposes continuous vectors; this prior has support {like.support} and "
                f"event shape {tuple(like.event_shape)}: give the guide a proposal of your own for it"
            )
        try:
            # Of a simplex, one number less than the event has.
            (size,) = biject_to(self.support).inverse_shape(like.event_shape)
            self.head = mlp(inputs, *hidden, 2 * size)
            start, spread = _moments(like, self.support, narrow)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"Amortised has no proposal for the support {like.support}: give the guide one of "
                "your own"
            ) from error
        self.register_buffer("start", start)
        self.register_buffer("spread", spread)

    def forward(self, features: Float[Tensor, "*batch inputs"]) -> Distribution:
        return transformed_normal(self.around(self.head(features), self.start), self.support)

    def around(
        self, raw: Float[Tensor, "*batch both"], centre: Float[Tensor, "*#batch size"]
    ) -> Float[Tensor, "*batch both"]:
        """From the head's output to locations around a point, and scales, on the unconstrained line."""
        loc, scale = raw.chunk(2, -1)
        return torch.cat([centre + loc, nn.functional.softplus(scale + self.spread) + 1e-4], -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Amortised":
        # ``.to`` and ``.double`` reach buffers; the bounds of the support must follow.
        super()._apply(fn, recurse)
        self.support = _with_tensors(fn, self.support)
        return self

    def extra_repr(self) -> str:
        return f"support={self.support}, start={as_numbers(self.start)}"


def transformed_normal(
    parameters: Float[Tensor, "*batch both"], support: Constraint
) -> Distribution:
    """A Normal of locations and scales (concatenated), transformed to a support."""
    normal = dist.Normal(*parameters.chunk(2, -1)).to_event(1)
    if getattr(support, "base_constraint", None) is constraints.real:
        return normal
    return dist.TransformedDistribution(normal, biject_to(support))


def _with_tensors(fn: Callable[[Tensor], Tensor], part: Any) -> Any:
    """A constraint with ``fn`` applied to each tensor in it, such as a bound."""
    if isinstance(part, Tensor):
        return fn(part)
    if isinstance(part, list):
        return [_with_tensors(fn, inner) for inner in part]
    if not (isinstance(part, Constraint) and vars(part)):
        return part
    changed = copy(part)
    vars(changed).update({name: _with_tensors(fn, inner) for name, inner in vars(part).items()})
    return changed


@torch.no_grad()
def _moments(
    like: Distribution, support: Constraint, narrow: float
) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
    """Median and (before softplus) spread of a prior, on the unconstrained line; robust to heavy tails."""
    # Expanded, as not every distribution of Pyro takes a sample shape (MixtureOfDiagNormals does not).
    draws = like.expand(torch.Size([1000, *like.batch_shape])).sample()
    line = biject_to(support).inv(draws).flatten(0, -2)
    # No quantiles in half precision.
    line = line if line.dtype == torch.float64 else line.float()
    low, middle, high = torch.quantile(line, line.new_tensor([0.16, 0.5, 0.84]), dim=0)
    spread = torch.expm1((narrow * (high - low) / 2).clamp(1e-3, 20.0)).log()
    return middle.to(draws.dtype), spread.to(draws.dtype)
