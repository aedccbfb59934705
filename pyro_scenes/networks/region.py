"""An encoder of a region of an image."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["RegionEncoder"]


class RegionEncoder(nn.Module):
    """Encodes an image and a region, one more channel (von Kuegelgen et al., 2020, App. C.2.1).

    Blocks of a 3 x 3 convolution, ReLU and 2 x 2 max pooling, then a linear layer and ReLU. The paper's
    second linear layer is the proposal's head.

    Args:
        image_shape: (C, H, W).
        features: Width of the linear layer; in the paper, 4 times the size of a code.
        channels: Channels of each block.
        blocks: Number of blocks.
        fold: Side of the squares of pixels that become channels first.

    Raises:
        ValueError: The height or width is no multiple of ``fold``, or too small for the blocks.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        features: int = 20,
        *,
        channels: int = 32,
        blocks: int = 3,
        fold: int = 1,
    ) -> None:
        super().__init__()
        size = image_shape[1:]
        if any(side % fold or side // fold < 2**blocks for side in size):
            multiples = f", multiples of {fold}" if fold > 1 else ""
            raise ValueError(
                f"RegionEncoder needs sides of {fold * 2**blocks} pixels or more{multiples}, got "
                f"{size[0]} x {size[1]}: give larger images, or give the encoder fewer blocks or another fold"
            )
        sizes = [(image_shape[0] + 1) * fold**2, *[channels] * blocks]
        layers: list[nn.Module] = [nn.PixelUnshuffle(fold)]
        for i in range(blocks):
            layers += [nn.Conv2d(sizes[i], sizes[i + 1], kernel_size=3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.filters = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            inputs = self.filters(torch.zeros(1, image_shape[0] + 1, *size)).numel()
        self.features = nn.Sequential(nn.Linear(inputs, features), nn.ReLU())

    def forward(
        self, images: Float[Tensor, "n c h w"], regions: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n features"]:
        return self.features(self.filters(torch.cat([images, regions], 1)))
