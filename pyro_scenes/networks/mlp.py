"""Multi-layer perceptrons, and the logit of certainty."""

from itertools import pairwise
from typing import TypeVar

from torch import nn

__all__ = ["CERTAIN", "glorot", "mlp"]

#: A logit whose probability no float tells from 1, and that stays finite times any weight.
CERTAIN = 100.0

Module = TypeVar("Module", bound=nn.Module)


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes, input first, with an activation between (not after) them."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), activation()]
    return nn.Sequential(*layers[:-1])


def glorot(module: Module, *, last: float = 1.0) -> Module:
    """Draws the weights of all linear layers anew (Glorot and Bengio, 2010, Eq. 16) and sets biases to 0.

    Args:
        module: The module to change; it is returned.
        last: Factor of the last layer's weights. Near 0, the module's output starts near 0.
    """
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    linear[-1].weight.data.mul_(last)
    return module
