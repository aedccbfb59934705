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
from .product import without_mixtures

__all__ = ["Amortised"]


class Amortised(nn.Module):
    """A proposal: features to a distribution on the support of a prior, at first about the prior.

    It is a Normal transformed to a continuous support; a ``OneHotCategorical`` or a ``Bernoulli`` for a
    discrete one, which has no reparametrised gradient: train it by the score function.

    Args:
        inputs: Size of the features.
        like: The prior, of one event dimension. Of a continuous one, 1,000 draws are taken.
        hidden: Sizes of hidden layers between features and parameters.
        narrow: Factor of its scale at the start, relative to the prior's.

    Raises:
        ValueError: Another number of event dimensions, or a support without a bijection.
    """

    start: Tensor

    def __init__(
        self, inputs: int, like: Distribution, *, hidden: tuple[int, ...] = (), narrow: float = 1.0
    ) -> None:
        super().__init__()
        self.support = without_mixtures(like.support)
        try:
            (size,) = like.event_shape
            if not self.support.is_discrete:
                # Of a simplex, one number less than the event has.
                size = 2 * biject_to(self.support).inverse_shape(like.event_shape)[0]
            self.head = mlp(inputs, *hidden, size)
            start = _logits(like) if self.support.is_discrete else _moments(like, narrow)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise ValueError(
                "Amortised proposes vectors: continuous, of bits, or one-hot (OneHotCategorical, not "
                f"Categorical). This prior has the support {like.support} and the event shape "
                f"{tuple(like.event_shape)}: give the guide a proposal of your own for it"
            ) from error
        self.register_buffer("start", start)

    def forward(self, features: Float[Tensor, "*batch inputs"]) -> Distribution:
        return self.distribution(self.start + self.head(features))

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """Of logits; or of locations and (before softplus) scales on the unconstrained line, side by side."""
        if isinstance(self.support, type(constraints.one_hot)):
            return dist.OneHotCategorical(logits=parameters)
        if self.support.is_discrete:
            return dist.Bernoulli(logits=parameters).to_event(1)
        loc, scale = parameters.chunk(2, -1)
        normal = dist.Normal(loc, nn.functional.softplus(scale) + 1e-4).to_event(1)
        if isinstance(getattr(self.support, "base_constraint", None), type(constraints.real)):
            return normal
        return dist.TransformedDistribution(normal, biject_to(self.support))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Amortised":
        # ``.to`` and ``.double`` reach buffers; the bounds of the support must follow.
        super()._apply(fn, recurse)
        self.support = _with_tensors(fn, self.support)
        return self

    def extra_repr(self) -> str:
        return f"support={self.support}"


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
def _logits(like: Distribution) -> Float[Tensor, " size"]:
    """The logits of a discrete prior's mean, kept finite."""
    probs = like.mean.reshape(-1, like.event_shape[0]).mean(0)
    if isinstance(like.support, type(constraints.one_hot)):
        return probs.clamp(min=1e-6).log()
    if not isinstance(getattr(like.support, "base_constraint", None), type(constraints.boolean)):
        raise ValueError("neither one-hot nor bits")
    return probs.logit(1e-6)


@torch.no_grad()
def _moments(like: Distribution, narrow: float) -> Float[Tensor, " parameters"]:
    """Median and (before softplus) spread of a prior, on the unconstrained line; robust to heavy tails."""
    # Expanded, as not every distribution of Pyro takes a sample shape (MixtureOfDiagNormals does not).
    draws = like.expand(torch.Size([1000, *like.batch_shape])).sample()
    line = biject_to(without_mixtures(like.support)).inv(draws).flatten(0, -2)
    # No quantiles in half precision.
    line = line if line.dtype == torch.float64 else line.float()
    low, middle, high = torch.quantile(line, line.new_tensor([0.16, 0.5, 0.84]), dim=0)
    spread = torch.expm1((narrow * (high - low) / 2).clamp(1e-3, 20.0)).log()
    return torch.cat([middle, spread]).to(draws.dtype)
