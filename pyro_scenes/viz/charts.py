"""Curves of trainings, lines of runs, distributions of counts."""

import re
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .panels import FONT, HEADLINE, OTHER_COLOURS, PAGE, as_array, check_mapping, source_colours

__all__ = ["bars", "curves", "lines"]

_AS_WRITTEN = {"elbo": "ELBO", "iwae": "IWAE", "mse": "MSE", "ari": "ARI", "iou": "IoU"}
_AS_WRITTEN |= {"nmi": "NMI", "fg": "of objects"}
#: Of quantities whose name has this part.
_UNITS = dict.fromkeys(("elbo", "iwae", "nats", "loss"), "nats")
_UNITS |= dict.fromkeys(("accuracy", "purity", "share", "order"), "share")


def curves(
    history: Sequence[Mapping[str, float | int | None]],
    *,
    x: str = "step",
    columns: int = 3,
    units: Mapping[str, str] | None = None,
    marks: Mapping[str, float | int] | None = None,
) -> Figure:
    """One panel for each quantity of a training's history, over ``x``; gaps where a value is missing.

    Names that differ by ``train_`` or ``validation_`` alone share a panel; names with "seconds" are left out.
    Bounds and losses are said to be in nats, accuracies to be shares.

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
    panels = _panels([key for row in history for key in row if key != x])
    rows = max(1, -(-len(panels) // columns))
    wide = max(1, min(columns, len(panels)))
    figure = Figure(figsize=(PAGE * max(wide / columns, 0.5), 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, wide, squeeze=False).ravel()
    for axis, (quantity, names) in zip(axes, panels.items(), strict=False):
        _curve(axis, history, x, names, marks or {})
        title = _words(quantity if len(names) > 1 else names[0])
        unit = (units or {}).get(names[-1]) or _unit(quantity)
        axis.set_title(title + f" ({unit})" * bool(unit), fontsize=FONT)
    for axis in axes[max(1, len(panels)) :]:
        axis.set_visible(False)
    if marks and panels:
        dashes = [line for line in axes[0].lines if line.get_linestyle() != "-"]
        figure.legend(dashes, [*marks], loc="outside lower center", ncols=4, fontsize=FONT - 1)
    return figure


def _panels(keys: list[str]) -> dict[str, list[str]]:
    """Names by quantity, in the order of their first mention."""
    panels: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        if "seconds" not in key:
            panels.setdefault(re.sub("^(train|validation)_", "", key), []).append(key)
    return panels


def _curve(
    axis: Axes,
    history: Sequence[Mapping],
    x: str,
    names: list[str],
    marks: Mapping[str, float | int],
) -> None:
    xs = [row[x] for row in history]
    for name in names:
        # None, as in JSON, is a gap as a name that is not there is.
        ys = np.array([row.get(name) for row in history], dtype=float)
        train = name.startswith("train_")
        label = "training batches" if train else "validation scenes"
        colour = "#999999" if train else OTHER_COLOURS[0]
        axis.plot(xs, ys, marker="." if len(history) < 30 else "", color=colour, label=label)
    for (_, place), dash in zip(marks.items(), cycle(("--", ":", "-.")), strict=False):
        axis.axvline(place, color="#555555", linestyle=dash, linewidth=1.2)
    axis.set_xlabel(_words(x), fontsize=FONT)
    axis.tick_params(labelsize=FONT - 1)
    axis.locator_params(axis="x", nbins=5)  # room for long numbers
    axis.grid(alpha=0.3)
    if len(names) > 1:
        axis.legend(fontsize=FONT - 2)


def _words(name: str) -> str:
    """A name as a reader writes it: "ARI of objects" for "ari_fg"."""
    return " ".join(_AS_WRITTEN.get(word, word) for word in name.split("_"))


def _unit(quantity: str) -> str:
    found = (unit for part, unit in _UNITS.items() if part in quantity.lower())
    return next(found, "")


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


def bars(
    rows: Mapping[str, ArrayLike], *, x: str = "", y: str = "share of scenes", headline: str = ""
) -> Figure:
    """Distributions over 0, 1, 2, ... side by side, a colour for each name.

    Args:
        rows: For each name the heights, (numbers,).
        x, y: What the axes are.
        headline: Above all.

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
    axis.set_title(headline, fontsize=HEADLINE)
    axis.legend(fontsize=FONT)
    return figure
