"""Decoders from a pose's code to an affine map T, and an encoder of images for poses."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .mlp import glorot, mlp

__all__ = ["FreePoseDecoder", "PoseDecoder", "PoseEncoder"]


class PoseDecoder(nn.Module):
    """Decodes a code to an affine map that always has an inverse.

    The code's numbers, scaled, are the window's width, height, rotation (clockwise), shear and centre (x, y)
    on the canvas; a multilayer perceptron of the code is added. The first four are bounded by ``reach``.

    Args:
        hidden: Width of the two hidden layers.
        zoom: Width and height of the canvas before training, in windows.
        reach: Bound on the change of log width and log height, on the rotation in radians, and on the shear.
        spread: Standard deviations of the centre (x, y) before training, for standard Normal codes; in canvas
            coordinates (-1 to 1).
    """

    zoom: Tensor
    reach: Tensor
    unit: Tensor

    def __init__(
        self,
        *,
        hidden: int = 32,
        zoom: Sequence[float] = (1.8, 1.8),
        reach: float = 0.7,
        spread: Sequence[float] = (0.4, 0.4),
    ) -> None:
        super().__init__()
        # Buffers: a checkpoint must keep the constants that decide what a code means.
        self.register_buffer("zoom", torch.tensor([*zoom]))
        self.register_buffer("reach", torch.tensor(float(reach)))
        self.layers = glorot(mlp(6, hidden, hidden, 6, activation=nn.Tanh), last=0.1)
        self.register_buffer("unit", torch.tensor([0.1] * 4 + [*spread]))

    def forward(self, z_where: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 2 3"]:
        raw = self.unit * z_where + self.layers(z_where)
        shape = self.reach * torch.tanh(raw[..., :4] / self.reach)
        width, height, turn, shear = shape.unbind(-1)
        across, down = self.zoom[0] * torch.exp(-width), self.zoom[1] * torch.exp(-height)
        cos, sin = turn.cos(), turn.sin()
        skew = shear * down
        rows = [across * cos + skew * sin, across * sin - skew * cos, -down * sin, down * cos]
        linear = torch.stack(rows, -1).unflatten(-1, (2, 2))
        shift = -(linear * raw[..., None, 4:]).sum(-1, keepdim=True)
        return torch.cat([linear, shift], -1)


class FreePoseDecoder(nn.Module):
    """Decodes a code to any affine map, near the identity before training: f_T of Huang and Murphy (2016).

    The map may be singular: invert it by ``render.inverse``, which guards the determinant.

    Args:
        hidden: Width of the two hidden layers.
    """

    identity: Tensor

    def __init__(self, *, hidden: int = 32) -> None:
        super().__init__()
        self.layers = glorot(mlp(6, hidden, hidden, 6, activation=nn.Tanh), last=0.1)
        self.register_buffer("identity", torch.eye(2, 3))

    def forward(self, z_where: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 2 3"]:
        return self.identity + self.layers(z_where).unflatten(-1, (2, 3))


class PoseEncoder(nn.Module):
    """Encodes an image by two layers of tanh, as in Huang and Murphy (2016, Sec. 4).

    Args:
        image_shape: (C, H, W).
        features: Width of both layers.
    """

    def __init__(self, image_shape: tuple[int, ...], features: int = 64) -> None:
        super().__init__()
        sizes = prod(image_shape), features, features
        self.layers = nn.Sequential(mlp(*sizes, activation=nn.Tanh), nn.Tanh())

    def forward(self, image: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch features"]:
        return self.layers(image.flatten(-3))
