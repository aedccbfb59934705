"""Training on images of which some latents are known.

Siddharth et al. (2017), https://arxiv.org/abs/1706.00400
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

import pyro
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..pinned import CERTAIN
from .known import Given, Known

__all__ = ["semi_supervise"]


def semi_supervise(
    model: Callable, guide: Callable, *, alpha: float = 20.0
) -> tuple[Callable, Callable]:
    """A pair that is called with :class:`Known` batches, for :func:`fit`, SVI and every ELBO.

    A known latent y is a certain proposal: the guide draws the known value with log q = 0, later sites see
    it, and the model scores it by its prior. So of a labelled image the ELBO is the mean over q(z | x, y) of
    ``log p(x, y, z) - log q(z | x, y)``, and of one without labels it is what it was. Sums over discrete
    latents (``TraceEnum_ELBO``, ``Summed``) stay exact.

    That alone does not train q(y | x) on labels. ``alpha log q(y | x)`` is added for each labelled image,
    where q is the guide as it is without labels. Of a site that comes after unknown latents z it is log q(y | x, z)
    at one draw of them, in expectation a lower bound; those that are not reparameterised get no gradient
    from it. It is the factor ``known`` of the model, outside the plate of particles: all copies of an image
    have the same, so it adds to the bound of :class:`Importance` and :class:`Summed`, as to the ELBO.

    Args:
        model: Any Pyro model of images, called as ``model(images)``.
        guide: Its guide, called as ``guide(images)``.
        alpha: What a nat of log q(y | x) counts beside a nat of log p(image), from 0 up. A label has a few
            nats, a right explanation of its object dozens: with 1 a label decides little.

    Returns:
        Model and guide as functions of a batch. For optimisers, checkpoints and evaluation take the two
        themselves, such as ``adam(model, guide)``; the loss of the pair includes the factor ``known``.

    Raises:
        TypeError: Not functions; or, when called, not a :class:`Known`.
        ValueError: ``alpha`` is outside its range; or, when called, what is known fits no site of the guide.

    Example:
        Counts of some images, -1 for the others::

            pair = semi_supervise(model, guide)
            batches = (Known(x, presences(counts, model.steps)) for x, counts in stream)
            elbo = TraceEnum_ELBO(max_plate_nesting=1)
            for record in fit(*pair, batches, elbo=elbo, optim=adam(model, guide)): ...
    """
    for name, program in (("model", model), ("guide", guide)):
        if isinstance(program, type) or not callable(program):
            raise TypeError(f"{name} must be a module or a function, got {program!r:.60}")
    if not (isinstance(alpha, Real) and 0 <= alpha < float("inf")):
        raise ValueError(f"alpha must be a number from 0 up, got {alpha!r:.60}")

    def known_model(batch: Known) -> Any:
        if alpha and len(_checked(batch).labelled):
            log_q, plates = knowledge(guide, batch)
            with _In(plates):
                pyro.factor("known", alpha * log_q)
        return model(_checked(batch).images)

    def known_guide(batch: Known) -> None:
        with Given(_checked(batch)):
            guide(batch.images)

    return known_model, known_guide


def knowledge(guide: Callable, batch: Known) -> tuple[Float[Tensor, " n"], tuple]:
    """log q of what is known of each image, in nats, at one draw of the rest; and the plate of the images.

    The draw is the guide's own, seen by no effect handler outside. Copies of an image have the same number;
    it is 0 where nothing is known, and -30 of a value that the guide takes for impossible.
    """
    once, size = batch.labelled_once(), len(batch)
    with poutine.block(hide_fn=lambda msg: msg["type"] == "sample"), Given(once):
        trace = poutine.trace(guide).get_trace(once.images)
    sites, total = [trace.nodes[name] for name in once.given], batch.images.new_zeros(len(once))
    for site in sites:
        log_q = site["fn"].base_dist.log_prob(site["value"])
        # A value that is impossible for the guide has no gradient, and would make the loss infinite.
        log_q = log_q.masked_fill(log_q.isneginf(), -CERTAIN)
        total = total + log_q.masked_fill(~site["fn"].known, 0.0)
    each = total.new_zeros(size).index_copy(0, batch.labelled, total.repeat(batch.copies))
    frames = (frame for frame in sites[0]["cond_indep_stack"] if frame.vectorized)
    return each, tuple(frame._replace(size=size, full_size=size) for frame in frames)


class _In(Messenger):
    """Inside, sites are in these plates, which the model has not entered yet."""

    def __init__(self, plates: tuple) -> None:
        super().__init__()
        self.plates = plates

    def _pyro_sample(self, msg: Any) -> None:
        msg["cond_indep_stack"] = (*self.plates, *msg["cond_indep_stack"])


def _checked(batch: Any) -> Known:
    if not isinstance(batch, Known):
        raise TypeError(
            f"this pair is called with batches Known(images, given), got {type(batch).__name__}: see "
            "semi_supervise"
        )
    return batch
