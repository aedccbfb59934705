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
from torch import Tensor

from ..render import place
from .scenes import Scenes, check_digits, tight_boxes

__all__ = ["multi_digits"]

KINDS = ("touching", "disjoint")
CHUNK = 4096  # scenes made at a time, to bound memory


def multi_digits(
    digits: tuple[Tensor, Tensor],
    size: int,
    *,
    counts: Sequence[int] = (0, 1, 2),
    kind: str = "touching",
    canvas: int = 50,
    seed: int = 0,
) -> Scenes:
    """Scatters digits on square canvases, at sizes of about 28 / 1.3 pixels.

    Args:
        digits: Images uint8 (m, h, w), labels (m,).
        size: Number of scenes.
        counts: The numbers of digits in a scene, each with equal probability.
        kind: ``touching`` or ``disjoint``.
        canvas: Side of a scene, in pixels; at least 32.
        seed: The scenes are a function of the digits and the arguments alone.

    Returns:
        Scenes with images uint8 (size, 1, canvas, canvas), counts, labels and boxes.

    Raises:
        ValueError: An unknown kind, or digits that do not fit the canvas.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if canvas < 32 or size < 1 or not counts or min(counts) < 0:
        raise ValueError("needs canvas >= 32 pixels, size >= 1 and counts of 0 or more")
    check_digits(digits)
    generator = torch.Generator().manual_seed(seed)
    chunks = [
        _chunk(digits, min(CHUNK, size - first), counts, kind, canvas, generator)
        for first in range(0, size, CHUNK)
    ]
    return Scenes(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _chunk(
    digits: tuple[Tensor, Tensor],
    size: int,
    counts: Sequence[int],
    kind: str,
    canvas: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pictures, classes = digits
    most = max(1, *counts)
    n = torch.tensor(counts)[torch.randint(len(counts), (size,), generator=generator)]
    present = torch.arange(most) < n[:, None]
    layers = torch.zeros(size, most, 1, canvas, canvas, dtype=torch.float32)
    labels = torch.full((size, most), -1)
    todo = torch.arange(size)
    for _ in range(1000):
        chosen = torch.randint(len(pictures), (len(todo), most), generator=generator)
        poses = _poses(len(todo), most, canvas, generator)
        drawn = place(pictures[chosen].unsqueeze(2).float(), poses, (1, canvas, canvas)).round()
        layers[todo] = drawn * present[todo][..., None, None, None]
        labels[todo] = classes[chosen].long().where(present[todo], -1)
        todo = todo[~_apart(layers[todo], kind)]
        if len(todo) == 0:
            images = layers.sum(1).clamp(max=255).to(torch.uint8)
            return images, n, labels, tight_boxes(layers.squeeze(2) > 0)
    raise ValueError(f"{most} digits do not fit a canvas of {canvas} pixels ({kind})")


def _poses(size: int, most: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Poses of digits 28 / s pixels wide, s ~ Normal(1.3, 0.1), wholly on the canvas."""
    how: dict[str, Any] = {"generator": generator, "dtype": torch.float32}
    shrink = 1.3 + 0.1 * torch.randn(size, most, 1, **how).clamp(-3, 3)
    scale = canvas * shrink / 28
    centre = (2 * torch.rand(size, most, 2, **how) - 1) * (1 - 1 / scale)
    return torch.cat([scale, -scale * centre], -1)


def _apart(layers: Tensor, kind: str) -> Tensor:
    if kind == "touching":
        return (layers.sum(1) <= 255).flatten(1).all(1)
    # Which pixels of each axis a box spans.
    rows, columns = (layers.amax((2, axis)) > 0 for axis in (4, 3))
    return ~(_share(_span(rows)) & _share(_span(columns))).flatten(1).any(1)


def _span(inked: Tensor) -> Tensor:
    """Fills the gaps between a digit's first and last inked row (..., pixels)."""
    return (inked.cumsum(-1) > 0) & (inked.flip(-1).cumsum(-1).flip(-1) > 0)


def _share(spans: Tensor) -> Tensor:
    """Which pairs (i, j), i < j, of spans (size, most, pixels) have a pixel in common."""
    both = torch.einsum("bip,bjp->bij", spans.float(), spans.float()) > 0
    return both.triu(diagonal=1)
