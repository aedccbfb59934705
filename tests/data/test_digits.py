"""Digits in three sets: none is in two of them."""

import struct
import sys

import numpy as np
import pytest
import torch

from pyro_scenes.data import Digits, digits, fingerprints
from pyro_scenes.data import mnist as read_mnist
from pyro_scenes.data import strokes
from pyro_scenes.data.images import check_digits

FILES = [
    f"{of}-{what}-ubyte" for of in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
]


def pictures_shared(sets):
    prints = [set(fingerprints(images).tolist()) for images, _ in sets]
    return [len(prints[i] & prints[j]) for i in range(3) for j in range(i)]


def test_the_pen_writes_as_many_as_the_docstring_says():
    module = sys.modules["pyro_scenes.data.digits"]
    assert (module.WRITTEN, module.HELD_OUT, module.VALIDATION) == (12_000, 2_000, 5_000)


def test_the_pen_writes_three_sets_that_share_no_digit(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys.modules["pyro_scenes.data.digits"], "WRITTEN", 120)
    monkeypatch.setattr(sys.modules["pyro_scenes.data.digits"], "HELD_OUT", 20)
    sets = digits()
    assert isinstance(sets, Digits) and [len(labels) for _, labels in sets] == [100, 20, 20]
    for part in sets:
        check_digits(part)
    assert pictures_shared(sets) == [0, 0, 0]
    for part, whole in enumerate(strokes(120)):
        assert torch.equal(torch.cat([sets.test[part], sets.train[part]]), whole)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of small files in MNIST's format: 120 training digits, of which 20 are for validation."""
    monkeypatch.setattr(sys.modules["pyro_scenes.data.digits"], "VALIDATION", 20)
    monkeypatch.setattr(sys.modules["pyro_scenes.data.mnist"], "SIZES", {True: 120, False: 40})
    images = np.random.default_rng(0).integers(0, 256, (160, 28, 28))
    write(tmp_path, images[:120], images[120:])
    return tmp_path


def write(root, train, test):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = train, np.arange(len(train)) % 10, test, np.arange(len(test)) % 7
    for name, array in zip(FILES, arrays, strict=True):
        header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
        (raw / name).write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("convert", [str, lambda path: path], ids=["str", "Path"])
def test_mnist_is_divided_in_order(convert, root):
    sets, (images, labels) = digits(convert(root)), read_mnist(root)
    assert [len(labels) for _, labels in sets] == [100, 20, 40]
    for part, whole in ((0, images), (1, labels)):
        assert torch.equal(torch.cat([sets.train[part], sets.validation[part]]), whole)
        assert torch.equal(sets.test[part], read_mnist(root, train=False)[part])
    for part in sets:
        check_digits(part)


def test_test_files_that_are_copies_of_training_files_are_refused(root):
    train = np.random.default_rng(1).integers(0, 256, (120, 28, 28))
    write(root, train, train[40:80])
    with pytest.raises(ValueError, match="40 of 40 test digits .* among its training digits"):
        digits(root)


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="MNIST needs"):
        digits(tmp_path / "none")
