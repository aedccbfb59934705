"""Several draws for each image. A particle is one more image: there is no second plate.

A batch of n images is repeated K times, and model and guide run once on its K n rows. So every pair works
whose images are independent of each other, in one plate at dim -1. Networks that compare the images of a
batch, such as a BatchNorm in training, see K n of them.
"""

import math
from collections.abc import Callable, Collection, Mapping
from numbers import Number
from typing import Any

from jaxtyping import Float
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .random import with_random_state

__all__ = [
    "by_image",
    "count_images",
    "drawn_values",
    "image_log_probs",
    "is_counted",
    "log_mean_exp",
    "repeat",
    "run_again",
]


def count_images(args: tuple, kwargs: Mapping[str, Any] | None = None) -> int:
    """n of a batch: the length of its first part."""
    parts = [*args, *(kwargs or {}).values()]
    if not parts or not hasattr(parts[0], "__len__") or len(parts[0]) == 0:
        raise TypeError("a batch must have images: give at least one, loss(model, guide, images)")
    return len(parts[0])


def repeat(
    times: int, args: tuple, kwargs: Mapping[str, Any] | None = None
) -> tuple[tuple, dict[str, Any]]:
    """A batch several times over: all n rows, then all n rows again. Row k n + i is particle k of image i.

    Args:
        times: K, from 1 up.
        args: What model and guide are called with: tensors (n, ...), and batches of other kinds with
            ``len()`` and a method ``repeat(times)`` of this order. Numbers and None are the same for all.
        kwargs: The same by keyword.

    Raises:
        TypeError: A part is none of these, such as a list or an array.
        ValueError: A part does not have a row for each image.
    """
    size = count_images(args, kwargs)
    repeated = tuple(_repeat(part, times, size) for part in args)
    return repeated, {name: _repeat(part, times, size) for name, part in (kwargs or {}).items()}


def _repeat(part: Any, times: int, size: int) -> Any:
    if part is None or isinstance(part, Number) or (isinstance(part, Tensor) and not part.dim()):
        return part
    # The repeat of an array is of another order: each row several times, then the next.
    own = hasattr(part, "repeat") and hasattr(part, "__len__") and not hasattr(part, "__array__")
    if not (isinstance(part, Tensor) or own):
        raise TypeError(
            f"a batch for several particles must be of tensors (n, ...), got {type(part).__name__}: give "
            "torch.as_tensor(...), or an object with len() and repeat(times)"
        )
    if len(part) != size:
        raise ValueError(
            f"a batch of {size} images has a part with {len(part)} rows: it must have one for each image"
        )
    return part.repeat(times, *[1] * (part.dim() - 1) if isinstance(part, Tensor) else ())


def image_log_probs(
    trace: poutine.Trace, size: int, names: Collection[str] | None = None
) -> Float[Tensor, " n"]:
    """log p, or log q, of each image: the sum over a trace's sites, in nats.

    Args:
        size: n, particles included.
        names: Only these sites. Default: all.

    Raises:
        ValueError: A site is of all images at once.
    """
    trace.compute_log_prob()
    total: Any = 0.0
    for name, site in trace.nodes.items():
        if is_counted(site) and (names is None or name in names):
            total = total + by_image(name, site["log_prob"], size)
    return total


def is_counted(site: Any) -> bool:
    """Whether a site of a trace has a log probability: no parameter, subsample or deterministic site."""
    return (
        site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    )


def by_image(name: str, log_prob: Float[Tensor, "*batch"], size: int) -> Float[Tensor, " n"]:
    """Summed over all dimensions of a site's batch, as of pixels, but the last, that of the images."""
    if (log_prob.shape[-1] if log_prob.dim() else 1) != size:
        raise ValueError(
            f"{name} is of all images at once: its batch shape is {tuple(log_prob.shape)}, for {size} "
            'images. Draw it inside pyro.plate("images", len(images), dim=-1)'
        )
    return log_prob.flatten(0, -2).sum(0) if log_prob.dim() > 1 else log_prob.reshape(size)


def log_mean_exp(log_weights: Float[Tensor, "particles *n"]) -> Float[Tensor, "*n"]:
    """The logarithm of the mean weight over particles."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def drawn_values(trace: poutine.Trace) -> dict[str, Tensor]:
    """What a guide drew, by site, auxiliary draws included: see :func:`run_again`."""
    sites = {name: trace.nodes[name] for name in trace.stochastic_nodes}
    return {name: site["value"] for name, site in sites.items() if not site_is_subsample(site)}


class _At(Messenger):
    """Sites draw, and then have other values. Used outside a trace, which then records these.

    A replay would not let them draw, so all that the guide draws later would be from other random numbers.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["value"] = self.values.get(msg["name"], msg["value"])


def run_again(
    guide: Callable, values: Mapping[str, Tensor], state: dict[str, Any], *args: Any, **kwargs: Any
) -> poutine.Trace:
    """The trace of a guide at given values of its sites, with the random numbers of an earlier run.

    So log q is that of the same proposal, also where a guide draws what is no site, such as candidates or
    dropout. What it draws between sites must not depend on their values. Random state is left as it was.

    Args:
        values: By site, at least those that are to differ; :func:`drawn_values` has all. Tensors that
            require a gradient get one, through later sites as well.
        state: :func:`pyro_scenes.random.random_state` from before the earlier run.

    Example:
        ::

            state = random_state()
            values = drawn_values(poutine.trace(guide).get_trace(images))
            again = run_again(guide, values, state, images)
    """
    with with_random_state(state), _At(values):
        return poutine.trace(guide).get_trace(*args, **kwargs)
