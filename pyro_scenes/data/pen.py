"""A procedural pen: digits of a few styles, each written anew.

A style is a list of strokes, each stroke a list of knots. An image is one style whose knots are shaken,
joined by splines, slanted, bent, fitted into a box and inked with a soft round pen. Catmull-Rom splines
are linear in their knots, so a style is one fixed matrix from knots to points along its strokes, and many
images of it are written at once.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

__all__ = ["SIDE", "write_digits"]

#: In pixels: the side of an image, and of the box that the ink fills.
SIDE, BOX = 28, 20
#: Pixels over which the pen fades from ink to background.
EDGE = 1.2
#: Images written at once, to bound memory.
CHUNK = 256

# Digit, share among the digit's images, style, strokes. "|" parts strokes, a knot is "x,y" with y
# down, in a frame about 14 wide and 20 high. A knot named twice running is a corner. Knots at the
# same place are one knot, shaken as one, in one stroke or in two: so loops close and strokes join.
STYLES = (
    (0, 2, "oval", "8,0 2,3 0,10 2,17 7,20 12,17 14,10 12,3 8,0 2,3"),
    (0, 2, "overrun", "9,1 4,1 0,7 0,14 5,20 11,18 15,10 12,3 7,0 3,2"),
    (0, 2, "open", "10,2 5,2 0,10 2,17 6,20 12,16 14,8 12,2 7,0"),
    (1, 8, "bar", "7,0 7,10 7,20"),
    (1, 1, "flag", "4,4 7,0 7,0 7,10 7,20"),
    (1, 1, "foot", "3,4 7,0 7,0 7,10 7,20 | 2,20 7,20 12,20"),
    (2, 3, "plain", "1,5 5,1 10,1 12,5 9,11 1,19 1,19 8,19 16,19"),
    (2, 3, "looped", "1,5 5,1 10,1 12,5 9,11 4,18 0,18 1,14 6,16 16,19"),
    (2, 2, "z", "1,2 6,0 11,2 11,7 6,13 0,19 0,19 7,20 15,18"),
    (3, 3, "round", "1,3 5,0 11,2 10,7 5,9 5,9 11,11 13,16 8,20 2,19 0,16"),
    (3, 2, "curl", "0,3 5,0 11,2 9,7 5,10 4,9 8,9 12,13 10,18 5,20 0,18"),
    (3, 1, "flat", "1,1 11,1 11,1 5,8 5,8 11,10 12,16 7,20 0,18"),
    (4, 3, "open", "2,0 1,6 1,11 1,11 7,11 13,10 | 11,0 10,10 9,20"),
    (4, 3, "cup", "3,1 1,7 2,11 7,11 11,8 | 12,1 10,10 8,20"),
    (4, 2, "closed", "10,0 5,7 0,13 0,13 14,13 | 10,0 10,20"),
    (5, 3, "hat", "4,1 2,8 2,8 7,7 11,11 10,17 5,20 -1,18 | 4,1 9,1 16,0"),
    (5, 2, "single", "15,0 9,0 4,1 4,1 2,8 2,8 8,7 12,12 10,18 5,20 0,18"),
    (5, 2, "s", "14,0 8,0 3,3 6,8 10,11 11,16 6,20 -1,18"),
    (6, 3, "curve", "10,0 5,4 1,11 1,17 6,20 11,17 11,12 7,10 2,14"),
    (6, 2, "straight", "9,0 4,8 1,14 3,19 8,20 11,16 8,12 3,13 1,16"),
    (6, 2, "loop", "7,0 2,7 0,14 4,20 10,19 11,14 6,11 2,16"),
    (7, 4, "plain", "0,2 6,1 12,1 12,1 9,8 6,20"),
    (7, 2, "barred", "0,2 6,1 12,1 12,1 9,8 6,20 | 4,11 8,11 13,10"),
    (7, 1, "serif", "1,5 1,1 1,1 7,1 13,1 13,1 8,10 6,20"),
    (7, 2, "bow", "0,4 4,1 10,1 12,5 8,12 6,20"),
    (8, 3, "eight", "12,2 7,0 2,3 4,8 9,12 11,17 6,20 1,17 3,12 8,8 12,2 7,0"),
    (8, 2, "ajar", "12,3 8,0 3,2 4,8 9,12 10,18 5,20 1,17 4,12 9,8 14,1"),
    (8, 2, "rings", "8,0 4,2 4,6 7,9 11,7 12,3 8,0 4,2 | 7,9 2,12 1,17 5,20 10,18 11,13 7,9"),
    (9, 3, "stem", "11,3 6,0 1,4 2,9 7,9 11,3 11,3 10,12 9,20"),
    (9, 2, "hook", "11,3 6,0 1,4 3,9 8,8 11,3 12,10 9,17 3,20"),
    (9, 2, "lean", "11,2 7,0 2,4 2,9 6,10 11,5 11,2 11,2 8,11 5,20"),
)


class _Style(NamedTuple):
    """Knots, and the matrix from them to points that are evenly spread along the strokes."""

    knots: Float32[Tensor, "knots 2"]
    spline: Float32[Tensor, "points knots"]


def write_digits(
    size: int, seed: int
) -> tuple[UInt8[Tensor, "{size} 28 28"], Int64[Tensor, " {size}"]]:
    """Images and labels, a function of the size and the seed alone."""
    generator = torch.Generator("cpu").manual_seed(seed)
    # Whatever the default device is.
    with torch.device("cpu"):
        labels = torch.randperm(size, generator=generator) % 10
        shares = torch.zeros(10, len(STYLES), dtype=torch.float32)
        for index, (digit, share, _, _) in enumerate(STYLES):
            shares[digit, index] = share
        choice = torch.multinomial(shares[labels], 1, generator=generator).squeeze(1)
        images = torch.empty(size, SIDE, SIDE, dtype=torch.uint8)
        for index, (_, _, _, drawing) in enumerate(STYLES):
            style = _style(drawing)
            for chunk in (choice == index).nonzero().squeeze(1).split(CHUNK):
                images[chunk] = _write(style, len(chunk), generator)
    return images, labels


def _style(drawing: str) -> _Style:
    lines = [[_knot(word) for word in stroke.split()] for stroke in drawing.split("|")]
    knots, which = torch.tensor(
        [knot for line in lines for knot in line], dtype=torch.float32
    ).unique(dim=0, return_inverse=True)
    paths = torch.eye(len(knots), dtype=torch.float32)[which].split([len(line) for line in lines])
    return _Style(knots, torch.cat([piece for path in paths for piece in _spline(path, knots)]))


def _knot(word: str) -> tuple[float, float]:
    x, y = word.split(",")
    # From the middle of the frame, which slant and turn leave where it is.
    return float(x) - 6.5, float(y) - 10


def _spline(
    path: Float32[Tensor, "stroke knots"], knots: Float32[Tensor, "knots 2"]
) -> Iterator[Float32[Tensor, "_ knots"]]:
    """Yields the rows of a Catmull-Rom spline along a stroke, one piece between each two knots.

    Args:
        path: The knots of the stroke, each a one-hot row.
        knots: Where the knots are.
    """
    ends = torch.cat([path[:1], path, path[-1:]])
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        # Two points or so to a pixel.
        steps = math.ceil(1.6 * float((c @ knots - b @ knots).norm()))
        t = ((torch.arange(steps, dtype=torch.float32) + 0.5) / max(steps, 1)).unsqueeze(1)
        cubic = (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        yield b + 0.5 * ((c - a) * t + cubic)


def _write(style: _Style, count: int, generator: torch.Generator) -> UInt8[Tensor, "{count} 28 28"]:
    """Images of one style."""

    def normal(*shape: int) -> Float32[Tensor, "..."]:
        noise = torch.randn(count, *shape, generator=generator, dtype=torch.float32)
        # A tail would spoil a digit now and then.
        return noise.clamp(-2.5, 2.5)

    curve = style.spline @ (style.knots + 0.85 * normal(*style.knots.shape))
    curve = _bend(_slant(curve, *normal(3, 1).unbind(1)), normal(2, 3), normal(1, 3), normal(3, 2))
    # In pixels; the pressure varies along a stroke.
    radius = (0.2 + 0.28 * normal(1)).exp()
    along = torch.linspace(0, 1, curve.shape[1], dtype=torch.float32)
    radii = radius * (0.15 * normal(1) * (4 * along + 3 * normal(1)).sin()).exp()
    curve = _fit(curve, radius)
    curve = curve - _mass(_ink(curve, radii, radius))
    return (255 * _ink(curve, radii, radius)).round().to(torch.uint8)


def _slant(
    curve: Float32[Tensor, "n points 2"],
    slant: Float32[Tensor, "n 1"],
    turn: Float32[Tensor, "n 1"],
    aspect: Float32[Tensor, "n 1"],
) -> Float32[Tensor, "n points 2"]:
    """Shears, turns and widens curves by standard normals."""
    x, y = curve.unbind(-1)
    # Most writers lean to the right.
    x = x * (0.15 * aspect).exp() - y * (0.15 + 0.25 * slant)
    sin, cos = (0.12 * turn).sin(), (0.12 * turn).cos()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], -1)


def _bend(
    curve: Float32[Tensor, "n points 2"],
    waves: Float32[Tensor, "n 2 waves"],
    phases: Float32[Tensor, "n 1 waves"],
    sizes: Float32[Tensor, "n waves 2"],
) -> Float32[Tensor, "n points 2"]:
    """Adds elastic distortion: three plane waves, about twice as long as a digit is high."""
    return curve + 0.7 * (0.13 * curve @ waves + 6 * phases).sin() @ sizes


def _fit(
    curve: Float32[Tensor, "n points 2"], radius: Float32[Tensor, "n 1"]
) -> Float32[Tensor, "n points 2"]:
    """Scales curves to pixels, so that their ink just fills the box."""
    extent = (curve.amax(1) - curve.amin(1)).amax(1, keepdim=True)
    scale = (BOX - EDGE / 2 - 2 * radius) / extent
    return (curve - curve.mean(1, keepdim=True)) * scale.unsqueeze(-1)


def _ink(
    curve: Float32[Tensor, "n points 2"],
    radii: Float32[Tensor, "n points"],
    radius: Float32[Tensor, "n 1"],
) -> Float32[Tensor, "n 28 28"]:
    """Ink in [0, 1]: a dot of its radius at each point of the curve, in pixels from the middle.

    The squared distances of all pixels to all dots, in radii, are one product of matrices:
    |p - q|^2 is linear in (|p|^2, p, 1).
    """
    axis = torch.arange(SIDE, dtype=torch.float32) - SIDE / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x**2 + y**2, x, y, torch.ones_like(x)]).flatten(1)
    one, square = torch.ones_like(curve[..., :1]), curve.square().sum(-1, keepdim=True)
    dots = torch.cat([one, -2 * curve, square], -1) / radii.square().unsqueeze(-1)
    nearest = (dots @ pixels).amin(1).clamp(min=0).sqrt()
    return (0.5 + (1 - nearest) * radius / EDGE).clamp(0, 1).unflatten(1, (SIDE, SIDE))


def _mass(ink: Float32[Tensor, "n 28 28"]) -> Float32[Tensor, "n 1 2"]:
    """The centre of mass (x, y) of images, in pixels from the middle."""
    axis = torch.arange(SIDE, dtype=torch.float32) - SIDE / 2
    moment = torch.stack([ink.sum(1) @ axis, ink.sum(2) @ axis], -1)
    return (moment / ink.sum((1, 2)).unsqueeze(-1)).unsqueeze(1)
