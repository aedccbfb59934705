"""MNIST from idx files, as torchvision reads them; these tests write small ones themselves."""

import errno
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pyro_scenes.data import mnist

FILES = [
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
]
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 28, 28))
CLASSES = np.array([3, 1, 4, 1, 5, 9, 2])


def idx(array, kind=0x08):
    """The idx format: big-endian magic (2051 for images, 2049 for labels), sizes, then bytes."""
    header = struct.pack(f">{1 + array.ndim}I", (kind << 8) + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pyro_scenes.data.mnist"], "SIZES", {True: 7, False: 4})
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in zip(FILES, (PIXELS, CLASSES, PIXELS[::-1][:4], CLASSES[:4]), strict=True):
        (folder / name).write_bytes(idx(array))
    return folder


def test_the_format_is_that_of_mnist():
    assert idx(PIXELS)[:4] == (2051).to_bytes(4) and idx(CLASSES)[:4] == (2049).to_bytes(4)


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_digits_are_read_as_written(raw, tmp_path, convert):
    images, labels = mnist(convert(tmp_path))
    assert str(images.dtype) == "torch.uint8" and np.array_equal(images, PIXELS)
    assert str(labels.dtype) == "torch.int64" and np.array_equal(labels, CLASSES)


def test_the_test_digits_are_others(raw, tmp_path):
    images, labels = mnist(tmp_path, train=False)
    assert np.array_equal(images, PIXELS[::-1][:4]) and np.array_equal(labels, CLASSES[:4])


def test_reading_leaves_the_folder_as_it_was(raw, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    mnist(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_its_folder(name, raw, tmp_path):
    (raw / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist(tmp_path, train=name.startswith("train"))
    assert [file for file in FILES if file in str(caught.value)] == [name]
    assert str(raw) in str(caught.value)


def test_an_empty_folder_lacks_both(tmp_path):
    with pytest.raises(FileNotFoundError, match=" and ".join(FILES[:2])):
        mnist(tmp_path)


def test_without_the_test_digits_the_error_says_what_is_missing(raw, tmp_path):
    for name in FILES[2:]:
        (raw / name).unlink()
    with pytest.raises(FileNotFoundError, match=FILES[2]):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(FILES[0], lambda b: b"", id="empty"),
        pytest.param(FILES[0], lambda b: b[:10], id="header cut"),
        pytest.param(FILES[0], lambda b: b[:-1], id="images cut"),
        pytest.param(FILES[0], lambda b: b + b"x", id="images too long"),
        pytest.param(FILES[1], lambda b: b[:-1], id="labels cut"),
        pytest.param(FILES[0], lambda b: b"<html>not found</html>", id="a page"),
        pytest.param(FILES[0], lambda b: b"\x1f\x8b\x08\x08" + b[4:], id="still packed"),
        pytest.param(FILES[0], lambda b: idx(CLASSES), id="labels for images"),
        pytest.param(FILES[1], lambda b: idx(PIXELS), id="images for labels"),
        pytest.param(FILES[0], lambda b: idx(PIXELS[:0]), id="no images"),
        pytest.param(
            FILES[0],
            lambda b: idx(PIXELS, kind=0x09),
            id="signed bytes",
        ),
        pytest.param(
            FILES[0],
            lambda b: idx(PIXELS, kind=0x0A),
            id="unknown kind",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_folder(name, damage, raw, tmp_path):
    (raw / name).write_bytes(damage((raw / name).read_bytes()))
    with pytest.raises(ValueError, match=f"{name}.* in {raw} are damaged"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [(FILES[1], CLASSES[:6]), (FILES[0], PIXELS[:6]), (FILES[0], PIXELS[:, :27])],
    ids=["fewer labels", "fewer images", "smaller images"],
)
def test_files_that_do_not_belong_together_are_refused(name, array, raw, tmp_path):
    (raw / name).write_bytes(idx(array))
    with pytest.raises(ValueError, match=f"{raw} do not match"):
        mnist(tmp_path)


def test_swapped_files_are_refused(raw, tmp_path):
    for train, test in zip(FILES[:2], FILES[2:], strict=True):
        one, other = (raw / train).read_bytes(), (raw / test).read_bytes()
        (raw / train).write_bytes(other)
        (raw / test).write_bytes(one)
    for train, wanted in ((True, 7), (False, 4)):
        with pytest.raises(ValueError, match=f"MNIST has {wanted}: .* files swapped"):
            mnist(tmp_path, train=train)


def test_files_of_another_size_are_none_of_mnist(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules["pyro_scenes.data.mnist"], "SIZES", {True: 60_000, False: 10_000}
    )
    with pytest.raises(
        ValueError, match="hold 7 digits, and MNIST has 60000: they are not MNIST's"
    ):
        mnist(tmp_path)


@pytest.mark.parametrize("label", [10, 200])
def test_labels_that_name_no_digit_are_refused(label, raw, tmp_path):
    (raw / FILES[1]).write_bytes(idx(np.array([label, *CLASSES[1:]])))
    with pytest.raises(ValueError, match=f"labels from 1 to {label}, and digits are 0 to 9"):
        mnist(tmp_path)


def test_a_file_that_must_not_be_read_is_not_called_damaged(raw, tmp_path, monkeypatch):
    """The tests may run as root, whom no permission stops."""

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    library = SimpleNamespace(datasets=SimpleNamespace(MNIST=refuse))
    monkeypatch.setattr(sys.modules["pyro_scenes.data.mnist"], "_torchvision", lambda: library)
    with pytest.raises(PermissionError, match=f"{FILES[0]} .* cannot be read: their permissions"):
        mnist(tmp_path)
