"""Reading: what an image shows, by a small network trained on true scenes."""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..checks import check_tensors
from ..networks import ImageEncoder, UNet, mlp
from ..random import fork_rng
from ..render import centroid, warp
from .arguments import checked
from .training import as_floats, descend

__all__ = ["CountReader", "ShapeReader", "train_reader", "train_shape_reader"]


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
    def read(
        self, images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"]
    ) -> Int[Tensor, "n classes"]:
        """Counts, from 0 up, on the CPU."""
        device = next(self.parameters()).device
        parts = [self(as_floats(part.to(device))).round() for part in images.split(500)]
        return torch.cat(parts).long().clamp(min=0).cpu()


@checked
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

    Its figures on other true scenes are the ceiling of those on a model's.

    Args:
        images: uint8, or float in [0, 1]; height and width even.
        counts: How many objects of each class each shows (:func:`count_classes`).

    Raises:
        ValueError: No images, or not a row of counts for each.
    """
    check_tensors(
        len(counts) == len(images) > 0, "images, and a row of counts for each", images, counts
    )
    counts = counts.to(images.device)
    with fork_rng(seed), torch.enable_grad():
        reader = CountReader(images.shape[1], counts.shape[1]).to(images.device)

        def loss(index: Tensor) -> Tensor:
            return (reader(as_floats(images[index])) - counts[index]).square().mean()

        batches = torch.randint(len(images), (steps, batch_size)).to(images.device).unbind()
        descend(torch.optim.Adam(reader.parameters(), lr, fused=True), batches, loss)
    return reader.eval()


class ShapeReader(nn.Module):
    """Reads the class of one shape on a canvas, wherever it lies: two convolutions and a hidden layer.

    Args:
        size: (H, W) of the canvas.
        classes: How many there are.
    """

    def __init__(self, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(ImageEncoder((1, *size), 128), mlp(128, classes))

    def forward(self, shapes: Bool[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        pictures = shapes[:, None].float()
        turn = torch.eye(2, device=shapes.device).expand(len(shapes), 2, 2)
        to_middle = torch.cat([turn, centroid(pictures)[..., None]], -1)
        return self.network(warp(pictures, to_middle, pictures.shape))

    @torch.no_grad()
    def read(self, shapes: Bool[Tensor, "n h w"]) -> Int[Tensor, " n"]:
        """The likeliest class of each."""
        return torch.cat([self(part).argmax(1) for part in shapes.split(1000)])


@checked
def train_shape_reader(
    masks: Bool[Tensor, "n objects h w"],
    labels: Int[Tensor, "n objects"],
    *,
    epochs: int = 5,
    batch_size: int = 100,
    lr: float = 1e-3,
    seed: int = 0,
) -> ShapeReader:
    """Trains a reader of single shapes. Adam, its learning rate falling linearly to 0.

    Its figures on true shapes of other scenes are the ceiling of those on layers.

    Args:
        masks: Full shapes of objects, on their canvases (``Scenes.masks``). Empty ones are padding.
        labels: The class, from 0, of each.

    Raises:
        ValueError: Not a label for each object, or no objects.
    """
    check_tensors(
        masks.any() and labels.shape == masks.shape[:2],
        "masks (n, objects, H, W), not all empty, and labels (n, objects)",
        masks,
        labels,
    )
    is_object = masks.flatten(2).any(-1)
    shapes, classes = masks[is_object], labels[is_object]
    with fork_rng(seed), torch.enable_grad():
        reader = ShapeReader((masks.shape[2], masks.shape[3]), int(classes.max()) + 1)
        epoch_orders = [torch.randperm(len(shapes)).split(batch_size) for _ in range(epochs)]
        descend(
            torch.optim.Adam(reader.parameters(), lr, fused=True),
            [index for order in epoch_orders for index in order],
            lambda index: cross_entropy(reader(shapes[index]), classes[index]),
        )
    return reader.eval()
