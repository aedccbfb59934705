"""Batches several times over, log probabilities of each image, and guides that are run again."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_scenes import ECON, ECONGuide, SpritesGuide, sprite_scenes
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.networks import RegionEncoder, SeededAttention, UNet
from pyro_scenes.particles import (
    count_images,
    drawn_values,
    image_log_probs,
    log_mean_exp,
    repeat,
    run_again,
)
from pyro_scenes.random import random_state


class Labelled:
    """A batch of another kind."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def repeat(self, times):
        return Labelled(self.rows * times)


def test_all_parts_are_repeated_in_the_same_order():
    images, labels = torch.rand(3, 1, 2, 2), torch.arange(3)
    (tall, own), others = repeat(4, (images, Labelled([0, 1, 2])), {"labels": labels, "layers": 2})
    assert torch.equal(tall.unflatten(0, (4, 3)), images.expand(4, 3, 1, 2, 2))
    assert own.rows == [0, 1, 2] * 4 == others["labels"].tolist()
    assert others["layers"] == 2
    constant = torch.tensor(2.0)
    assert repeat(2, (images, None, 0.5, constant))[0][1:] == (None, 0.5, constant)
    assert count_images((), {"images": images}) == count_images((Labelled([1, 2, 3]),)) == 3


@pytest.mark.parametrize("part", [[0, 1, 2], np.arange(3), "abc", {0: 1}, (1, 2, 3)])
def test_what_cannot_be_repeated_is_refused(part):
    with pytest.raises(
        TypeError, match=r"must be of tensors \(n, ...\), got \w+: give torch.as_tensor"
    ):
        repeat(2, (torch.rand(3, 1), part))


def test_parts_without_a_row_for_each_image_are_refused():
    with pytest.raises(ValueError, match="3 images has a part with 2 rows"):
        repeat(2, (torch.rand(3, 1), torch.rand(2)))
    for empty in ((), (torch.rand(0, 1),), (None,)):
        with pytest.raises(TypeError, match="must have images"):
            repeat(2, empty)


def test_log_probs_of_each_image_sum_over_pixels_and_leave_out_what_is_masked():
    def model():
        with pyro.plate("images", 3, dim=-1):
            with poutine.mask(mask=torch.tensor([True, False, True])):
                pyro.sample("z", dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
            pyro.factor("more", torch.tensor([1.0, 2.0, 3.0]))
            with pyro.plate("pixels", 4, dim=-2):
                pyro.sample("image", dist.Normal(0.0, 1.0), obs=torch.ones(4, 3))
        pyro.deterministic("of_all", torch.zeros(2))

    trace = poutine.trace(model).get_trace()
    z = dist.Normal(0.0, 1.0).log_prob(trace.nodes["z"]["value"]).sum(-1)
    z = z * torch.tensor([1.0, 0.0, 1.0])
    pixels = 4 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.0))
    expected = z + torch.tensor([1.0, 2.0, 3.0]) + pixels
    torch.testing.assert_close(image_log_probs(trace, 3), expected)
    torch.testing.assert_close(image_log_probs(trace, 3, ["z"]), z)
    with pytest.raises(ValueError, match=r"z is of all images at once.*\(3,\), for 4"):
        image_log_probs(trace, 4)


def test_the_mean_of_weights_at_any_magnitude():
    weights = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    for far in (0.0, -1e5, 1e5):
        found = log_mean_exp(weights.double().log() + far) - far
        torch.testing.assert_close(found.exp().float(), torch.tensor([2.0, 4.0]))


def econ():
    model = ECON((3, 8, 12), experts=2, layers=2, code=5)
    prior = model.latents()["z_what_0"]
    proposals = [RegionProposal(RegionEncoder((3, 8, 12), 20, channels=8), 20, prior) for _ in "ab"]
    return model, ECONGuide(model, attention=[UNet(4, (8, 8)) for _ in "ab"], proposals=proposals)


def sprites():
    model = sprite_scenes((3, 16, 12), sprites=2, layers=3, code=5)
    attention = SeededAttention(model.image_shape, widths=(8, 8))
    return model, SpritesGuide(model, attention=attention, candidates=2)


@pytest.mark.parametrize("build", [econ, sprites])
def test_a_guide_at_its_own_draws_has_the_same_log_q(build):
    model, guide = build()
    images = torch.rand(3, *model.image_shape)
    state = random_state()
    first = poutine.trace(guide).get_trace(images)
    after = torch.get_rng_state()
    again = run_again(guide, drawn_values(first), state, images)
    assert torch.equal(image_log_probs(first, 3), image_log_probs(again, 3))
    assert torch.equal(torch.get_rng_state(), after)


class Chooser(nn.Module):
    """Its proposal has candidates that are no site, and a dropout; z1 is drawn around z0."""

    def __init__(self):
        super().__init__()
        self.spread = nn.Linear(1, 1)

    def forward(self, images):
        pyro.module("chooser", self)
        n = len(images)
        candidates = torch.rand(n, 5)
        with pyro.plate("images", n, dim=-1):
            choice = pyro.sample("choice", dist.Categorical(logits=torch.zeros(n, 5)))
            z0 = pyro.sample("z0", dist.Normal(candidates.gather(1, choice[:, None])[:, 0], 0.01))
            noise = torch.nn.functional.dropout(torch.ones(n), 0.5)
            pyro.sample("z1", dist.Normal(self.spread(z0[:, None])[:, 0] + noise, 0.01))


def test_random_numbers_that_are_no_sites_are_those_of_the_first_run():
    guide, images = Chooser(), torch.rand(4, 1)
    state = random_state()
    first = poutine.trace(guide).get_trace(images)
    again = run_again(guide, drawn_values(first), state, images)
    assert torch.equal(image_log_probs(first, 4), image_log_probs(again, 4))
    # A replay lacks the choice's random numbers, so what is drawn after them differs.
    torch.set_rng_state(state.cpu)
    replayed = poutine.trace(poutine.replay(guide, trace=first)).get_trace(images)
    assert (image_log_probs(replayed, 4) < image_log_probs(first, 4) - 10).any()


def test_gradients_reach_the_values_also_through_later_sites():
    guide, images = Chooser(), torch.rand(4, 1)
    state = random_state()
    first = poutine.trace(guide).get_trace(images)
    values = {name: z.detach() for name, z in drawn_values(first).items()}
    values["z0"] = values["z0"] + 0.003
    values["z0"].requires_grad_(), values["z1"].requires_grad_()
    log_q = image_log_probs(run_again(guide, values, state, images), 4)
    slope, last = torch.autograd.grad(log_q.sum(), [values["z0"], values["z1"]])
    own = image_log_probs(run_again(guide, values, state, images), 4, ["z0"])
    (of_own,) = torch.autograd.grad(own.sum(), [values["z0"]])
    # d log q(z1) / d mean = - d log q(z1) / d z1
    torch.testing.assert_close(slope, of_own - last * guide.spread.weight.item())
    others = {name: value for name, value in values.items() if name != "z1"}
    free = run_again(guide, others, state, images)
    assert torch.equal(free.nodes["z0"]["value"], values["z0"])
    assert not torch.equal(free.nodes["z1"]["value"], values["z1"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_random_numbers_of_a_gpu_are_those_of_the_first_run():
    images = torch.rand(4, 1).cuda()

    def guide(images):
        candidates = torch.rand(4, device=images.device)
        with pyro.plate("images", 4, dim=-1):
            pyro.sample("z0", dist.Normal(candidates, 0.01))
            pyro.sample("z1", dist.Normal(torch.rand(4, device=images.device), 0.01))

    state = random_state()
    first = poutine.trace(guide).get_trace(images)
    again = run_again(guide, drawn_values(first), state, images)
    assert torch.equal(image_log_probs(first, 4), image_log_probs(again, 4))
