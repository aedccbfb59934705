"""From a pose's code to an affine transform, and from an image to where something is."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .mlp import glorot, mlp

__all__ = ["FreePoseDecoder", "PoseDecoder", "PoseEncoder"]


class PoseDecoder(nn.Module):
    """Decodes ``(..., 6)`` to an affine map ``(..., 2, 3)`` that always has an inverse.

    The six numbers are width, height, rotation (clockwise), shear, and the centre (x, y) of the window on
    the canvas; to each, a multilayer perceptron of all six is added. The first four stay within ``reach`` of
    their start; the centre is free. The centres of standard Normal codes have standard deviation ``spread``,
    so that they cover the canvas from the start.

    Args:
        hidden: Width of the two hidden layers.
        zoom: The canvas is this many windows wide, and high, to start with.
        reach: Bound on the logarithms of width and height relative to that, on the rotation in radians,
            and on the shear.
        spread: Standard deviations of the centres (x, y), in canvas coordinates (-1 to 1).
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
        # Buffers, as a checkpoint must keep the constants that decide what a code means.
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
    """Decodes ``(..., 6)`` to any affine map ``(..., 2, 3)``, near the identity at first.

    This is f_T of Huang and Murphy (2016). It may be singular: invert it by the guarded ``render.inverse``.

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
    """Encodes an image ``(..., *image_shape)`` to ``(..., features)``: two layers of tanh.

    As in Huang and Murphy (2016).

    Args:
        image_shape: Shape ``(C, H, W)`` of an image.
        features: Width of both layers.
    """

    def __init__(self, image_shape: tuple[int, ...], features: int = 64) -> None:
        super().__init__()
        sizes = prod(image_shape), features, features
        self.layers = nn.Sequential(mlp(*sizes, activation=nn.Tanh), nn.Tanh())

    def forward(self, image: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch features"]:
        return self.layers(image.flatten(-3))
