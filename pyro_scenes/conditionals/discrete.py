"""Proposals for discrete codes, and the default proposal for any prior."""

import pyro.distributions as dist
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn

from ..networks import mlp
from .amortised import Amortised
from .families import as_numbers

__all__ = ["AmortisedDiscrete", "proposal"]


class AmortisedDiscrete(nn.Module):
    """A proposal for a discrete code: features to a one-hot vector, or to a vector of bits.

    Its logits start about the prior's. It has no reparametrised gradient: train it by the score function.

    Args:
        inputs: Size of the features.
        like: The prior: a ``OneHotCategorical``, or a ``Bernoulli`` with one event dimension.
        hidden: Sizes of hidden layers between features and logits.

    Raises:
        ValueError: A prior of another support or shape.
    """

    start_logits: Tensor

    def __init__(self, inputs: int, like: Distribution, *, hidden: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.one_hot = like.support is constraints.one_hot
        bits = getattr(like.support, "base_constraint", None) is constraints.boolean
        if len(like.event_shape) != 1 or not (self.one_hot or bits):
            raise ValueError(
                "a discrete code is a one-hot vector (OneHotCategorical, not Categorical) or a vector of "
                f"bits, got support {like.support} and event shape {tuple(like.event_shape)}: give the "
                "guide a proposal of your own for it"
            )
        self.head = mlp(inputs, *hidden, like.event_shape[0])
        probs = like.mean.detach().reshape(-1, like.event_shape[0]).mean(0)
        start_logits = probs.clamp(min=1e-6).log() if self.one_hot else probs.logit(1e-6)
        self.register_buffer("start_logits", start_logits)

    def forward(self, features: Float[Tensor, "*batch inputs"]) -> Distribution:
        logits = self.start_logits + self.head(features)
        if self.one_hot:
            return dist.OneHotCategorical(logits=logits)
        return dist.Bernoulli(logits=logits).to_event(1)

    def extra_repr(self) -> str:
        return f"one_hot={self.one_hot}, start_logits={as_numbers(self.start_logits)}"


def proposal(inputs: int, like: Distribution, *, hidden: tuple[int, ...] = ()) -> nn.Module:
    """The default proposal for a prior, by its support: :class:`Amortised` or :class:`AmortisedDiscrete`.

    Args:
        inputs: Size of the features.
        like: The prior of a code or a pose, of one event dimension.
        hidden: Sizes of hidden layers.

    Raises:
        ValueError: A support that neither proposes for.
    """
    kind = AmortisedDiscrete if like.support.is_discrete else Amortised
    return kind(inputs, like, hidden=hidden)
