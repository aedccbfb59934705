"""Discrete codes in AIR: drawn, with an unbiased gradient whatever the estimator, and never enumerated."""

from itertools import repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate

from pyro_scenes import AIR, AIRGuide, Persist, Pixels, Prior, fit

EXACT = TraceEnum_ELBO(max_plate_nesting=1)
CODES = {
    "one-hot": Prior(dist.OneHotCategorical, probs=[0.2, 0.3, 0.5]),
    "bits": Prior(dist.Bernoulli, probs=[0.2, 0.3, 0.5]),
}
IMAGES = (torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.8).float()


def small(code, steps=2):
    parts = {"z_pres": Persist(0.5), "z_what": CODES[code]}
    return AIR((1, 12, 12), (1, 6, 6), steps, code=3, **parts)


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO(), EXACT], ids=lambda elbo: type(elbo).__name__)
@pytest.mark.parametrize("code", CODES)
def test_a_discrete_code_trains(code, elbo):
    model = small(code, steps=3)
    guide = AIRGuide(model, presence=2.0)
    before = [value.clone() for value in guide.z_what.parameters()]
    assert all(abs(r.loss) < 1e6 for r in fit(model, guide, repeat(IMAGES, 4), elbo=elbo))
    assert all((a != b).any() for a, b in zip(before, guide.z_what.parameters(), strict=True))
    drawn = poutine.trace(guide).get_trace(IMAGES).nodes["z_what_0"]
    assert drawn["fn"].support.check(drawn["value"]).all()


def sum_by_hand(model, guide, images):
    """The loss of one step with every presence and every code summed over, at a fixed pose."""
    choices = [(0.0, torch.eye(3)[0])] + [(1.0, code) for code in torch.eye(3)]
    z_where = poutine.trace(guide).get_trace(images).nodes["z_where_0"]["value"]
    total = 0.0
    for present, code in choices:
        held = {"z_pres_0": torch.full((len(images),), present), "z_where_0": z_where}
        held["z_what_0"] = code.expand(len(images), 3)
        q = poutine.trace(poutine.condition(guide, data=held)).get_trace(images)
        p = poutine.trace(poutine.condition(model, data=held)).get_trace(images)
        log_q, log_p = (per_image(trace) for trace in (q, p))
        choice = q.nodes["z_pres_0"]["log_prob"] + q.nodes["z_what_0"]["log_prob"]
        total = total + (choice.exp() * (log_p - log_q)).sum()
    return -total


def per_image(trace):
    trace.compute_log_prob()
    return sum(site["log_prob"] for site in trace.nodes.values() if "log_prob" in site)


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO(), EXACT], ids=lambda elbo: type(elbo).__name__)
def test_the_gradient_of_a_drawn_code_is_that_of_the_sum(elbo):
    model, still, images = small("one-hot", steps=1), torch.tensor([3.0, 0.0, 0.0]), 0.3 * IMAGES
    model.image = Pixels(
        dist.Normal, scale=0.4
    )  # about 0 nats a pixel: less noise in the score function
    guide = AIRGuide(
        model, z_where=lambda h: dist.Normal(still.expand(len(h), 3), 0.03).to_event(1)
    )
    with torch.no_grad():
        model.decoder.layers[-1].weight.mul_(20)  # so that codes differ
    last = guide.z_what.head[-1].bias
    expected = torch.autograd.grad(sum_by_hand(model, guide, images), last)[0]
    proposal = config_enumerate(guide) if elbo is EXACT else guide
    draws = []
    for _ in range(20):
        guide.zero_grad()
        elbo.loss_and_grads(model, proposal, images.repeat(100, 1, 1, 1))
        draws.append(last.grad / 100)
    found = torch.stack(draws)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    assert (expected.abs() > 4 * error).any()
