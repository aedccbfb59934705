"""Priors with weights: mixtures, the VampPrior, and one that sees all earlier objects."""

from copy import deepcopy
from functools import partial
from math import log

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import nn

from pyro_scenes import (
    AIR,
    CSTVAE,
    ECON,
    VAE,
    AIRGuide,
    CSTVAEGuide,
    ECONGuide,
    Persist,
    Pixels,
    VAEGuide,
    adam,
    fit,
)
from pyro_scenes.conditionals import Amortised, Autoregressive, Mixture, Vamp
from pyro_scenes.models.air import Scene
from pyro_scenes.networks import UNet

SMALL = {"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 3, "code": 4}
IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)).round()
POSE = {"loc": [2.0, 0.0, 0.5], "scale": [0.2, 0.7, 1.0]}


# Mixtures.


def test_a_mixture_is_the_mean_of_its_components():
    prior, value = Mixture(3, 4), torch.randn(5, 3)
    prior.logits.data.normal_()
    prior.log_scale.data.normal_()
    parts = dist.Normal(prior.loc, prior.log_scale.exp()).log_prob(value[:, None]).sum(-1)
    by_hand = (prior.logits.log_softmax(0) + parts).logsumexp(1)
    torch.testing.assert_close(prior(None).log_prob(value), by_hand)


PAIRS = {
    "AIR": (partial(AIR, **SMALL), AIRGuide),
    "VAE": (partial(VAE, (1, 16, 16), 4), VAEGuide),
    "CST-VAE": (partial(CSTVAE, (1, 16, 16), (1, 8, 8), 2, 4), CSTVAEGuide),
    "ECON": (
        partial(ECON, (1, 16, 16), 2, 2, 4),
        lambda model: ECONGuide(model, attention=[UNet(2, (4, 4)) for _ in range(2)]),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_model_takes_a_mixture(name):
    build, guide_of = PAIRS[name]
    prior = Mixture(4, 3)
    model = build(z_what=prior)
    before = deepcopy(prior.state_dict())
    for _ in fit(model, guide_of(model), [IMAGES] * 2, elbo=TraceEnum_ELBO(max_plate_nesting=2)):
        pass
    for weights, at_first in before.items():
        assert not torch.equal(prior.state_dict()[weights], at_first)


class Canvas(nn.Module):
    """A code is its image."""

    def forward(self, codes):
        return codes.unflatten(-1, (1, 1, 2))


def test_a_mixture_finds_separated_clusters():
    """The aggregate posterior's divergence from it is a tenth of that from a standard normal prior."""
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    codes = centres.repeat(30, 1) + 0.2 * torch.randn(90, 2)
    gaps = {}
    for name, prior in (("standard", None), ("mixture", Mixture(2, 6))):
        model = VAE(
            (1, 1, 2), 2, z_what=prior, decoder=Canvas(), image=Pixels(dist.Normal, scale=0.3)
        )
        guide = VAEGuide(model, z_what=Amortised(2, model.latents()["z_what"]))
        guide.encode = nn.Flatten()
        images = codes.unflatten(1, (1, 1, 2))
        with pyro.validation_enabled(False):
            optim = adam(model, guide, lr=0.03)
            for _ in fit(model, guide, [images] * 250, elbo=Trace_ELBO(), optim=optim):
                pass
        proposal = guide.z_what(codes)
        draws = proposal.sample((20,))
        each = proposal.base_dist.log_prob(draws[:, :, None]).sum(
            -1
        )  # of each draw, by each proposal
        aggregate = each.logsumexp(-1) - log(len(codes))
        gaps[name] = (aggregate - model.z_what(None).log_prob(draws)).mean().item()
    assert gaps["standard"] > 1.0 and gaps["mixture"] < gaps["standard"] / 10 + 0.05


# The VampPrior.


def vamp(build, guide_of, pictures):
    model = build()
    guide = guide_of(model)
    model.z_what = Vamp(pictures, guide)
    return model, guide


def test_the_vamp_prior_is_the_mixture_of_the_guides_proposals():
    model, guide = vamp(partial(VAE, (1, 16, 16), 4), VAEGuide, IMAGES)
    pictures = IMAGES.clamp(0.05, 0.95)
    value = torch.randn(5, 4)
    each = guide.z_what(guide.encode(pictures)).log_prob(value[:, None])
    found = model.z_what(None).log_prob(value)
    torch.testing.assert_close(found, each.logsumexp(1) - log(3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["AIR", "VAE", "CST-VAE"])
def test_pseudo_inputs_are_trained_and_the_guide_has_one_owner(name):
    size = 16 if name == "VAE" else 8
    pictures = torch.rand(3, 1 if name != "CST-VAE" else 2, size, size)
    model, guide = vamp(*PAIRS[name], pictures)
    own = {id(p) for p in model.parameters()}
    assert not any(id(p) in own for p in guide.parameters())
    before = model.z_what.picture_logits.detach().clone()
    for _ in fit(model, guide, [IMAGES] * 2, elbo=TraceEnum_ELBO(max_plate_nesting=1)):
        pass
    assert not torch.equal(model.z_what.picture_logits, before)
    copied, guide_of_copy = deepcopy((model, guide))
    assert copied.z_what.guide is guide_of_copy


def test_pictures_and_guide_are_checked(unchecked):
    guide = VAEGuide(VAE((1, 16, 16), 4))
    with pytest.raises(ValueError, match="pictures must be"):
        Vamp(IMAGES[0], guide)
    with pytest.raises(ValueError, match="in .0, 1."):
        Vamp(IMAGES * 2, guide)
    with pytest.raises(TypeError, match="with encode and z_what"):
        Vamp(IMAGES, VAE((1, 16, 16), 4))


# A prior that sees all earlier objects.


def at(*poses):
    """A scene after these poses, each (n, 3)."""
    past = tuple((torch.as_tensor(pose), torch.zeros(len(pose), 4)) for pose in poses)
    n = len(poses[0]) if poses else 1
    return Scene(len(poses), torch.zeros(n, 1, 16, 16), torch.ones(n), past=past)


def moved(prior):
    for part in prior.move.parameters():
        nn.init.normal_(part, std=0.3)
    return prior


def test_a_scene_knows_all_earlier_objects():
    seen = []

    def z_where(scene):
        seen.append(scene)
        return dist.Normal(torch.tensor(POSE["loc"]), 0.3).to_event(1)

    model = AIR(**SMALL, z_where=z_where, z_pres=Persist(0.9))
    nodes = poutine.trace(model).get_trace(size=2).nodes
    assert [len(scene.past) for scene in seen] == [0, 1, 2]
    for step, (where, what) in enumerate(seen[-1].past):
        assert (
            where is nodes[f"z_where_{step}"]["value"] and what is nodes[f"z_what_{step}"]["value"]
        )


def test_it_starts_as_it_is_told_and_then_depends_on_every_object():
    prior, (one, other) = Autoregressive(**POSE), torch.randn(2, 5, 3)
    for scene in (at(), at(one), at(one, other)):
        assert torch.allclose(prior(scene).mean, torch.tensor(POSE["loc"]))
        assert torch.allclose(prior(scene).variance.sqrt(), torch.tensor(POSE["scale"]))
    prior = moved(prior)
    means = [prior(at(*poses)).mean for poses in ([one, other], [one, one], [other, other])]
    assert not torch.allclose(means[0], means[1]) and not torch.allclose(means[0], means[2])
    with pytest.raises(ValueError, match="scale must be above 0"):
        Autoregressive(loc=[0.0] * 3, scale=[1.0, 0.0, 1.0])


def test_it_learns_where_the_next_object_stands():
    """The second object stands opposite to the first: given it, 2 log(5) nats are known."""
    prior = Autoregressive(loc=[0.0, 0.0], scale=[1.0, 1.0], hidden=32)
    first = torch.randn(300, 2)
    second = -first + 0.2 * torch.randn(300, 2)
    optim = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(200):
        optim.zero_grad()
        loss = -prior(at(first)).log_prob(second).mean()
        loss.backward()
        optim.step()
    blind = -dist.Normal(0.0, 1.0).log_prob(second).sum(-1).mean()
    assert blind - loss > 1.5 * log(5)


def test_it_is_exact_under_enumeration(double):
    """The sum over counts by TraceEnum_ELBO is that of conditioning on each count, at the same draws."""
    prior = moved(Autoregressive(**POSE).double())
    model = AIR(**SMALL, z_where=prior, z_pres=Persist([0.7, 0.6, 0.4])).double()
    guide = AIRGuide(model, hidden=16)
    images = IMAGES.double()
    torch.manual_seed(3)
    enumerated = poutine.infer_config(
        guide, lambda site: {"enumerate": "parallel"} if site["name"].startswith("z_pres") else {}
    )
    found = TraceEnum_ELBO(max_plate_nesting=1).loss(model, enumerated, images)
    by_hand = torch.zeros(())
    for count in range(4):
        present = {f"z_pres_{t}": torch.full((3,), float(t < count)) for t in range(3)}
        torch.manual_seed(3)
        proposed = poutine.trace(poutine.condition(guide, present)).get_trace(images)
        given = {n: proposed.nodes[n]["value"] for n in proposed.nodes if n.startswith("z_w")}
        joint = poutine.trace(poutine.condition(model, present | given)).get_trace(images)
        for trace in (joint, proposed):
            trace.compute_log_prob()
        log_q = sum(proposed.nodes[name]["log_prob"] for name in present)
        weight = each(joint) - each(proposed)
        by_hand = by_hand - (log_q.exp() * weight).sum()
    torch.testing.assert_close(torch.tensor(found), by_hand, rtol=1e-8, atol=1e-6)


def each(trace):
    return sum(
        n["log_prob"] for n in trace.nodes.values() if n["type"] == "sample" and "log_prob" in n
    )
