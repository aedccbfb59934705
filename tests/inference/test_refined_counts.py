"""Counts after refinement, semi-amortised guides, and bad input."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from chain import IMAGES
from pyro import poutine
from pyro.infer.autoguide import AutoNormalMessenger
from test_importance import Line, LineGuide

from pyro_scenes import (
    AIR,
    VAE,
    AIRGuide,
    Persist,
    Pixels,
    VAEGuide,
    count_posterior,
    evaluation,
    refine,
    semi_amortise,
    to_arviz,
)
from pyro_scenes.inference.semi_amortised import worth
from pyro_scenes.inference.splits import divided
from pyro_scenes.pairs import TrainingModeWarning

STEPS, NOISE = 2, 0.8
PRESENT = torch.tensor([0.6, 0.7])  # probability of one more


def objects(size, presence=PRESENT, shift=0.0):
    """The sum of as many N(1, .5) as objects are present."""
    last, total = torch.ones(size), torch.zeros(size)
    for t in range(STEPS):
        last = pyro.sample(f"z_pres_{t}", dist.Bernoulli(presence[t] * last))
        with poutine.mask(mask=last.bool()):
            part = pyro.sample(f"z_where_{t}", dist.Normal(torch.ones(size) + shift, 0.5))
        total = total + last * part
    return total


def model(images=None, *, size=1):
    """One pixel: the sum and noise."""
    size = size if images is None else len(images)
    with pyro.plate("images", size, dim=-1):
        pixel = dist.Normal(objects(size)[..., None, None, None], NOISE).to_event(3)
        return pyro.sample("image", pixel, obs=images)


def guide(images, first=0.4):
    """It believes too much in few objects, and that they are a little larger."""
    with pyro.plate("images", len(images), dim=-1):
        objects(len(images), presence=torch.tensor([first, 0.4]), shift=0.2)


PIXELS = torch.tensor([-0.5, 0.8, 1.5, 2.6]).reshape(4, 1, 1, 1)


def counts_by_hand():
    """p(n | pixel): the sum of n parts is N(n, n / 4)."""
    a, b = PRESENT
    log_prior = torch.stack([1 - a, a * (1 - b), a * b]).log()
    n = torch.arange(3.0)
    evidence = dist.Normal(n, (n / 4 + NOISE**2).sqrt()).log_prob(PIXELS.flatten()[:, None])
    return (log_prior + evidence).softmax(-1)


def frequencies(values):
    counts = sum(value for name, value in values.items() if "pres" in name)
    return torch.stack([(counts == k).float().mean(0) for k in range(3)], -1)


def total_variation(p, q):
    return (p - q).abs().sum(-1) / 2


def test_counts_of_refined_draws_are_exact():
    truth = counts_by_hand()
    assert (
        total_variation(count_posterior(model, guide, PIXELS, particles=5000), truth) < 0.03
    ).all()
    found = refine(model, guide, PIXELS, draws=3000, moves=["count", "step"] * 2)
    assert (found.k_hat < 0.5).all()
    assert (total_variation(frequencies(found.values), truth) < 0.04).all()
    drawn = frequencies(refine(model, guide, PIXELS, draws=3000, pool=1, moves=0).values)
    assert total_variation(drawn, truth).max() < 0.06


def test_moves_alone_find_counts_that_a_guide_never_proposes():
    blind = partial(guide, first=1e-6)
    found = refine(model, blind, PIXELS, draws=1000, pool=1, moves=["count"] * 40 + ["walk"] * 2)
    assert (total_variation(frequencies(found.values), counts_by_hand()) < 0.08).all()


@pytest.fixture
def air():
    noisy = Pixels(dist.Normal, scale=1.5)
    model = AIR((1, 8, 8), (1, 4, 4), steps=2, code=2, z_pres=Persist(0.5), image=noisy).eval()
    return model, AIRGuide(model, hidden=16, presence=0.5).eval()


def test_counts_of_air(air):
    with torch.no_grad():
        images = air[0](size=6)
    truth = count_posterior(*air, images, particles=2000)
    torch.testing.assert_close(truth.sum(1), torch.ones(6))
    found = refine(*air, images, draws=1000, pool=4, moves=["count"] * 2)
    sure = found.k_hat < 0.5
    assert sure.sum() >= 3
    assert (total_variation(frequencies(found.values), truth)[sure] < 0.05).all()
    guess = evaluation.count_probabilities(air[1], images)
    assert total_variation(guess, truth).max() > 0.1  # so there was something to correct


def test_what_is_refined_is_what_arviz_sees(air):
    with torch.no_grad():
        images = air[0](size=3)
    values = refine(*air, images, draws=5, moves=4).values
    found = to_arviz(*air, images, draws=values)["posterior"]
    present = values["z_pres_1"].bool()
    drawn = torch.as_tensor(found["z_where"].values[0, :, :, 1])
    torch.testing.assert_close(drawn[present], values["z_where_1"][present])
    assert drawn[~present].isnan().all()
    assert (found["count"].values[0] == sum(values[f"z_pres_{t}"] for t in (0, 1)).numpy()).all()
    with pytest.raises(
        ValueError, match=r"tensors \(draws, 3, ...\) by site, got {'z_pres_0': \(5, 2\)}"
    ):
        to_arviz(*air, images, draws={"z_pres_0": torch.ones(5, 2)})


@pytest.mark.filterwarnings("error::pyro_scenes.pairs.TrainingModeWarning")
def test_a_semi_amortised_guide_reaches_the_posterior(double):
    line, broad = Line().eval(), LineGuide(stretch=3.0).eval()
    before = [p.clone() for p in [*line.parameters(), *broad.parameters()]]
    better = semi_amortise(line, broad, IMAGES, steps=150, lr=0.1)
    assert better.fitted.all()
    weights = evaluation.log_weights(line, better, IMAGES.repeat(200, 1, 1, 1)).reshape(200, 3)
    log_p = line.log_p(IMAGES)
    assert ((weights.mean(0) - log_p).abs() < 0.1).all() and (weights.std(0) < 0.5).all()
    after = [*line.parameters(), *broad.parameters()]
    assert all(
        torch.equal(a, b) and b.grad is None and b.requires_grad
        for a, b in zip(before, after, strict=True)
    )


def test_it_is_never_worse(air):
    with torch.no_grad():
        images = air[0](size=4)
    torch.manual_seed(1)
    plain = evaluation.log_weights(*air, images, particles=3)
    spoilt = semi_amortise(*air, images, steps=3, lr=30.0)
    assert not spoilt.fitted.any()
    torch.manual_seed(1)
    same = evaluation.log_weights(air[0], spoilt, images, particles=3)
    torch.testing.assert_close(same, plain, rtol=1e-4, atol=1e-3)
    fitted = semi_amortise(*air, images, steps=8)
    with torch.no_grad():
        gain = worth(air[0], fitted, (images,)) - worth(*air, (images,))
        assert (gain > -0.7).all()
        refine(
            air[0], fitted, images, draws=3, moves=4
        )  # a guide like others, of these images alone
        with pytest.raises(ValueError, match="this guide is of 4 images.*got 3"):
            fitted(images[:3])


def test_a_line_divides_an_image_and_leaves_holes():
    images = torch.rand(50, 2, 5, 7)
    images[:, :, 0] = torch.nan
    sides = divided(images, 7 * torch.rand(50))
    assert all(side[:, :, 0].isnan().all() for side in sides)
    one, other = (side[:, :, 1:] for side in sides)
    assert torch.equal(one + other, images[:, :, 1:]) and not (one * other).any()
    ink = one.sum((1, 2, 3)) / (one + other).sum((1, 2, 3))
    assert ((0.2 < ink) & (ink < 0.8)).all()


BAD = [
    ({"draws": 0}, "draws must be a whole number"),
    ({"pool": 0}, "pool must be a whole number"),
    ({"moves": -1}, "moves must be a whole number from 0 up, or a list of redraw"),
    ({"moves": ["jump"]}, "moves must be"),
    ({"moves": "walk"}, "moves must be"),
    ({"step": 0.0}, "step must be a number above 0"),
    ({"step": math.inf}, "step must be a number above 0"),
    ({"moves": ["split"]}, "this pair has no moves split, but redraw, walk"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_refused(arguments, message):
    vae = VAE((1, 4, 4), 2).eval()
    with pytest.raises(ValueError, match=message):
        refine(vae, VAEGuide(vae).eval(), torch.ones(2, 1, 4, 4), **arguments)


def test_bad_pairs_and_batches_are_refused(air):
    images, vae = torch.ones(2, 1, 8, 8), VAE((1, 8, 8), 2).eval()
    for tool in (refine, semi_amortise, count_posterior):
        with pytest.raises(ValueError, match="of another model"):
            tool(vae, air[1], images)
        with pytest.raises(TypeError, match="must have images"):
            tool(*air)
        with pytest.raises(TypeError, match="runs inside the model"):
            tool(model, AutoNormalMessenger(model), PIXELS)
    with pytest.raises(TypeError, match=r"tensors \(n, ...\), got list"):
        refine(*air, images, [1, 2])
    with pytest.warns(TrainingModeWarning):
        refine(air[0], air[1].train(), images, draws=2)
    with pytest.raises(ValueError, match="does not count objects"):
        count_posterior(vae, VAEGuide(vae).eval(), images)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        semi_amortise(*air, images, steps=0)
    with pytest.raises(ValueError, match="lr must be a number above 0"):
        semi_amortise(*air, images, lr=-1.0)
    with pytest.raises(ValueError, match="particles must be a whole number"):
        count_posterior(*air, images, particles=0)


def test_draws_that_the_model_does_not_allow():
    def within(images):
        with pyro.plate("images", len(images), dim=-1):
            z = pyro.sample("z", dist.Uniform(torch.zeros(len(images)), 1.0))
            pixel = dist.Uniform(z[:, None, None, None], 2.0).to_event(3)
            pyro.sample("image", pixel, obs=images)

    def inside(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Uniform(torch.zeros(len(images)), 0.5))

    with pyro.validation_enabled(False):
        found = refine(within, inside, PIXELS[1:3], draws=5, moves=6)
        assert (found.values["z"] < PIXELS[1:3].flatten()).all()
        with pytest.raises(ValueError, match="no draw of the guide that the model allows"):
            refine(within, inside, PIXELS, draws=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_too(air):
    model, guide = (module.cuda() for module in air)
    images = torch.rand(3, 1, 8, 8).cuda()
    found = refine(model, semi_amortise(model, guide, images, steps=2), images, draws=4, moves=5)
    assert all(value.is_cuda for value in [*found.values.values(), found.k_hat])
    assert count_posterior(model, guide, images, particles=5).is_cuda
