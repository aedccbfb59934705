"""Layered digits (Huang & Murphy, 2016, Sec. 4.1 and 4.2): digits that overlap, at their own size.

Two of the paper's data sets, made of binarised digits from :func:`mnist` or :func:`strokes`:

Translated MNIST (Sec. 4.1)
    One digit, anywhere on a canvas of 36 pixels: ``count=1, canvas=36``.
Superimposed MNIST (Sec. 4.2)
    Two digits, one over the other, on a canvas of 50 pixels: the defaults.

In grey every digit is white, so that the image is the union of the digits and says nothing of their
order in depth. In colour the order shows wherever digits overlap.
"""

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from .images import LabelledImages, check_digits
from .limits import check_memory, check_whole, seeded
from .paint import check_crowding, middle, paint, stamp, tight_boxes, uniform_corners
from .scenes import Scenes

__all__ = ["layered_digits"]

#: The brightest grey level that is still background.
INK = 127
#: Scenes drawn at a time: so many stay in the processor's cache.
CHUNK = 512


def layered_digits(
    digits: LabelledImages,
    size: int,
    *,
    count: int = 2,
    canvas: int = 50,
    colour: bool = False,
    seed: int = 0,
) -> Scenes:
    """Lays digits over one another on black square canvases, each wholly inside.

    Digits and places are independent and uniform, places by whole pixels. The colours of a scene are
    pure hues (HSV, full saturation and value), spaced evenly from a uniform first one and dealt in a
    random order: each alone is uniform, and none tells how deep its digit lies.

    Args:
        digits: Images and labels. A pixel above 127 is ink.
        size: Number of scenes.
        count: Number of digits in every scene.
        canvas: Side of a scene, in pixels; at least that of a digit.
        colour: Whether digits have colours, or all are white. Digits and places stay the same.
        seed: The scenes are a function of the digits and the arguments alone.

    Returns:
        Scenes with images uint8 (size, 1 or 3 in colour, canvas, canvas), counts, labels, boxes,
        masks and centres, object 0 in front. A digit may be hidden altogether, and counts all the same.

    Raises:
        ValueError: Other digits, one without ink, one larger than the canvas, more of them than a canvas
            can show, numbers that are not whole or less than 1, or more scenes than memory holds.
    """
    check_whole(size=size, count=count, canvas=canvas)
    check_digits(digits, INK)
    shapes, labels = digits[0] > INK, digits[1].long()
    _check(shapes, count, canvas)
    layers = count + (3 if colour else 1)
    check_memory(1.2 * size * layers * canvas**2, f"{size} scenes")
    generator = seeded(seed)
    chosen = torch.randint(len(shapes), (size, count), generator=generator)
    corners = uniform_corners(chosen.shape, shapes.shape[1:], canvas, generator)
    colours = _colours(size, count, generator) if colour else _white(size, count)
    images, masks = _paint(shapes, chosen, corners, colours, canvas)
    return Scenes(
        images,
        torch.full((size,), count),
        labels[chosen],
        tight_boxes(shapes)[chosen] + corners.repeat(1, 1, 2),
        masks,
        corners + middle(shapes),
    )


def _check(shapes: Bool[Tensor, "m h w"], count: int, canvas: int) -> None:
    height, width = shapes.shape[1:]
    if canvas < max(height, width):
        raise ValueError(
            f"digits of {height} x {width} pixels do not fit a canvas of {canvas} pixels"
        )
    check_crowding("digits", count, min(height, width), canvas, times=10)


def _white(size: int, count: int) -> UInt8[Tensor, "n count 1"]:
    return torch.full((size, count, 1), 255, dtype=torch.uint8)


def _colours(size: int, count: int, generator: torch.Generator) -> UInt8[Tensor, "n count 3"]:
    """Hues evenly spaced, as red, green and blue."""
    first = torch.rand(size, 1, generator=generator, dtype=torch.float32)
    order = torch.rand(size, count, generator=generator, dtype=torch.float32).argsort(1)
    # In sixths of the circle: red, yellow, green ...
    hue = 6 * (first + order / count).unsqueeze(-1)
    along = (hue + torch.tensor([5, 3, 1])) % 6
    return (255 * (1 - along.minimum(4 - along).clamp(0, 1))).round().to(torch.uint8)


def _paint(
    shapes: Bool[Tensor, "m h w"],
    chosen: Int64[Tensor, "n count"],
    corners: Int64[Tensor, "n count 2"],
    colours: UInt8[Tensor, "n count c"],
    canvas: int,
) -> tuple[UInt8[Tensor, "n c {canvas} {canvas}"], Bool[Tensor, "n count {canvas} {canvas}"]]:
    """Images, and the masks of their digits."""
    size, count = chosen.shape
    images = torch.zeros(size, colours.shape[-1], canvas, canvas, dtype=torch.uint8)
    masks = torch.zeros(size, count, canvas, canvas, dtype=torch.bool)
    for first in range(0, size, CHUNK):
        chunk = slice(first, first + CHUNK)
        stamp(masks[chunk], shapes[chosen[chunk]], corners[chunk])
        paint(images[chunk], masks[chunk], colours[chunk])
    return images, masks
