"""Attention that starts from a seed pixel (after Engelcke et al., 2021)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from .pixels import coordinates
from .unet import UNet

__all__ = ["SeededAttention", "settle"]

#: An expert overrules attention where the background's loss exceeds this many times the expert's loss.
OVERRULE_RATIO = 4.0
#: Without the U-Net, the logit of the seed itself; minus this where the seed's object cannot be.
SEED_LOGIT = 10.0
#: Standard deviation, in half widths, of the bump that marks the seed for the U-Net.
BUMP_WIDTH = 0.15
#: The contribution of colour and distance to the logits is at least minus this.
MAX_DISSIMILARITY = 4.0


class SeededAttention(nn.Module):
    """Logits of the part of an image that a seed pixel belongs to.

    Before training they are high for pixels of the seed's colour and near it. A U-Net, which reads each
    pixel's difference from the seed, learns the rest. To leave the U-Net out, for scenes unlike the
    training's, add the number of pixels to the seed's index.

    Args:
        image_shape: (C, H, W).
        widths, fold: Of the :class:`UNet`.
        near: Expected reach of an object from its middle, in half widths of the image.
        alike: Expected difference between the colours of an object, in units of intensity.

    Raises:
        ValueError: ``near`` or ``alike`` is not above 0, or images are too small for the U-Net.
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
        self.network.check_size(image_shape[1:])
        self.network.last.weight.data *= 0.1
        self.network.last.bias.data.zero_()  # type: ignore[union-attr]  # it has one
        self.spread = nn.Parameter(torch.tensor([alike, near]).log())
        self.height = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("grid", coordinates(image_shape), persistent=False)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        scope: Float[Tensor, "n 1 h w"],
        seeds: Int[Tensor, " n"],
    ) -> Float[Tensor, "n 1 h w"]:
        colour, distance = self.compare(images, seeds)
        squares = torch.cat([colour.square().sum(1, keepdim=True), distance], 1)
        variances = 2 * self.spread.exp().square()[:, None, None]
        similarity = self.height - (squares / variances).sum(1, keepdim=True)
        bump = torch.exp(-distance / (2 * BUMP_WIDTH**2))
        logits = self.network(torch.cat([images - 0.5, scope, bump, colour], 1))
        logits = logits + functional.softplus(similarity + MAX_DISSIMILARITY) - MAX_DISSIMILARITY
        no_network = (seeds >= self.grid[0].numel())[:, None, None, None]
        return torch.where(no_network, self.near_and_alike(colour, distance), logits)

    def compare(
        self, images: Float[Tensor, "n c h w"], seeds: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 1 h w"]]:
        """Each pixel's difference of colour from the seed, and its squared distance in half widths."""
        index = seeds % self.grid[0].numel()
        row, column = index // images.shape[-1], index % images.shape[-1]
        rows = torch.arange(len(images), device=images.device)
        colour = images - images[rows, :, row, column][..., None, None]
        offset = self.grid - self.grid[:, row, column].mT[..., None, None]
        return colour, offset.square().sum(1, keepdim=True)

    def near_and_alike(
        self, colour: Float[Tensor, "n c h w"], distance: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 1 h w"]:
        """The logits without the U-Net: high for like colours within an object's reach."""
        logits = SEED_LOGIT - (2 * colour / self.alike).square().sum(1, keepdim=True)
        return logits.clamp(min=-SEED_LOGIT).where(distance < (2 * self.near) ** 2, -SEED_LOGIT)


def settle(
    attention_logits: Float[Tensor, "*#batch 1 h w"],
    opacity_logits: Float[Tensor, "*#batch 1 h w"],
    excess_nll: Float[Tensor, "*#batch 1 h w"],
    background_nll: Float[Tensor, "*#batch 1 h w"],
    margin: float,
) -> Float[Tensor, "*batch 1 h w"]:
    """Logits of attention, overruled by the expert where its opacity is certain.

    Pixels that the expert certainly leaves transparent are not attended: attention may cover two objects of
    one colour. Pixels that it certainly covers are, if it explains them well and the background does not.

    Args:
        excess_nll, background_nll: Losses of the expert's and the background's colours, in nats above the
            best colours' loss.
        margin: An opacity is certain if its logit is further than this from 0.
    """
    advantage = background_nll - OVERRULE_RATIO * excess_nll
    least = torch.minimum(2 * (opacity_logits - margin), advantage - margin)
    return attention_logits.maximum(least).minimum(2 * (opacity_logits + margin))
