"""Samples of given experts: layer by layer, from the back to the front."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .panels import as_array
from .sheets import pictures

__all__ = ["painted_layers"]


def painted_layers(
    sample: Any, *, names: Sequence[str] = (), headline: str | None = None
) -> Figure:
    """Scenes after each layer that is put in front; the last row is the scene.

    A layer that paints nothing in any of them has no row.

    Args:
        sample: Of ``evaluation.paint``: its ``layers`` (n, layers, C, H, W) are premultiplied, its ``masks``
            (n, layers, 1, H, W) their opacities, front first.
        names: What each layer is, front first.
        headline: Above all.

    Raises:
        ValueError: Other numbers of names.
    """
    if not (hasattr(sample, "layers") and hasattr(sample, "masks")):
        raise TypeError(
            f"sample must be what evaluation.paint returns, got {type(sample).__name__}"
        )
    layers, masks = as_array(sample.layers), as_array(sample.masks)
    if names and len(names) != layers.shape[1]:
        raise ValueError(
            f"names must be one for each of {layers.shape[1]} layers, got {len(names)}"
        )
    canvas = np.zeros_like(layers[:, 0])
    rows: dict[str, np.ndarray] = {}
    for i in reversed(range(layers.shape[1])):
        canvas = layers[:, i] + (1 - masks[:, i]) * canvas
        if masks[:, i].any():
            what = f"layer {i + 1}" + (f" ({names[i]})" if names else "")
            rows[f"{what} in front" if rows else f"{what} at the back"] = canvas
    return pictures(rows or {"nothing is painted": canvas}, headline=headline)
