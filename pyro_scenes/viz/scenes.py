"""Scenes taken apart: their layers, in order and complete, beside the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..checks import check_sizes
from .panels import LAYER_COLOURS, as_array, as_images, verdict
from .parts import Parts, in_colours, layer_name, like_regions, parts_of
from .sheets import pictures

__all__ = ["explanations", "layer_by_layer", "taken_apart"]

#: What ``evaluation.solved`` holds for right.
SOLVED = "\n(right: each object has a layer with an IoU above 0.5, hidden parts included)"


def taken_apart(
    images: ArrayLike,
    scene: Any,
    *,
    truth: ArrayLike | None = None,
    painted: ArrayLike | None = None,
    correct: ArrayLike | None = None,
    headline: str | None = None,
) -> Figure:
    """Image, reconstruction, each pixel in the colour of its layer and, of Layers, each layer complete.

    A last layer that is opaque everywhere is a background, and dark.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        truth: True visible regions (n, objects, H, W). Each has the colour of the layer that takes most of
            it; it is white if none takes half.
        painted: The scenes painted from full shapes (n, C, H, W), of ``evaluation.repaint``.
        correct: (n,) bool, of ``evaluation.solved``: others are marked.
        headline: Above all. Default: how many are correct, and what that means, if that is known.
    """
    array = as_images(images)
    parts = parts_of(scene, array)
    rows = {"image": array, "reconstruction": parts.canvas}
    rows["regions found"] = in_colours(parts.regions, dark_last=parts.has_background())
    if truth is not None:
        coloured, missed = like_regions(truth, parts)
        rows["true regions" + " (white: missed)" * missed] = coloured
    if hasattr(scene, "complete"):
        layers = np.moveaxis(parts.complete, 1, 0)
        rows |= {f"{layer_name(i)}, completed": layer for i, layer in enumerate(layers)}
    if painted is not None:
        rows["painted from full shapes"] = as_array(painted)
    if headline is None and correct is not None:
        headline = verdict(as_array(correct).astype(bool), "scenes taken apart") + SOLVED
    return pictures(rows, correct=correct, headline=headline, key=_key(parts))


def _key(parts: Parts) -> dict[str, Any]:
    layers = parts.regions.shape[1] - parts.has_background()
    drawn = [i for i in range(layers) if (parts.regions[:, i] > 0.5).any()]
    return {layer_name(i): LAYER_COLOURS[i] for i in drawn if i < len(LAYER_COLOURS)}


def layer_by_layer(
    images: ArrayLike,
    scene: Any,
    *,
    index: int = 0,
    experts: Sequence[str] | None = None,
    headline: str | None = None,
) -> Figure:
    """How one scene is explained, a column for each layer from the front to the back.

    The first column has the image above and its reconstruction below. A layer that is nowhere opaque has no
    column.

    Args:
        images: (n, C, H, W) in [0, 1].
        scene: A Decomposition or Layers of them.
        index: Which scene.
        experts: What each expert is called, such as "squares". Default: "expert 0", ...
        headline: Above all. Default: which scene it is, and how many layers are left out.
    """
    array = as_images(images)
    parts = parts_of(scene, array)
    if not -len(array) <= index < len(array):
        raise ValueError(f"index must be of one of {len(array)} scenes, got {index}")
    regions = parts.regions[index, :, None].repeat(array.shape[1], 1)
    blank = np.full_like(array[index], np.nan, dtype=float)
    rows = {
        "not yet explained (white)": (array[index], 1 - regions.cumsum(0) + regions),
        "taken by this layer": (blank, regions),
        "complete, with what is hidden": (blank, parts.complete[index]),
        "canvas so far": (parts.canvas[index], parts.visible[index].cumsum(0)),
    }
    opaque = parts.masks[index] > 0.5
    drawn = opaque.any((1, 2)).nonzero()[0].tolist() or [0]
    names = [layer_name(i) for i in drawn]
    if hasattr(scene, "experts"):
        made_by = as_array(scene.experts)[index].tolist()
        nothing = ["background" if layer.all() else "no object" for layer in opaque]
        words = [_expert_name(made_by[i], experts, nothing[i]) for i in drawn]
        names = [f"{name}\n{expert}" for name, expert in zip(names, words, strict=True)]
    joined = {
        name: np.concatenate([first[None], rest[drawn]]) for name, (first, rest) in rows.items()
    }
    if headline is None:
        left = len(opaque) - len(drawn)
        headline = (
            f"Scene {index + 1}, layer by layer" + f" ({left} left out: nothing there)" * bool(left)
        )
    return pictures(joined, columns=["image, and reconstruction", *names], headline=headline)


def _expert_name(expert: int, names: Sequence[str] | None, nothing: str) -> str:
    if expert < 0:
        return nothing
    if names is None:
        return f"expert {expert}"
    if expert >= len(names):
        raise ValueError(f"experts must be a name for each, but {expert} is not among {len(names)}")
    return names[expert]


def explanations(
    images: ArrayLike,
    scenes: Sequence[Any],
    weights: ArrayLike,
    *,
    index: int = 0,
    most: int = 6,
    headline: str | None = None,
) -> Figure:
    """One image, and what a guide says of it: the draws that weigh most, a column for each.

    Args:
        images: (n, C, H, W) in [0, 1].
        scenes: Draws, each Layers or a Decomposition of these images.
        weights: Of the draws, (draws, n), as of ``evaluation.explanations``.
        index: Which image.
        most: Draws at most.
        headline: Above all.
    """
    check_sizes(most=most)
    array, shares = as_images(images), as_array(weights)
    if shares.shape != (len(scenes), len(array)):
        raise ValueError(
            f"needs a weight for each draw and image, ({len(scenes)}, {len(array)}), got {shares.shape}"
        )
    best = (-shares[:, index]).argsort(kind="stable")[:most]
    parts = [parts_of(scenes[i], array) for i in best]
    blank = np.full_like(array[index], np.nan, dtype=float)
    rows = {"together": [array[index], *(each.canvas[index] for each in parts)]}
    for layer in range(parts[0].complete.shape[1]):
        rows[layer_name(layer)] = [blank, *(each.complete[index, layer] for each in parts)]
    columns = [f"weight {_percent(float(share))}" for share in shares[best, index]]
    joined = {name: np.stack(row) for name, row in rows.items()}
    return pictures(joined, columns=["image", *columns], headline=headline)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"
