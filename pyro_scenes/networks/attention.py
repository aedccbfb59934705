"""Attention from a seed: a pixel, and what belongs to it (after Engelcke et al., 2021)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from .pixels import places
from .unet import UNet

__all__ = ["SeededAttention", "settle"]

#: An expert's shape overrules attention where the background loses more than this times the expert's loss.
STRICT = 4.0
#: Logits of pixels near the seed and of its colour, without the network.
SURE = 10.0
#: Standard deviation, in half widths, of the bump that shows the U-Net where the seed is.
BUMP = 0.15
#: The U-Net's logits are pulled down by the difference of colour and place no further than by this.
LEAST_LIKE = 4.0


class SeededAttention(nn.Module):
    """The logits of the part of an image to which a seed, a pixel, belongs.

    They start out as pixels of like colour that are near; a U-Net, which sees how all pixels differ from
    the seed, learns the rest. A seed with the number of pixels added to it asks for the logits without the
    U-Net, for scenes unlike those of the training.

    Args:
        image_shape: (C, H, W).
        widths, fold: Of the :class:`UNet`.
        near: How far from its middle an object is expected to reach, in half widths of the image.
        alike: How much colours of an object are expected to differ, in units of intensity.

    Raises:
        ValueError: ``near`` or ``alike`` is not above 0.
    """

    grid: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        widths: tuple[int, ...] = (16, 24, 32),
        fold: int = 2,
        near: float = 0.4,
        alike: float = 0.08,
    ) -> None:
        super().__init__()
        if not min(near, alike) > 0:
            raise ValueError(f"near and alike must be above 0, got {near=}, {alike=}")
        self.near, self.alike = near, alike
        self.network = UNet(2 * image_shape[0] + 2, widths, fold=fold)
        self.network.last.weight.data *= 0.1
        self.network.last.bias.data.zero_()  # type: ignore[union-attr]  # it has one
        self.spread = nn.Parameter(torch.tensor([alike, near]).log())
        self.height = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("grid", places(image_shape), persistent=False)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        scope: Float[Tensor, "n 1 h w"],
        seeds: Int[Tensor, " n"],
    ) -> Float[Tensor, "n 1 h w"]:
        colour, distance = self.compare(images, seeds)
        far = torch.cat([colour.square().sum(1, keepdim=True), distance], 1)
        spread = 2 * self.spread.exp().square()[:, None, None]
        like = self.height - (far / spread).sum(1, keepdim=True)
        bump = torch.exp(-distance / (2 * BUMP**2))
        logits = self.network(torch.cat([images - 0.5, scope, bump, colour], 1))
        logits = logits + functional.softplus(like + LEAST_LIKE) - LEAST_LIKE
        without = (seeds >= self.grid[0].numel())[:, None, None, None]
        return torch.where(without, self.near_and_alike(colour, distance), logits)

    def compare(
        self, images: Float[Tensor, "n c h w"], seeds: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 1 h w"]]:
        """How pixels differ from the seed: in colour, and in place, as squared distance in half widths."""
        index = seeds % self.grid[0].numel()
        row, column = index // images.shape[-1], index % images.shape[-1]
        rows = torch.arange(len(images), device=images.device)
        colour = images - images[rows, :, row, column][..., None, None]
        offset = self.grid - self.grid[:, row, column].mT[..., None, None]
        return colour, offset.square().sum(1, keepdim=True)

    def near_and_alike(
        self, colour: Float[Tensor, "n c h w"], distance: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 1 h w"]:
        """Logits of what is alike in colour, as far as an object reaches, without the network."""
        alike = SURE - (2 * colour / self.alike).square().sum(1, keepdim=True)
        return alike.clamp(min=-SURE).where(distance < (2 * self.near) ** 2, -SURE)


def settle(
    attention: Float[Tensor, "*#batch 1 h w"],
    opacity_logits: Float[Tensor, "*#batch 1 h w"],
    excess_nll: Float[Tensor, "*#batch 1 h w"],
    background_nll: Float[Tensor, "*#batch 1 h w"],
    margin: float,
) -> Float[Tensor, "*batch 1 h w"]:
    """Logits of attention, overruled where an expert's opacity is sure.

    A layer leaves what its expert surely does not cover: of two objects alike, attention may take both. It
    takes what the expert surely covers, where the expert explains the pixel well and the background does not.

    Args:
        excess_nll, background_nll: By how many nats the expert's and the background's colours are less
            likely than the best colours are.
        margin: Opacity logits further than this from 0 are sure.
    """
    better = background_nll - STRICT * excess_nll
    least = torch.minimum(2 * (opacity_logits - margin), better - margin)
    return attention.maximum(least).minimum(2 * (opacity_logits + margin))
