"""Digits: a function of size and seed, like MNIST, kept on disk, with classes told apart."""

from pathlib import Path

import pytest
import torch

from pyro_scenes.data.strokes import strokes

SIZE = 300


def digits(folder: Path, seed: int = 0):
    return strokes(SIZE, seed=seed, cache=folder)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def only(folder: Path) -> Path:
    """The one file of a folder."""
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("cache"))


def test_shapes_types_and_range(some):
    images, labels = some
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


def test_the_seed_alone_decides(some, tmp_path):
    assert same(some, digits(tmp_path))
    assert not torch.equal(some[0], digits(tmp_path, seed=1)[0])


def test_global_settings_neither_matter_nor_change(some, tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert same(some, digits(tmp_path))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_two_digits_are_alike(some):
    assert len(some[0].flatten(1).unique(dim=0)) == SIZE


def test_ink_lies_in_the_middle(some):
    ink = some[0].double()
    assert ink[:, 4:24, 4:24].sum() > 0.95 * ink.sum()
    for across in (1, 2):
        centre = ink.sum(across) @ torch.arange(28).double() / ink.sum((1, 2))
        assert ((centre - 14).abs() < 0.5).all()


def test_pens_are_as_wide_as_those_of_mnist(some):
    ink = some[0].double().sum((1, 2)) / 255
    assert 80 < ink.mean() < 120 and 20 < ink.std() < 45


def test_a_linear_classifier_generalises(some, tmp_path):
    def features(images):
        return torch.nn.functional.avg_pool2d(images.double() / 255, 2).flatten(1)

    images, labels = strokes(1000, seed=1, cache=tmp_path)
    known, targets = features(images), torch.eye(10).double()[labels]
    middle = known.mean(0)
    known = known - middle
    penalty = 10 * torch.eye(known.shape[1]).double()
    weights = torch.linalg.solve(known.T @ known + penalty, known.T @ (targets - 0.1))
    guesses = ((features(some[0]) - middle) @ weights).argmax(1)
    assert (guesses == some[1]).double().mean() > 0.8


def test_the_second_call_reads_the_file(tmp_path):
    first = digits(tmp_path / "made" / "here")
    file = only(tmp_path / "made" / "here")
    assert same(first, torch.load(file, weights_only=True))
    torch.save((255 - first[0], first[1]), file)
    assert same(digits(file.parent), (255 - first[0], first[1]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no digits"),
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
        lambda file: torch.save("no digits", file),
        lambda file: torch.save(tuple(t[:5] for t in torch.load(file)), file),
    ],
    ids=["empty", "not torch", "cut short", "not tensors", "too few"],
)
def test_a_damaged_file_is_written_anew(damage, some, tmp_path):
    digits(tmp_path)
    file = only(tmp_path)
    damage(file)
    assert same(digits(tmp_path), some)
    assert same(torch.load(only(tmp_path), weights_only=True), some)


def test_a_folder_that_cannot_be_written_is_skipped(some, tmp_path):
    (tmp_path / "file").touch()  # even root can make no folder below a file
    assert same(digits(tmp_path / "file" / "cache"), some)


def test_a_failed_write_leaves_nothing(some, tmp_path, monkeypatch):
    def full(digits, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert same(digits(tmp_path), some)
    assert not list(tmp_path.iterdir())


def test_the_default_folder_follows_xdg(some, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert same(strokes(SIZE), some)
    assert only(tmp_path).name == "pyro_scenes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strokes(SIZE)
    assert only(tmp_path / "home" / ".cache" / "pyro_scenes").suffix == ".pt"


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="size of 1 or more"):
        strokes(0, cache=tmp_path)
