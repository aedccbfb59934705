"""What is asked of a model and its guide before images are taken apart."""

import warnings
from collections.abc import Callable

from torch import nn

__all__ = ["TrainingModeWarning", "check_ready", "warn_training_mode"]


class TrainingModeWarning(UserWarning):
    """A module is evaluated in training mode, in which it may be less sure than it is, or drop units."""


def check_ready(model: nn.Module, guide: Callable) -> None:
    """Raises a ValueError if the guide is of another model, and warns of modules in training mode."""
    if getattr(guide, "model", model) is not model:
        raise ValueError("this guide is of another model: give the one that it was built from")
    warn_training_mode(model)
    warn_training_mode(guide)


def warn_training_mode(module: Callable) -> None:
    """Warns of a module in training mode."""
    if getattr(module, "training", False):
        name = type(module).__name__
        message = f"{name} is in training mode: call its eval() before"
        warnings.warn(message, TrainingModeWarning, stacklevel=4)
