"""Curves of trainings, lines of runs, distributions of counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .panels import FONT, as_array, check_mapping, source_colours

__all__ = ["bars", "curves", "lines"]


def curves(
    history: Sequence[Mapping[str, float | int | None]],
    *,
    x: str = "step",
    columns: int = 4,
    units: Mapping[str, str] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """One panel for each quantity of a training's history, over ``x``; gaps where a value is missing.

    Bounds are said to be in nats. Costs (names with "seconds") are left out.

    Args:
        history: A record for each evaluation.
        x: The quantity along the horizontal axis.
        columns: Panels in a row, at least 1.
        units: Of further quantities.
        marks: Places along x that have a name: ``{"warm-up ends": 500}``.

    Raises:
        ValueError: ``columns`` below 1, or a record without ``x``.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    for row in history:
        check_mapping("each record of the history", row)
    if any(x not in row for row in history):
        raise ValueError(f"each record of the history must have {x!r}")
    keys = dict.fromkeys(key for row in history for key in row)
    names = [name for name in keys if name != x and "seconds" not in name]
    rows = max(1, -(-len(names) // columns))
    columns = max(1, min(columns, len(names)))
    figure = Figure(figsize=(3.5 * columns, 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        xs = [row[x] for row in history]
        # None, as in JSON, is a gap as a name that is not there is.
        ys = np.array([row.get(name) for row in history], dtype=float)
        axis.plot(xs, ys, marker="." if len(history) < 30 else "")
        unit = (units or {}).get(name) or ("nats" if _is_bound(name) else "")
        axis.set_title(name.replace("_", " ") + f" ({unit})" * bool(unit), fontsize=FONT)
        axis.set_xlabel(x.replace("_", " "))
        axis.grid(alpha=0.3)
        for label, place in (marks or {}).items():
            axis.axvline(place, color="#7F7F7F", linestyle="--", linewidth=1, label=label)
            axis.legend(fontsize=FONT - 2)
    for axis in axes[max(1, len(names)) :]:
        axis.set_visible(False)
    return figure


def _is_bound(name: str) -> bool:
    return any(bound in name.lower() for bound in ("elbo", "iwae", "nats"))


def lines(
    groups: Mapping[str, Sequence[tuple[Sequence, Sequence]]],
    *,
    x: str = "",
    y: str = "",
) -> Figure:
    """Groups of lines in one panel, a colour for each group: the runs of several models, say.

    Args:
        groups: For each name its lines, (xs, ys) each.
        x, y: What the axes are, with units.

    Raises:
        ValueError: No groups, or a line of other numbers of xs and ys.
    """
    check_mapping("groups", groups)
    if not groups:
        raise ValueError("groups must name at least one group of lines, got none")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    colours = source_colours(list(groups))
    for (name, pairs), colour in zip(groups.items(), colours, strict=True):
        for number, (xs, ys) in enumerate(pairs):
            if len(xs) != len(ys):
                raise ValueError(f"a line of {name!r} has {len(xs)} xs and {len(ys)} ys")
            label = name if number == 0 else None
            axis.plot(xs, ys, color=colour, alpha=0.8, linewidth=1.2, label=label)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=FONT)
    return figure


def bars(rows: Mapping[str, ArrayLike], *, x: str = "", y: str = "share") -> Figure:
    """Distributions over 0, 1, 2, ... side by side, a colour for each name.

    Args:
        rows: For each name the heights, (numbers,).
        x, y: What the axes are.

    Raises:
        ValueError: No rows, or heights that are no vector of numbers.
    """
    check_mapping("rows", rows)
    arrays = {name: as_array(heights) for name, heights in rows.items()}
    wrong = [name for name, heights in arrays.items() if heights.ndim != 1 or not heights.size]
    if wrong or not arrays:
        raise ValueError(f"rows must name vectors of heights, got {wrong or 'none'}")
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    colours = source_colours(list(arrays))
    for index, (name, heights) in enumerate(arrays.items()):
        left = np.arange(len(heights)) + (index - (len(arrays) - 1) / 2) * 0.8 / len(arrays)
        axis.bar(left, heights, width=0.8 / len(arrays), label=name, color=colours[index])
    axis.set_xticks(np.arange(max(map(len, arrays.values()))))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend(fontsize=FONT)
    return figure
