"""Families of proposals by one keyword: where they start, what they can reach, and their densities."""

from functools import partial
from math import log, pi

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
    STVAE,
    VAE,
    AIRGuide,
    Amortised,
    CSTVAEGuide,
    ECONGuide,
    Pixels,
    Prior,
    SpritesGuide,
    STVAEGuide,
    VAEGuide,
    adam,
    fit,
    load_checkpoint,
    save_checkpoint,
    sprite_scenes,
)
from pyro_scenes.conditionals import Product, flow, full_covariance, normal
from pyro_scenes.handlers import point_estimate
from pyro_scenes.inference import CheckpointError, falling, scale_lr
from pyro_scenes.networks import UNet
from pyro_scenes.supports import unwrapped

POSTERIORS = {"normal": normal, "full covariance": full_covariance, "flow": flow(2)}
POSE = Product(
    scale=Prior(dist.LogNormal, loc=[1.0], scale=[0.2]),
    shift=Prior(dist.Normal, loc=[0.0, -2.0], scale=[1.0, 3.0]),
)(None)
IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)).round()


@pytest.fixture(params=POSTERIORS)
def posterior(request):
    return POSTERIORS[request.param]


def random(posterior, d=3, n=5):
    """A distribution of any numbers."""
    return posterior.read(torch.randn(n, posterior.size(d), dtype=torch.float64), d)


def test_it_starts_with_the_moments_of_the_prior(posterior):
    head = Amortised(4, POSE, posterior=posterior)
    proposal = head.distribution(head.start)
    draws, like = proposal.sample((20_000,)), POSE.sample((20_000,))
    at = torch.tensor([0.16, 0.5, 0.84])
    found, wanted = (x.quantile(at, 0) for x in (draws, like))
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.15)
    torch.testing.assert_close(point_estimate(proposal), wanted[1], rtol=0.1, atol=0.15)


def test_its_location_comes_first(posterior):
    loc = torch.tensor([1.0, -2.0, 30.0])
    numbers = posterior.start(loc, torch.ones(3))
    assert len(numbers) == posterior.size(3) and torch.equal(numbers[:3], loc)
    torch.testing.assert_close(point_estimate(posterior.read(numbers, 3)), loc)


def test_its_density_is_that_of_its_draws(posterior):
    """By the change of variables, with a Jacobian by autograd; for values that it has not drawn, too."""
    proposal = random(posterior, n=1)
    value = proposal.rsample()
    torch.testing.assert_close(
        proposal.log_prob(value), proposal.log_prob(value.clone()), rtol=1e-9, atol=1e-9
    )
    if isinstance(posterior, type(flow())):
        noise = torch.randn(3, dtype=torch.float64)

        def draw(noise):
            for transform in proposal.transforms:
                noise = transform(noise[None])[0]
            return noise

        jacobian = torch.autograd.functional.jacobian(draw, noise)
        by_hand = -(noise**2).sum() / 2 - 1.5 * log(2 * pi) - jacobian.slogdet()[1]
        torch.testing.assert_close(proposal.log_prob(draw(noise)[None])[0], by_hand)


def test_the_density_of_a_draw_is_the_same_with_and_without_what_the_draw_left_behind(posterior):
    """In single precision, as in training."""
    proposal = posterior.read(0.5 * torch.randn(200, posterior.size(5)), 5)
    value = proposal.rsample()
    torch.testing.assert_close(
        proposal.log_prob(value), proposal.log_prob(value.clone()), rtol=1e-5, atol=1e-4
    )


def test_any_numbers_are_a_distribution(posterior):
    for size in (0.0, 1e-3, 30.0):
        proposal = posterior.read(size * torch.randn(50, posterior.size(4)), 4)
        value = proposal.rsample()
        assert value.isfinite().all() and proposal.log_prob(value).isfinite().all()


def test_draws_of_a_flow_are_neither_normal_nor_independent():
    draws = random(flow(), d=2, n=1).sample((20_000,))[:, 0]
    standard = (draws - draws.mean(0)) / draws.std(0)
    assert (standard**3).mean(0).abs().max() > 0.1 and standard.prod(1).mean().abs() > 0.02


# What it reaches: images that are a linear map of two codes, and noise.

MAP, NOISE = torch.tensor([[1.0, 0.8], [0.9, 1.1], [0.0, 0.3], [0.2, 0.0]]), 0.7


class Linear(nn.Module):
    def forward(self, codes):
        return (codes @ MAP.T).unflatten(-1, (1, 2, 2))


def linear_gap(posterior, steps):
    """KL(q || p(z | image)) in nats, mean over images: log p(image) - ELBO."""
    torch.manual_seed(1)
    model = VAE((1, 2, 2), 2, decoder=Linear(), image=Pixels(dist.Normal, scale=NOISE))
    head = Amortised(4, model.latents()["z_what"], posterior=posterior)
    guide = VAEGuide(model, z_what=head)
    guide.encode = nn.Flatten()
    images, optim = model(size=64).detach(), adam(model, guide, lr=0.03)
    with pyro.validation_enabled(False):
        for record in fit(model, guide, [images] * steps, elbo=Trace_ELBO(), optim=optim):
            scale_lr(optim, falling(record.step, steps))
    precision = torch.eye(2) + MAP.T @ MAP / NOISE**2
    mean = (images.flatten(1) @ MAP / NOISE**2) @ precision.inverse()
    exact = dist.MultivariateNormal(mean, precision_matrix=precision)
    draws = (found := guide.z_what(guide.encode(images))).sample((500,))
    by_draws = (found.log_prob(draws) - exact.log_prob(draws)).mean()
    return by_draws.item(), precision


def test_a_full_covariance_and_a_flow_reach_what_independent_numbers_cannot():
    gap, precision = linear_gap(normal, 200)
    bound = (precision.diagonal().log().sum() - precision.logdet()).item() / 2
    assert bound > 0.2 and gap > bound - 0.01
    assert linear_gap(full_covariance, 600)[0] < 0.01
    assert linear_gap(flow(1), 400)[0] < 0.03


# Every guide takes it.


def experts_guide(model, **settings):
    return ECONGuide(model, attention=[UNet(2, (4, 4)) for _ in range(2)], **settings)


PAIRS = {
    "AIR": (partial(AIR, (1, 16, 16), (1, 8, 8), 2, 3), AIRGuide),
    "VAE": (partial(VAE, (1, 16, 16), 3), VAEGuide),
    "ST-VAE": (partial(STVAE, (1, 16, 16), (1, 8, 8), 3), STVAEGuide),
    "CST-VAE": (partial(CSTVAE, (1, 16, 16), (1, 8, 8), 2, 3), CSTVAEGuide),
    "ECON": (partial(ECON, (1, 16, 16), 2, 2, 3), experts_guide),
    "sprites": (partial(sprite_scenes, (1, 16, 16), 2, 3, 4), SpritesGuide),
}


FAMILY = {"full covariance": dist.MultivariateNormal, "flow": dist.TransformedDistribution}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("family", ["full covariance", "flow"])
def test_every_guide_takes_it_and_all_its_numbers_are_trained(name, family):
    build, guide_of = PAIRS[name]
    model = build()
    guide = guide_of(model, posterior=POSTERIORS[family])
    for _ in fit(model, guide, [IMAGES], elbo=TraceEnum_ELBO(max_plate_nesting=2)):
        pass
    sites = poutine.trace(guide).get_trace(IMAGES).nodes
    for site in (site for site in sites if site.startswith(("z_what", "z_where"))):
        found = sites[site]["fn"]
        assert isinstance(unwrapped(found), FAMILY[family])
    heads = [part for part in guide.modules() if isinstance(part, Amortised)]
    biases = [[*head.head.parameters()][-1].grad for head in heads]
    assert biases and any(bias is not None and (bias != 0).all() for bias in biases)


def test_a_checkpoint_knows_its_family(tmp_path):
    def pair(posterior):
        model = VAE((1, 4, 4), 1)
        return model, VAEGuide(model, hidden=4, posterior=posterior)

    save_checkpoint(tmp_path / "flow.pt", *pair(flow(1)))
    load_checkpoint(tmp_path / "flow.pt", *pair(flow(1)))
    with pytest.raises(CheckpointError, match="posterior is absent|_Flow"):
        load_checkpoint(tmp_path / "flow.pt", *pair(full_covariance))


def test_a_discrete_latent_has_its_own_family(posterior):
    like = Prior(dist.OneHotCategorical, probs=[0.1] * 10)(None)
    assert isinstance(
        Amortised(4, like, posterior=posterior)(torch.ones(2, 4)), dist.OneHotCategorical
    )


@pytest.mark.parametrize("other", [flow, dist.Normal, "normal", None])
def test_another_object_is_refused(other, unchecked):
    with pytest.raises(TypeError, match="posterior must be normal, full_covariance"):
        AIRGuide(AIR((1, 16, 16), (1, 8, 8), 2, 3), posterior=other)


def test_a_flow_has_layers():
    with pytest.raises(ValueError, match="layers must be a whole number"):
        flow(0)


def test_a_head_of_ones_own_may_be_a_flow_of_zuko():
    """Through Pyro's bridge, which keeps the density of what it has drawn."""
    zuko = pytest.importorskip("zuko")
    from pyro.contrib.zuko import ZukoToPyro

    class Spline(nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = zuko.flows.NSF(3, context=16, transforms=1, hidden_features=(8,))

        def forward(self, features):
            return ZukoToPyro(self.flow(features))

    model = VAE((1, 16, 16), 3)
    guide = VAEGuide(model, hidden=16, z_what=Spline())
    for _ in fit(model, guide, [IMAGES] * 2, elbo=Trace_ELBO()):
        pass
    assert all(p.grad is not None for p in guide.z_what.parameters())
