"""U-Net (Ronneberger et al., 2015), from an image to maps of its size."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNet"]


class UNet(nn.Module):
    """Maps ``(n, inputs, H, W)`` to ``(n, outputs, H, W)``, seeing the image at several scales.

    Each block is a 3 x 3 convolution, instance normalisation and ReLU; from block to block the map is
    halved on the way down and doubled on the way up, where each block also reads the map of its size from
    the way down.

    Args:
        inputs: Channels.
        widths: Channels of the blocks on the way down, and on the way up in reverse.
        outputs: Channels.
        fold: Squares of this many pixels a side become channels first, and pixels again last: 2 saves three
            quarters of the work. Height and width must be multiples of it.

    Raises:
        ValueError: Images (when called) that are no multiple of ``fold``, or too small to be halved so often.
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
        blocks, size = len(self.down), tuple(images.shape[2:])
        smallest = [side // (self.fold * 2 ** (blocks - 1)) for side in size]
        if any(side % self.fold for side in size) or smallest[0] * smallest[1] < 2:
            raise ValueError(
                f"images of {size} pixels are no multiple of {self.fold}, or too small for {blocks} blocks "
                "each of which halves them: give the U-Net fewer widths, or another fold"
            )
        maps = functional.pixel_unshuffle(images, self.fold)
        skips = []
        for i, block in enumerate(self.down):
            maps = block(functional.avg_pool2d(maps, 2) if i else maps)
            skips.append(maps)
        maps = self.bottom(maps)
        for block, skip in zip(reversed(self.up), reversed(skips)):
            # To the size of the skipped map, which is not twice as large where that size is odd.
            maps = functional.interpolate(maps, skip.shape[-2:])
            maps = block(torch.cat([maps, skip], 1))
        return functional.pixel_shuffle(self.last(maps), self.fold)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())
