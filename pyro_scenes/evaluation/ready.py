"""What is asked of a model and its guide before images are taken apart."""

import warnings

from torch import nn

__all__ = ["TrainingModeWarning", "check_ready"]


class TrainingModeWarning(UserWarning):
    """A module in training mode is evaluated: what it draws may differ from what it would draw later."""


def check_ready(model: nn.Module, guide: nn.Module) -> None:
    """Raises a ValueError if the guide is of another model, and warns of modules in training mode."""
    if getattr(guide, "model", model) is not model:
        raise ValueError("this guide is of another model: give the one that it was built from")
    for name, module in (("model", model), ("guide", guide)):
        if getattr(module, "training", False):
            warnings.warn(
                f"the {name} is in training mode: call {name}.eval() before",
                TrainingModeWarning,
                stacklevel=3,
            )
