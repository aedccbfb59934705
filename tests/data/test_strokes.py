"""Digits: a function of size and seed, like MNIST, kept on disk, with classes told apart."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from pyro_scenes.data.strokes import strokes

SIZE = 300


def digits(folder: Path, seed: int = 0):
    return strokes(SIZE, seed=seed, cache=folder)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def kept(file: Path):
    """The digits of a cached file."""
    content = torch.load(file, weights_only=True)
    return content["images"], content["labels"]


def only(folder: Path) -> Path:
    """The one file of a folder."""
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(folder):
    return digits(folder)


def test_shapes_types_and_range(made):
    images, labels = made
    assert images.shape == (SIZE, 28, 28) and images.dtype == torch.uint8
    assert labels.shape == (SIZE,) and labels.dtype == torch.int64
    assert (images.flatten(1).amax(1) > 150).all() and (images.flatten(1).amin(1) == 0).all()
    assert images.max() == 255


@pytest.mark.parametrize("size", [1, 47, SIZE])
def test_classes_are_balanced_and_shuffled(size, tmp_path):
    labels = strokes(size, cache=tmp_path)[1]
    counts = labels.bincount(minlength=10)
    assert counts.sum() == size and counts.max() - counts.min() <= 1
    assert size < 10 or not torch.equal(labels, torch.arange(size) % 10)


def test_the_seed_alone_decides(made, tmp_path):
    assert same(made, digits(tmp_path))
    assert not torch.equal(made[0], digits(tmp_path, seed=1)[0])


def test_global_settings_neither_matter_nor_change(made, tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert same(made, digits(tmp_path))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_two_digits_are_alike(made):
    assert len(made[0].flatten(1).unique(dim=0)) == SIZE


def test_ink_lies_in_the_middle(made):
    ink = made[0].double()
    assert ink[:, 4:24, 4:24].sum() > 0.95 * ink.sum()
    for across in (1, 2):
        centre = ink.sum(across) @ torch.arange(28).double() / ink.sum((1, 2))
        assert ((centre - 14).abs() < 0.5).all()


def test_pens_are_as_wide_as_those_of_mnist(made):
    ink = made[0].double().sum((1, 2)) / 255
    assert 80 < ink.mean() < 120 and 20 < ink.std() < 45


def test_a_linear_classifier_generalises(made, tmp_path):
    def features(images):
        return torch.nn.functional.avg_pool2d(images.double() / 255, 2).flatten(1)

    images, labels = strokes(1000, seed=1, cache=tmp_path)
    known, targets = features(images), torch.eye(10).double()[labels]
    middle = known.mean(0)
    known = known - middle
    penalty = 10 * torch.eye(known.shape[1]).double()
    weights = torch.linalg.solve(known.T @ known + penalty, known.T @ (targets - 0.1))
    guesses = ((features(made[0]) - middle) @ weights).argmax(1)
    assert (guesses == made[1]).double().mean() > 0.8


def test_the_second_call_reads_the_file(tmp_path, monkeypatch):
    first = digits(tmp_path / "made" / "here")
    assert same(first, kept(only(tmp_path / "made" / "here")))
    monkeypatch.delattr(sys.modules["pyro_scenes.data.strokes"], "write_digits")
    assert same(digits(tmp_path / "made" / "here"), first)


def rewrite(file: Path, **changes) -> None:
    torch.save({**torch.load(file, weights_only=True), **changes}, file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no digits"),
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
        lambda file: torch.save("no digits", file),
        lambda file: torch.save(kept(file), file),
        lambda file: rewrite(file, images=kept(file)[0][:5], labels=kept(file)[1][:5]),
        lambda file: rewrite(file, images=torch.zeros(SIZE, 28, 28, dtype=torch.uint8)),
        lambda file: rewrite(file, labels=kept(file)[1].flip(0)),
        lambda file: flip_a_bit(file, kept(file)[0]),
    ],
    ids=[
        *("empty", "not torch", "cut short", "not tensors", "without a checksum", "too few"),
        *("blank", "other labels", "one bit"),
    ],
)
def test_a_damaged_file_is_written_anew(damage, made, folder, tmp_path):
    file = Path(shutil.copy(only(folder), tmp_path))
    damage(file)
    assert same(digits(tmp_path), made)
    assert same(kept(only(tmp_path)), made)


def flip_a_bit(file: Path, images: torch.Tensor) -> None:
    """Changes one bit of a pixel in the file: zip archives hold tensors as they are."""
    content = bytearray(file.read_bytes())
    start = content.index(images.numpy().tobytes())
    content[start + 12_345] ^= 1
    file.write_bytes(content)


def test_a_folder_that_cannot_be_written_is_skipped(made, tmp_path):
    (tmp_path / "file").touch()  # even root can make no folder below a file
    assert same(digits(tmp_path / "file" / "cache"), made)


def test_a_failed_write_leaves_nothing(made, tmp_path, monkeypatch):
    def full(digits, file):
        file.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert same(digits(tmp_path), made)
    assert not list(tmp_path.iterdir())


def test_the_default_folder_follows_xdg(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert same(strokes(SIZE), made)
    assert only(tmp_path).name == "pyro_scenes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strokes(SIZE)
    assert only(tmp_path / "home" / ".cache" / "pyro_scenes").suffix == ".pt"


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="size must be a whole number from 1 up"):
        strokes(0, cache=tmp_path)
