"""Multi-layer perceptrons."""

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes, input first, with an activation between (not after) them.

    Example:
        ``mlp(784, 200, 50)`` maps ``(..., 784)`` to ``(..., 50)`` through one hidden layer of 200.
    """
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), activation()]
    return nn.Sequential(*layers[:-1])
