"""What figures of scenes taken apart are made of: the layers' shares of pixels, shapes, colours and names."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .panels import LAYER_COLOURS, as_array

__all__ = ["Parts", "in_colours", "layer_name", "like_regions", "parts_of"]


class Parts(NamedTuple):
    """What the figures need, of a Decomposition or of Layers; front layer first."""

    regions: np.ndarray  # (n, layers, H, W), what each layer takes of a pixel
    masks: np.ndarray  # (n, layers, H, W), its opacity
    complete: np.ndarray  # (n, layers, C, H, W), with the hidden parts
    visible: np.ndarray  # (n, layers, C, H, W)
    canvas: np.ndarray  # (n, C, H, W)

    def has_background(self) -> bool:
        """Whether the last layer is opaque everywhere."""
        return bool((self.masks[:, -1] > 0.5).all())


def parts_of(scene: Any, images: np.ndarray) -> Parts:
    """Reads them by the names of the scene's fields.

    Raises:
        ValueError: It has no such fields, or is of other images.
    """
    names = getattr(scene, "_fields", ())
    if {"regions", "masks", "colours", "canvas"} <= set(names):
        regions, masks, colours = map(as_array, (scene.regions, scene.masks, scene.colours))
        complete, visible = (shares[:, :, None] * colours for shares in (masks, regions))
    elif {"masks", "complete", "visible", "canvas"} <= set(names):
        masks = as_array(scene.masks).max(2)
        before = np.concatenate([np.ones_like(masks[:, :1]), 1 - masks[:, :-1]], 1)
        regions = before.cumprod(1) * masks
        complete, visible = as_array(scene.complete), as_array(scene.visible)
    else:
        raise ValueError(
            "scene must be what evaluation.decompose or evaluation.see_layers returns, got "
            f"{type(scene).__name__}"
        )
    parts = Parts(regions, masks, complete, visible, as_array(scene.canvas))
    if parts.canvas.shape != images.shape:
        raise ValueError(f"scene is of {parts.canvas.shape}, images are {images.shape}")
    return parts


def layer_name(index: int) -> str:
    return "layer 1 (front)" if index == 0 else f"layer {index + 1}"


def in_colours(shares: ArrayLike, *, dark_last: bool = False) -> np.ndarray:
    """Pictures (n, 3, H, W) of shares (n, layers, H, W) of pixels, each layer in its colour.

    Args:
        shares: In [0, 1]; where they sum to less than 1, black shows through.
        dark_last: Whether the last layer, a background, is dark grey.
    """
    array = as_array(shares)
    if array.ndim != 4:
        raise ValueError(f"shares must be (n, layers, H, W), got {array.shape}")
    colours = LAYER_COLOURS[np.arange(array.shape[1]) % len(LAYER_COLOURS)]
    colours[-1:] = 0.15 if dark_last else colours[-1:]
    return np.einsum("nlhw,lc->nchw", array, colours).clip(0, 1)


def like_regions(truth: ArrayLike, parts: Parts) -> tuple[np.ndarray, bool]:
    """Pictures (n, 3, H, W) of true visible regions (n, objects, H, W), in the colours of their layers.

    An object has the colour of the layer that takes most of it; white if none takes half of it.

    Returns:
        The pictures, and whether there are such white ones.
    """
    objects, layers = as_array(truth).astype(float), parts.regions
    if parts.has_background():
        layers = layers[:, :-1]
    if objects.ndim != 4:
        raise ValueError(f"true regions must be (n, objects, H, W), got {objects.shape}")
    taken = np.einsum("nohw,nlhw->nol", objects, layers)
    colours = LAYER_COLOURS[taken.argmax(2) % len(LAYER_COLOURS)]
    missed = taken.max(2) < objects.sum((2, 3)) / 2
    colours = np.where(missed[..., None], 1.0, colours)
    return np.einsum("nohw,noc->nchw", objects, colours).clip(0, 1), bool(missed.any())
