"""MNIST (LeCun, Cortes and Burges), read through torchvision from a local folder; nothing is downloaded."""

import sys
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, library

__all__ = ["mnist"]

FILES = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

#: Declarations of operators live as long as what made them.
DECLARED: list[library.Library] = []


def mnist(root: str | PathLike, *, train: bool = True) -> tuple[Tensor, Tensor]:
    """Returns images uint8 (60000 or 10000, 28, 28) and labels int64 of the training or test digits.

    Args:
        root: A folder in torchvision's layout: the uncompressed idx files lie in ``root/MNIST/raw``.
        train: The 60,000 training digits, or the 10,000 test digits.

    Raises:
        FileNotFoundError: A file is missing; the message says which, and where to put it.
        ValueError: A file is damaged.
    """
    raw = Path(root) / "MNIST" / "raw"
    needed = FILES[train] + FILES[not train]  # torchvision reads two, and wants all four there
    missing = [name for name in needed if not (raw / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"MNIST needs {' and '.join(missing)} in {raw}: download the four .gz files of MNIST "
            "from any mirror (torchvision.datasets.MNIST(root, download=True) does so where there "
            "is a network), unpack them there, and give the folder above MNIST/ as the data root"
        )
    try:
        digits = _torchvision().datasets.MNIST(str(root), train=train)
    except (RuntimeError, ValueError, TypeError, OSError, AssertionError, LookupError) as error:
        raise ValueError(
            f"the MNIST files {' and '.join(FILES[train])} in {raw} are damaged ({error}): "
            "download and unpack them again"
        ) from error
    if digits.data.shape[1:] != (28, 28) or len(digits.data) != len(digits.targets):
        raise ValueError(f"the MNIST files in {raw} do not match each other: unpack them again")
    return digits.data, digits.targets.long()


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
