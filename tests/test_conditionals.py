import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_scenes import Amortised, Persist, Pixels, Prior
from pyro_scenes.models.air import Scene


def scene(step=0, present=1.0, n=3, canvas=0.5):
    return Scene(step, torch.full((n, 1, 4, 4), canvas), torch.full((n,), present))


def test_a_prior_is_its_family():
    prior = Prior(dist.Normal, loc=[3.0, 0.0], scale=[0.2, 1.0])(scene())
    assert prior.batch_shape == () and prior.event_shape == (2,)
    value = torch.tensor([2.9, 0.5])
    expected = dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).log_prob(value).sum()
    torch.testing.assert_close(prior.log_prob(value), expected)


def test_a_prior_moves_with_its_module_and_is_no_parameter():
    prior = Prior(dist.Normal, loc=[0.0], scale=[1.0])
    assert not list(prior.parameters()) and len(prior.state_dict()) == 2
    assert prior.double()(scene()).sample().dtype == torch.float64


def test_a_learned_prior_starts_where_told_and_keeps_its_constraints():
    prior = Prior(dist.Gamma, learn=True, concentration=[2.0], rate=[3.0])
    torch.testing.assert_close(prior(scene()).mean, torch.tensor([2 / 3]))
    optim = torch.optim.SGD(prior.parameters(), lr=0.1)
    prior(scene()).log_prob(torch.tensor([50.0])).neg().backward()
    optim.step()
    assert (prior(scene()).mean > 0).all() and prior(scene()).mean > 0.7


@pytest.mark.parametrize(
    "parameters",
    [{"loc": [0.0], "scale": [-1.0]}, {"loc": [0.0], "width": [1.0]}, {"scale": [float("nan")]}],
)
def test_wrong_parameters_are_refused_at_once(parameters):
    with pytest.raises(ValueError, match="Normal takes"):
        Prior(dist.Normal, **parameters)


def test_a_family_of_torch_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match="no family of pyro.distributions"):
        Prior(torch.distributions.Normal, loc=[0.0], scale=[1.0])


def test_presence_persists_and_never_returns():
    persist = Persist(0.3)
    torch.testing.assert_close(persist(scene()).probs, torch.full((3,), 0.3))
    ended = persist(scene(present=0.0))
    assert (ended.sample((1000,)) == 0).all()
    assert ended.log_prob(torch.zeros(3)).abs().max() < 1e-30
    assert (
        ended.log_prob(torch.ones(3)).isfinite().all() and ended.log_prob(torch.ones(3)).max() < -90
    )


def test_a_probability_for_each_step():
    persist = Persist([0.5, 0.2], learn=True)
    for step, probs in enumerate([0.5, 0.2]):
        torch.testing.assert_close(persist(scene(step)).probs, torch.full((3,), probs))
    with pytest.raises(ValueError, match="one for each step"):
        persist(scene(2))
    with pytest.raises(ValueError, match="probs"):
        Persist(1.5)


@pytest.mark.parametrize("probs", [0.0, 1.0])
def test_certain_presence_is_finite(probs):
    persist = Persist(probs)(scene())
    assert (persist.sample((100,)) == probs).all()
    assert (
        persist.log_prob(torch.zeros(3)).isfinite().all()
        and persist.log_prob(torch.ones(3)).isfinite().all()
    )


@pytest.mark.parametrize(
    ("family", "parameters"), [(dist.Normal, {}), (dist.Beta, {"concentration1": 1.0}), (dict, {})]
)
def test_a_likelihood_that_cannot_stand_around_a_canvas_is_refused(family, parameters):
    with pytest.raises((ValueError, TypeError), match="Pixels takes a family"):
        Pixels(family, **parameters)


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace])
def test_pixels_stand_around_the_canvas(family):
    likelihood = Pixels(family, scale=0.2)(scene())
    assert likelihood.batch_shape == (3,) and likelihood.event_shape == (1, 4, 4)
    torch.testing.assert_close(likelihood.mean, scene().canvas)
    one = family(torch.tensor(0.5), torch.tensor(0.2)).log_prob(torch.tensor(0.1))
    torch.testing.assert_close(
        likelihood.log_prob(torch.full((3, 1, 4, 4), 0.1)), 16 * one.expand(3)
    )


@pytest.mark.parametrize("canvas", [-0.1, 0.0, 0.4, 1.0, 1.7])
def test_binary_pixels_are_never_impossible(canvas):
    likelihood = Pixels(dist.Bernoulli)(scene(canvas=canvas))
    for pixel in (0.0, 1.0):
        assert likelihood.log_prob(torch.full((3, 1, 4, 4), pixel)).isfinite().all()


def test_a_learned_scale_finds_the_noise():
    torch.manual_seed(0)
    likelihood = Pixels(dist.Normal, scale=0.5, learn=True)
    images = 0.5 + 0.1 * torch.randn(3, 1, 4, 4)
    optim = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optim.zero_grad()
        likelihood(scene()).log_prob(images).sum().neg().backward()
        optim.step()
    torch.testing.assert_close(
        likelihood(scene()).stddev.mean(), (images - 0.5).square().mean().sqrt(), rtol=0.02, atol=0
    )


@pytest.mark.parametrize(
    "like",
    [
        dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
        dist.LogNormal(torch.tensor([1.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
        dist.Uniform(torch.tensor([-2.0, 5.0]), torch.tensor([2.0, 6.0])).to_event(1),
        dist.Beta(torch.tensor([2.0, 9.0]), torch.tensor([2.0, 1.0])).to_event(1),
        dist.StudentT(
            torch.tensor(1.0), torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])
        ).to_event(1),
        dist.MultivariateNormal(torch.tensor([3.0, 0.0]), torch.eye(2)),
    ],
    ids=lambda like: type(getattr(like, "base_dist", like)).__name__,
)
def test_a_proposal_starts_about_where_the_prior_draws(like):
    proposal = Amortised(5, like)(torch.randn(4000, 5))
    assert proposal.batch_shape == (4000,) and proposal.event_shape == (2,)
    drawn, proposed = like.sample((4000,)), proposal.rsample()
    assert like.support.check(proposed).all()
    assert proposal.log_prob(proposed).isfinite().all()
    spread = drawn.quantile(0.9, 0) - drawn.quantile(0.1, 0)
    assert ((proposed.median(0)[0] - drawn.median(0)[0]).abs() < 0.9 * spread).all()
    wide = proposed.quantile(0.9, 0) - proposed.quantile(0.1, 0)
    assert (wide > 0.5 * spread).all() and (wide < 6 * spread).all()


@pytest.mark.parametrize(
    "like",
    [dist.Bernoulli(0.5), dist.Normal(0.0, 1.0), dist.Bernoulli(torch.full((3,), 0.5)).to_event(1)],
)
def test_what_cannot_be_proposed_is_said(like):
    with pytest.raises(ValueError, match="continuous vectors"):
        Amortised(5, like)


def test_constraints_of_a_real_prior_leave_a_plain_normal():
    """A Normal proposal keeps a Normal's type, so that an analytic KL stays possible."""
    like = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    assert isinstance(Amortised(5, like)(torch.randn(1, 5)).base_dist, dist.Normal)
    assert like.support.base_constraint is constraints.real
