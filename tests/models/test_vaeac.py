"""VAEAC: its bound written by hand, one model for any mask, completions, and what may be swapped."""

import math
from itertools import islice

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

from pyro_scenes import VAEAC, VAEACGuide, adam, check_guide, evaluation, fit, to_arviz
from pyro_scenes.recipes import completion_pair

from .conftest import gradients, same, seeded

SHAPE = (2, 6, 5)
SOME = torch.Generator().manual_seed(0)
IMAGES = torch.rand(7, *SHAPE, generator=SOME).round()
SEEN = torch.rand(7, 1, *SHAPE[1:], generator=SOME) > 0.5
KNOWN = IMAGES.masked_fill(~SEEN, torch.nan)


@pytest.fixture
def pair():
    model = VAEAC(SHAPE, 3, hidden=16)
    return model, VAEACGuide(model, hidden=16)


def by_hand(model, guide):
    torch.manual_seed(3)
    b = (~SEEN).float().expand(7, *SHAPE)
    features = model.encode.layers(torch.cat([IMAGES * (1 - b), b], 1).flatten(1))
    prior = model.z_what.normal(features)
    posterior = guide.z_what(guide.encode.layers(torch.cat([IMAGES, b], 1).flatten(1)))
    z_what = posterior.rsample()
    probs = 1e-3 + (1 - 2e-3) * model.decoder(torch.cat([z_what, features], 1))
    each = IMAGES * probs.log() + (1 - IMAGES) * torch.log1p(-probs)
    divergence = torch.distributions.kl_divergence(posterior, prior)
    return divergence.sum() - (b * each).sum()


def test_the_loss_is_the_bound_written_by_hand(pair):
    expected = by_hand(*pair)
    expected.backward()
    written = gradients(*pair)
    torch.manual_seed(3)
    loss = TraceMeanField_ELBO().loss_and_grads(*pair, IMAGES, SEEN)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    same(gradients(*pair), written)
    check_guide(*pair, IMAGES, SEEN)


def test_black_and_not_seen_are_not_the_same(pair):
    model, guide = pair
    black = torch.zeros(1, *SHAPE)
    seen = torch.ones(1, *SHAPE, dtype=torch.bool)
    for module in pair:
        locs = [
            seeded(module, black, mask).nodes["z_what"]["fn"].base_dist.loc
            for mask in (seen, ~seen)
        ]
        assert (locs[0] != locs[1]).any()


def test_what_is_under_the_mask_does_not_change_the_prior(pair):
    model, _ = pair
    other = torch.where(SEEN, IMAGES, 1 - IMAGES)
    first, second = (
        seeded(model, images, SEEN).nodes["z_what"]["fn"].base_dist.loc
        for images in (IMAGES, other)
    )
    assert torch.equal(first, second)


def test_completions_keep_what_is_seen(pair):
    model, _ = pair
    nodes = seeded(model, None, KNOWN).nodes
    shown = SEEN.expand(7, *SHAPE)
    for drawn in (nodes["image"]["value"], nodes["canvas"]["value"]):
        assert torch.equal(drawn[shown], IMAGES[shown]) and drawn.isfinite().all()


def test_one_model_completes_by_any_mask():
    """Four pixels are equal, black or white: ln 2 of nothing seen, almost nothing once one is."""
    model, guide = completion_pair("vaeac", (1, 2, 2), code=2, hidden=32)

    def stream():
        while True:
            images = torch.rand(64, 1, 1, 1, generator=SOME).round().expand(64, 1, 2, 2)
            share = torch.rand(64, 1, 1, 1, generator=SOME)
            yield images.contiguous(), torch.rand(64, 1, 2, 2, generator=SOME) < share

    optim = adam(model, guide, lr=0.01)
    elbo = TraceMeanField_ELBO()
    with pyro.validation_enabled(False):
        list(fit(model, guide, islice(stream(), 250), elbo=elbo, optim=optim))
    images, _ = next(stream())
    nats = {}
    for number in range(4):
        seen = (torch.arange(4) < number).view(1, 1, 2, 2).expand(64, 1, 2, 2)
        weights = evaluation.log_weights(model.eval(), guide.eval(), images, seen, particles=100)
        nats[number] = -evaluation.estimate(weights).iwae
    assert 0.9 * math.log(2) < nats[0] < 1.5 * math.log(2)
    assert all(nats[number] < 0.25 for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"code": 0}, "code"),
        ({"hidden": 0}, "hidden"),
        ({"decoder": nn.Linear(7, 3)}, "decoder cannot decode"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(3), 1.0)}, "z_what must return .*to_event"),
        (
            {"image": lambda s: dist.MultivariateNormal(s.canvas, torch.eye(5)).to_event(2)},
            "independent pixels",
        ),
    ],
)
def test_a_wrong_part_is_named(settings, error):
    with pytest.raises(ValueError, match=error):
        VAEACGuide(VAEAC(**{"image_shape": SHAPE, "code": 3, "hidden": 8, **settings}))


def test_draws_for_arviz_are_completions(pair):
    model, guide = (part.eval() for part in pair)
    data = to_arviz(model, guide, IMAGES, KNOWN, draws=3, seed=0)
    drawn = torch.as_tensor(data["posterior_predictive"]["image"].values).flatten(0, 1)
    shown = SEEN.expand(7, *SHAPE)
    assert torch.equal(drawn[:, shown].float(), IMAGES[shown].expand(3, -1))
