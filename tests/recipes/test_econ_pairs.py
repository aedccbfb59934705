"""The pairs of the paper, their objectives, and when experts are set apart."""

import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from pyro_scenes import SpritesGuide, Weighted, check_guide, recipes, sprite_scenes
from pyro_scenes.data import coloured_shapes
from pyro_scenes.inference import MaskLoss, Surrogate
from pyro_scenes.recipes import schedule

SCENES = coloured_shapes(2, count=2)


@pytest.mark.parametrize("unique", [False, True])
def test_the_papers_pair(unique):
    model, guide = recipes.paper_econ((3, 32, 32), 2, 3, unique=unique)
    check_guide(model, guide, SCENES.floats())
    assert model.latents()["z_what_0"].event_shape == ((2,) if unique else (5,))


@pytest.mark.parametrize(
    "pair",
    [
        lambda: recipes.paper_econ((3, 32, 32), 2, 3, given_regions=True),
        lambda: recipes.given_regions_econ((3, 32, 32), 1, 3),
    ],
)
def test_pairs_for_given_regions_need_regions(pair):
    model, guide = pair()
    check_guide(model, guide, SCENES.floats(), SCENES.regions(3))
    assert not any(parameter.numel() for parameter in guide.attention.parameters())


def test_objectives():
    assert isinstance(recipes.objective(), TraceEnum_ELBO)
    assert isinstance(recipes.objective(gamma=2.0), Weighted)
    assert isinstance(recipes.objective("monet"), MaskLoss)
    paper = recipes.objective("paper", 0.5, 3.0)
    assert isinstance(paper, Surrogate) and (paper.beta, paper.gamma) == (0.5, 3.0)


@pytest.mark.parametrize(
    ("start", "steps", "expected"),
    [
        (0, 400, [(100, "separate"), (200, "colour")]),
        (0, 150, [(100, "separate"), (101, "colour")]),
        (0, 100, []),  # after the last step nothing is changed
        (250, 400, []),  # half time is over
    ],
)
def test_experts_are_set_apart_once(start, steps, expected, monkeypatch, unchecked):
    calls = []
    for name in ("separate", "colour"):
        monkeypatch.setattr(
            schedule, f"{name}_experts", lambda *args, name=name: calls.append((step, name))
        )
    model, guide = torch.nn.Identity(), torch.nn.Identity()
    for step in range(start, steps + 1):
        schedule.set_experts_apart(step, steps, model, guide, torch.zeros(0, 3, 4, 4), None)
    assert calls == expected


@pytest.mark.parametrize("steps", [50, 101, 150, 1000])
def test_curves_are_marked_where_experts_are_set_apart(steps, monkeypatch, unchecked):
    calls = []
    for name in ("separate_experts", "colour_experts"):
        monkeypatch.setattr(schedule, name, lambda *args: calls.append(step))
    guide = SpritesGuide(sprite_scenes((3, 16, 16)))
    for step in range(steps + 1):
        schedule.set_experts_apart(step, steps, guide.model, guide, torch.zeros(0, 3, 4, 4), None)
    assert calls == list(schedule.apart_at(guide, steps).values())
    assert schedule.apart_at(torch.nn.Identity(), steps) == {}
