"""Scenes in files: arrays or a folder of pictures, checked when read; arrays written whole or not at all."""

from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from ..atomic import write_whole
from .archive import read_arrays
from .images import as_images
from .pictures import read_pictures
from .scenes import Scenes

__all__ = ["load_scenes", "save_scenes"]

#: Classes there may be: tables have a column for each.
MOST_CLASSES = 10_000
#: The arrays of a file, and their names in :class:`Scenes`.
FIELDS = {"images": "images", "counts": "counts", "masks": "masks", "classes": "labels"}


def load_scenes(path: str | PathLike, *, most: int | None = None) -> Scenes:
    """Reads scenes: an ``.npz`` with an array ``images``, an ``.npy`` of images, or a folder of pictures.

    A folder is one of PNG and JPEG files of one size. They are read in the order of their names, and are
    colour if one of them is, grey otherwise. Transparent parts become black; palettes and CMYK become RGB; a
    picture is turned as its EXIF data say. Links are followed; sub-folders, hidden files and files of other
    names are left out.

    An ``.npz`` may also have the truth. ``counts`` (n,) are whole numbers. ``masks`` (n, objects, H, W), bool
    or 0 and 1, are full shapes, hidden parts included, object 0 in front. ``classes`` (n, objects) are whole
    numbers from 0 to 9999. An empty mask and a class of -1 are padding, which comes last in a scene. All must
    agree about the number of objects. Other arrays are ignored.

    Args:
        path: The file or folder; see :func:`as_images` for what arrays of images may be.
        most: The largest count that is allowed: the model's number of steps.

    Returns:
        Scenes with the images, masks where the file has them, labels where it has classes, and counts
        where it has counts or masks to count.

    Raises:
        FileNotFoundError: There is nothing at this path, or no picture in the folder.
        PermissionError: A file must not be read.
        ValueError: It is none of these, damaged, or larger than memory; it has no images, images that
            :func:`as_images` refuses, or other arrays that do not fit them or each other; pictures differ in
            size, or one of them is no PNG or JPEG, damaged or of 16 bits a channel.
    """
    scenes = _scenes(_read(Path(path)))
    if scenes.counts is not None and most is not None:
        _check_most(scenes.counts, most)
    return scenes


def _scenes(arrays: dict[str, Any]) -> Scenes:
    images = as_images(arrays["images"])
    size, _, height, width = images.shape
    masks = _masks(arrays["masks"], (size, height, width)) if "masks" in arrays else None
    labels = _labels(arrays["classes"], size, masks) if "classes" in arrays else None
    objects: dict[str, Tensor] = {}
    if "counts" in arrays:
        objects["counts"] = _counts(arrays["counts"], size)
    if masks is not None:
        objects["masks"] = _count_present("masks", masks.flatten(2).any(-1))
    if labels is not None:
        objects["classes"] = _count_present("classes", labels >= 0)
    _check_agreement(objects)
    counts = objects.get("counts", objects.get("masks"))
    return Scenes(images, counts, labels, masks=masks)


def save_scenes(path: str | PathLike, scenes: Scenes) -> None:
    """Writes images, counts, masks and labels (as ``classes``) for :func:`load_scenes`, compressed.

    Boxes and centres are left out. The file replaces an older one in one move: a program killed at any
    moment leaves one or the other.

    Raises:
        OSError: The file cannot be written. An older one is left as it was.
        ValueError: They could not be loaded again, as :func:`load_scenes` says. Nothing is written.
    """
    parts = {name: getattr(scenes, field) for name, field in FIELDS.items()}
    arrays = {name: part.cpu().numpy() for name, part in parts.items() if part is not None}
    _scenes(arrays)
    with write_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"images": read_pictures(path)}
    if not path.is_file():
        raise FileNotFoundError(
            f"no scenes at {path}: give a folder of PNG or JPEG files, an .npz with an array 'images', or "
            "an .npy"
        )
    arrays = read_arrays(path, FIELDS)
    if "images" not in arrays:
        raise ValueError(
            f"{path} has no array 'images': save it with numpy.savez(path, images=...)"
        )
    return arrays


def _counts(counts: np.ndarray, size: int) -> Int64[Tensor, " {size}"]:
    if counts.shape != (size,):
        raise ValueError(
            f"counts must have shape ({size},), one for each image, got {counts.shape}"
        )
    if not _are_whole(counts, 0):
        raise ValueError("counts must be whole numbers from 0 up")
    return torch.as_tensor(counts.astype(np.int64))


def _masks(masks: np.ndarray, like: tuple[int, int, int]) -> Bool[Tensor, "n objects h w"]:
    size, height, width = like
    if masks.ndim != 4 or (len(masks), *masks.shape[2:]) != like:
        raise ValueError(
            f"masks must have shape ({size}, objects, {height}, {width}), as many and as large as the "
            f"images, got {masks.shape}"
        )
    if masks.dtype.kind not in "buif" or ((masks != 0) & (masks != 1)).any():
        raise ValueError(
            "masks must be bool, or numbers 0 and 1: give masks > 0.5 if they are opacities"
        )
    return torch.as_tensor(np.ascontiguousarray(masks, bool))


def _labels(
    classes: np.ndarray, size: int, masks: Bool[Tensor, "n objects h w"] | None
) -> Int64[Tensor, "n objects"]:
    objects = "objects" if masks is None else masks.shape[1]
    if classes.ndim != 2 or len(classes) != size or objects not in ("objects", classes.shape[1]):
        raise ValueError(
            f"classes must have shape ({size}, {objects}), one for each object, got {classes.shape}"
        )
    if not _are_whole(classes, -1) or classes.max(initial=0) >= MOST_CLASSES:
        raise ValueError(
            f"classes must be whole numbers from 0 to {MOST_CLASSES - 1}, and -1 where there is no object"
        )
    return torch.as_tensor(np.ascontiguousarray(classes, np.int64))


def _are_whole(numbers: np.ndarray, least: int) -> bool:
    """Whether all are whole numbers from the least to 2**31."""
    if numbers.dtype.kind not in "buif" or not np.isfinite(numbers).all():
        return False
    whole = (numbers == np.floor(numbers)) & (numbers >= least) & (numbers <= 2**31)
    return bool(whole.all())


def _count_present(name: str, present: Bool[Tensor, "n objects"]) -> Int64[Tensor, " n"]:
    """The number of objects present in each scene, if padding comes last."""
    counts = present.sum(1)
    gaps = (present != (torch.arange(present.shape[1]) < counts[:, None])).any(1)
    if gaps.any():
        raise ValueError(
            f"{name} of scene {int(gaps.int().argmax())} have padding before an object: put padding "
            "(an empty mask, a class of -1) last"
        )
    return counts


def _check_agreement(objects: dict[str, Tensor]) -> None:
    """Checks that the numbers of objects (n,) are the same by each array."""
    for (one, counts), (other, others) in pairwise(objects.items()):
        different = counts != others
        if different.any():
            i = int(different.int().argmax())
            raise ValueError(
                f"{one} and {other} contradict each other: scene {i} has {counts[i]} objects by its "
                f"{one} and {others[i]} by its {other}"
            )


def _check_most(counts: Int64[Tensor, " n"], most: int) -> None:
    if counts.max() > most:
        raise ValueError(
            f"counts go up to {counts.max()} but the model takes at most {most} steps: "
            "give it more (AIR's steps, --objects of the example), or leave those scenes out"
        )
