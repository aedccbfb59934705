"""Multilayer perceptrons, their initialisation, and the logit of a certain event."""

from itertools import pairwise
from typing import TypeVar

from torch import nn

__all__ = ["CERTAIN", "glorot", "mlp"]

#: The logit of a certain event: its probability rounds to 1, and its product with a weight is finite.
CERTAIN = 100.0

Module = TypeVar("Module", bound=nn.Module)


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these sizes, input first, with an activation between them (none after the last)."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), activation()]
    return nn.Sequential(*layers[:-1])


def glorot(module: Module, *, last: float = 1.0) -> Module:
    """Redraws the weights of all linear layers (Glorot and Bengio, 2010, Eq. 16) and sets biases to 0.

    Args:
        module: Changed in place, and returned.
        last: Factor of the last linear layer's weights. Near 0, the module's output starts near 0.
    """
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    linear[-1].weight.data.mul_(last)
    return module
