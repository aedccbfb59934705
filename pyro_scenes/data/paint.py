"""Shapes of whole pixels on canvases: where they lie, their masks and boxes, and who hides whom."""

import torch
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8
from torch import Tensor

__all__ = ["check_crowding", "middle", "paint", "stamp", "tight_boxes", "uniform_corners"]

#: How many times over the frames of a scene's objects may cover the canvas.
MOST_COVER = 10


def check_crowding(objects: str, count: int, side: float, canvas: int) -> None:
    """Raises a ValueError if so many frames would cover the canvas more than ``MOST_COVER`` times.

    Args:
        objects: What they are, for the message.
        side: Of a frame, in pixels.
        canvas: Side of the canvas, in pixels.
    """
    if count * side**2 > MOST_COVER * canvas**2:
        raise ValueError(
            f"{count} {objects} of {side:g} pixels are too many for a canvas of {canvas} pixels: they would "
            f"cover it more than {MOST_COVER} times"
        )


def uniform_corners(
    batch: torch.Size, frame: torch.Size, canvas: int, generator: torch.Generator
) -> Int64[Tensor, "n count 2"]:
    """Left and top of frames (h, w), uniform among those on the canvas; the batch is (n, count)."""
    height, width = frame
    left = torch.randint(canvas - width + 1, batch, generator=generator)
    top = torch.randint(canvas - height + 1, batch, generator=generator)
    return torch.stack([left, top], -1)


def middle(shapes: Shaped[Tensor, "*batch h w"]) -> Float32[Tensor, "2"]:
    """The ``(x, y)`` of the middle of the shapes' frame, from its corner."""
    height, width = shapes.shape[-2:]
    return torch.tensor([width / 2, height / 2], dtype=torch.float32)


def tight_boxes(masks: Bool[Tensor, "*batch h w"]) -> Float32[Tensor, "*batch 4"]:
    """Tight boxes of masks, as in :class:`Scenes`; NaN where a mask is empty."""
    sides = []
    # Columns give left and right, rows top and bottom.
    for axis in (-2, -1):
        inked = masks.amax(axis)
        first = inked.float().argmax(-1).float()
        last = inked.shape[-1] - inked.flip(-1).float().argmax(-1).float()
        sides.append(torch.stack([first, last], -1).where(inked.any(-1, keepdim=True), torch.nan))
    return torch.stack(sides, -1).flatten(-2)


def stamp(
    masks: Bool[Tensor, "n count H W"],
    shapes: Bool[Tensor, "n count h w"],
    corners: Int64[Tensor, "n count 2"],
) -> None:
    """Writes shapes into empty masks, each with its left and top at its corner."""
    height, width = shapes.shape[2:]
    # A view: [mask, top, left].
    windows = masks.flatten(0, 1).unfold(1, height, 1).unfold(2, width, 1)
    left, top = corners.flatten(0, 1).unbind(-1)
    windows[torch.arange(len(windows)), top, left] = shapes.flatten(0, 1)


def paint(
    images: UInt8[Tensor, "n c H W"],
    masks: Bool[Tensor, "n count H W"],
    colours: UInt8[Tensor, "n count c"],
) -> None:
    """Paints masks into images in their colours, the back first."""
    for mask, colour in reversed(list(zip(masks.unbind(1), colours.unbind(1), strict=True))):
        images[:] = colour[..., None, None].where(mask.unsqueeze(1), images)
