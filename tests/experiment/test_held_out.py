"""A run remembers its scenes: what is evaluated later is new to it."""

import pytest
import torch

from pyro_scenes.data import Scenes
from pyro_scenes.experiment import Run, flags, remember, unseen
from pyro_scenes.inference import CheckpointError

SCENES = Scenes(torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def run(tmp_path):
    run = Run(flags("a test", out=str(tmp_path), steps=1).parse_args([]))
    run.evaluate = "old/checkpoint.pt"
    return run


def test_scenes_of_training_and_validation_are_left_out(run, capsys):
    remember(run, SCENES[:2], SCENES[4:])
    torch.testing.assert_close(unseen(run, SCENES).images, SCENES.images[2:4])
    assert "4 of 6 scenes were used in training" in capsys.readouterr().out
    assert len(unseen(run, SCENES[2:4])) == 2
    assert not capsys.readouterr().out


def test_a_run_that_has_seen_all_is_not_evaluated_on_them(run):
    remember(run, SCENES)
    with pytest.raises(ValueError, match="all 3 scenes .* old/checkpoint.pt: give others"):
        unseen(run, SCENES[:3])


@pytest.mark.parametrize("known", ["all", torch.rand(3)])
def test_damaged_fingerprints_are_refused(known, run):
    run.state["known"] = known
    with pytest.raises(CheckpointError, match="of its scenes is damaged"):
        unseen(run, SCENES)


def test_weights_without_fingerprints_are_said_to_have_none(run, capsys):
    assert unseen(run, SCENES) is SCENES
    assert "does not say which scenes it was trained on" in capsys.readouterr().out
