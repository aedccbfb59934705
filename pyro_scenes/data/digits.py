"""Digits in three sets that share none: for training, for choices, and for the table at the end."""

from os import PathLike
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from .images import LabelledImages, fingerprints
from .mnist import mnist
from .strokes import strokes

__all__ = ["Digits", "digits"]

#: Of the 60,000 training digits of MNIST, those at the end that are for validation.
VALIDATION = 5_000


class Digits(NamedTuple):
    """Three sets of digits, each images uint8 (m, 28, 28) and labels int64 (m,) from 0 to 9."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages


def digits(root: str | PathLike[str] | None = None) -> Digits:
    """Digits for training, validation and test; the sets depend on nothing but the root.

    Args:
        root: A folder with MNIST, as of :func:`mnist`: 55,000 of its training digits, the other 5,000 (the
            last in the file) for validation, and its 10,000 test digits. None: :func:`strokes`, 10,000
            digits for training, 2,000 of another seed for validation, and 2,000 for test.

    Raises:
        FileNotFoundError: A file of MNIST is missing.
        ValueError: A file of MNIST is damaged, or its test files hold training digits.
    """
    if root is None:
        images, labels = strokes(12_000)
        test = images[:2000], labels[:2000]
        return Digits((images[2000:], labels[2000:]), strokes(2_000, seed=1), test)
    (images, labels), test = mnist(root), mnist(root, train=False)
    _check_test(images, test[0], root)
    train = images[:-VALIDATION], labels[:-VALIDATION]
    return Digits(train, (images[-VALIDATION:], labels[-VALIDATION:]), test)


def _check_test(
    images: UInt8[Tensor, "m h w"], test: UInt8[Tensor, "k h w"], root: str | PathLike[str]
) -> None:
    copies = int(torch.isin(fingerprints(test), fingerprints(images)).sum())
    if copies > len(test) // 100:
        raise ValueError(
            f"{copies} of {len(test)} test digits of MNIST in {root} are among its training digits too, "
            "so that nothing could be held out: download and unpack the files again"
        )
