"""Sheets of images: each beside the next with its title and boxes, or in named rows."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from .panels import (
    FONT,
    STEP_COLOURS,
    WRONG,
    as_array,
    as_images,
    check_mapping,
    outline,
    panels,
    show,
)

__all__ = ["annotated", "counted", "pictures"]


def annotated(
    images: ArrayLike,
    boxes: ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    correct: ArrayLike | None = None,
    headline: str | None = None,
    columns: int = 8,
) -> Figure:
    """A sheet of images with attention windows in the colours of their steps, and wrong ones marked.

    Args:
        images: (n, C, H, W) in [0, 1].
        boxes: (n, steps, 4) ``left, top, right, bottom`` in pixels; a step that is NaN is not drawn.
        titles: A short line for each image.
        correct: (n,) bool: whether what is said of an image is right. Others get a coloured title and frame.
        headline: Above all. Default: how many are right, if ``correct`` is given.
        columns: Images in a row, at least 1.

    Raises:
        ValueError: Arguments not as above.
    """
    array = as_images(images)
    each = {"boxes": boxes, "correct": correct}
    parts = {name: as_array(part) for name, part in each.items() if part is not None}
    if titles is not None:
        parts["titles"] = np.asarray(titles)
    _check(parts, len(array), columns)
    rows = -(-len(array) // columns)
    height = array.shape[2] / array.shape[3]
    figure = panels([height] * rows, columns, width=1.5, margin=0.3 if titles else 0.05)
    marks = parts.get("correct", np.ones(len(array), dtype=bool)).astype(bool)
    for axis, image in zip(figure.axes, array, strict=False):
        show(axis, image)
    for axis, title in zip(figure.axes, parts.get("titles", ()), strict=False):
        axis.set_title(str(title), fontsize=FONT)
    for axis, mark in zip(figure.axes, marks, strict=False):
        if not mark:
            axis.spines[:].set(color=WRONG, linewidth=3)
            axis.title.set_color(WRONG)
    for axis, windows in zip(figure.axes, parts.get("boxes", ()), strict=False):
        outline(axis, windows)
    if headline is None and correct is not None:
        headline = f"{marks.sum()} of {len(array)} right"
    figure.suptitle(headline or "", fontsize=FONT + 2)
    _step_legend(figure, parts.get("boxes", np.empty((0, 0, 4))))
    return figure


def counted(
    images: ArrayLike, boxes: ArrayLike, counts: ArrayLike, truth: ArrayLike | None = None
) -> Figure:
    """A sheet of images with attention windows and the number of objects found, wrong numbers marked.

    Args:
        images: (n, C, H, W) in [0, 1].
        boxes: (n, steps, 4), as in :func:`annotated`.
        counts: (n,), the numbers found.
        truth: (n,), the true numbers, if known.

    Raises:
        ValueError: Arguments not as above.
    """
    titles = [f"{n} found" for n in as_array(counts).tolist()]
    if truth is None:
        return annotated(images, boxes, titles=titles)
    _check({"truth": as_array(truth)}, len(titles), 1)
    correct = as_array(counts) == as_array(truth)
    for i in np.flatnonzero(~correct):
        titles[i] += f", {as_array(truth)[i]} there"
    headline = f"{correct.sum()} of {len(titles)} counted right"
    return annotated(images, boxes, titles=titles, correct=correct, headline=headline)


def _check(parts: dict[str, np.ndarray], size: int, columns: int) -> None:
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    for name, part in parts.items():
        if part.shape[:1] != (size,):
            raise ValueError(f"{name} must be one for each of {size} images, got {part.shape}")
    if "boxes" in parts and (parts["boxes"].ndim != 3 or parts["boxes"].shape[2] != 4):
        raise ValueError(f"boxes must be (n, steps, 4), got {parts['boxes'].shape}")


def _step_legend(figure: Figure, boxes: np.ndarray) -> None:
    drawn = np.isfinite(boxes).all(-1).any(0).nonzero()[0].tolist()
    if drawn:
        handles = [Line2D([], [], color=STEP_COLOURS[i % len(STEP_COLOURS)], lw=3) for i in drawn]
        figure.legend(
            handles,
            [f"step {i + 1}" for i in drawn],
            loc="outside lower center",
            ncols=6,
            fontsize=FONT,
            frameon=False,
        )


def pictures(
    rows: Mapping[str, ArrayLike],
    *,
    boxes: Mapping[str, ArrayLike] | None = None,
    columns: Sequence[str] | None = None,
    headline: str | None = None,
) -> Figure:
    """Rows of images under one another, each with its name: ``{"image": ..., "reconstruction": ...}``.

    Args:
        rows: For each name images (n, C, H, W) in [0, 1]; number and size may differ from row to row. An
            image that is NaN leaves its place empty.
        boxes: For some of the names boxes (n, steps, 4), as in :func:`annotated`.
        columns: Names of the columns.
        headline: Above all.

    Raises:
        ValueError: No images, boxes of an unknown row or of another number, other numbers of columns.
    """
    check_mapping("rows", rows)
    if not rows:
        raise ValueError("rows must name at least one row of images, got none")
    arrays = {name: as_images(images, f"row {name!r}") for name, images in rows.items()}
    wide = max(map(len, arrays.values()))
    if columns is not None and len(columns) != wide:
        raise ValueError(f"columns must be {wide} names, got {len(columns)}")
    for name, row in (boxes or {}).items():
        if name not in arrays:
            raise ValueError(f"boxes are of {name!r}, but the rows are {list(arrays)}")
        _check({"boxes": as_array(row)}, len(arrays[name]), wide)
    heights = [array.shape[2] / array.shape[3] for array in arrays.values()]
    figure = panels(heights, wide, width=min(1.5, 14 / wide), margin=0.02)
    # Room on the left for the names of rows.
    figure.set_figwidth(figure.get_figwidth() + 1.4)
    axes = [figure.axes[i : i + wide] for i in range(0, len(arrays) * wide, wide)]
    for line, (name, array) in zip(axes, arrays.items(), strict=True):
        label = fill(name, 18)
        line[0].set_ylabel(label, fontsize=FONT, rotation=0, ha="right", va="center")
        for axis, image in zip(line, array, strict=False):
            if not np.isnan(image).all():
                show(axis, image)
        for axis, windows in zip(line, as_array((boxes or {}).get(name, ())), strict=False):
            outline(axis, windows)
    for axis, column in zip(axes[0], columns or (), strict=False):
        axis.set_title(column, fontsize=FONT)
    figure.suptitle(headline or "", fontsize=FONT + 2)
    return figure
