"""The U-Net (Ronneberger et al., 2015): from an image to maps of the same size."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNet"]


class UNet(nn.Module):
    """Blocks of a 3 x 3 convolution, instance normalisation and ReLU, at several scales.

    Between blocks the maps are halved on the way down and doubled on the way up. A block on the way up also
    reads the map of its size from the way down.

    Args:
        inputs, outputs: Channels.
        widths: Channels of the blocks on the way down; on the way up they are reversed.
        fold: Side of the squares of pixels that become channels first, and pixels again last: 2 saves three
            quarters of the work.
    """

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, ...] = (32, 64, 64, 64),
        *,
        outputs: int = 1,
        fold: int = 1,
    ) -> None:
        super().__init__()
        self.fold = fold
        self.down = nn.ModuleList(_block(*pair) for pair in pairwise((inputs * fold**2, *widths)))
        self.bottom = _block(widths[-1], widths[-1])
        narrow = (widths[0], *widths[:-1])
        self.up = nn.ModuleList(_block(2 * wide, out) for wide, out in zip(widths, narrow))
        self.last = nn.Conv2d(widths[0], outputs * fold**2, kernel_size=1)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        self.check_size(images.shape[2:])
        maps = functional.pixel_unshuffle(images, self.fold)
        skips = []
        for i, block in enumerate(self.down):
            maps = block(functional.avg_pool2d(maps, 2) if i else maps)
            skips.append(maps)
        maps = self.bottom(maps)
        for block, skip in zip(reversed(self.up), reversed(skips)):
            # Not scale_factor=2: a map of odd size is more than twice its half.
            maps = functional.interpolate(maps, skip.shape[-2:])
            maps = block(torch.cat([maps, skip], 1))
        return functional.pixel_shuffle(self.last(maps), self.fold)

    def check_size(self, size: Sequence[int]) -> None:
        """Raises a ValueError if images of this height and width are too small or do not fold."""
        least = self.fold * 2 ** (len(self.down) - 1)
        if any(side % self.fold for side in size) or prod(side // least for side in size) < 2:
            multiples = f", multiples of {self.fold}" if self.fold > 1 else ""
            raise ValueError(
                f"this U-Net needs sides of {least} x {2 * least} pixels or more{multiples}, got "
                f"{size[0]} x {size[1]}: give larger images, or give the U-Net fewer widths or another fold"
            )


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())
