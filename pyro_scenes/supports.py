"""Which values a distribution takes: whether a proposal's lie in the prior's support, and any of them."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import TransformedDistribution, biject_to

from .random import fork_rng

__all__ = ["AnyChoice", "is_scalar_choice", "is_within", "unwrapped"]

#: Values of a discrete distribution that are less likely than this are taken for impossible (in nats).
UNLIKELY = -12.0


def unwrapped(distribution: Any) -> Any:
    """The distribution inside ``.to_event``, ``.mask`` and ``.expand``."""
    while hasattr(distribution, "base_dist") and not isinstance(
        distribution, TransformedDistribution
    ):
        distribution = distribution.base_dist
    return distribution


def is_within(prior: Any, proposal: Any) -> bool:
    """Whether values from all over the proposal's support, as far as they can be had, lie in the prior's."""
    values = _values(proposal)
    if values is None:
        return True
    finite = values.isfinite()
    if proposal.event_dim:
        finite = finite.flatten(-proposal.event_dim).all(-1)
    return bool((prior.support.check(values) | ~finite).all())


def _values(proposal: Any) -> Tensor | None:
    inner = unwrapped(proposal)
    if inner.support.is_discrete:
        return _likely_values(inner)
    if isinstance(inner, dist.MixtureSameFamily):  # no bijection to its support is known
        values = _values(inner.component_distribution)
        return None if values is None else values.movedim(-1 - inner.event_dim, 0)
    if isinstance(inner, TransformedDistribution):
        return _draws(proposal, 10)  # an affine map, for one, claims all numbers as its support
    try:
        transform = biject_to(proposal.support)
    except NotImplementedError:
        return None
    size = transform.inverse_shape(proposal.event_shape)
    ends = torch.linspace(-8.0, 8.0, 9, dtype=torch.float64)
    ends = ends.reshape(-1, *[1] * (len(proposal.batch_shape) + len(size)))
    return transform(ends.expand(*ends.shape[: 1 + len(proposal.batch_shape)], *size))


def _likely_values(discrete: Any) -> Tensor:
    """Of a finite support all values, of others draws and, of numbers, 0 to 20; unlikely ones are redrawn."""
    try:
        values = discrete.enumerate_support()
        drawn = _draws(discrete, len(values))
    except NotImplementedError:
        drawn = _draws(discrete, 21)
        if discrete.event_dim:
            return drawn
        values = torch.arange(21).to(drawn).reshape(-1, *[1] * (drawn.dim() - 1)).expand_as(drawn)
        values = values.where(discrete.support.check(values), drawn)
    likely = discrete.log_prob(values) > UNLIKELY
    return values.where(likely[(..., *[None] * discrete.event_dim)], drawn)


def _draws(distribution: Any, number: int) -> Tensor:
    with fork_rng():
        return distribution.sample((number,))


def is_scalar_choice(distribution: Any) -> bool:
    return getattr(distribution, "has_enumerate_support", False) and distribution.event_dim == 0


class AnyChoice(Messenger):
    """Inside, a discrete latent takes any value that is possible where it is drawn first, and keeps it.

    Args:
        chance: Uniform random numbers by site, made where there are none.
        shift: How many values further, so that of two shifts one has an object where the other has none.
    """

    def __init__(self, chance: dict[str, Tensor], shift: int) -> None:
        super().__init__()
        self.chance, self.shift = chance, shift
        self.values: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"] or msg["value"] is not None or not is_scalar_choice(fn):
            return
        if name not in self.values:
            self.values[name] = self.choose(name, fn)
        msg["value"] = self.values[name]

    def choose(self, name: str, distribution: Any) -> Tensor:
        values = distribution.enumerate_support(expand=False)
        possible = distribution.log_prob(values) >= UNLIKELY
        if name not in self.chance:
            self.chance[name] = torch.rand(possible.shape[1:], device=values.device)
        count = possible.sum(0).clamp(min=1)
        rank = ((self.chance[name] * count).long() + self.shift) % count
        index = (possible.cumsum(0) > rank).long().argmax(0)
        return values.expand(possible.shape).gather(0, index[None])[0]
