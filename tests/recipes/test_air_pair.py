"""AIR sized by its images and objects: its defaults are the paper's, and poses scale with the objects."""

from itertools import pairwise

import pyro.distributions as dist
import pytest
import torch

from pyro_scenes import AIR, Persist, Pixels
from pyro_scenes.recipes import air_pair, as_trained, noise_at
from pyro_scenes.render import box


def test_the_default_is_the_model_of_the_library():
    model, guide = air_pair((1, 50, 50))
    own = AIR()
    assert guide.model is model
    assert (model.window, model.steps) == (own.window, own.steps)
    for name, prior in own.latents().items():
        torch.testing.assert_close(model.latents()[name].mean, prior.mean)
        torch.testing.assert_close(model.latents()[name].variance, prior.variance)


@pytest.mark.parametrize("scale", [0.15, 1 / 3, 0.6])
def test_objects_are_as_large_as_said_and_as_widely_spread(scale):
    model, _ = air_pair((3, 40, 60), 5, scale=scale)
    assert model.steps == 5 and model.window[0] == 3
    poses = model.latents()["z_where_0"].sample((4000,)).reshape(-1, 3)
    left, top, right, bottom = box(poses, (40, 60)).unbind(-1)
    assert (right - left).mean() == pytest.approx(60 * scale, rel=0.03)
    assert (bottom - top).mean() == pytest.approx(40 * scale, rel=0.03)
    # Whatever their size, centres lie a sixth of the width from the middle, as those of the default.
    assert ((left + right) / 2).std() == pytest.approx(10, rel=0.1)


def test_windows_are_larger_than_objects_unless_they_are_given():
    assert air_pair((1, 50, 100), scale=0.2)[0].window == (1, 17, 34)
    assert air_pair((1, 20, 20), scale=0.1)[0].window == (1, 8, 8)
    assert air_pair((1, 50, 50), window=(9, 12))[0].window == (1, 9, 12)


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.3, 0.5])
def test_noise_falls_once_counts_are_learned(noise):
    path = [noise_at(step, 200, noise) for step in range(201)]
    first = max(0.3, noise)
    assert path[:81] == [first] * 81 and path[120:] == pytest.approx([noise] * 81)
    assert all(a >= b for a, b in pairwise(path))


def test_a_model_from_the_middle_of_a_training_gets_the_parts_of_its_end():
    model, _ = air_pair((1, 20, 20), noise=0.1)
    model.z_pres, model.image = Persist(0.9), Pixels(dist.Normal, scale=0.3)
    as_trained(model, 0.1)
    fresh, _ = air_pair((1, 20, 20), noise=0.1)
    assert all(map(torch.equal, model.buffers(), fresh.buffers()))
