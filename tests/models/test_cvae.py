"""CVAE: its bound written by hand, the baseline alone, an exact case, completions, and what is refused."""

import math
from itertools import repeat

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_scenes import (
    CVAE,
    CVAEGuide,
    Importance,
    Pixels,
    adam,
    check_guide,
    evaluation,
    fit,
    to_arviz,
)
from pyro_scenes.models.cvae import UNSEEN, FirstGuess
from pyro_scenes.recipes import completion_pair, train_guess

from .conftest import gradients, joint_of, same, seeded

SHAPE = (1, 6, 5)
SOME = torch.Generator().manual_seed(0)
IMAGES = torch.rand(7, *SHAPE, generator=SOME).round()
SEEN = torch.rand(7, *SHAPE, generator=SOME) > 0.5
KNOWN = IMAGES.masked_fill(~SEEN, torch.nan)


@pytest.fixture
def pair():
    model = CVAE(SHAPE, 3, hidden=16)
    return model, CVAEGuide(model, hidden=16)


def by_hand(model, guide):
    torch.manual_seed(3)
    guess = model.guess(IMAGES.masked_fill(~SEEN, UNSEEN))
    picture = torch.where(SEEN, IMAGES, guess).flatten(1)
    prior = model.z_what.normal(model.encode.layers(picture))
    posterior = guide.z_what(guide.encode.layers(IMAGES.flatten(1)))
    z_what = posterior.rsample()
    canvas = model.decoder(torch.cat([z_what, picture], 1))
    probs = 1e-3 + (1 - 2e-3) * canvas
    each = IMAGES * probs.log() + (1 - IMAGES) * torch.log1p(-probs)
    divergence = torch.distributions.kl_divergence(posterior, prior)
    return divergence.sum() - each[~SEEN].sum()


def test_the_loss_is_the_bound_written_by_hand(pair):
    expected = by_hand(*pair)
    expected.backward()
    written = gradients(*pair)
    torch.manual_seed(3)
    loss = TraceMeanField_ELBO().loss_and_grads(*pair, IMAGES, SEEN)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    same(gradients(*pair), written)


def test_a_mask_and_a_picture_say_the_same(pair):
    model, guide = pair
    proposed = seeded(guide, IMAGES, SEEN)
    by_mask, by_picture = (
        poutine.trace(poutine.replay(model, proposed)).get_trace(IMAGES, seen)
        for seen in (SEEN, KNOWN)
    )
    torch.testing.assert_close(by_mask.log_prob_sum(), by_picture.log_prob_sum())
    check_guide(model, guide, IMAGES, SEEN)


def test_what_is_under_the_mask_does_not_change_the_prior(pair):
    model, _ = pair
    other = torch.where(SEEN, IMAGES, 1 - IMAGES)
    first, second = (
        seeded(model, images, SEEN).nodes["z_what"]["fn"].base_dist.loc
        for images in (IMAGES, other)
    )
    assert torch.equal(first, second)
    seen_otherwise = torch.where(SEEN, 1 - IMAGES, IMAGES)
    third = seeded(model, seen_otherwise, SEEN).nodes["z_what"]["fn"].base_dist.loc
    assert (first != third).any(1).all()


def test_completions_keep_what_is_seen(pair):
    model, _ = pair
    nodes = seeded(model, None, KNOWN).nodes
    for drawn in (nodes["image"]["value"], nodes["canvas"]["value"], nodes["_RETURN"]["value"]):
        assert torch.equal(drawn[SEEN], IMAGES[SEEN]) and drawn.isfinite().all()
    assert set(nodes["image"]["value"].unique().tolist()) == {0.0, 1.0}
    assert model(None, KNOWN, size=3).shape == IMAGES.shape  # the picture says how many


def test_an_image_that_is_seen_has_probability_one(pair):
    model, guide = pair
    joint = joint_of(
        lambda images: model(images, torch.ones_like(SEEN)), seeded(guide, IMAGES), IMAGES
    )
    joint.compute_log_prob()
    assert not joint.nodes["image"]["log_prob"].any()


def test_the_first_guess_is_a_model_without_latents(pair):
    model, _ = pair
    alone = FirstGuess(model)
    assert not alone.latents()
    trace = poutine.trace(alone).get_trace(IMAGES, SEEN)
    guess = model.guess(IMAGES.masked_fill(~SEEN, UNSEEN))
    probs = 1e-3 + (1 - 2e-3) * guess
    expected = dist.Bernoulli(probs).log_prob(IMAGES)[~SEEN].sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)


def test_the_baseline_is_trained_alone():
    """It learns that the right half is the left one's negative; nothing else of the model moves."""
    model, guide = completion_pair("cvae", (1, 4, 4), code=2, hidden=32)
    left = torch.rand(64, 1, 4, 2, generator=SOME).round()
    images, seen = torch.cat([left, 1 - left], 3), torch.zeros(64, 1, 4, 4, dtype=torch.bool)
    seen[..., :2] = True
    rest = [part for part in (model.encode, model.decoder, model.z_what, guide)]
    before = [value.clone() for part in rest for value in part.parameters()]
    train_guess(model, repeat((images, seen)), 150, lr=0.01)
    after = [value for part in rest for value in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    loss = Trace_ELBO().loss(FirstGuess(model), lambda images, seen: None, images, seen) / 64
    assert loss < 0.2 * 8 * math.log(2)


def test_it_learns_what_no_single_picture_can_say():
    """The right half is all 0 or all 1, and the left half says nothing: 1 bit; one picture has 8 bits."""
    model, guide = completion_pair("cvae", (1, 4, 4), code=2, hidden=32)
    images = torch.cat([torch.zeros(64, 1, 4, 2), torch.ones(64, 1, 4, 2)], 3)
    images[::2, ..., 2:] = 0
    seen = torch.zeros(64, 1, 4, 4, dtype=torch.bool)
    seen[..., :2] = True
    optim = adam(model, guide, lr=0.01)
    stream = repeat((images, seen), 200)
    with pyro.validation_enabled(False):
        list(fit(model, guide, stream, elbo=TraceMeanField_ELBO(), optim=optim))
    weights = evaluation.log_weights(model.eval(), guide.eval(), images, seen, particles=100)
    nats = -evaluation.estimate(weights).iwae
    assert 0.95 * math.log(2) < nats < 2 * math.log(2)
    halves = model(None, images.masked_fill(~seen, torch.nan))[..., 2:].flatten(1).mean(1)
    assert ((halves < 0.3) | (halves > 0.7)).double().mean() > 0.9 and 0.2 < halves.mean() < 0.8


class Half(nn.Module):
    """Every guess is grey, and the decoder passes the one number of the code on."""

    def forward(self, inputs):
        return torch.full_like(inputs, 0.5)


def test_the_importance_bound_reaches_the_exact_conditional_likelihood():
    """Linear Gaussian: z ~ N(0, 1), pixels z + noise; given nothing they are jointly Normal."""
    model = CVAE(
        (1, 1, 3),
        1,
        guess=Half(),
        z_what=lambda scene: dist.Normal(torch.zeros(1), 1.0).expand((1,)).to_event(1),
        decoder=lambda inputs: inputs[..., :1, None, None].expand(*inputs.shape[:-1], 1, 1, 3),
        image=Pixels(dist.Normal, scale=0.5),
    )
    images = torch.randn(50, 1, 1, 3, generator=SOME)
    seen = torch.tensor([True, False, False]).expand(50, 1, 1, 3)

    class Exact(CVAEGuide):
        def __init__(self, model):
            super().__init__(model, hidden=2, z_what=lambda features: features)

        def forward(self, images, seen=None):
            precision = 1 + 2 / 0.25
            loc = images[:, 0, 0, 1:].sum(-1, keepdim=True) / 0.25 / precision
            self.z_what = lambda _: dist.Normal(loc, precision**-0.5).to_event(1)
            super().forward(images, seen)

    guide = Exact(model).eval()
    weights = evaluation.log_weights(model.eval(), guide, images, seen, particles=2)
    covariance = 0.25 * torch.eye(2) + 1
    exact = dist.MultivariateNormal(torch.zeros(2), covariance).log_prob(images[:, 0, 0, 1:])
    torch.testing.assert_close(weights, exact.expand(2, -1), rtol=1e-4, atol=1e-4)
    loss = Importance(3).loss(model, guide, images, seen)
    assert loss == pytest.approx(-exact.sum().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"code": 0}, "code"),
        ({"hidden": 0}, "hidden"),
        ({"image_shape": (9, 12)}, "image_shape"),
        ({"guess": nn.Flatten()}, r"guess must make \(n, 1, 6, 5\)"),
        ({"decoder": nn.Linear(7, 3)}, "decoder cannot decode"),
        ({"z_what": dist.Normal(0.0, 1.0)}, "z_what must be a function"),
        ({"image": lambda s: dist.Normal(s.canvas, 0.1).to_event(2)}, "image must return"),
        (
            {"image": lambda s: dist.MultivariateNormal(s.canvas, torch.eye(5)).to_event(2)},
            "independent pixels",
        ),
    ],
)
def test_a_wrong_part_is_named(settings, error):
    with pytest.raises(ValueError, match=error):
        CVAEGuide(CVAE(**{"image_shape": SHAPE, "code": 3, "hidden": 8, **settings}))


def test_draws_for_arviz_are_completions(pair):
    model, guide = (part.eval() for part in pair)
    data = to_arviz(model, guide, IMAGES, KNOWN, draws=3, seed=0)
    for group in ("prior_predictive", "posterior_predictive"):
        drawn = torch.as_tensor(data[group]["image"].values).flatten(0, 1)
        assert torch.equal(drawn[:, SEEN].float(), IMAGES[SEEN].expand(3, -1))


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be cvae or vaeac"):
        completion_pair("vae", SHAPE)
