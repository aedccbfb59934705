"""Effect handlers: change what a model's or a guide's sample sites do, from outside."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import TransformedDistribution

__all__ = ["expected", "point_estimate"]


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


def point_estimate(distribution: Distribution) -> Tensor:
    """The median of a continuous distribution, the mode of a discrete one.

    For a transformed distribution it is the transform of the base distribution's medians. A family without a
    known median gives its mean.
    """
    found: Any = distribution
    while hasattr(found, "base_dist") and not isinstance(found, TransformedDistribution):
        found = found.base_dist  # wrapped by .to_event or .mask
    return _mode(found) if found.support.is_discrete else _median(found)


def _mode(found: Any) -> Tensor:
    values = found.enumerate_support()
    best = found.log_prob(values).argmax(0)
    index = best.reshape(1, *best.shape, *[1] * found.event_dim)
    return values.gather(0, index.expand(1, *values.shape[1:]))[0]


def _median(found: Any) -> Tensor:
    if isinstance(found, dist.StudentT):
        return found.loc  # its mean is not finite for one degree of freedom
    if hasattr(found, "parts"):  # several families in one vector
        return torch.cat([point_estimate(part) for part in found.parts], -1)
    try:
        return found.icdf(torch.tensor(0.5))
    except NotImplementedError:
        pass
    if not isinstance(found, TransformedDistribution):
        return found.mean
    value = point_estimate(found.base_dist)
    for transform in found.transforms:
        value = transform(value)
    return value
