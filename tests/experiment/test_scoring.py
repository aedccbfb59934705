"""Scoring of models that take scenes apart, on truth and on a small model."""

import math
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from pyro.infer import Trace_ELBO

from pyro_scenes import SpritesGuide, sprite_scenes
from pyro_scenes.data import coloured_shapes
from pyro_scenes.data.coloured_shapes import CLASSES
from pyro_scenes.evaluation import floors
from pyro_scenes.experiment import Scorer, ShapesTask, expert_roles, scene_figures, sheets


@pytest.fixture(scope="module")
def pair():
    model = sprite_scenes((3, 16, 16), sprites=2, layers=3)
    return model.eval(), SpritesGuide(model).eval()


@pytest.fixture(scope="module")
def scenes():
    return coloured_shapes(3, canvas=16, count=2)


def test_scores_of_a_decomposition(pair, scenes):
    model, _ = pair
    ideal = floors.ideal(scenes.images, scenes.masks, scenes.labels)
    numbers = Scorer(classes=3).against_truth(model, ideal, scenes)
    assert numbers["ari_fg"] == 1 and numbers["mse"] == pytest.approx(0, abs=1e-10)
    assert torch.tensor(numbers["wins"]).shape == (model.experts, 3)
    bare = coloured_shapes(3, canvas=16, count=2)
    bare = type(bare)(bare.images)
    assert set(Scorer().against_truth(model, ideal, bare)) == {"mse", "mse_full_shapes"}
    assert Scorer().floors(bare) == {} and "flood fill" in Scorer().floors(scenes)


def test_layers_and_regions_are_arguments(pair, scenes):
    model, guide = pair
    assert Scorer().decompose(model, guide, scenes, layers=5).regions.shape[1] == 5
    assert model.layers == 3
    images, regions = Scorer(given=True).batch(scenes, 4)
    assert torch.equal(images, scenes.floats()) and torch.equal(regions, scenes.regions(4))
    assert len(Scorer().source(scenes, 4)) == 1


def test_more_layers_than_the_model_has_are_an_argument_of_its_calls(pair, scenes):
    model, guide = pair
    more, own, copy = Scorer(layers=5), Scorer(), deepcopy(pair)
    copy[0].layers = 5
    assert more.decompose(model, guide, scenes).regions.shape[1] == 5 and model.layers == 3
    torch.manual_seed(0)
    bound = more.bound(model, guide, scenes)
    torch.manual_seed(0)
    assert own.bound(*copy, scenes) == bound
    torch.manual_seed(0)
    loss = more.loss(Trace_ELBO(), model, guide, scenes)
    torch.manual_seed(0)
    assert own.loss(Trace_ELBO(), *copy, scenes) == loss
    assert Scorer(layers=3).with_layers(model, guide) == (model, guide)


def test_curves_have_no_undefined_numbers(pair, scenes):
    apart = coloured_shapes(2, canvas=32, count=1)[:1]
    model = sprite_scenes(sprites=1, layers=2).eval()
    numbers = Scorer().brief(model, SpritesGuide(model).eval(), apart)
    assert "depth_order" not in numbers  # there are no pairs
    assert {"elbo", "mse"} <= set(numbers) and all(map(math.isfinite, numbers.values()))


def test_sets_of_the_task_do_not_depend_on_the_seed():
    task = ShapesTask("random", objects=2, canvas=16)
    one, other = (task.split(seed, 3, 3, 3) for seed in (0, 1))
    assert torch.equal(one.test.images, other.test.images)
    assert torch.equal(one.validation.images, other.validation.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert (task.five(2).counts == 5).all()


def test_roles_are_those_known_by_construction(pair):
    model, _ = pair
    assert expert_roles(model, None).object_experts == (0, 1)
    alike = SimpleNamespace(experts=3, object_experts=None)
    # The expert that won least is taken for the background's.
    assert expert_roles(alike, [[4, 0], [0, 0], [0, 3]]).object_experts == (0, 2)


def test_figures_of_any_scenes(pair, scenes, monkeypatch):
    monkeypatch.setattr(sheets, "SIZE", 2)
    model, _ = pair
    ideal = floors.ideal(scenes.images, scenes.masks, scenes.labels)
    wins = [[1, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]
    figures = scene_figures(model, ideal, scenes, wins, CLASSES)
    assert {"reconstructions", "layers_0", "completion", "experts"} <= set(figures)
    labels = [axis.get_ylabel() for axis in figures["experts"].axes]
    assert any("won 2 squares" in " ".join(label.split()) for label in labels)
    titles = " ".join(axis.get_title() for axis in figures["layers_0"].axes).split()
    assert {"squares", "circles"} & set(titles)
    assert "scenes taken apart right" in figures["reconstructions"].get_suptitle()
    bare = type(scenes)(scenes.images)
    assert "completion" not in scene_figures(model, ideal, bare)
