"""Multilayer perceptrons from a code to a glimpse, and from a glimpse to features."""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .mlp import mlp

__all__ = ["GlimpseDecoder", "GlimpseEncoder"]


class GlimpseDecoder(nn.Module):
    """Decodes a code to a glimpse in [0, 1].

    Args:
        code: Size of the code.
        window: (C, h, w) of a glimpse.
        hidden: Widths of the hidden layers.
        bias: Added to the logits of the pixels. If it is negative, untrained glimpses are dark and change the
            image little, so the guide does not learn to leave every object out.
    """

    def __init__(
        self,
        code: int,
        window: tuple[int, ...],
        *,
        hidden: tuple[int, ...] = (200,),
        bias: float = -2
    ) -> None:
        super().__init__()
        self.window, self.bias = tuple(window), bias
        self.layers = mlp(code, *hidden, prod(window))

    def forward(self, z_what: Float[Tensor, "*batch code"]) -> Float[Tensor, "*batch c h w"]:
        return torch.sigmoid(self.layers(z_what) + self.bias).unflatten(-1, self.window)


class GlimpseEncoder(nn.Module):
    """Encodes a glimpse to features, the input of a proposal.

    Args:
        window: (C, h, w) of a glimpse.
        features: Width of the last layer.
        hidden: Widths of the layers before it.
    """

    def __init__(
        self, window: tuple[int, ...], features: int = 200, *, hidden: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(mlp(prod(window), *hidden, features), nn.ReLU())

    def forward(self, glimpse: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch features"]:
        return self.layers(glimpse.flatten(-3))
