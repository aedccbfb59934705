"""Scenes: images with what is known about them. Checking, and minibatches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Scenes", "as_images", "batches"]


@dataclass(frozen=True)
class Scenes:
    """Images and, where known, the truth about them. Objects beyond a scene's count are padding.

    Attributes:
        images: uint8 (n, C, H, W), or float in [0, 1].
        counts: int64 (n,), the number of objects.
        labels: int64 (n, objects), the class of each object; -1 is padding.
        boxes: float (n, objects, 4), each object's tight ``(left, top, right, bottom)`` in pixels
            (0 is the outer edge of the first pixel); NaN is padding.
        masks: bool (n, objects, H, W), each object's full shape, hidden parts included; padding is
            all False. Where scenes have depth, object 0 is the front, here and in the other parts.
        centres: float (n, objects, 2), the ``(x, y)`` of the centre of each object's frame, in pixels
            as the boxes are; NaN is padding.
    """

    images: Tensor
    counts: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    centres: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Tensor) -> "Scenes":
        chosen: dict[str, Any] = {
            k: None if part is None else part[index] for k, part in vars(self).items()
        }
        return replace(self, **chosen)

    def visible(self) -> Tensor:
        """What those in front leave to be seen of each object: bool (n, objects, H, W).

        A pixel belongs to one object at most: the first whose mask has it.

        Raises:
            ValueError: The scenes have no masks.
        """
        if self.masks is None:
            raise ValueError("these scenes have no masks: what is hidden of an object is unknown")
        regions = self.masks.clone()
        covered = torch.zeros_like(regions.any(1))
        for region in regions.unbind(1):  # views: the front first
            region &= ~covered
            covered |= region
        return regions


def as_images(images: np.ndarray | Tensor) -> Tensor:
    """Checks images at the door: (n, H, W) or (n, C, H, W), uint8 or float in [0, 1]; not empty, no NaN.

    Returns:
        The images as a tensor (n, C, H, W), uint8 as they were or else float32.

    Raises:
        ValueError: Another rank, type or range, an empty batch, or NaN.
    """
    if not isinstance(images, Tensor):
        images = np.asarray(images)
        if images.dtype.kind not in "buif":
            raise ValueError(
                f"images must be numbers, uint8 or float in [0, 1], got {images.dtype}"
            )
        floats = images.dtype.kind == "f"  # a copy: torch refuses flipped, big-endian and long ones
        images = torch.as_tensor(np.array(images, np.float32 if floats else None, order="C"))
    if images.dim() not in (3, 4):
        raise ValueError(f"images must be (n, H, W) or (n, C, H, W), got {tuple(images.shape)}")
    if images.numel() == 0:
        raise ValueError(f"images is empty, its shape is {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        images = _unit(images)
    images = images if images.dim() == 4 else images.unsqueeze(1)
    if images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must have 1 channel or 3, got {images.shape[1]} in {tuple(images.shape)}: if they "
            "are (n, H, W, C), give images.transpose(0, 3, 1, 2); leave out an alpha channel"
        )
    return images


def _unit(images: Tensor) -> Tensor:
    if not images.is_floating_point():
        raise ValueError(
            f"images must be uint8 (0..255) or float in [0, 1], got {images.dtype}: give "
            "images.astype('uint8')"
        )
    if images.isnan().any():
        raise ValueError("images have pixels that are NaN: images of floats must lie in [0, 1]")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images of floats must lie in [0, 1], found [{low:.4g}, {high:.4g}]: clip them, divide "
            "by their maximum, or give uint8"
        )
    return images.float()


def check_digits(digits: tuple[Tensor, Tensor]) -> None:
    """Checks digits at the door: images uint8 (m, h, w) and labels (m,), of one digit at least.

    Raises:
        ValueError: Another type or rank, not one label for each image, or no digits.
    """
    pictures, labels = digits
    if pictures.dtype != torch.uint8 or pictures.dim() != 3 or labels.shape != pictures.shape[:1]:
        raise ValueError(
            "digits must be images uint8 (m, h, w) and labels (m,), got "
            f"{pictures.dtype} {tuple(pictures.shape)} and {tuple(labels.shape)}"
        )
    if len(pictures) == 0:
        raise ValueError("there are no digits to make scenes of")


def tight_boxes(masks: Tensor) -> Tensor:
    """Tight boxes float32 (..., 4), as in :class:`Scenes`, of masks bool (..., H, W); NaN where empty."""
    sides = []
    for axis in (-2, -1):  # columns give left and right, rows top and bottom
        inked = masks.amax(axis)
        first = inked.float().argmax(-1).float()
        last = inked.shape[-1] - inked.flip(-1).float().argmax(-1).float()
        sides.append(torch.stack([first, last], -1).where(inked.any(-1, keepdim=True), torch.nan))
    return torch.stack(sides, -1).flatten(-2)


def batches(
    images: Tensor,
    size: int,
    *,
    seed: int = 0,
    start: int = 0,
    device: str | torch.device | None = None,
) -> Iterator[Tensor]:
    """Minibatches for ever: float (size, C, H, W) in [0, 1], each epoch in an order of its own.

    Batch number i is a function of (seed, i) alone, so that an interrupted training can go on where it
    stopped. The last, smaller batch of an epoch is left out.

    Args:
        images: As :func:`as_images` returns them.
        size: Images in a batch; a smaller data set gives batches of all of it.
        seed: Of the order.
        start: Number of the first batch.
        device: Where the batches go.
    """
    if not (0 <= seed < 2**40 and start >= 0):
        raise ValueError(
            f"seed must lie in [0, 2**40) and start at 0 or later, got {seed}, {start}"
        )
    if size < 1 or len(images) == 0:
        raise ValueError(f"a batch needs at least one image, got size={size} of {len(images)}")
    size = min(size, len(images))
    each = len(images) // size
    step = start
    while True:
        epoch = step // each
        generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        order = torch.randperm(len(images), generator=generator)
        for i in range(step % each, each):
            chosen = images[order[i * size : (i + 1) * size].to(images.device)].to(device)
            yield chosen / 255 if chosen.dtype == torch.uint8 else chosen
        step = (epoch + 1) * each
