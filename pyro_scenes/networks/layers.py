"""From codes to whole layers: pictures of an image's size, of which each pixel has its own logits.

All make logits ``(n, channels + 1, H, W)``: of colours, and last of the opacity. Their sigmoids are in
[0, 1]; logits, because their differences stay exact where an opacity is all but 0 or 1. With ``stride`` they
make every ``stride``-th pixel alone, down and across: enough to compare experts by.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .mlp import CERTAIN, mlp
from .pixels import places, subsample, typical_colour

__all__ = ["BroadcastDecoder", "EmptyDecoder", "FlatDecoder", "SpriteDecoder"]

#: A logit beyond doubt.
OPAQUE = 20.0
#: The most nats by which a pixel of a region that the sprite does not cover counts against a place.
FAR = 8.0
#: The mean of a place is over those no farther than this from the best.
NEAR = 0.3
#: Logits of a colour have this standard deviation about those that its code makes.
NOISE = 0.01


class BroadcastDecoder(nn.Module):
    """A code at every pixel beside the pixel's place, then convolutions (Watters et al., 2019).

    Args:
        code: Size of the code.
        image_shape: (C, H, W) of the layer.
        features: Channels of each block of a 3 x 3 convolution and ReLU.
        blocks: How many.
    """

    grid: Tensor

    def __init__(
        self,
        code: int,
        image_shape: tuple[int, ...],
        *,
        features: int = 32,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        sizes = [code + 2, *[features] * blocks]
        layers: list[nn.Module] = []
        for i in range(blocks):
            layers += [nn.Conv2d(sizes[i], features, kernel_size=3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(features, image_shape[0] + 1, kernel_size=1))
        self.register_buffer("grid", places(image_shape), persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"]) -> Float[Tensor, "n c h w"]:
        size = self.grid.shape[1:]
        codes = z_what[..., None, None].expand(*z_what.shape, *size)
        seen = torch.cat([codes, self.grid.expand(len(z_what), 2, *size)], 1)
        return self.layers(seen)


class SpriteDecoder(nn.Module):
    """One shape, at any place, in any flat colour: the first two numbers of a code are its place.

    A standard Normal code is uniform over places, as far from the middle as ``reach``, which is trained.
    The opacity is a network of where a pixel is, seen from the place, and of the next ``shape`` numbers;
    the colour is linear, before the sigmoid, in all numbers but the first two.

    Args:
        code: Size of the code: 2, and the number of channels, to have any colour; 3 at least.
        image_shape: (C, H, W) of the layer.
        shape: How many numbers the shape may depend on. With 0 all that is drawn has one shape.
        hidden: Width of the two hidden layers.
        bias: Of the opacity's logits. If negative, layers are nearly transparent at first.
        sharpness: Scale of the places that the network sees: the more, the finer are shapes at first.
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
                "a sprite's code is 2 numbers for the place and 1 or more for the colour, of which the "
                f"shape may depend on some: got code={code}, shape={shape}"
            )
        self.code, self.shape = code, shape
        self.register_buffer("bias", torch.tensor(bias))  # a checkpoint keeps them
        self.register_buffer("sharpness", torch.tensor(sharpness))
        self.reach = nn.Parameter(torch.tensor(0.8))
        spare = code - 2 - shape >= image_shape[0]
        self.colour = _colour(code - 2, image_shape[0], after=shape if spare else 0)
        self.opacity = mlp(2 + shape, hidden, hidden, hidden, 1)
        self.register_buffer("grid", places(image_shape), persistent=False)

    def forward(self, z_what: Float[Tensor, "n code"], stride: int = 1) -> Float[Tensor, "n c h w"]:
        place = self.reach * torch.erf(z_what[:, :2] / 2**0.5)
        grid = subsample(self.grid, stride)
        beside = self.sharpness * (grid - place[..., None, None]).movedim(1, -1)
        shape = z_what[:, None, None, 2 : 2 + self.shape].expand(*beside.shape[:-1], self.shape)
        opacity = self.bias + self.opacity(torch.cat([beside, shape], -1)).movedim(-1, 1)
        return torch.cat([_flat(self.colour(z_what[:, 2:]), opacity), opacity], 1)

    def guess(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scope: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n code"]:
        """The code (n, code) of the sprite that fits regions (n, 1, H, W) of images best, within the scope.

        The place is its mean, near the best, under the posterior given the region, were it uniform before
        (log p of a region r is sum r log m + (scope - r) log (1 - m), a convolution with the sprite's m); the
        colour is what most of the region has.
        """
        with torch.no_grad():
            place = self.match(regions, scope)
            colour = typical_colour(images, regions)
        place = torch.erfinv((place / self.reach).clamp(-0.95, 0.95)) * 2**0.5
        return torch.cat([place, _code_of(colour, self.colour)], 1)

    def match(
        self, regions: Float[Tensor, "n 1 h w"], scope: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 2"]:
        """The mean (n, 2) of the place, given regions (n, 1, H, W)."""
        height, width = self.grid.shape[1:]
        steps = _offsets(width, self.grid), _offsets(height, self.grid)
        offsets = torch.stack(torch.meshgrid(*steps, indexing="xy"), -1)
        shape = offsets.new_zeros(*offsets.shape[:2], self.shape)
        opacity = self.bias + self.opacity(torch.cat([self.sharpness * offsets, shape], -1))[..., 0]
        inside = (
            functional.logsigmoid(opacity).clamp(min=-FAR) + FAR
        )  # beyond the kernel, as if at most FAR off
        kernel = torch.stack([inside, functional.logsigmoid(-opacity)])[None]
        scores = _correlate(torch.cat([regions, scope - regions], 1), kernel).flatten(1)
        at = self.grid.flatten(1).mT
        far = (
            torch.cdist(at[scores.argmax(1)], at) > NEAR
        )  # of two places alike the mean is neither
        return scores.masked_fill(far, -torch.inf).softmax(1) @ at


class EmptyDecoder(nn.Module):
    """No layer at all: transparent everywhere, whatever the code.

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
    """One colour everywhere, and nothing behind it is seen: a background.

    Args:
        code: Size of the code; at least the number of channels, to have any colour.
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
        scope: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n code"]:
        """The code (n, code) of the colour that most of the regions (n, 1, H, W) of images have."""
        with torch.no_grad():
            colour = typical_colour(images, regions)
        return _code_of(colour, self.colour)


def _correlate(
    maps: Float[Tensor, "n c h w"], kernel: Float[Tensor, "1 c odd1 odd2"]
) -> Float[Tensor, "n h w"]:
    """Cross-correlation (n, H, W) of maps (n, c, H, W) with a large kernel (1, c, odd, odd), by Fourier."""
    height, width = maps.shape[2:]
    beside = [size // 2 for size in kernel.shape[2:]]
    padded = [height + 2 * beside[0], width + 2 * beside[1]]  # what is circular stays off the maps
    there, shape = (torch.fft.rfft2(part, s=padded) for part in (maps, kernel))
    found = torch.fft.irfft2((there * shape.conj()).sum(1), s=padded)
    return found.roll(beside, (1, 2))[:, :height, :width]


def _offsets(size: int, like: Tensor) -> Tensor:
    """How far pixels of a row of this many lie apart, on the device and in the dtype of a tensor."""
    pixels = torch.arange(-(size // 2), size // 2 + 1, device=like.device, dtype=like.dtype)
    return pixels * 2 / size


def _colour(code: int, channels: int, after: int = 0) -> nn.Linear:
    """Starts with a number for each channel, where there are enough after some that are of another use."""
    layer = nn.Linear(code, channels)
    nn.init.zeros_(layer.weight)
    nn.init.eye_(layer.weight[:, after:])
    nn.init.zeros_(layer.bias)
    return layer


def _code_of(colour: Float[Tensor, "n c"], layer: nn.Linear) -> Float[Tensor, "n code"]:
    """The mean of a standard Normal code (n, code), given colours (n, C) of it, with a little noise."""
    logits = torch.logit(colour, eps=0.01) - layer.bias
    covariance = layer.weight @ layer.weight.mT
    noise = NOISE**2 * torch.ones_like(covariance[0])
    # Neither pinv nor solve: on a GPU both wait for the host, to check for errors.
    return torch.linalg.solve_ex(covariance + noise.diag(), logits.mT).result.mT @ layer.weight


def _flat(colour: Tensor, like: Tensor) -> Tensor:
    return colour[..., None, None].expand(*colour.shape, *like.shape[2:])
