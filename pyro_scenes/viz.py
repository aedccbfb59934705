"""Figures from arrays. Each function returns a matplotlib Figure; save it with ``figure.savefig(path)``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

__all__ = ["STEP_COLOURS", "bars", "curves", "lines", "pictures", "scenes"]

#: Of the first, second and third step, as in Fig. 3b of Eslami et al. (2016); then more, and round again.
STEP_COLOURS = ("red", "lime", "deepskyblue", "orange", "magenta", "yellow")


def scenes(
    images: np.ndarray,
    boxes: np.ndarray | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """A sheet of images with the attention windows drawn in, the first, second, third step red, green, blue.

    Args:
        images: (n, C, H, W) in [0, 1], one channel or three.
        boxes: (n, steps, 4) ``left, top, right, bottom`` in pixels; a step that is NaN is not drawn.
        titles: A short line for each image.
        columns: Images in a row.
    """
    if len(images) == 0:
        raise ValueError("there are no images to draw")
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.65 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for index, axis in enumerate(axes):
        axis.set_axis_off()
        if index < len(images):
            _show(axis, images[index])
            axis.set_title("" if titles is None else titles[index], fontsize=7)
            _frame(axis, () if boxes is None else boxes[index])
    return figure


def pictures(
    rows: Mapping[str, np.ndarray], *, boxes: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Rows of images under one another, each with its name: ``{"image": ..., "reconstruction": ...}``.

    Args:
        rows: For each name images (n, C, H, W) in [0, 1]; n may differ.
        boxes: For some of the names boxes (n, steps, 4), as in :func:`scenes`.
    """
    wide = max((len(images) for images in rows.values()), default=0)
    if wide == 0:
        raise ValueError("there are no images to draw")
    figure = Figure(figsize=(1.2 * wide + 1, 1.25 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), wide, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_title(name, fontsize=8, loc="left")
        for index, axis in enumerate(line):
            axis.set_axis_off()
            if index < len(images):
                _show(axis, images[index])
                _frame(axis, (boxes or {}).get(name, {index: ()})[index])
    return figure


def curves(history: Sequence[Mapping[str, float | int]], *, x: str = "step") -> Figure:
    """One panel for each quantity of a training's history, over ``x``; gaps where a value is missing."""
    names = [name for name in dict.fromkeys(key for row in history for key in row) if name != x]
    figure = Figure(figsize=(4 * max(1, len(names)), 3), layout="constrained")
    for axis, name in zip(
        figure.subplots(1, len(names) or 1, squeeze=False)[0], names, strict=False
    ):
        axis.plot([row[x] for row in history], [row.get(name, np.nan) for row in history])
        axis.set_xlabel(x)
        axis.set_title(name.replace("_", " "))
        axis.grid(alpha=0.3)
    return figure


def lines(
    groups: Mapping[str, Sequence[tuple[Sequence, Sequence]]],
    *,
    x: str = "",
    y: str = "",
) -> Figure:
    """Groups of lines in one panel, a colour for each group: the runs of several models, say.

    Args:
        groups: For each name its lines, (xs, ys) each.
        x, y: What the axes are.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for index, (name, pairs) in enumerate(groups.items()):
        for number, (xs, ys) in enumerate(pairs):
            label = name if number == 0 else None
            axis.plot(xs, ys, color=f"C{index}", alpha=0.8, linewidth=1, label=label)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def bars(rows: Mapping[str, np.ndarray], *, x: str = "") -> Figure:
    """Distributions over 0, 1, 2, ... side by side, a colour for each name."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    for index, (name, heights) in enumerate(rows.items()):
        left = np.arange(len(heights)) + (index - (len(rows) - 1) / 2) * 0.8 / len(rows)
        axis.bar(left, heights, width=0.8 / len(rows), label=name)
    axis.set_xticks(np.arange(max(map(len, rows.values()))))
    axis.set_xlabel(x)
    axis.legend()
    return figure


def _show(axis: Axes, image: np.ndarray) -> None:
    picture = np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1)
    axis.imshow(
        picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1
    )


def _frame(axis: Axes, boxes: np.ndarray | Sequence) -> None:
    for step, (left, top, right, bottom) in enumerate(boxes):
        if np.isfinite([left, top, right, bottom]).all():
            colour = STEP_COLOURS[step % len(STEP_COLOURS)]
            corner = left - 0.5, top - 0.5  # imshow centres the first pixel on 0
            size = right - left, bottom - top
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, clip_on=True))
