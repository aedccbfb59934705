"""When a training of sprite scenes sets its experts apart."""

import warnings
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from ..models import ECON, SpritesGuide
from .sprites import colour_experts, separate_experts

__all__ = ["SEPARATE", "apart_at", "set_experts_apart"]

#: The step at which experts are separated: attention finds objects, and experts do not differ yet.
SEPARATE = 100
#: Images of which experts are coloured.
COLOURED = 300


def apart_at(guide: Any, steps: int) -> dict[str, int]:
    """The steps at which :func:`set_experts_apart` does so, by what it does; none of another guide.

    Args:
        steps: Those of the whole training.
    """
    times = {"experts set apart": SEPARATE, "their colours fitted": _half_time(steps)}
    return {
        name: step
        for name, step in times.items()
        if step < steps and isinstance(guide, SpritesGuide)
    }


def set_experts_apart(
    step: int,
    steps: int,
    model: ECON,
    guide: SpritesGuide,
    images: Float[Tensor, "n c h w"],
    optim: Optimizer,
) -> None:
    """Calls :func:`separate_experts` at step 100, and :func:`colour_experts` at half time, or at step 101.

    A function of the step alone. It changes weights: call it before each step, after what saves a checkpoint,
    so that a resumed training repeats it. Experts that cannot be separated are left as they are, with a
    warning.

    Args:
        step: The number of steps taken.
        steps: That of the whole training. After the last step nothing is changed.
        images: A thousand or so.
    """
    if step == SEPARATE < steps:
        try:
            separate_experts(model, guide, images, optim)
        except ValueError as error:
            warnings.warn(f"experts are left as they are: {error}", stacklevel=2)
    if step == _half_time(steps) < steps:
        colour_experts(model, guide, images[:COLOURED], optim)


def _half_time(steps: int) -> int:
    return max(SEPARATE + 1, steps // 2)
