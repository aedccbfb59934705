"""Predictive checks: each image's statistic beside those of its replicates, and the p-values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .panels import FONT, HEADLINE, PAGE, SOURCE_COLOURS, WRONG, as_array

__all__ = ["predictive_checks"]

_BINS = 20


def predictive_checks(
    observed: Mapping[str, Any],
    replicates: Mapping[str, Any],
    p_values: Mapping[str, Any],
    tails: Mapping[str, Any],
) -> Figure:
    """Two panels for each statistic: replicates over the observed image by image, and a histogram of p.

    On the left the median and the central 90 % of an image's replicates stand over its own statistic: a
    calibrated model's lie across the diagonal. On the right a calibrated model's bars lie in the band, the
    expected number give or take two standard errors, if the replicates are exchangeable with the image.

    Args:
        observed: For each statistic values (n,), or (..., n) of a discrepancy, of which the mean over draws
            is shown: the group ``observed_data`` of ``criticism.statistics``.
        replicates: Values (..., n): its group ``posterior_predictive``.
        p_values: (n,), of ``criticism.p_values``. Its names are drawn.
        tails: Of ``criticism.tail_shares``: for each name its ``share``, ``expected``, ``standard_error``,
            ``low``, ``high`` and ``tail``.

    Raises:
        ValueError: No statistics, one that is not in all four, or other numbers of images.
    """
    names = [str(name) for name in p_values]
    lacking = [n for n in names for part in (observed, replicates, tails) if n not in part]
    if not names or lacking:
        raise ValueError(f"every statistic must be in all four, {lacking or 'but there are none'}")
    figure = Figure(figsize=(PAGE, 3.1 * len(names) + 0.4), layout="constrained")
    figure.suptitle(
        "Do images drawn from the model look like the observed ones?", fontsize=HEADLINE
    )
    axes = figure.subplots(len(names), 2, squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        p = as_array(p_values[name])
        true, drawn = (as_array(part[name]) for part in (observed, replicates))
        if p.ndim != 1 or {true.shape[-1:], drawn.shape[-1:]} != {p.shape}:
            shapes = f"{true.shape}, {drawn.shape} and {p.shape}"
            raise ValueError(f"{name}: observed, replicates and p are of other images: {shapes}")
        extreme = (p < tails[name].tail) | (p > 1 - tails[name].tail)
        _intervals(left, true.reshape(-1, p.size).mean(0), drawn.reshape(-1, p.size), extreme)
        left.set_title(_finding(name, tails[name]), fontsize=FONT, color=_colour(tails[name]))
        _histogram(right, p[~np.isnan(p)], tails[name], drawn.size // p.size)
    return figure


def _misfit(tails: Any) -> bool:
    return tails.share > tails.expected + 2 * tails.standard_error


def _colour(tails: Any) -> str:
    return WRONG if _misfit(tails) else "black"


def _finding(name: str, tails: Any) -> str:
    """A statistic and what the check found, in words."""
    parts = {"too much": tails.high, "too little": tails.low}
    found = [f"{word} in {share:.0%}" for word, share in parts.items() if share > tails.tail]
    words = f"replicates have {', '.join(found)} of images" if _misfit(tails) else "no misfit seen"
    return f"{name.replace('_', ' ')}\n{words}"


def _intervals(axis: Axes, true: np.ndarray, drawn: np.ndarray, extreme: np.ndarray) -> None:
    low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95], axis=0)
    kinds = {"p within": (~extreme, SOURCE_COLOURS["replicate"]), "p in a tail": (extreme, WRONG)}
    for label, (some, colour) in kinds.items():
        if some.any():
            axis.vlines(true[some], low[some], high[some], color=colour, alpha=0.4, linewidth=0.8)
            axis.plot(true[some], middle[some], ".", color=colour, alpha=0.8, label=label)
    axis.axline(
        (true.mean(), true.mean()),
        slope=1,
        color=SOURCE_COLOURS["observed"],
        linewidth=1,
        label="equal",
    )
    axis.locator_params(axis="x", nbins=5)  # room for long numbers
    axis.set_xlabel("observed image", fontsize=FONT)
    axis.set_ylabel("its replicates, central 90 %", fontsize=FONT)
    axis.margins(y=0.2)  # room for the legend
    axis.legend(fontsize=FONT - 2)


def _histogram(axis: Axes, p: np.ndarray, tails: Any, draws: int) -> None:
    # Slightly to the left, as a p that rounding puts to the left of an edge belongs to its right.
    edges = np.linspace(0, 1, _BINS + 1) - 1e-9
    edges[-1] = 1
    counts, _ = np.histogram(p, edges)
    ends = (edges[1:] <= tails.tail) | (edges[:-1] >= 1 - tails.tail - 1e-8)
    colours = np.where(ends, WRONG, SOURCE_COLOURS["replicate"])
    axis.bar(edges[:-1], counts, width=1 / _BINS, align="edge", color=colours, edgecolor="white")
    # An image has one of draws + 1 ranks, and not every bin has as many of them.
    share = np.histogram(np.arange(draws + 1) / draws, edges)[0] / (draws + 1)
    error = np.sqrt(len(p) * share * (1 - share))
    low, high = (len(p) * share - 2 * error).clip(min=0), len(p) * share + 2 * error
    label = "calibrated, ± 2 standard errors"
    axis.stairs(high, edges, baseline=low, fill=True, color="#7F7F7F", alpha=0.3, label=label)
    axis.set_ylim(0, 1.25 * max(counts.max(), high.max()))
    axis.set_xlabel("p = share of draws with T(replicate) ≥ T(observed)", fontsize=FONT)
    axis.set_ylabel("images", fontsize=FONT)
    axis.set_title(
        f"{tails.share:.0%} of images have p outside [{tails.tail:g}, {1 - tails.tail:g}]\n"
        f"calibrated: {tails.expected:.0%} ± {tails.standard_error:.0%}",
        fontsize=FONT,
        color=_colour(tails),
    )
    axis.legend(fontsize=FONT - 2)
