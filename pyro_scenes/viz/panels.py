"""What all figures share: colours, checked arrays, panels with one image each."""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

__all__ = [
    "FONT",
    "GAP",
    "HEADLINE",
    "LAYER_COLOURS",
    "OTHER_COLOURS",
    "PAGE",
    "SOURCE_COLOURS",
    "STEP_COLOURS",
    "UNSEEN",
    "WRONG",
    "as_array",
    "as_images",
    "check_mapping",
    "mark_wrong",
    "outline",
    "panels",
    "show",
    "source_colours",
    "unseen_key",
    "verdict",
]

#: Of the first, second and third step, as in Fig. 3b of Eslami et al. (2016); then more, and round again.
STEP_COLOURS = ("red", "lime", "deepskyblue", "orange", "magenta", "yellow")

#: Of layers, the front one first, as RGB; more layers begin again.
LAYER_COLOURS = np.array(
    [[1, 0.2, 0.2], [0.2, 0.9, 0.2], [0.3, 0.5, 1], [1, 0.8, 0.1], [0.9, 0.3, 0.9], [0.2, 0.9, 0.9]]
)

#: Of truth, guide and prior in every figure, by what a name begins with: "guide, aggregated" is the guide's.
#: Told apart without colour vision too (Okabe and Ito, 2008).
SOURCE_COLOURS = {
    "truth": "#333333",
    "observed": "#333333",
    "guide": "#0072B2",
    "posterior": "#0072B2",
    "replicate": "#0072B2",
    "prior": "#E69F00",
}

#: Of other names, in this order.
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#8C564B", "#7F7F7F")

#: Of what is wrong or out of range.
WRONG = "#D55E00"

#: Stripes of pixels that were not seen.
UNSEEN, UNSEEN_LIGHT = "#6A3D9A", "#CAB2D6"

#: Sizes of text and of headlines, in points.
FONT, HEADLINE = 10, 12

#: Width of a figure at most, and the gap between two panels, in inches. On a page 700 pixels wide, text of
#: such a figure is still 11 pixels high.
PAGE, GAP = 8.5, 0.06


def source_colours(names: list[str]) -> list[str]:
    """A colour for each name: that of its source, else one of its own."""
    colours: list[str] = []
    for name in names:
        known = (c for source, c in SOURCE_COLOURS.items() if name.lower().startswith(source))
        others = sum(c in OTHER_COLOURS for c in colours)
        colours.append(next(known, OTHER_COLOURS[others % len(OTHER_COLOURS)]))
    return colours


def as_array(values: Any) -> np.ndarray:
    """An array of numbers on the CPU, of an array, a sequence or a tensor on any device.

    Raises:
        TypeError: They are no numbers.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"needs an array or a tensor of numbers, got {type(values).__name__}")
    return array


def check_mapping(name: str, values: Any) -> None:
    """Raises a TypeError unless values are given by name."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} must be a mapping from names, got {type(values).__name__}")


def as_images(images: Any, name: str = "images") -> np.ndarray:
    """Returns them as an array (n, C, H, W), n > 0; of uint8 as floats in [0, 1].

    Raises:
        ValueError: Another rank, no images, not one or three channels, or integers that are not uint8.
    """
    array = as_array(images)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        raise ValueError(f"{name} must be floats in [0, 1] or uint8, got {array.dtype}")
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"{name} must be (n, C, H, W) with n > 0 and C = 1 or 3, got {array.shape}: give one "
            "image as image[None], grey images as images[:, None]"
        )
    return array / 255 if array.dtype == np.uint8 else array


def panels(
    heights: list[float],
    columns: int,
    *,
    width: float,
    room: tuple[float, float] = (GAP, GAP),
    left: float = 0.1,
    headline: str = "",
    key: Mapping[str, Any] | None = None,
) -> Figure:
    """A figure of rows of panels (``figure.axes``, row by row) without axes, close to one another.

    Args:
        heights: Height of each row's images, as a share of their width.
        columns: Panels in a row.
        width: Of a panel, in inches.
        room: Above the first row, and above each other one, in inches, for text.
        left: Room on the left, in inches, for the names of rows.
        headline: Above all. It is wrapped.
        key: Colours that have a meaning, by name: a legend below.
    """
    wide = left + columns * (width + GAP) + 0.1
    letters = int(max(wide, 4) / 0.095)
    lines = [part for line in headline.split("\n") for part in wrap(line, letters)]
    top, bottom = 0.08 + 0.22 * len(lines), 0.1 + (0.3 if key else 0)
    rows, (head, above) = len(heights), room
    high = top + head + sum(heights) * width + (rows - 1) * above + bottom
    figure = Figure(figsize=(wide, high))
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": left / wide,
            "right": 1 - (0.1 + GAP) / wide,
            "top": 1 - (top + head) / high,
            "bottom": bottom / high,
            "wspace": GAP / width,
            "hspace": above / (sum(heights) / rows * width),
            "height_ratios": heights,
        },
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=HEADLINE, y=1 - 0.05 / high, va="top")
    if key:
        handles = [Line2D([], [], color=colour, lw=4) for colour in key.values()]
        legend = figure.legend(handles, [*key], loc="lower center", ncols=6, fontsize=FONT)
        legend.set_frame_on(False)
    return figure


def mark_wrong(axes: Iterable[Axes], correct: np.ndarray) -> None:
    """Gives those that are not correct a coloured title and a thick frame."""
    for axis, right in zip(axes, correct, strict=False):
        if not right:
            axis.spines[:].set(visible=True, color=WRONG, linewidth=3)
            axis.title.set_color(WRONG)


def verdict(correct: np.ndarray, what: str) -> str:
    """How many are correct, in words: "23 of 24 counts right; wrong ones are marked"."""
    marks = "" if correct.all() else "; wrong ones are marked"
    return f"{correct.sum()} of {len(correct)} {what} right{marks}"


def show(axis: Axes, image: np.ndarray) -> None:
    """Draws an image (C, H, W) with a thin frame, so that white ones stand out from the paper.

    Pixels that are NaN are striped.
    """
    picture = np.clip(np.moveaxis(image, 0, -1).astype(float), 0, 1)
    if (unseen := np.isnan(picture).any(-1, keepdims=True)).any():
        rows, columns = np.indices(unseen.shape[:2])
        dark = (rows + columns)[..., None] % 4 < 2
        picture = np.where(unseen, np.where(dark, to_rgb(UNSEEN), to_rgb(UNSEEN_LIGHT)), picture)
    picture = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.spines[:].set(visible=True, linewidth=0.5, color="#999999")


def unseen_key(images: np.ndarray) -> dict[str, str]:
    """An entry of a legend, if some images (n, C, H, W) have both: pixels that are NaN, and others."""
    unseen = np.isnan(images).any(1)
    return {"not seen": UNSEEN} if (unseen.any((1, 2)) & ~unseen.all((1, 2))).any() else {}


def outline(axis: Axes, boxes: ArrayLike) -> None:
    """Draws boxes (steps, 4) in the colours of their steps; those that are not finite are left out."""
    outline = [Stroke(linewidth=2.8, foreground="black"), Normal()]
    for step, (left, top, right, bottom) in enumerate(as_array(boxes)):
        if np.isfinite([left, top, right, bottom]).all():
            colour = STEP_COLOURS[step % len(STEP_COLOURS)]
            # imshow centres the first pixel on 0.
            corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
            box = Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.5)
            # On a shape of its own colour a box would vanish.
            box.set_path_effects(outline)
            axis.add_patch(box)
