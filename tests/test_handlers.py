"""The point estimate of a distribution, for the families whose median torch does not give."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution

from pyro_scenes.handlers import expected, point_estimate

ONE = torch.ones(2)
SKEWED = {
    "folded": dist.FoldedDistribution(dist.Normal(0.5 * ONE, 1.0)),
    "inverse gamma": dist.InverseGamma(2 * ONE, 1.0),
    "gamma": dist.Gamma(0.5 * ONE, 1.0).to_event(1),
    "ratio": dist.FisherSnedecor(2 * ONE, 1.0),  # without a finite mean
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.8, 0.2])),
        dist.Normal(torch.tensor([[0.0, 0.0], [10.0, 10.0]]), 1.0).to_event(1),
    ),
    "diagonal mixture": dist.MixtureOfDiagNormals(
        torch.tensor([[0.0, 0.0], [10.0, 10.0]]), torch.ones(2, 2), torch.tensor([1.4, 0.0])
    ),
    "shifted": dist.TransformedDistribution(
        dist.Gamma(2 * ONE, 1.0), [dist.transforms.AffineTransform(1.0, -2.0)]
    ),
}


@pytest.mark.parametrize("name", SKEWED)
def test_half_of_all_draws_lie_below(name):
    distribution, state = SKEWED[name], torch.get_rng_state()
    median = point_estimate(distribution)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(median, point_estimate(distribution))
    below = (distribution.sample((4000,)) < median).float().mean(0)
    torch.testing.assert_close(below, torch.full_like(below, 0.5), rtol=0, atol=0.08)


def test_symmetric_families_give_their_centre_to_the_last_digit():
    for found in (
        dist.MultivariateNormal(3 * ONE, torch.eye(2)),
        dist.StudentT(1.0, 3 * ONE),
        dist.VonMises(3 * ONE, 1.0),
        dist.Delta(3 * ONE, event_dim=1),
    ):
        assert torch.equal(point_estimate(found), 3 * ONE)


def test_the_estimate_lies_in_the_support():
    for found in (dist.Dirichlet(ONE), dist.Beta(0.1 * ONE, 1.0)):
        assert found.support.check(point_estimate(found)).all()


def test_a_count_without_an_upper_end_gives_its_mode():
    assert torch.equal(point_estimate(dist.Poisson(2.5 * ONE)), 2 * ONE)


def test_what_has_neither_is_named():
    with pytest.raises(NotImplementedError, match="LKJCholesky has no median or mode.*use a"):
        point_estimate(dist.LKJCholesky(3))


def test_a_median_of_draws_carries_gradients():
    scale = torch.ones(2, requires_grad=True)
    with expected():
        pyro.sample("z", dist.Gamma(2 * ONE, 1 / scale)).sum().backward()
    torch.testing.assert_close(
        scale.grad, point_estimate(dist.Gamma(2 * ONE, 1.0)), rtol=0.01, atol=0
    )


def test_an_expanded_distribution_has_an_estimate_for_each():
    normal = dist.Normal(torch.arange(3.0), 1.0).to_event(1)
    gamma = dist.Gamma(torch.tensor(2.0), 1.0)
    mixed = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0)
    )
    for distribution in (normal, gamma, mixed, dist.Poisson(3.0), dist.Categorical(torch.ones(3))):
        estimate = point_estimate(ExpandedDistribution(distribution, torch.Size([5])))
        assert estimate.shape == (5, *distribution.event_shape)
        assert torch.equal(estimate[0], point_estimate(distribution))
