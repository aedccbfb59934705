"""Schedules: plain functions of the number of steps taken."""

import math

__all__ = ["warm_up"]


def warm_up(step: int, *, over: int = 500, start: float = 0.9999, end: float = 0.01) -> float:
    """A probability that moves from ``start`` to ``end`` over the first steps, linearly in its log odds.

    For a presence prior. Before a model knows what an object looks like, an object explains nothing, and
    a guide that may leave all out soon does, for good. So at first nearly every object is there, and
    becomes dear as it becomes useful::

        model.z_pres = Persist(warm_up(0))
        for record in fit(model, guide, batches):
            model.z_pres = Persist(warm_up(record.step))

    Eslami et al. (2016) do not mention it; that they annealed this prior is known from A. Kosiorek's
    account of his re-implementation (2017).
    """
    if over < 1 or not (0 < start < 1 and 0 < end < 1):
        raise ValueError(f"needs over >= 1 and probabilities in (0, 1), got {over}, {start}, {end}")
    first, last = (math.log(p) - math.log1p(-p) for p in (start, end))
    return 1 / (1 + math.exp(-(first + (last - first) * min(1.0, step / over))))
