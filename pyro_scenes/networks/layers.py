"""Decoders from codes to whole layers, of the size of an image.

All return logits (n, C + 1, H, W), of the colours and last of the opacity: logits stay exact where an opacity
is nearly 0 or 1. With ``stride``, only every ``stride``-th pixel is made, down and across.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .mlp import CERTAIN, mlp
from .pixels import coordinates, subsample, typical_colour

__all__ = ["BroadcastDecoder", "EmptyDecoder", "FlatDecoder", "SpriteDecoder"]

#: Opacity logit of a background.
OPAQUE = 20.0
#: The largest loss, in nats, of a pixel in a region that the sprite does not cover.
MAX_LOSS = 8.0
#: The posterior mean of a place is over places within this distance of the mode.
NEAR = 0.3
#: Standard deviation of a colour's logits, given its code.
NOISE = 0.01


class BroadcastDecoder(nn.Module):
    """Convolutions of the code and the pixel's coordinates at every pixel (Watters et al., 2019).

    Args:
        code: Size of the code.
        image_shape: (C, H, W) of the layer.
        features: Channels of each block: a 3 x 3 convolution and ReLU.
        blocks: Number of blocks.
    """

    grid: Tensor

    def __init__(
        self, code: int, image_shape: tuple[int, ...], *, features: int = 32, blocks: int = 3
    ) -> None:
        super().__init__()
        sizes = [code + 2, *[features] * blocks]
        layers: list[nn.Module] = []
        for i in range(blocks):
            layers += [nn.Conv2d(sizes[i], features, kernel_size=3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(features, image_shape[0] + 1, kernel_size=1))
        self.register_buffer("grid", coordinates(image_shape), persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"]) -> Float[Tensor, "n c h w"]:
        size = self.grid.shape[1:]
        codes = z_what[..., None, None].expand(*z_what.shape, *size)
        return self.layers(torch.cat([codes, self.grid.expand(len(z_what), 2, *size)], 1))


class SpriteDecoder(nn.Module):
    """One shape, at any place, in any flat colour.

    The first two numbers of the code are the place: a standard Normal code is uniform within ``reach``, a
    parameter, of the middle. The opacity is a network of a pixel's offset from the place and of the next
    ``shape`` numbers. The colour's logits are linear in all numbers after the place.

    Args:
        code: Size of the code, at least 3; 2 plus the number of channels for any colour.
        image_shape: (C, H, W) of the layer.
        shape: How many numbers the shape depends on. 0: the shape is fixed.
        hidden: Width of the three hidden layers.
        bias: Of the opacity's logits. If negative, layers are nearly transparent before training.
        sharpness: Factor of the offsets: the larger, the finer are shapes before training.
    """

    grid: Tensor
    bias: Tensor
    sharpness: Tensor

    def __init__(
        self,
        code: int,
        image_shape: tuple[int, ...],
        *,
        shape: int = 0,
        hidden: int = 32,
        bias: float = -2.0,
        sharpness: float = 6.0,
    ) -> None:
        super().__init__()
        if code < 3 or not 0 <= shape <= code - 2:
            raise ValueError(
                "a sprite's code is 2 numbers for the place and 1 or more for the colour: code must be 3 or "
                f"more, shape from 0 to code - 2, got code={code}, shape={shape}"
            )
        self.code, self.shape = code, shape
        self.register_buffer("bias", torch.tensor(bias))  # in checkpoints, as the next
        self.register_buffer("sharpness", torch.tensor(sharpness))
        self.reach = nn.Parameter(torch.tensor(0.8))
        spare = code - 2 - shape >= image_shape[0]
        self.colour = _colour(code - 2, image_shape[0], after=shape if spare else 0)
        self.opacity = mlp(2 + shape, hidden, hidden, hidden, 1)
        self.register_buffer("grid", coordinates(image_shape), persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"], stride: int = 1) -> Float[Tensor, "n c h w"]:
        place = self.reach * torch.erf(z_what[:, :2] / 2**0.5)
        grid = subsample(self.grid, stride)
        offsets = self.sharpness * (grid - place[..., None, None]).movedim(1, -1)
        shape = z_what[:, None, None, 2 : 2 + self.shape].expand(*offsets.shape[:-1], self.shape)
        opacity = self.bias + self.opacity(torch.cat([offsets, shape], -1)).movedim(-1, 1)
        return torch.cat([_flat(self.colour(z_what[:, 2:]), opacity), opacity], 1)

    def guess(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n code"]:
        """An estimate of the code from regions: the place of :meth:`match` and the typical colour."""
        with torch.no_grad():
            place = self.match(regions, scopes)
            colour = typical_colour(images, regions)
        place = torch.erfinv((place / self.reach).clamp(-0.95, 0.95)) * 2**0.5
        return torch.cat([place, _code_of(colour, self.colour)], 1)

    def match(
        self, regions: Float[Tensor, "n 1 h w"], scopes: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 2"]:
        """The posterior mean of the place given the regions, under a uniform prior, near the mode.

        log p(region r | place) is the sum of r log m + (scope - r) log (1 - m), a cross-correlation with the
        sprite's mask m.
        """
        height, width = self.grid.shape[1:]
        steps = _offsets(width, self.grid), _offsets(height, self.grid)
        offsets = torch.stack(torch.meshgrid(*steps, indexing="xy"), -1)
        shape = offsets.new_zeros(*offsets.shape[:2], self.shape)
        opacity = self.bias + self.opacity(torch.cat([self.sharpness * offsets, shape], -1))[..., 0]
        # Outside the kernel, the loss is MAX_LOSS.
        inside = functional.logsigmoid(opacity).clamp(min=-MAX_LOSS) + MAX_LOSS
        kernel = torch.stack([inside, functional.logsigmoid(-opacity)])[None]
        scores = _correlate(torch.cat([regions, scopes - regions], 1), kernel).flatten(1)
        places = self.grid.flatten(1).mT
        # The mean of two modes would be neither.
        far = torch.cdist(places[scores.argmax(1)], places) > NEAR
        return scores.masked_fill(far, -torch.inf).softmax(1) @ places


class EmptyDecoder(nn.Module):
    """An empty layer: transparent everywhere, whatever the code.

    Args:
        image_shape: (C, H, W) of the layer.
    """

    logits: Tensor

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        logits = torch.zeros(image_shape[0] + 1, *image_shape[1:])
        logits[-1] = -CERTAIN
        self.register_buffer("logits", logits, persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"]) -> Float[Tensor, "n c h w"]:
        return self.logits.expand(len(z_what), *self.logits.shape)


class FlatDecoder(nn.Module):
    """A background: opaque, of one colour.

    Args:
        code: Size of the code; at least the number of channels for any colour.
        image_shape: (C, H, W) of the layer.
    """

    opaque: Tensor

    def __init__(self, code: int, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.colour = _colour(code, image_shape[0])
        self.register_buffer("opaque", torch.full((1, *image_shape[1:]), OPAQUE), persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"], stride: int = 1) -> Float[Tensor, "n c h w"]:
        opaque = subsample(self.opaque, stride)
        opaque = opaque.expand(len(z_what), *opaque.shape)
        return torch.cat([_flat(self.colour(z_what), opaque), opaque], 1)

    def guess(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n code"]:
        """The code of the regions' typical colour."""
        with torch.no_grad():
            colour = typical_colour(images, regions)
        return _code_of(colour, self.colour)


def _correlate(
    maps: Float[Tensor, "n c h w"], kernel: Float[Tensor, "1 c odd1 odd2"]
) -> Float[Tensor, "n h w"]:
    """Cross-correlation of maps with a large kernel, by Fourier transforms."""
    height, width = maps.shape[2:]
    half = [size // 2 for size in kernel.shape[2:]]
    padded = [height + 2 * half[0], width + 2 * half[1]]  # the transform wraps around
    spectrum, filters = (torch.fft.rfft2(x, s=padded) for x in (maps, kernel))
    result = torch.fft.irfft2((spectrum * filters.conj()).sum(1), s=padded)
    return result.roll(half, (1, 2))[:, :height, :width]


def _offsets(size: int, like: Tensor) -> Tensor:
    """Offsets between the pixels of a row, in its half widths, with the device and dtype of ``like``."""
    pixels = torch.arange(-(size // 2), size // 2 + 1, device=like.device, dtype=like.dtype)
    return pixels * 2 / size


def _colour(code: int, channels: int, after: int = 0) -> nn.Linear:
    """A linear layer whose channels start as the code's numbers behind the first ``after``."""
    layer = nn.Linear(code, channels)
    nn.init.zeros_(layer.weight)
    nn.init.eye_(layer.weight[:, after:])
    nn.init.zeros_(layer.bias)
    return layer


def _code_of(colour: Float[Tensor, "n c"], layer: nn.Linear) -> Float[Tensor, "n code"]:
    """The posterior mean of a standard Normal code given its colours, whose logits have noise ``NOISE``."""
    logits = torch.logit(colour, eps=0.01) - layer.bias
    covariance = layer.weight @ layer.weight.mT
    noise = NOISE**2 * torch.ones_like(covariance[0])
    # solve and pinv check for errors, for which the host waits for a GPU.
    return torch.linalg.solve_ex(covariance + noise.diag(), logits.mT).result.mT @ layer.weight


def _flat(colour: Tensor, like: Tensor) -> Tensor:
    return colour[..., None, None].expand(*colour.shape, *like.shape[2:])
