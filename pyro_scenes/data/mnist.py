"""MNIST (LeCun, Cortes and Burges), read through torchvision from a local folder; nothing is downloaded."""

import sys
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Int64, UInt8
from torch import Tensor, library

__all__ = ["mnist"]

FILES = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

#: How many digits the training and the test files hold.
SIZES = {True: 60_000, False: 10_000}

#: Declarations of operators live as long as what made them.
DECLARED: list[library.Library] = []


def mnist(
    root: str | PathLike, *, train: bool = True
) -> tuple[UInt8[Tensor, "m 28 28"], Int64[Tensor, " m"]]:
    """The images, from 0, background, to 255, ink, and labels of the training or test digits.

    Args:
        root: A folder in torchvision's layout: the uncompressed idx files lie in ``root/MNIST/raw``.
        train: The 60,000 training digits, or the 10,000 test digits.

    Raises:
        FileNotFoundError: A file is missing; the message says which, and where to put it.
        PermissionError: A file must not be read.
        ValueError: A file is damaged, or is not MNIST's: training and test files are swapped, say.
    """
    raw = Path(root) / "MNIST" / "raw"
    # torchvision reads two, and wants all four there.
    needed = FILES[train] + FILES[not train]
    missing = [name for name in needed if not (raw / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"MNIST needs {' and '.join(missing)} in {raw}: download the four .gz files of MNIST "
            "from any mirror (torchvision.datasets.MNIST(root, download=True) does so where there "
            "is a network), unpack them there, and give the folder above MNIST/ as the data root"
        )
    images, labels = _read(Path(root), train)
    _check(images, labels, train, raw)
    return images, labels.long()


def _read(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    files = f"the MNIST files {' and '.join(FILES[train])} in {root / 'MNIST' / 'raw'}"
    try:
        digits = _torchvision().datasets.MNIST(str(root), train=train)
    except PermissionError as error:
        raise PermissionError(
            f"{files} cannot be read: their permissions do not allow it"
        ) from error
    except (RuntimeError, ValueError, TypeError, OSError, AssertionError, LookupError) as error:
        raise ValueError(
            f"{files} are damaged ({error}): download and unpack them again"
        ) from error
    return digits.data, digits.targets


def _check(images: Tensor, labels: Tensor, train: bool, raw: Path) -> None:
    """Checks that the files are MNIST's, and are what their names say."""
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise ValueError(f"the MNIST files in {raw} do not match each other: unpack them again")
    names = " and ".join(FILES[train])
    if len(images) != SIZES[train]:
        swapped = len(images) == SIZES[not train]
        advice = "are training and test files swapped?" if swapped else "they are not MNIST's"
        raise ValueError(
            f"{names} in {raw} hold {len(images)} digits, and MNIST has {SIZES[train]}: {advice}"
        )
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(
            f"{names} in {raw} have labels from {labels.min()} to {labels.max()}, and digits are 0 to 9: "
            "they are damaged, or not MNIST's"
        )


def _torchvision() -> Any:
    # A CUDA build of torchvision beside a CPU torch fails at import, as its operators cannot load. It
    # reads data sets all the same once the operators it looks up are declared; they are never called.
    try:
        return _import_torchvision()
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    fragment = library.Library("torchvision", "FRAGMENT")
    DECLARED.append(fragment)
    for name in ("nms", "qnms"):
        fragment.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return _import_torchvision()


def _import_torchvision() -> ModuleType:
    import torchvision

    return torchvision
