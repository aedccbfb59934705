"""Multi-digit scenes (Eslami et al., 2016, Sec. II): a few digits scattered on a canvas.

Digits come from :func:`mnist` or :func:`strokes`. Two kinds of scene, to be kept apart in every table:

``touching``
    No summed pixel exceeds full ink. This is what other implementations call non-overlapping; digits
    may stand edge to edge and their boxes overlap.
``disjoint``
    The digits' tight boxes do not overlap.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from ..render import place
from .images import LabelledImages, check_digits
from .limits import check_memory, check_whole, seeded
from .paint import check_crowding, tight_boxes
from .scenes import Scenes

__all__ = ["multi_digits"]

KINDS = ("touching", "disjoint")
#: Scenes made at a time, to bound memory.
CHUNK = 4096
#: One arrangement of digits in so many must fit the canvas, judged after so many have been drawn.
RAREST, TRIALS = 300, 2000
#: Width in pixels of the smallest digits (:func:`_poses`).
SMALLEST = 28 / 1.6


def multi_digits(
    digits: LabelledImages,
    size: int,
    *,
    counts: Sequence[int] = (0, 1, 2),
    kind: str = "touching",
    canvas: int = 50,
    seed: int = 0,
) -> Scenes:
    """Scatters digits on square canvases, at sizes of about 28 / 1.3 pixels.

    Arrangements are drawn until they fit, so that counts are as frequent as they should be.

    Args:
        digits: Images and labels.
        size: Number of scenes.
        counts: The numbers of digits in a scene, each with equal probability.
        kind: ``touching`` or ``disjoint``.
        canvas: Side of a scene, in pixels; at least 32.
        seed: The scenes are a function of the digits and the arguments alone.

    Returns:
        Scenes with images uint8 (size, 1, canvas, canvas), counts, labels and boxes.

    Raises:
        ValueError: An unknown kind, numbers that are not whole or too small, other digits or one without
            ink, digits that do not fit the canvas or of whose random arrangements fewer than one in 300
            does, or more scenes than memory holds.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    check_whole(size=size)
    check_whole(32, canvas=canvas)
    check_digits(digits)
    _check_counts(counts, canvas)
    pixels = canvas**2 * (size + 24 * min(CHUNK, size) * max(counts))
    check_memory(pixels, f"{size} scenes")
    generator = seeded(seed)
    chunks = [
        _chunk(digits, min(CHUNK, size - first), counts, kind, canvas, generator)
        for first in range(0, size, CHUNK)
    ]
    return Scenes(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _check_counts(counts: Sequence[int], canvas: int) -> None:
    if not isinstance(counts, Sequence) or not counts:
        raise ValueError(f"counts must be a list of one number or more, got {counts!r}")
    for count in counts:
        check_whole(0, counts=count)
    check_crowding("digits", max(counts), SMALLEST, canvas, times=2)


def _chunk(
    digits: LabelledImages,
    size: int,
    counts: Sequence[int],
    kind: str,
    canvas: int,
    generator: torch.Generator,
) -> tuple[
    UInt8[Tensor, "n 1 {canvas} {canvas}"],
    Int64[Tensor, " n"],
    Int64[Tensor, "n most"],
    Float32[Tensor, "n most 4"],
]:
    """Images, counts, labels and boxes."""
    pictures, classes = digits
    most = max(1, *counts)
    n = torch.tensor(counts)[torch.randint(len(counts), (size,), generator=generator)]
    present = torch.arange(most) < n[:, None]
    layers = torch.zeros(size, most, 1, canvas, canvas, dtype=torch.float32)
    labels = torch.full((size, most), -1)
    crowded = n == n.max()
    trials, todo = 0, torch.arange(size)
    while len(todo):
        chosen = torch.randint(len(pictures), (len(todo), most), generator=generator)
        poses = _poses(len(todo), most, canvas, generator)
        drawn = place(pictures[chosen].unsqueeze(2).float(), poses, (1, canvas, canvas)).round()
        layers[todo] = drawn * present[todo][..., None, None, None]
        labels[todo] = classes[chosen].long().where(present[todo], -1)
        trials += int(crowded[todo].sum())
        todo = todo[~_apart(layers[todo], kind)]
        fitting = int(crowded.sum() - crowded[todo].sum())
        if trials > max(TRIALS, RAREST * (fitting + 1)):
            raise ValueError(
                f"{n.max()} digits do not fit a canvas of {canvas} pixels ({kind}): fewer than one "
                f"arrangement in {RAREST} does; take fewer digits or a larger canvas"
            )
    images = layers.sum(1).clamp(max=255).to(torch.uint8)
    return images, n, labels, tight_boxes(layers.squeeze(2) > 0)


def _poses(
    size: int, most: int, canvas: int, generator: torch.Generator
) -> Float32[Tensor, "n most 3"]:
    """Poses of digits 28 / s pixels wide, s ~ Normal(1.3, 0.1), wholly on the canvas."""
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float32}
    shrink = 1.3 + 0.1 * torch.randn(size, most, 1, **options).clamp(-3, 3)
    scale = canvas * shrink / 28
    centre = (2 * torch.rand(size, most, 2, **options) - 1) * (1 - 1 / scale)
    return torch.cat([scale, -scale * centre], -1)


def _apart(layers: Float32[Tensor, "n most 1 h w"], kind: str) -> Bool[Tensor, " n"]:
    """Which scenes keep their digits as far apart as their kind demands."""
    if kind == "touching":
        return (layers.sum(1) <= 255).flatten(1).all(1)
    # Which pixels of each axis a box spans.
    rows, columns = (layers.amax((2, axis)) > 0 for axis in (4, 3))
    return ~(_share(_span(rows)) & _share(_span(columns))).flatten(1).any(1)


def _span(inked: Bool[Tensor, "*batch pixels"]) -> Bool[Tensor, "*batch pixels"]:
    """Fills the gaps between a digit's first and last inked row."""
    return (inked.cumsum(-1) > 0) & (inked.flip(-1).cumsum(-1).flip(-1) > 0)


def _share(spans: Bool[Tensor, "n most pixels"]) -> Bool[Tensor, "n most most"]:
    """Which pairs (i, j), i < j, of spans have a pixel in common."""
    both = torch.einsum("bip,bjp->bij", spans.float(), spans.float()) > 0
    return both.triu(diagonal=1)
