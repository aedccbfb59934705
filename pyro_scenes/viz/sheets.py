"""Sheets of images: each beside the next with its title and boxes, or in named rows."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from textwrap import fill, wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .panels import (
    FONT,
    GAP,
    PAGE,
    STEP_COLOURS,
    as_array,
    as_images,
    check_mapping,
    mark_wrong,
    outline,
    panels,
    show,
    unseen_key,
    verdict,
)

__all__ = ["annotated", "counted", "objects_found", "pictures"]

#: Width of a letter and height of a line, in inches.
LETTER, LINE = 0.083, 0.17


def annotated(
    images: ArrayLike,
    boxes: ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    correct: ArrayLike | None = None,
    headline: str | None = None,
    columns: int = 6,
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
    marks = parts.get("correct", np.ones(len(array))).astype(bool)
    if headline is None and correct is not None:
        headline = verdict(marks, "images")
    columns = min(columns, max(3, len(array)))
    room = GAP if titles is None else LINE + 0.08
    figure = panels(
        [array.shape[2] / array.shape[3]] * -(-len(array) // columns),
        columns,
        width=min(1.8, (PAGE - 0.3) / columns - GAP),
        room=(room, room),
        headline=headline or "",
        key=_key(parts.get("boxes", np.empty((0, 0, 4)))) | unseen_key(array),
    )
    for axis, image in zip(figure.axes, array, strict=False):
        show(axis, image)
    for axis, title in zip(figure.axes, parts.get("titles", ()), strict=False):
        axis.set_title(str(title), fontsize=FONT, pad=3)
    for axis, windows in zip(figure.axes, parts.get("boxes", ()), strict=False):
        outline(axis, windows)
    mark_wrong(figure.axes, marks)
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
    found = as_array(counts)
    titles, correct, headline = _compared(found, truth)
    return annotated(images, boxes, titles=titles, correct=correct, headline=headline)


def _compared(
    found: np.ndarray, truth: ArrayLike | None
) -> tuple[list[str], np.ndarray | None, str]:
    """Counts in words, which are right, and a headline."""
    titles = [f"{n} found" for n in found.tolist()]
    if truth is None:
        least, most = found.min(), found.max()
        number = f"{least}" if least == most else f"{least} to {most}"
        return titles, None, f"{number} found in a scene"
    there = as_array(truth)
    _check({"truth": there}, len(titles), 1)
    correct = found == there
    for i in np.flatnonzero(~correct):
        titles[i] += f", {there[i]} there"
    return titles, correct, verdict(correct, "counts")


def objects_found(
    images: ArrayLike, scene: Any, truth: ArrayLike | None = None, *, size: int = 8
) -> Figure:
    """What was found in each image, from above: its windows, the reconstruction, and each object alone.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: What ``evaluation.interpret`` returns, read by the names of its fields.
        truth: (n,), the true numbers of objects, if known. Wrong counts are marked.
        size: How many images, at most: the first.
    """
    array, known = as_images(images)[:size], None if truth is None else as_array(truth)[:size]
    boxes, objects = as_array(scene.boxes)[:size], as_array(scene.objects)[:size]
    titles, correct, headline = _compared(as_array(scene.counts)[:size], known)
    rows = {"image": array, "windows found": array, "reconstruction": scene.canvas[:size]}
    drawn = {"windows found": boxes}
    for step in np.isfinite(objects).any((0, 2, 3, 4)).nonzero()[0]:
        name = f"object {step + 1} alone"
        rows[name] = objects[:, step]
        own = np.arange(boxes.shape[1])[:, None] == step
        drawn[name] = np.where(own, boxes, np.nan)
    columns = [title.replace(", ", ",\n") for title in titles]
    headline = f"Objects found one at a time: {headline}"
    return pictures(rows, boxes=drawn, columns=columns, correct=correct, headline=headline)


def _check(parts: dict[str, np.ndarray], size: int, columns: int) -> None:
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    for name, part in parts.items():
        if part.shape[:1] != (size,):
            raise ValueError(f"{name} must be one for each of {size} images, got {part.shape}")
    if "boxes" in parts and (parts["boxes"].ndim != 3 or parts["boxes"].shape[2] != 4):
        raise ValueError(f"boxes must be (n, steps, 4), got {parts['boxes'].shape}")


def _key(boxes: np.ndarray) -> dict[str, str]:
    drawn = np.isfinite(boxes).all(-1).any(0).nonzero()[0].tolist()
    ranks = {0: "1st", 1: "2nd", 2: "3rd"}
    return {
        f"{ranks.get(i, f'{i + 1}th')} window": STEP_COLOURS[i % len(STEP_COLOURS)] for i in drawn
    }


def pictures(
    rows: Mapping[str, ArrayLike],
    *,
    boxes: Mapping[str, ArrayLike] | None = None,
    columns: Sequence[str] | None = None,
    correct: ArrayLike | None = None,
    headline: str | None = None,
    key: Mapping[str, Any] | None = None,
) -> Figure:
    """Rows of images under one another, each with its name: ``{"image": ..., "reconstruction": ...}``.

    Args:
        rows: For each name images (n, C, H, W) in [0, 1]; number and size may differ from row to row. An
            image that is NaN leaves its place empty.
        boxes: For some of the names boxes (n, steps, 4), as in :func:`annotated`.
        columns: Names of the columns.
        correct: For each column, whether it is right: others are marked at the top.
        headline: Above all.
        key: Colours that have a meaning, by name. Default: those of the boxes. Unseen pixels are added.

    Raises:
        ValueError: No images, boxes of an unknown row or of another number, other numbers of columns.
    """
    check_mapping("rows", rows)
    if not rows:
        raise ValueError("rows must name at least one row of images, got none")
    arrays = {name: as_images(images, f"row {name!r}") for name, images in rows.items()}
    windows = {name: as_array(row) for name, row in (boxes or {}).items()}
    wide = max(map(len, arrays.values()))
    if columns is not None and len(columns) != wide:
        raise ValueError(f"columns must be {wide} names, got {len(columns)}")
    for name, row in windows.items():
        if name not in arrays:
            raise ValueError(f"boxes are of {name!r}, but the rows are {list(arrays)}")
        _check({"boxes": row}, len(arrays[name]), wide)
    marks = np.ones(wide, dtype=bool) if correct is None else as_array(correct).astype(bool)
    _check({"correct": marks}, wide, wide)
    colours = {**(key or _keys(windows)), **ChainMap(*map(unseen_key, arrays.values()))}
    figure = _grid(arrays, columns, headline or "", colours)
    axes = [figure.axes[i : i + wide] for i in range(0, len(arrays) * wide, wide)]
    for line, (name, array) in zip(axes, arrays.items(), strict=True):
        for axis, image in zip(line, array, strict=False):
            if not np.isnan(image).all():
                show(axis, image)
        for axis, each in zip(line, windows.get(name, ()), strict=False):
            outline(axis, each)
    mark_wrong(axes[0], marks)
    return figure


def _keys(windows: Mapping[str, np.ndarray]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for each in windows.values():
        keys |= _key(each)
    return keys


def _grid(
    arrays: dict[str, np.ndarray],
    columns: Sequence[str] | None,
    headline: str,
    key: Mapping[str, Any],
) -> Figure:
    """Panels with the names of rows and columns, as wide as the page has room."""
    wide = max(map(len, arrays.values()))
    names = [fill(name, 18) for name in arrays]
    left = 0.15 + LETTER * max(len(line) for name in names for line in name.split("\n"))
    width = min(1.4, (PAGE - left - 0.1) / wide - GAP)
    letters = max(4, int(width / LETTER))
    heads = [
        "\n".join(
            part
            for line in str(head).split("\n")
            for part in wrap(line, letters, break_long_words=False)
        )
        for head in columns or ()
    ]
    lines = max((head.count("\n") + 1 for head in heads), default=0)
    heights = [array.shape[2] / array.shape[3] for array in arrays.values()]
    room = LINE * lines + 0.08, GAP
    figure = panels(heights, wide, width=width, room=room, left=left, headline=headline, key=key)
    for axis, name in zip(figure.axes[::wide], names, strict=True):
        axis.set_ylabel(name, fontsize=FONT, rotation=0, ha="right", va="center")
    for axis, text in zip(figure.axes, heads, strict=False):
        axis.set_title(text, fontsize=FONT, pad=3)
    return figure
