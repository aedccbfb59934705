"""Shapes of whole pixels on canvases: where they lie, their masks, and who hides whom."""

import torch
from torch import Tensor

__all__ = ["middle", "paint", "stamp", "uniform_corners"]


def uniform_corners(
    scenes: torch.Size, frame: torch.Size, canvas: int, generator: torch.Generator
) -> Tensor:
    """Left and top int64 (size, count, 2) of frames (h, w), uniform among those on the canvas."""
    height, width = frame
    left = torch.randint(canvas - width + 1, scenes, generator=generator)
    top = torch.randint(canvas - height + 1, scenes, generator=generator)
    return torch.stack([left, top], -1)


def middle(shapes: Tensor) -> Tensor:
    """The ``(x, y)`` of the middle of the frame of shapes (..., h, w), from its corner: float32 (2,)."""
    height, width = shapes.shape[-2:]
    return torch.tensor([width / 2, height / 2], dtype=torch.float32)


def stamp(masks: Tensor, shapes: Tensor, corners: Tensor) -> None:
    """Writes shapes (n, count, h, w) into empty masks, each with its left and top at its corner."""
    height, width = shapes.shape[2:]
    windows = (
        masks.flatten(0, 1).unfold(1, height, 1).unfold(2, width, 1)
    )  # a view: [mask, top, left]
    left, top = corners.flatten(0, 1).unbind(-1)
    windows[torch.arange(len(windows)), top, left] = shapes.flatten(0, 1)


def paint(images: Tensor, masks: Tensor, colours: Tensor) -> None:
    """Paints masks (n, count, H, W) into images (n, C, H, W) in colours (n, count, C), the back first."""
    for mask, colour in reversed(list(zip(masks.unbind(1), colours.unbind(1), strict=True))):
        images[:] = colour[..., None, None].where(mask.unsqueeze(1), images)
