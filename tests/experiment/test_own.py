"""Scenes of one's own: what is said of them, and how they are divided."""

import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_scenes.data import Scenes
from pyro_scenes.experiment import Run, divide, flags, is_binary, own_scenes, remember

RANDOM = np.random.default_rng(0)
DARK = (100 * RANDOM.random((6, 8, 10))).astype(np.uint8)


@pytest.fixture
def run(tmp_path):
    """A run of ``--images`` with these images."""

    def run(images, evaluate=None, **settings):
        np.save(tmp_path / "mine.npy", images)
        parser = flags("a test", out=tempfile.mkdtemp(dir=tmp_path), steps=1)
        parser.add_argument("--images")
        run = Run(parser.parse_args(["--images", str(tmp_path / "mine.npy")]))
        run.evaluate, run.settings, run.kept = evaluate, settings, (settings or None)
        return run

    return run


def test_they_are_read_and_described(run, capsys):
    assert own_scenes(run(DARK)).images.shape == (6, 1, 8, 10)
    assert "6 grey images of 8 x 10 pixels (height x width) from" in capsys.readouterr().out


def test_a_folder_serves_too(run, tmp_path, capsys):
    this = run(DARK)
    this.args.images = tmp_path / "pictures"
    this.args.images.mkdir()
    Image.fromarray(RANDOM.integers(0, 255, (8, 10, 3), np.uint8)).save(this.args.images / "a.png")
    assert own_scenes(this).images.shape == (1, 3, 8, 10)
    assert "1 colour images of 8 x 10" in capsys.readouterr().out


def test_there_are_none_without_the_flag(run):
    this = run(DARK)
    this.args.images = None
    assert own_scenes(this) is None


def test_a_bright_background_is_told_to_who_paints_on_black(run, capsys):
    for images, on_black, told in (
        (255 - DARK, True, True),
        (255 - DARK, False, False),
        (DARK, True, False),
    ):
        own_scenes(run(images), on_black=on_black)
        said = capsys.readouterr().out
        assert ("bright objects on black" in said and "inverted" in said) == told


def test_large_images_are_told(run, capsys):
    own_scenes(run(np.zeros((2, 300, 20), np.uint8)))
    assert "they are large" in capsys.readouterr().out


def test_grey_images_become_those_that_the_checkpoint_is_of(run):
    images = own_scenes(run(DARK, image_shape=[3, 8, 10])).images
    assert images.shape == (6, 3, 8, 10) and (images == torch.from_numpy(DARK)[:, None]).all()
    assert own_scenes(run(DARK, image_shape=[1, 8, 10])).images.shape == (6, 1, 8, 10)


def test_they_are_divided_or_left_whole_for_an_evaluation(run, capsys):
    this = run(DARK)
    scenes = own_scenes(this)
    assert sorted(map(len, divide(this, scenes))) == [1, 1, 4]
    remember(this, scenes[:2])
    this.evaluate = "old/checkpoint.pt"
    assert [len(part) for part in divide(this, scenes)] == [4, 4, 4]


def test_binary_images_are_noticed_and_wanted_by_their_checkpoint(run):
    binary = Scenes(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2))
    floats = Scenes(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2))
    grey = Scenes(torch.tensor([0, 9], dtype=torch.uint8).view(1, 1, 1, 2))
    assert is_binary(run(DARK), binary) and is_binary(run(DARK), floats)
    assert not is_binary(run(DARK), grey)
    assert not is_binary(run(DARK, binary=False), grey)
    with pytest.raises(ValueError, match="images of 0 and 1 alone, .*mine.npy have levels between"):
        is_binary(run(DARK, binary=True), grey)
