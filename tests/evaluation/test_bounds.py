"""Bounds on held-out images, against a model whose evidence is known in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule

from pyro_scenes import AIR, AIRGuide
from pyro_scenes.evaluation import estimate, importance_bound, log_weights
from pyro_scenes.pairs import TrainingModeWarning

NOISE = 0.5
IMAGES = torch.linspace(0, 1, 6).reshape(3, 1, 1, 2)  # two pixels each


class Level(PyroModule):
    """z ~ Normal(0, 1), and each pixel ~ Normal(z, NOISE)."""

    def forward(self, images=None, *, size=1):
        with pyro.plate("images", size if images is None else len(images), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
            pixels = dist.Normal(z[:, None, None, None].expand(-1, 1, 1, 2), NOISE).to_event(3)
            return pyro.sample("image", pixels, obs=images)


class LevelGuide(PyroModule):
    """The exact posterior of Level, moved and widened."""

    def __init__(self, shift=0.0, stretch=1.0):
        super().__init__()
        self.eval()
        self.shift, self.scale = shift, stretch * math.sqrt(NOISE**2 / (2 + NOISE**2))

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            mean = images.sum((1, 2, 3)) / (2 + NOISE**2)
            pyro.sample("z", dist.Normal(mean + self.shift, self.scale))


def evidence(images):
    covariance = 1.0 + NOISE**2 * torch.eye(2)
    return dist.MultivariateNormal(torch.zeros(2), covariance).log_prob(images.flatten(1))


def test_under_the_exact_posterior_every_weight_is_the_evidence():
    weights = log_weights(Level(), LevelGuide(), IMAGES, particles=4)
    torch.testing.assert_close(weights, evidence(IMAGES).expand(4, 3))


def test_weights_that_are_no_numbers_are_named():
    def model(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.factor("broken", torch.tensor(torch.nan))

    wrong = pytest.raises(ValueError, match="log weights are NaN: a parameter of the model")
    with pyro.validation_enabled(False), wrong:  # which would notice it before
        log_weights(model, LevelGuide(), IMAGES)


def test_weights_average_to_evidence_less_divergence_and_their_bound_nears_the_evidence():
    guide = LevelGuide(shift=0.3, stretch=1.5)
    weights = log_weights(Level(), guide, IMAGES, particles=1000)
    exact = dist.Normal(0.0, LevelGuide().scale)
    divergence = torch.distributions.kl_divergence(dist.Normal(0.3, guide.scale), exact)
    torch.testing.assert_close(weights.mean(0), evidence(IMAGES) - divergence, rtol=0, atol=0.1)
    torch.testing.assert_close(importance_bound(weights), evidence(IMAGES), rtol=0, atol=0.05)


def test_weights_of_air_add_up_to_the_elbo():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    air = model, AIRGuide(model, presence=0.5).eval()
    images = torch.rand(5, 1, 16, 16)
    torch.manual_seed(1)
    loss = Trace_ELBO(num_particles=3).loss(*air, images)
    torch.manual_seed(1)
    assert log_weights(*air, images, particles=3).mean(0).sum().item() == pytest.approx(
        -loss, rel=1e-5
    )


def test_importance_bound_of_numbers_by_hand():
    weights = torch.tensor([[1.0, 5.0, 2.0], [3.0, 5.0, 0.0], [2.0, 5.0, 0.0]]).log()
    torch.testing.assert_close(importance_bound(weights).exp(), torch.tensor([2.0, 5.0, 2 / 3]))


def test_importance_bound_is_no_looser_than_the_mean_at_any_magnitude():
    for far in (0.0, -1e4, 1e4):
        weights = 10 * torch.randn(7, 50) + far
        bound = importance_bound(weights)
        assert bound.isfinite().all() and (bound >= weights.mean(0)).all()
        assert (bound <= weights.amax(0)).all()
    assert torch.equal(importance_bound(weights[:1]), weights[0])


@pytest.mark.parametrize("particles", [0, -1])
def test_no_particles_are_refused(particles):
    with pytest.raises(ValueError, match="particles must be a whole number"):
        log_weights(Level(), LevelGuide(), IMAGES, particles=particles)


def test_an_estimate_is_of_both_bounds_with_the_error_between_images():
    weights = torch.tensor([[1.0, 5.0], [3.0, 5.0]]).log()
    found = estimate(weights)
    elbos = weights.mean(0)
    assert found.elbo == pytest.approx(elbos.mean().item())
    assert found.elbo_error == pytest.approx((elbos[1] - elbos[0]).item() / 2)  # of two images
    assert found.iwae == pytest.approx(math.log(2 * 5) / 2)
    assert found.iwae_error == pytest.approx(math.log(5 / 2) / 2)
    assert (found.particles, found.images) == (2, 2)
    assert math.isnan(estimate(weights[:, :1]).elbo_error)  # one image says nothing of others


def test_the_standard_error_is_that_of_repeated_estimates():
    guide, means, errors = LevelGuide(shift=0.3, stretch=1.5), [], []
    for _ in range(60):
        images = (torch.randn(50, 1, 1, 1) + NOISE * torch.randn(50, 1, 1, 2)).clamp(-9, 9)
        found = estimate(log_weights(Level(), guide, images, particles=4))
        means.append((found.elbo, found.iwae))
        errors.append((found.elbo_error, found.iwae_error))
    ratio = torch.tensor(errors).mean(0) / torch.tensor(means).std(0)
    torch.testing.assert_close(ratio, torch.ones(2), rtol=0, atol=0.35)  # 60 repeats: 4 sigma


@pytest.mark.parametrize("bound", [importance_bound, estimate])
@pytest.mark.parametrize("shape", [(3,), (2, 0), (0, 2), (1, 2, 3)])
def test_weights_of_other_shapes_are_refused(bound, shape, unchecked):
    with pytest.raises(ValueError, match=r"weights .*\(particles, n\)"):
        bound(torch.zeros(shape))


def test_training_mode_is_noticed():
    guide = LevelGuide()
    log_weights(Level(), guide, IMAGES)
    with pytest.warns(TrainingModeWarning, match=r"guide\.eval\(\)"):
        log_weights(Level(), guide.train(), IMAGES)


def test_a_latent_of_all_images_has_no_bound_for_each():
    def of_all(images):
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
        with pyro.plate("images", len(images), dim=-1):
            pixels = dist.Normal(z.expand(len(images), 1, 1, 2), NOISE).to_event(3)
            pyro.sample("image", pixels, obs=images)

    def guide(images):
        pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))

    with pytest.raises(ValueError, match="z is of all images at once.*pyro.plate"):
        log_weights(of_all, guide, IMAGES)
    assert log_weights(of_all, guide, IMAGES[:1]).shape == (1, 1)


def test_a_conditioned_model_has_a_bound_under_a_blocked_guide():
    """Given its latent, the evidence is the likelihood."""
    model = poutine.condition(Level(), data={"z": torch.zeros(3)})
    with pytest.raises(ValueError, match="do not belong together"):
        log_weights(model, LevelGuide(), IMAGES)

    class Two(PyroModule):
        def forward(self, images):
            with pyro.plate("images", len(images), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
                pyro.sample("other", dist.Normal(torch.tensor(0.0), 1.0))
                pixels = dist.Normal(z[:, None, None, None].expand(-1, 1, 1, 2), NOISE)
                pyro.sample("image", pixels.to_event(3), obs=images)

    def both(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.sample("other", dist.Normal(torch.tensor(0.0), 1.0))

    known = {"z": torch.zeros(3)}
    conditioned = poutine.condition(Two(), data=known)
    found = log_weights(
        conditioned, poutine.block(poutine.condition(both, data=known), hide=["z"]), IMAGES
    )
    zero = dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    expected = dist.Normal(0.0, NOISE).log_prob(IMAGES).sum((1, 2, 3)) + zero
    torch.testing.assert_close(found[0], expected)
