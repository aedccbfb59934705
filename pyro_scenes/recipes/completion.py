"""Pairs that complete digits, given a part of them, and the training of CVAE's baseline."""

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ..base import Guide, Model
from ..inference import falling, fit, scale_lr
from ..models import CVAE, VAEAC, CVAEGuide, VAEACGuide
from ..models.cvae import FirstGuess

__all__ = ["completion_pair", "train_guess"]


def completion_pair(
    kind: str, image_shape: tuple[int, ...], *, code: int = 50, hidden: int = 500
) -> tuple[Model, Guide]:
    """A model and its guide.

    Args:
        kind: ``cvae`` or ``vaeac``.
        image_shape: (C, H, W) of an image.
        code: Size of ``z_what``.
        hidden: Width of the hidden layers.

    Raises:
        ValueError: Another kind.
    """
    shape = tuple(image_shape)
    if kind == "cvae":
        cvae = CVAE(shape, code, hidden=hidden)
        return cvae, CVAEGuide(cvae, hidden=hidden)
    if kind != "vaeac":
        raise ValueError(f"kind must be cvae or vaeac, got {kind!r}")
    vaeac = VAEAC(shape, code, hidden=hidden)
    return vaeac, VAEACGuide(vaeac, hidden=hidden)


def train_guess(
    model: CVAE, batches: Iterable[tuple[Tensor, Tensor]], steps: int, *, lr: float = 1e-3
) -> None:
    """Trains the baseline network alone, by its likelihood.

    Args:
        model: Its ``guess`` is a module.
        batches: Of images and masks; they may go on for ever.
        steps: How many are taken.
        lr: Learning rate of Adam; it falls in the second half.
    """
    optim = torch.optim.Adam(model.guess.parameters(), lr)
    with pyro.validation_enabled(False):
        for record in fit(FirstGuess(model), _nothing, batches, elbo=Trace_ELBO(), optim=optim):
            scale_lr(optim, falling(record.step, steps))
            if record.step >= steps:
                break


def _nothing(images: Any, seen: Any) -> None:
    """The guide of a model without latents."""
