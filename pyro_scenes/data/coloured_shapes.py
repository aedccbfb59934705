"""Coloured shapes (von Kuegelgen et al., 2020, App. C.1): circles, squares and triangles that overlap.

The paper's two data sets, 50,000 scenes of three objects, one of each class, in random depth order:

Uniquely coloured
    Circles are red, squares green, triangles blue: the defaults.
Randomly coloured
    Any bright colour, of any class: ``colours="random"``.

All shapes are of one size and upright; the background is flat and dark. Edges are hard, so that each
pixel is of one object alone.
"""

import math

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from .limits import check_memory, check_whole, seeded
from .paint import check_crowding, middle, paint, stamp, tight_boxes, uniform_corners
from .scenes import Scenes

__all__ = ["CLASSES", "coloured_shapes", "shape_masks"]

#: A label is an index into these.
CLASSES = ("circle", "square", "triangle")
#: Scenes drawn at a time: so many stay in the processor's cache.
CHUNK = 512


def coloured_shapes(
    size: int,
    *,
    count: int | tuple[int, int] = 3,
    canvas: int = 32,
    colours: str = "unique",
    radius: int | float | None = None,
    classes: str = "dealt",
    seed: int = 0,
) -> Scenes:
    """Lays shapes over one another on square canvases of a random flat colour, each wholly inside.

    Places are independent and uniform, by whole pixels, and so is the order in depth. A channel of the
    background is a whole number from 0 to 127.

    Args:
        size: Number of scenes.
        count: Number of shapes in every scene, or the least and the most, all numbers between them as
            likely.
        canvas: Side of a scene, in pixels.
        colours: ``unique``, pure red, green and blue for circles, squares and triangles; or ``random``,
            channels from 128 to 255. All else stays the same.
        radius: As of :func:`shape_masks`; 6 pixels for a canvas of 32, and in proportion.
        classes: ``dealt``, every class once before any comes twice; or ``any``, independent.
        seed: The scenes are a function of the arguments alone.

    Returns:
        Scenes with images uint8 (size, 3, canvas, canvas), counts, labels (of ``CLASSES``), boxes, masks
        and centres, object 0 in front, as many as the most. A shape may be hidden altogether, and
        counts all the same.

    Raises:
        ValueError: Shapes that are too small, do not fit the canvas, or are more than it can show; numbers
            that are not whole or below 1, a range of counts without one above 0, an unknown word for
            colours or classes, or more scenes than memory holds.
    """
    check_whole(size=size, canvas=canvas)
    least, most = _range(count)
    _check_words(colours, classes)
    shapes = _shapes(canvas * 6 / 32 if radius is None else radius, most, canvas)
    check_memory(1.2 * size * (most + 3) * canvas**2, f"{size} scenes")
    generator = seeded(seed)
    counts = torch.randint(least, most + 1, (size,), generator=generator)
    present = torch.arange(most) < counts[:, None]
    labels = _dealt(present, generator) if classes == "dealt" else _any(present, generator)
    labels = labels.where(present, -1)
    corners = uniform_corners(labels.shape, shapes.shape[1:], canvas, generator)
    background = torch.randint(128, (size, 3), generator=generator, dtype=torch.uint8)
    fills = _pure(labels) if colours == "unique" else _bright(labels, generator)
    # The last, of label -1, is padding's.
    stencils = torch.cat([shapes, torch.zeros_like(shapes[:1])])
    images, masks = _paint(stencils, labels, corners, background, fills, canvas)
    return Scenes(
        images,
        counts,
        labels,
        tight_boxes(stencils)[labels] + corners.repeat(1, 1, 2),
        masks,
        (corners + middle(shapes)).where(present.unsqueeze(-1), torch.nan),
    )


def shape_masks(radius: int | float) -> Bool[Tensor, "3 side side"]:
    """The full shapes of ``CLASSES`` on square frames.

    The side is twice the radius, rounded to whole pixels. The circle touches the frame on all sides. The
    triangle fills it: its apex is in the middle of the top row, its base the bottom row. The square is
    smaller, to have about the area of the circle.

    Args:
        radius: Half the side of the frame, in pixels.

    Raises:
        ValueError: The radius is less than 2, too small to tell shapes apart, or more than memory holds.
    """
    if not 2 <= radius < math.inf:
        raise ValueError(
            f"shapes of a radius of {radius:g} pixels cannot be told apart: needs 2 pixels at least"
        )
    check_memory(200 * radius * radius, f"a radius of {radius:g} pixels", "take less")
    side = round(2 * radius)
    # Centres of pixels from the middle of the frame, in halves of a pixel: whole numbers, no rounding.
    axis = 2 * torch.arange(side) + 1 - side
    y, x = axis.unsqueeze(1), axis.unsqueeze(0)
    circle = x**2 + y**2 <= side**2
    square = x.abs().maximum(y.abs()) <= side * math.sqrt(math.pi / 4)
    # By the lower edge of each row: by its middle, the apex would be lost.
    triangle = 2 * x.abs() <= y + side + 1
    return torch.stack([circle, square, triangle])


def _range(count: int | tuple[int, int]) -> tuple[int, int]:
    counts = tuple(count) if isinstance(count, tuple | list) else (count, count)
    if len(counts) != 2:
        raise ValueError(f"count must be a number or (least, most), got {count!r}")
    least, most = counts
    check_whole(0, least_count=least, most_count=most)
    if not least <= most or most < 1:
        raise ValueError(
            "count must be 1 or more, or (least, most) with 0 <= least <= most and most >= 1, got "
            f"{count!r}"
        )
    return least, most


def _shapes(radius: int | float, count: int, canvas: int) -> Bool[Tensor, "3 side side"]:
    """The shapes, if so many of them are fit for the canvas."""
    if 2 * radius > canvas + 0.5:
        raise ValueError(
            f"shapes {2 * radius:g} pixels wide do not fit a canvas of {canvas} pixels"
        )
    shapes = shape_masks(radius)
    check_crowding("shapes", count, shapes.shape[-1], canvas, times=10)
    return shapes


def _check_words(colours: str, classes: str) -> None:
    if colours not in ("unique", "random"):
        raise ValueError(f"colours must be 'unique' or 'random', got {colours!r}")
    if classes not in ("dealt", "any"):
        raise ValueError(f"classes must be 'dealt' or 'any', got {classes!r}")


def _any(present: Bool[Tensor, "n most"], generator: torch.Generator) -> Int64[Tensor, "n most"]:
    return torch.randint(len(CLASSES), present.shape, generator=generator)


def _dealt(present: Bool[Tensor, "n most"], generator: torch.Generator) -> Int64[Tensor, "n most"]:
    """Classes of which, among the objects present, all come once before any comes twice."""
    size, most = present.shape
    rounds = math.ceil(most / len(CLASSES))
    dealt = _shuffled(torch.ones(size, rounds, len(CLASSES), dtype=torch.bool), generator)
    # Shuffled again, so that the classes of the last round are not always at the back.
    return dealt.flatten(1).gather(1, _shuffled(present, generator))


def _shuffled(
    present: Bool[Tensor, "*batch n"], generator: torch.Generator
) -> Int64[Tensor, "*batch n"]:
    """Indices of those present, in random order; the others come last."""
    keys = torch.rand(present.shape, generator=generator, dtype=torch.float32)
    return keys.where(present, 2).argsort(-1)


def _pure(labels: Int64[Tensor, "n most"]) -> UInt8[Tensor, "n most 3"]:
    return 255 * torch.eye(len(CLASSES), dtype=torch.uint8)[labels]


def _bright(
    labels: Int64[Tensor, "n most"], generator: torch.Generator
) -> UInt8[Tensor, "n most 3"]:
    return torch.randint(128, 256, (*labels.shape, 3), generator=generator, dtype=torch.uint8)


def _paint(
    stencils: Bool[Tensor, "classes side side"],
    labels: Int64[Tensor, "n most"],
    corners: Int64[Tensor, "n most 2"],
    background: UInt8[Tensor, "n 3"],
    fills: UInt8[Tensor, "n most 3"],
    canvas: int,
) -> tuple[UInt8[Tensor, "n 3 {canvas} {canvas}"], Bool[Tensor, "n most {canvas} {canvas}"]]:
    """Images, and the masks of their shapes."""
    images = background[..., None, None].repeat(1, 1, canvas, canvas)
    masks = torch.zeros(*labels.shape, canvas, canvas, dtype=torch.bool)
    for first in range(0, len(labels), CHUNK):
        chunk = slice(first, first + CHUNK)
        stamp(masks[chunk], stencils[labels[chunk]], corners[chunk])
        paint(images[chunk], masks[chunk], fills[chunk])
    return images, masks
