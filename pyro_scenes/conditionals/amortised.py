"""Amortised: from features to a distribution on the support of a prior."""

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
from .posteriors import Posterior, normal
from .product import each_number, without_mixtures

__all__ = ["Amortised"]


class Amortised(nn.Module):
    """A proposal from features, on the support of a prior; before training it is near the prior.

    On a continuous support it is of the family ``posterior``, transformed. On a discrete one it is a
    ``OneHotCategorical`` or a ``Bernoulli``, without a reparametrised gradient: it needs the score function.

    Args:
        inputs: Size of the features.
        like: The prior, with one event dimension. If it is continuous, 1,000 draws are taken.
        hidden: Widths of hidden layers between features and parameters.
        narrow: Scale before training, relative to the prior's.
        posterior: ``normal``, ``full_covariance``, ``flow(layers)``, or another :class:`Posterior`.

    Raises:
        TypeError: ``posterior`` is no :class:`Posterior`.
        ValueError: The prior has not one event dimension, or no bijection to its support is known.
    """

    start: Tensor
    posterior: Posterior = normal

    def __init__(
        self,
        inputs: int,
        like: Distribution,
        *,
        hidden: tuple[int, ...] = (),
        narrow: float = 1.0,
        posterior: Posterior = normal,
    ) -> None:
        super().__init__()
        if not isinstance(posterior, Posterior):
            wanted = "normal, full_covariance, flow(layers), or an object with size, start and read"
            raise TypeError(f"posterior must be {wanted}, got {posterior!r:.60}")
        if posterior != normal:  # older checkpoints do not name the default
            self.posterior = posterior
        self.support = without_mixtures(like.support)
        try:
            (size,) = like.event_shape
            if not self.support.is_discrete:
                # A simplex has one unconstrained number less than the event.
                self._line = biject_to(self.support).inverse_shape(like.event_shape)[-1]
                size = posterior.size(self._line)
            self.head = mlp(inputs, *hidden, size)
            discrete = self.support.is_discrete
            start = _logits(like) if discrete else _start(like, narrow, posterior)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise ValueError(
                "Amortised proposes vectors: continuous, of bits, or one-hot (OneHotCategorical, not "
                f"Categorical). This prior has the support {like.support} and the event shape "
                f"{tuple(like.event_shape)}: give the guide another proposal for it"
            ) from error
        self.register_buffer("start", start)

    def forward(self, features: Float[Tensor, "*batch inputs"]) -> Distribution:
        return self.distribution(self.start + self.head(features))

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal with these logits; or with these numbers of its family, locations first."""
        if isinstance(self.support, type(constraints.one_hot)):
            return dist.OneHotCategorical(logits=parameters)
        if self.support.is_discrete:
            return dist.Bernoulli(logits=parameters).to_event(1)
        on_the_line = self.posterior.read(parameters, self._line)
        if isinstance(each_number(self.support), type(constraints.real)):
            return on_the_line
        return dist.TransformedDistribution(on_the_line, biject_to(self.support))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Amortised":
        # ``.to`` and ``.double`` must reach the bounds of the support, too.
        super()._apply(fn, recurse)
        self.support = _with_tensors(fn, self.support)
        return self

    def extra_repr(self) -> str:
        return f"support={self.support}"


def _with_tensors(fn: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A constraint with ``fn`` applied to each of its tensors, such as bounds."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, list):
        return [_with_tensors(fn, item) for item in value]
    if isinstance(value, Constraint):
        value = copy(value)
        vars(value).update({name: _with_tensors(fn, item) for name, item in vars(value).items()})
    return value


@torch.no_grad()
def _logits(like: Distribution) -> Float[Tensor, " size"]:
    """Finite logits of a discrete prior's mean."""
    probs = like.mean.reshape(-1, like.event_shape[0]).mean(0)
    if isinstance(like.support, type(constraints.one_hot)):
        return probs.clamp(min=1e-6).log()
    if isinstance(each_number(like.support), type(constraints.boolean)):
        return probs.logit(1e-6)
    raise ValueError("neither one-hot nor bits")


@torch.no_grad()
def _start(like: Distribution, narrow: float, posterior: Posterior) -> Float[Tensor, " parameters"]:
    """The posterior with a prior's medians and scales on the line, by quantiles, for heavy tails."""
    # MixtureOfDiagNormals, for one, takes no sample shape.
    draws = like.expand(torch.Size([1000, *like.batch_shape])).sample()
    values = biject_to(without_mixtures(like.support)).inv(draws).flatten(0, -2)
    # torch has no quantiles in half precision.
    values = values if values.dtype == torch.float64 else values.float()
    low, median, high = torch.quantile(values, values.new_tensor([0.16, 0.5, 0.84]), dim=0)
    scale = (narrow * (high - low) / 2).clamp(1e-3, 20.0)
    return posterior.start(median, scale).to(draws.dtype)
