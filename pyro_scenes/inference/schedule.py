"""Schedules: pure functions of the step, or of the history, for the loop that trains to assign."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from torch.optim import Optimizer

from ..checks import is_whole

__all__ = ["falling", "plateaus", "ramp", "scale_lr", "warm_up"]


def ramp(
    step: int, *, over: int | float, start: int | float = 0.0, end: int | float = 1.0
) -> float:
    """A number that moves linearly from ``start`` to ``end`` over the first ``over`` steps, then stays.

    Example:
        ``elbo.weights = {"z_what": ramp(step, over=3000)}`` lets the codes cost nothing at first.
    """
    _check_numbers(step=step, over=over, start=start, end=end)
    if not over > 0:
        raise ValueError(f"over must be above 0, got {over}")
    return start + (end - start) * min(1.0, step / over)


def warm_up(step: int, *, over: int = 500, start: float = 0.9999, end: float = 0.01) -> float:
    """A probability that moves from ``start`` to ``end`` over the first steps, linearly in its log odds.

    For a presence prior. Before a model knows what an object looks like, an object explains nothing, and
    a guide that may leave all objects out soon does, for good. So at first nearly every object is present
    a priori, and absence becomes likelier as objects become useful::

        for step in training:
            model.z_pres = Persist(warm_up(step))

    Eslami et al. (2016) do not mention it; that they annealed this prior is known from A. Kosiorek's
    account of his re-implementation (2017).
    """
    _check_numbers(step=step, over=over, start=start, end=end)
    if over < 1 or not (0 < start < 1 and 0 < end < 1):
        raise ValueError(f"needs over >= 1 and probabilities in (0, 1), got {over}, {start}, {end}")
    first, last = (math.log(p) - math.log1p(-p) for p in (start, end))
    return 1 / (1 + math.exp(-ramp(step, over=over, start=first, end=last)))


def falling(step: int, steps: int, *, floor: float = 0.01) -> float:
    """A factor for the learning rate: 1 in the first half of the steps, then linearly down to ``floor``."""
    _check_numbers(step=step, steps=steps, floor=floor)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return max(floor, min(1.0, 2 * (steps - step) / steps))


def plateaus(losses: Iterable[float], *, patience: int = 5) -> int:
    """How many times the loss went ``patience`` evaluations without a new minimum.

    The rule of von Kuegelgen et al. (2020, App. C.3): at each plateau the learning rate falls by a factor
    of sqrt(10), and at the fifth the training ends::

        losses = [row["validation_loss"] for row in training.history]
        if plateaus(losses) == 5:
            break
        scale_lr(optim, 10 ** (-plateaus(losses) / 2))

    Args:
        losses: Validation losses so far, in order.
        patience: Evaluations without a new minimum that make a plateau.
    """
    if not isinstance(losses, Iterable):
        raise TypeError(f"losses must be numbers in order, such as a list, got {losses!r:.60}")
    if not is_whole(patience, 1):
        raise ValueError(f"patience must be a whole number from 1 up, got {patience!r:.60}")
    best, waited, count = math.inf, 0, 0
    for loss in losses:
        if not isinstance(loss, Real):
            raise TypeError(f"losses must be numbers, got {loss!r:.60}")
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            waited, count = 0, count + 1
    return count


def scale_lr(optim: Optimizer, factor: float) -> None:
    """Sets the learning rate of each group to ``factor`` times the one that it was constructed with."""
    if not isinstance(optim, Optimizer):
        raise TypeError(f"optim must be a torch optimiser, got {optim!r:.60}")
    _check_numbers(factor=factor)
    if factor < 0:
        raise ValueError(f"factor must be a number from 0 up, got {factor}")
    for group in optim.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def _check_numbers(**numbers: Any) -> None:
    for name, number in numbers.items():
        if not isinstance(number, Real):
            raise TypeError(f"{name} must be a number, got {number!r:.60}")
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, got {number}")
