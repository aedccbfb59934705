"""Reading: how many objects of each class an image shows, by a small network trained on true scenes."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ..checks import check_tensors, is_integer
from ..networks import UNet
from ..random import fork_rng

__all__ = ["CountReader", "train_reader"]


class CountReader(nn.Module):
    """Reads counts by class: a U-Net gives every pixel its share of an object of each class.

    Args:
        channels: Of the images.
        classes: How many there are.
        widths: Of the :class:`~pyro_scenes.networks.UNet`.
    """

    def __init__(
        self, channels: int, classes: int, *, widths: tuple[int, ...] = (24, 32, 48)
    ) -> None:
        super().__init__()
        self.network = UNet(channels, widths, outputs=classes, fold=2)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Counts, not rounded."""
        return self.network(images - 0.5).sum((2, 3)) / 100

    @torch.no_grad()
    def read(self, images: Float[Tensor, "n c h w"]) -> Int[Tensor, "n classes"]:
        """Counts, from 0 up."""
        parts = [self(part).round().long().clamp(min=0) for part in images.split(500)]
        return torch.cat(parts)


def train_reader(
    images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"],
    counts: Int[Tensor, "n classes"],
    *,
    steps: int = 2000,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
) -> CountReader:
    """Trains a reader on the squared error of counts. Adam, its learning rate falling linearly to 0.

    Try it on other true scenes before its word on a model's is taken.

    Args:
        images: uint8, or float in [0, 1]; height and width even.
        counts: How many objects of each class each shows (:func:`count_classes`).

    Raises:
        ValueError: Another rank or type, or not a row of counts for each image.
    """
    right = images.dim() == 4 and counts.dim() == 2 and len(counts) == len(images) > 0
    check_tensors(
        right and is_integer(counts),
        "images (n, C, H, W) and integer counts (n, classes)",
        images,
        counts,
    )
    with fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        reader = CountReader(images.shape[1], counts.shape[1]).to(images.device)
        optim = torch.optim.Adam(reader.parameters(), lr, fused=True)
        for step in range(steps):
            optim.param_groups[0]["lr"] = lr * (1 - step / steps)
            some = torch.randint(len(images), (batch_size,)).to(images.device)
            seen = images[some] / 255 if images.dtype == torch.uint8 else images[some]
            optim.zero_grad()
            (reader(seen) - counts.to(images.device)[some]).square().mean().backward()
            optim.step()
    return reader.eval()
