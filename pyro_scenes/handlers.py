"""Effect handlers: change what a model's or a guide's sample sites do, from outside."""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Shaped
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution

from .pinned import Pinned
from .random import fork_rng

__all__ = ["expected", "fixed", "point_estimate", "rows_first", "unmasked"]


# About loc, and torch knows no icdf.
_SYMMETRIC = (
    dist.LowRankMultivariateNormal,
    dist.MultivariateNormal,
    dist.MultivariateStudentT,
    dist.StudentT,
    dist.VonMises,
)


class expected(Messenger):  # noqa: N801  # a handler is named like a function, as Pyro's are
    """Inside, latents are not drawn: each takes its distribution's :func:`point_estimate`, in turn.

    Auxiliary sites of a guide (``infer={"is_auxiliary": True}``) are no latents, and are drawn.

    Example:
        ``with expected(): guide(images)``
    """

    def _pyro_sample(self, msg: Any) -> None:
        fixed = msg["is_observed"] or msg["value"] is not None or site_is_subsample(msg)
        if not fixed and not msg["infer"].get("is_auxiliary"):
            msg["value"] = point_estimate(msg["fn"])


class fixed(Messenger):  # noqa: N801
    """Inside, sites draw, and then have these values, which what is drawn later sees. Used outside a trace.

    So a trace has the density of these values; and what is not fixed is drawn given them.

    Args:
        values: By site, a row for each image first, as of :func:`rows_first`.
        redrawn: By site, the rows in which a draw is kept.

    Example:
        ``with fixed({"z_pres_0": torch.ones(n)}): guide(images)``
    """

    def __init__(
        self,
        values: Mapping[str, Shaped[Tensor, "n *rest"]],
        redrawn: Mapping[str, Bool[Tensor, " n"]] | None = None,
    ) -> None:
        super().__init__()
        self.values, self.redrawn = values, {} if redrawn is None else redrawn

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.values or msg["is_observed"]:
            return
        value, drawn = self.values[name], rows_first(msg)
        if name in self.redrawn:
            rows = self.redrawn[name].reshape(-1, *[1] * (drawn.dim() - 1))
            value = drawn.where(rows, value)
        msg["value"] = value.movedim(0, -1 - msg["fn"].event_dim)


def rows_first(site: Any) -> Shaped[Tensor, "n *rest"]:
    """The value of a site of a trace, or of a message, with the dimension of the images first."""
    return site["value"].movedim(-1 - site["fn"].event_dim, 0)


class unmasked(Messenger):  # noqa: N801
    """Inside, latents of absent objects have their prior's density, not none. log p(image) stays the same.

    For what draws all latents at once, whatever is present: NUTS, Pyro's AutoGuides. Under AIR's masks an
    absent object's density is flat, so the posterior is improper, and a guide without masks has no bound.

    Example:
        ``NUTS(config_enumerate(unmasked()(model)), max_plate_nesting=1)``
    """

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["mask"] = None


def point_estimate(distribution: Distribution) -> Tensor:
    """The median of a continuous distribution, of each number apart; the mode of a discrete one.

    Where no formula is known (a Gamma, a mixture), it is the median of 999 draws from a random stream of
    its own, the same at each call: it errs by 4 % of a normal distribution's scale. Of a transformed
    distribution it is the transform of the base distribution's estimate. A family whose numbers constrain
    each other, such as those on a simplex, gives its mean. A value that is known is the estimate.

    Raises:
        NotImplementedError: A family without what it needs of these.
    """
    found: Any = distribution
    if isinstance(found, Pinned):
        return found.fill(point_estimate(found.base_dist))
    while hasattr(found, "base_dist") and not isinstance(found, TransformedDistribution):
        found = found.base_dist  # wrapped by .to_event, .mask or .expand
    try:
        value = _mode(found) if found.support.is_discrete else _median(found)
        return value.expand(distribution.batch_shape + distribution.event_shape)
    except NotImplementedError as error:
        raise NotImplementedError(
            f"{type(found).__name__} has no median or mode that is known here: use a family with mean, "
            "mode or enumerate_support"
        ) from error


def _mode(found: Any) -> Tensor:
    if not found.has_enumerate_support:
        return found.mode
    values = found.enumerate_support()
    best = found.log_prob(values).argmax(0)
    index = best.reshape(1, *best.shape, *[1] * found.event_dim)
    return values.gather(0, index.expand(1, *values.shape[1:]))[0]


def _median(found: Any) -> Tensor:
    if isinstance(found, _SYMMETRIC):
        return found.loc
    if isinstance(found, dist.Delta):
        return found.v
    if hasattr(found, "parts"):  # several families in one vector
        return torch.cat([point_estimate(part) for part in found.parts], -1)
    transforms = getattr(found, "transforms", [])
    known = type(found).icdf is not TransformedDistribution.icdf
    if known or all(transform.bijective for transform in transforms):  # |x| is not
        try:
            return found.icdf(torch.tensor(0.5))
        except NotImplementedError:
            pass
        if transforms and (_is_free(found) or any(t.codomain.event_dim for t in transforms)):
            value = point_estimate(found.base_dist)
            for transform in transforms:
                value = transform(value)
            return value
    return _median_of_draws(found) if _is_free(found) else found.mean


def _is_free(found: Any) -> bool:
    """Whether the support constrains each number on its own."""
    support = found.support
    while hasattr(support, "base_constraint"):  # of a vector, or of a mixture
        support = support.base_constraint
    return support.event_dim == 0


def _median_of_draws(found: Any) -> Tensor:
    with fork_rng(0):
        return (found.rsample if found.has_rsample else found.sample)((999,)).median(0).values
