"""Inference step by step, against the same guide asked for its counts and for one interpretation."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_scenes import AIR, VAE, AIRGuide, VAEGuide
from pyro_scenes.evaluation import count_probabilities, interpret, see_steps
from pyro_scenes.handlers import expected
from pyro_scenes.pairs import TrainingModeWarning


def pair(**sizes):
    model = AIR((1, 14, 12), (1, 6, 5), code=3, **sizes)
    return model.eval(), AIRGuide(model, hidden=16, presence=0.3).eval()


@pytest.mark.parametrize("steps", [1, 3])
def test_probabilities_are_those_of_the_guide_at_its_medians(steps):
    model, guide = pair(steps=steps)
    images = torch.rand(4, 1, 14, 12)
    seen = see_steps(model, guide, images)
    with torch.no_grad(), expected():
        wanted = count_probabilities(guide, images, draws=1)
    torch.testing.assert_close(seen.count_probabilities, wanted)
    torch.testing.assert_close(seen.count_probabilities.sum(1), torch.ones(4))
    assert (seen.count_probabilities > 0.01).all()  # no count is certain, or this proves little


@pytest.mark.parametrize("count", range(4))
def test_boxes_and_canvases_are_those_of_an_interpretation_with_that_count(count):
    model, guide = pair()
    images = torch.rand(4, 1, 14, 12)
    seen = see_steps(model, guide, images)
    chosen = {f"z_pres_{t}": torch.full((4,), float(t < count)) for t in range(3)}
    given = poutine.trace(poutine.condition(guide, data=chosen))
    with torch.no_grad(), expected():
        guide_trace = given.get_trace(images)
        for name in chosen:
            guide_trace.nodes[name]["is_observed"] = False
        one = interpret(model, poutine.replay(guide, trace=guide_trace), images)
    torch.testing.assert_close(seen.canvases[:, count], one.canvas)
    torch.testing.assert_close(seen.boxes[:, :count], one.boxes[:, :count])
    assert seen.boxes.isfinite().all()


def test_the_first_canvas_is_blank_and_each_step_adds_to_it():
    model, guide = pair()
    canvases = see_steps(model, guide, torch.rand(4, 1, 14, 12)).canvases
    assert canvases.shape == (4, 4, 1, 14, 12) and (canvases[:, 0] == 0).all()
    added = canvases.diff(dim=1)
    assert (added >= 0).all() and (added.flatten(2).amax(2) > 0.01).all()


def test_an_image_gets_the_same_answer_whatever_its_company():
    model, guide = pair()
    images = torch.rand(4, 1, 14, 12)
    alone, together = see_steps(model, guide, images[2:3]), see_steps(model, guide, images)
    for one, all_of_them in zip(alone, together, strict=True):
        torch.testing.assert_close(one, all_of_them[2:3])


def test_nothing_is_drawn_so_the_random_state_is_left_as_it_was():
    model, guide = pair()
    images, state = torch.rand(1, 1, 14, 12), torch.get_rng_state()
    see_steps(model, guide, images)
    assert torch.equal(state, torch.get_rng_state())


def test_models_and_guides_that_find_no_objects_are_refused():
    vae, (model, guide) = VAE((1, 14, 12)).eval(), pair()
    with pytest.raises(ValueError, match="has no attribute steps"):
        see_steps(vae, VAEGuide(vae).eval(), torch.rand(2, 1, 14, 12))
    with pytest.raises(ValueError, match="another model"):
        see_steps(pair()[0], guide, torch.rand(2, 1, 14, 12))

    def grid(images, cells=3):
        with pyro.plate("images", len(images), dim=-1):
            for t in range(cells):
                pyro.sample(f"z_pres_{t}", dist.Bernoulli(torch.full((len(images),), 0.5)))

    with pytest.raises(ValueError, match="not in unary code"):
        see_steps(model, grid, torch.rand(2, 1, 14, 12))
    with pytest.raises(ValueError, match="3 steps, and this guide draws 2"):
        see_steps(model, partial(grid, cells=2), torch.rand(2, 1, 14, 12))


def test_training_mode_is_warned_of():
    model, guide = pair()
    with pytest.warns(TrainingModeWarning):
        see_steps(model, guide.train(), torch.rand(1, 1, 14, 12))
