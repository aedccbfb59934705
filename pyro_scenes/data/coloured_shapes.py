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
from torch import Tensor

from .paint import middle, paint, stamp, uniform_corners
from .scenes import Scenes, tight_boxes

__all__ = ["CLASSES", "coloured_shapes", "shape_masks"]

CLASSES = ("circle", "square", "triangle")  # a label is an index
CHUNK = 512  # scenes drawn at a time: these stay in the cache


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
        count: Number of shapes in every scene, or the least and the most, each number as likely.
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
        ValueError: Shapes that do not fit the canvas or are too small, no scenes, counts that are no
            range or all 0, or an unknown word for colours or classes.
    """
    shapes = shape_masks(canvas * 6 / 32 if radius is None else radius)
    least, most = (count, count) if isinstance(count, int) else count
    _check(shapes, size, (least, most), canvas)
    _check_words(colours, classes)
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(least, most + 1, (size,), generator=generator)
    present = torch.arange(most) < counts[:, None]
    labels = _dealt(present, generator) if classes == "dealt" else _any(present, generator)
    labels = labels.where(present, -1)
    corners = uniform_corners(labels.shape, shapes.shape[1:], canvas, generator)
    ground = torch.randint(128, (size, 3), generator=generator, dtype=torch.uint8)
    inks = _pure(labels) if colours == "unique" else _bright(labels, generator)
    stencils = torch.cat([shapes, torch.zeros_like(shapes[:1])])  # the last, -1, is padding's
    images, masks = _draw(stencils, labels, corners, ground, inks, canvas)
    return Scenes(
        images,
        counts,
        labels,
        tight_boxes(stencils)[labels] + corners.repeat(1, 1, 2),
        masks,
        (corners + middle(shapes)).where(present.unsqueeze(-1), torch.nan),
    )


def shape_masks(radius: int | float) -> Tensor:
    """The full shapes of ``CLASSES`` on square frames: bool (3, side, side).

    The side is twice the radius, rounded to whole pixels. The circle touches the frame on all sides. The
    triangle fills it: its apex is in the middle of the top row, its base the bottom row. The square is
    smaller, to have about the area of the circle.

    Args:
        radius: Half the side of the frame, in pixels.

    Raises:
        ValueError: The radius is less than 2: too small to tell shapes apart.
    """
    if not 2 <= radius < math.inf:
        raise ValueError(
            f"shapes of a radius of {radius:g} pixels cannot be told apart: needs 2 pixels at least"
        )
    side = round(2 * radius)
    # Centres of pixels from the middle of the frame, in halves of a pixel: whole numbers, no rounding.
    axis = 2 * torch.arange(side) + 1 - side
    y, x = axis.unsqueeze(1), axis.unsqueeze(0)
    circle = x**2 + y**2 <= side**2
    square = x.abs().maximum(y.abs()) <= side * math.sqrt(math.pi / 4)
    triangle = 2 * x.abs() <= y + side + 1  # of a row's lower edge, or the apex were lost
    return torch.stack([circle, square, triangle])


def _check(shapes: Tensor, size: int, counts: tuple[int, int], canvas: int) -> None:
    side = shapes.shape[-1]
    if side > canvas:
        raise ValueError(f"shapes {side} pixels wide do not fit a canvas of {canvas} pixels")
    least, most = counts
    if size < 1 or not 0 <= least <= most or most < 1:
        raise ValueError(
            "needs size >= 1 and a count >= 1, or (least, most) with 0 <= least <= most and most >= 1, "
            f"got size={size}, count from {least} to {most}"
        )


def _check_words(colours: str, classes: str) -> None:
    if colours not in ("unique", "random"):
        raise ValueError(f"colours must be 'unique' or 'random', got {colours!r}")
    if classes not in ("dealt", "any"):
        raise ValueError(f"classes must be 'dealt' or 'any', got {classes!r}")


def _any(present: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(len(CLASSES), present.shape, generator=generator)


def _dealt(present: Tensor, generator: torch.Generator) -> Tensor:
    """Classes int64 (size, most): for those present, all once before any comes twice."""
    size, most = present.shape
    rounds = math.ceil(most / len(CLASSES))
    hands = _shuffled(torch.ones(size, rounds, len(CLASSES), dtype=torch.bool), generator)
    # What is dealt in the last round is not farther back than the rest.
    return hands.flatten(1).gather(1, _shuffled(present, generator))


def _shuffled(present: Tensor, generator: torch.Generator) -> Tensor:
    """Indices int64 (..., n) of those present (..., n), in random order; the others come last."""
    keys = torch.rand(present.shape, generator=generator, dtype=torch.float32)
    return keys.where(present, 2).argsort(-1)


def _pure(labels: Tensor) -> Tensor:
    return 255 * torch.eye(len(CLASSES), dtype=torch.uint8)[labels]


def _bright(labels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(128, 256, (*labels.shape, 3), generator=generator, dtype=torch.uint8)


def _draw(
    stencils: Tensor, labels: Tensor, corners: Tensor, ground: Tensor, inks: Tensor, canvas: int
) -> tuple[Tensor, Tensor]:
    """Images uint8 (size, 3, canvas, canvas) and masks bool (size, most, canvas, canvas)."""
    images = ground[..., None, None].repeat(1, 1, canvas, canvas)
    masks = torch.zeros(*labels.shape, canvas, canvas, dtype=torch.bool)
    for first in range(0, len(labels), CHUNK):
        some = slice(first, first + CHUNK)
        stamp(masks[some], stencils[labels[some]], corners[some])
        paint(images[some], masks[some], inks[some])
    return images, masks
