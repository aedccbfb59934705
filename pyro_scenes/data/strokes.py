"""Handwritten-looking digits from procedural pen strokes: a stand-in for MNIST without a download.

The format is MNIST's: 28 x 28 pixels, grey levels, fitted into a box of 20 pixels, centred by
mass. The digits are synthetic all the same: a result on them is no result on MNIST.
"""

import contextlib
import os
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ..atomic import write_whole
from .images import LabelledImages
from .limits import check_memory, check_whole
from .pen import SIDE, write_digits

__all__ = ["strokes"]

#: A part of the cached file's name: raise it when the digits or the file's layout change.
FORMAT = 2


def strokes(
    size: int = 12_000, *, seed: int = 0, cache: str | os.PathLike[str] | None = None
) -> LabelledImages:
    """Writes digits, or reads them from the cache where they have been written before.

    Args:
        size: Number of digits. The classes are shuffled, and their counts differ by at most one.
        seed: The digits are a function of the size and the seed alone.
        cache: Folder to keep the digits in; by default ``pyro_scenes`` in ``$XDG_CACHE_HOME``, or
            else in ``~/.cache``. Where it cannot be written, nothing is kept.

    Returns:
        Images uint8 (size, 28, 28), from 0, background, to 255, ink; and labels int64 (size,).

    Raises:
        ValueError: The size is not a whole number from 1 up, the seed not one from 0 up, or memory does not
            hold so many digits.
    """
    check_whole(size=size)
    check_whole(0, seed=seed)
    check_memory(1000 * size, f"{size} digits")
    name = f"strokes-v{FORMAT}-{size}-{seed}.pt"
    digits = _load(cache, name, size)
    if digits is None:
        digits = write_digits(size, seed)
        _save(cache, name, digits)
    return digits


def _folder(cache: str | os.PathLike[str] | None) -> Path:
    if cache is not None:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pyro_scenes"


def _checksum(images: UInt8[Tensor, "m 28 28"], labels: Int64[Tensor, " m"]) -> str:
    return sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def _load(cache: str | os.PathLike[str] | None, name: str, size: int) -> LabelledImages | None:
    """The digits of the cached file, or None if it is missing or damaged."""
    try:
        file = torch.load(_folder(cache) / name, map_location="cpu", weights_only=True)
        images, labels, checksum = file["images"], file["labels"], file["checksum"]
        layout = images.dtype, images.shape, labels.dtype, labels.shape
        intact = layout == (torch.uint8, (size, SIDE, SIDE), torch.int64, (size,))
        return (images, labels) if intact and checksum == _checksum(images, labels) else None
    except Exception:  # there is no saying what a damaged file raises, and one cure for all of it
        return None


def _save(cache: str | os.PathLike[str] | None, name: str, digits: LabelledImages) -> None:
    images, labels = digits
    content = {"images": images, "labels": labels, "checksum": _checksum(images, labels)}
    # RuntimeError: there is no home folder.
    with contextlib.suppress(OSError, RuntimeError):
        folder = _folder(cache)
        folder.mkdir(parents=True, exist_ok=True)
        with write_whole(folder / name) as part:
            torch.save(content, part)
