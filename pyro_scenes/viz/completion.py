"""Hidden objects: what is visible of them, what a model completes, and the truth."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .panels import as_array, as_images
from .parts import layer_name, parts_of
from .sheets import pictures

__all__ = ["completion", "hidden_objects", "most_hidden"]


def completion(
    images: ArrayLike,
    scene: Any,
    *,
    layer: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    headline: str | None = None,
) -> Figure:
    """Objects that others hide: what is visible of them, what the model completes, and the true shape.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        layer: Which layers to draw of each scene, (n, objects), or (n,) for one. Default: all.
        truth: True full shapes of these objects, (n, objects, H, W), or (n, H, W) for one.
        headline: Above all.
    """
    array = as_images(images)
    parts = parts_of(scene, array)
    size, layers = parts.masks.shape[:2]
    which = np.arange(layers)[None].repeat(size, 0) if layer is None else as_array(layer)
    which = which[:, None] if which.ndim == 1 else which
    if len(which) != size or which.min() < 0 or which.max() >= layers:
        raise ValueError(f"layer must be numbers below {layers} for each of {size} scenes")
    shapes = None if truth is None else as_array(truth).reshape(-1, 1, *array.shape[2:])
    if shapes is not None and len(shapes) != which.size:
        wanted = (*which.shape, *array.shape[2:])
        raise ValueError(f"truth must be {wanted}, got {as_array(truth).shape}")
    rows = {"image": array}
    for i, number in enumerate(which.T):
        one, all_layers = which.shape[1] == 1, layer is None
        name = "object" if one else layer_name(i) if all_layers else f"object {i + 1}"
        rows[f"{name}, visible"] = parts.visible[np.arange(size), number]
        rows[f"{name}, completed"] = parts.complete[np.arange(size), number]
        if shapes is not None:
            rows[f"{name}, true shape"] = shapes[i :: which.shape[1]]
    return pictures(rows, headline=headline)


def most_hidden(
    masks: ArrayLike, visible: ArrayLike, *, size: int = 8, least: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """The scenes with the most hidden objects, for :func:`completion`: hard ones, not typical ones.

    Args:
        masks: Full shapes (n, objects, H, W), bool; empty ones are padding.
        visible: The parts of them that are seen, bool.
        size: How many scenes, at most.
        least: Share of an object that must be visible, in [0, 1]: else there is nothing to complete.

    Returns:
        Numbers of the scenes, and of the object in each.
    """
    arrays = [as_array(part) for part in (masks, visible)]
    if arrays[0].ndim != 4 or arrays[0].shape != arrays[1].shape:
        got = f"{arrays[0].shape} and {arrays[1].shape}"
        raise ValueError(f"masks and visible must be alike, (n, objects, H, W), got {got}")
    full, seen = (part.sum((2, 3)).astype(float) for part in arrays)
    share = np.where((full > 0) & (seen > least * full), seen / full.clip(min=1), 1.0)
    scenes = share.min(1).argsort(kind="stable")[:size]
    return scenes, share.argmin(1)[scenes]


def hidden_objects(
    images: ArrayLike,
    scene: Any,
    masks: ArrayLike,
    visible: ArrayLike,
    *,
    size: int = 8,
    headline: str | None = None,
) -> Figure:
    """The :func:`completion` of the :func:`most_hidden` objects, by the layer that takes most of each.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        masks: Full shapes (n, objects, H, W), bool.
        visible: The parts of them that are seen, bool.
        size: How many objects, at most.
        headline: Above all.
    """
    array = as_images(images)
    regions = parts_of(scene, array).regions
    scenes, objects = most_hidden(masks, visible, size=size)
    truth, seen = (as_array(part)[scenes, objects] for part in (masks, visible))
    hard = type(scene)(*(as_array(part)[scenes] for part in scene))
    layer = (regions[scenes] * seen[:, None]).sum((2, 3)).argmax(1)
    return completion(array[scenes], hard, layer=layer, truth=truth, headline=headline)
