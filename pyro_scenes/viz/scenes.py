"""Scenes taken apart: their layers, in order and complete, beside the truth."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .panels import LAYER_COLOURS, as_array, as_images
from .sheets import pictures

__all__ = [
    "completion",
    "explanations",
    "hidden_objects",
    "in_colours",
    "layer_by_layer",
    "most_hidden",
    "taken_apart",
]


class _Parts(NamedTuple):
    """What the figures need, of a Decomposition or of Layers; front layer first."""

    regions: np.ndarray  # (n, layers, H, W), what each layer takes of a pixel
    masks: np.ndarray  # (n, layers, H, W), its opacity
    complete: np.ndarray  # (n, layers, C, H, W), with the hidden parts
    visible: np.ndarray  # (n, layers, C, H, W)
    canvas: np.ndarray  # (n, C, H, W)


def _parts(scene: Any, images: np.ndarray) -> _Parts:
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
    parts = _Parts(regions, masks, complete, visible, as_array(scene.canvas))
    if parts.canvas.shape != images.shape:
        raise ValueError(f"scene is of {parts.canvas.shape}, images are {images.shape}")
    return parts


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


def taken_apart(
    images: ArrayLike,
    scene: Any,
    *,
    truth: ArrayLike | None = None,
    painted: ArrayLike | None = None,
) -> Figure:
    """Image, reconstruction, and each pixel in the colour of its layer or, of Layers, each layer complete.

    A last layer that is opaque everywhere is a background, and dark.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        truth: True visible regions (n, objects, H, W), drawn beneath.
        painted: The scenes painted from full shapes (n, C, H, W), of ``evaluation.repaint``.
    """
    array = as_images(images)
    parts = _parts(scene, array)
    rows = {"image": array, "reconstruction": parts.canvas}
    if hasattr(scene, "complete"):
        layers = np.moveaxis(parts.complete, 1, 0)
        rows |= {_layer_name(i): layer for i, layer in enumerate(layers)}
    else:
        opaque = bool((parts.masks[:, -1] > 0.5).all())
        rows["regions"] = in_colours(parts.regions, dark_last=opaque)
    if truth is not None:
        rows["true regions"] = in_colours(truth)
    if painted is not None:
        rows["painted from full shapes"] = as_array(painted)
    return pictures(rows)


def _layer_name(index: int) -> str:
    return "layer 1 (front)" if index == 0 else f"layer {index + 1}"


def layer_by_layer(
    images: ArrayLike, scene: Any, *, index: int = 0, experts: Sequence[str] | None = None
) -> Figure:
    """How one scene is explained, a column for each layer from the front to the back.

    The first column has the image above and its reconstruction below.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        index: Which scene.
        experts: What each expert is called, such as "squares". Default: "expert 0", ...
    """
    array = as_images(images)
    parts = _parts(scene, array)
    if not -len(array) <= index < len(array):
        raise ValueError(f"index must be of one of {len(array)} scenes, got {index}")
    regions = parts.regions[index, :, None].repeat(array.shape[1], 1)
    blank = np.full_like(array[index], np.nan, dtype=float)
    rows = {
        "not yet explained": (array[index], 1 - regions.cumsum(0) + regions),
        "taken by this layer": (blank, regions),
        "complete, with what is hidden": (blank, parts.complete[index]),
        "canvas so far": (parts.canvas[index], parts.visible[index].cumsum(0)),
    }
    names = [_layer_name(i) for i in range(len(regions))]
    if hasattr(scene, "experts"):
        made_by = [_expert_name(k, experts) for k in as_array(scene.experts)[index].tolist()]
        names = [f"{name}\n{expert}" for name, expert in zip(names, made_by, strict=True)]
    joined = {name: np.concatenate([first[None], rest]) for name, (first, rest) in rows.items()}
    return pictures(joined, columns=["image, and\nreconstruction", *names])


def _expert_name(expert: int, names: Sequence[str] | None) -> str:
    if expert < 0:
        return "no object"
    if names is None:
        return f"expert {expert}"
    if expert >= len(names):
        raise ValueError(f"experts must be a name for each, but {expert} is not among {len(names)}")
    return names[expert]


def completion(
    images: ArrayLike, scene: Any, *, layer: ArrayLike | None = None, truth: ArrayLike | None = None
) -> Figure:
    """Objects that others hide: what is visible of them, what the model completes, and the true shape.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        layer: Which layers to draw of each scene, (n, objects), or (n,) for one. Default: all.
        truth: True full shapes of these objects, (n, objects, H, W), or (n, H, W) for one.
    """
    array = as_images(images)
    parts = _parts(scene, array)
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
        name = "object" if one else _layer_name(i) if all_layers else f"object {i + 1}"
        rows[f"{name}, visible"] = parts.visible[np.arange(size), number]
        rows[f"{name}, completed"] = parts.complete[np.arange(size), number]
        if shapes is not None:
            rows[f"{name}, true shape"] = shapes[i :: which.shape[1]]
    return pictures(rows)


def explanations(
    image: ArrayLike, scenes: Sequence[Any], weights: ArrayLike, *, most: int = 6
) -> Figure:
    """One image, and what a guide says of it: the draws that weigh most, a row for each.

    Args:
        image: (1, C, H, W) in [0, 1].
        scenes: Draws, each Layers or a Decomposition of this one image.
        weights: Of the draws, (draws, 1), as of ``evaluation.explanations``.
        most: Rows at most.
    """
    array, shares = as_images(image), as_array(weights).reshape(-1)
    if len(shares) != len(scenes) or len(array) != 1 or most < 1:
        raise ValueError(
            f"needs one image, a weight for each draw and most from 1 up, got {len(array)} images, "
            f"{len(shares)} weights and {len(scenes)} draws, most={most}"
        )
    rows = {"image": array}
    for rank, i in enumerate((-shares).argsort(kind="stable")[:most], 1):
        parts = _parts(scenes[i], array)
        name = f"{rank}. weight {shares[i]:.2f}"
        rows[name] = np.concatenate([parts.canvas, parts.complete[0]])
    return pictures(rows, columns=["together", *map(_layer_name, range(len(rows[name]) - 1))])


def most_hidden(
    masks: ArrayLike, visible: ArrayLike, *, size: int = 12, least: float = 0.2
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
    images: ArrayLike, scene: Any, masks: ArrayLike, visible: ArrayLike, *, size: int = 12
) -> Figure:
    """The :func:`completion` of the :func:`most_hidden` objects, by the layer that takes most of each.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        masks: Full shapes (n, objects, H, W), bool.
        visible: The parts of them that are seen, bool.
        size: How many objects, at most.
    """
    array = as_images(images)
    regions = _parts(scene, array).regions
    scenes, objects = most_hidden(masks, visible, size=size)
    truth, seen = (as_array(part)[scenes, objects] for part in (masks, visible))
    hard = type(scene)(*(as_array(part)[scenes] for part in scene))
    layer = (regions[scenes] * seen[:, None]).sum((2, 3)).argmax(1)
    return completion(array[scenes], hard, layer=layer, truth=truth)
