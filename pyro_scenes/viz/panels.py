"""What all figures share: colours, checked arrays, panels with one image each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

__all__ = [
    "FONT",
    "LAYER_COLOURS",
    "SOURCE_COLOURS",
    "STEP_COLOURS",
    "WRONG",
    "as_array",
    "as_images",
    "check_mapping",
    "outline",
    "panels",
    "show",
    "source_colours",
]

#: Of the first, second and third step, as in Fig. 3b of Eslami et al. (2016); then more, and round again.
STEP_COLOURS = ("red", "lime", "deepskyblue", "orange", "magenta", "yellow")

#: Of layers, the front one first, as RGB; more layers begin again.
LAYER_COLOURS = np.array(
    [[1, 0.2, 0.2], [0.2, 0.9, 0.2], [0.3, 0.5, 1], [1, 0.8, 0.1], [0.9, 0.3, 0.9], [0.2, 0.9, 0.9]]
)

#: Of what a name begins with. Told apart without colour vision too (Okabe and Ito, 2008).
SOURCE_COLOURS = {
    "truth": "#333333",
    "observed": "#333333",
    "guide": "#0072B2",
    "posterior": "#0072B2",
    "replicate": "#0072B2",
    "prior": "#E69F00",
}
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#8C564B", "#7F7F7F")

#: Of what is wrong or out of range.
WRONG = "#D55E00"

#: Size of text, in points.
FONT = 10


def source_colours(names: list[str]) -> list[str]:
    """A colour for each name: that of its source, else one of its own."""
    colours: list[str] = []
    for name in names:
        known = (c for source, c in SOURCE_COLOURS.items() if name.lower().startswith(source))
        others = sum(c in _OTHER_COLOURS for c in colours)
        colours.append(next(known, _OTHER_COLOURS[others % len(_OTHER_COLOURS)]))
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


def panels(heights: list[float], columns: int, *, width: float, margin: float = 0.3) -> Figure:
    """A figure of rows of panels (``figure.axes``, row by row) without axes, close to one another.

    Args:
        heights: Height of each row's images, as a share of their width.
        columns: Panels in a row.
        width: Of a panel, in inches.
        margin: Height above each row for text, in inches.
    """
    inches = sum(heights) * width + margin * len(heights) + 0.3
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(width * columns + 0.3, inches), layout=layout)
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def show(axis: Axes, image: np.ndarray) -> None:
    """Draws an image (C, H, W) with a thin frame, so that white ones stand out from the paper."""
    picture = np.clip(np.moveaxis(image, 0, -1).astype(float), 0, 1)
    picture = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.spines[:].set(visible=True, linewidth=0.5, color="#999999")


def outline(axis: Axes, boxes: ArrayLike) -> None:
    """Draws boxes (steps, 4) in the colours of their steps; those that are not finite are left out."""
    outline = [Stroke(linewidth=3, foreground="black"), Normal()]
    for step, (left, top, right, bottom) in enumerate(as_array(boxes)):
        if np.isfinite([left, top, right, bottom]).all():
            colour = STEP_COLOURS[step % len(STEP_COLOURS)]
            # imshow centres the first pixel on 0.
            corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
            box = Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.5)
            # On a shape of its own colour a box would vanish.
            box.set_path_effects(outline)
            axis.add_patch(box)
