"""Scenes in files: an ``.npz`` of plain arrays, checked at the door, and written whole or not at all."""

import os
from itertools import pairwise
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .scenes import Scenes, as_images

__all__ = ["load_scenes", "save_scenes"]

#: Classes there may be: tables have a column for each.
MANY = 10_000
#: The arrays of a file, and what they are in :class:`Scenes`.
PARTS = {"images": "images", "counts": "counts", "masks": "masks", "classes": "labels"}


def load_scenes(path: str | PathLike, *, most: int | None = None) -> Scenes:
    """Reads an ``.npz`` with ``images`` and, optionally, ``counts``, ``masks`` and ``classes``.

    ``counts`` (n,) are whole numbers. ``masks`` (n, objects, H, W), bool or 0 and 1, are full shapes,
    hidden parts included, object 0 in front. ``classes`` (n, objects) are whole numbers from 0 to 9999. An
    empty mask and a class of -1 are padding, which comes last in a scene. All must tell of the same
    number of objects. Other arrays are left alone.

    Args:
        path: The file; see :func:`as_images` for what ``images`` may be.
        most: The largest count that is allowed: the model's number of steps.

    Returns:
        Scenes with the images, masks where the file has them, labels where it has classes, and counts
        where it has counts or masks to count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an npz, has no images, bad images, or other arrays that do not fit them or
            each other.
    """
    scenes = _scenes(_read(Path(path)))
    if scenes.counts is not None and most is not None:
        _check_most(scenes.counts, most)
    return scenes


def _scenes(arrays: dict[str, np.ndarray]) -> Scenes:
    images = as_images(arrays["images"])
    size, _, height, width = images.shape
    masks = _masks(arrays["masks"], (size, height, width)) if "masks" in arrays else None
    labels = _labels(arrays["classes"], size, masks) if "classes" in arrays else None
    told: dict[str, Tensor] = {}
    if "counts" in arrays:
        told["counts"] = _counts(arrays["counts"], size)
    if masks is not None:
        told["masks"] = _present("masks", masks.flatten(2).any(-1))
    if labels is not None:
        told["classes"] = _present("classes", labels >= 0)
    _agree(told)
    counts = told.get("counts", told.get("masks"))
    return Scenes(images, counts, labels, masks=masks)


def save_scenes(path: str | PathLike, scenes: Scenes) -> None:
    """Writes images, counts, masks and labels (as ``classes``) for :func:`load_scenes`, compressed.

    Boxes and centres are left out. The file replaces an older one in one move: a program killed at any
    moment leaves one or the other.

    Raises:
        OSError: The file cannot be written. An older one is left as it was.
        ValueError: They could not be loaded again, as :func:`load_scenes` says. Nothing is written.
    """
    parts = {name: getattr(scenes, part) for name, part in PARTS.items()}
    arrays = {name: part.cpu().numpy() for name, part in parts.items() if part is not None}
    _scenes(arrays)
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no scenes at {path}: give an .npz with an array 'images'")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in PARTS}
    except Exception as error:  # there is no saying what a damaged file raises
        raise ValueError(
            f"{path} is no readable .npz of plain arrays (not .npy, no objects)"
        ) from error
    if "images" not in arrays:
        raise ValueError(
            f"{path} has no array 'images': save it with numpy.savez(path, images=...)"
        )
    return arrays


def _counts(counts: np.ndarray, size: int) -> Tensor:
    if counts.shape != (size,):
        raise ValueError(
            f"counts must have shape ({size},), one for each image, got {counts.shape}"
        )
    if not _whole(counts, 0):
        raise ValueError("counts must be whole numbers from 0 up")
    return torch.as_tensor(counts.astype(np.int64))


def _masks(masks: np.ndarray, scenes: tuple[int, int, int]) -> Tensor:
    size, height, width = scenes
    if masks.ndim != 4 or (len(masks), *masks.shape[2:]) != scenes:
        raise ValueError(
            f"masks must have shape ({size}, objects, {height}, {width}), as many and as large as the "
            f"images, got {masks.shape}"
        )
    if masks.dtype.kind not in "buif" or ((masks != 0) & (masks != 1)).any():
        raise ValueError(
            "masks must be bool, or numbers 0 and 1: give masks > 0.5 if they are opacities"
        )
    return torch.as_tensor(np.ascontiguousarray(masks, bool))


def _labels(classes: np.ndarray, size: int, masks: Tensor | None) -> Tensor:
    objects = "objects" if masks is None else masks.shape[1]
    if classes.ndim != 2 or len(classes) != size or objects not in ("objects", classes.shape[1]):
        raise ValueError(
            f"classes must have shape ({size}, {objects}), one for each object, got {classes.shape}"
        )
    if not _whole(classes, -1) or classes.max(initial=0) >= MANY:
        raise ValueError(
            f"classes must be whole numbers from 0 to {MANY - 1}, and -1 where there is no object"
        )
    return torch.as_tensor(np.ascontiguousarray(classes, np.int64))


def _whole(numbers: np.ndarray, least: int) -> bool:
    """Whether all are whole numbers from the least up, which int64 holds."""
    if numbers.dtype.kind not in "buif" or not np.isfinite(numbers).all():
        return False
    whole = (numbers == np.floor(numbers)) & (numbers >= least) & (numbers <= 2**31)
    return bool(whole.all())


def _present(name: str, present: Tensor) -> Tensor:
    """The number of objects of each scene (n,), of which are present (n, objects)."""
    found = present.sum(1)
    gaps = (present != (torch.arange(present.shape[1]) < found[:, None])).any(1)
    if gaps.any():
        raise ValueError(
            f"{name} of scene {int(gaps.int().argmax())} have padding before an object: put padding "
            "(an empty mask, a class of -1) last"
        )
    return found


def _agree(told: dict[str, Tensor]) -> None:
    """Checks that the numbers of objects (n,), by the name of the array that tells, are the same."""
    for (one, counts), (other, found) in pairwise(told.items()):
        if (found != counts).any():
            i = int((found != counts).int().argmax())
            raise ValueError(
                f"{one} and {other} contradict each other: scene {i} has {counts[i]} objects by its "
                f"{one} and {found[i]} by its {other}"
            )


def _check_most(counts: Tensor, most: int) -> None:
    if counts.max() > most:
        raise ValueError(
            f"counts go up to {counts.max()} but the model takes at most {most} steps: "
            "give it more (AIR's steps, --objects of the example), or leave those scenes out"
        )
