"""Figures of layers on scenes of any kind: in colour, with fewer objects than layers, without truth."""

import pytest
import torch

from pyro_scenes.data import Scenes, coloured_shapes
from pyro_scenes.experiment import layered_figures
from pyro_scenes.recipes import layered_digits_pair


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    pair = layered_digits_pair("cst_vae", (3, 16, 16), 3, window=(8, 8), binary=False)
    return [part.eval() for part in pair]


def test_padding_has_no_completion(pair):
    scenes = coloured_shapes(30, canvas=16, count=(0, 3), seed=1)
    full = scenes[scenes.counts == 3]
    with torch.no_grad():
        some = layered_figures(*pair, scenes, {}, draws=2)
        assert "completion" in layered_figures(*pair, full, {}, draws=2)
        assert "completion" not in layered_figures(*pair, scenes[scenes.counts < 2], {}, draws=2)
    assert {"samples", "reconstructions", "interpretations"} <= set(some)


def test_without_truth_there_is_no_score_and_no_completion(pair):
    scenes = Scenes(coloured_shapes(4, canvas=16).images)
    with torch.no_grad():
        figures = layered_figures(*pair, scenes, {}, draws=2)
    assert set(figures) == {"samples", "reconstructions", "interpretations"}
