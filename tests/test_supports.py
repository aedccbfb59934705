"""Proposals inside and outside the support of their prior."""

import pyro.distributions as dist
import pytest
import torch
from test_check_guide import IMAGES, ONE, Two, proposing

from pyro_scenes import check_guide

BETA = dist.Beta(ONE, ONE)
SQUEEZED = dist.TransformedDistribution(BETA, dist.transforms.AffineTransform(1.0, 2.0))
TRIPLE = dist.Dirichlet(torch.ones(60))
BIT = dist.Bernoulli(0.5 * ONE)
TRIALS = dist.Binomial(torch.tensor([2.0, 3.0]), 0.5 * ONE).to_event(1)


def mixture(components):
    return dist.MixtureSameFamily(
        dist.Categorical(torch.ones(components.batch_shape[-1])), components
    )


MIXTURE = mixture(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("prior", "proposal"),
    [
        (dist.Gamma(ONE, ONE), dist.LogNormal(ONE, ONE)),
        (dist.Normal(ONE, ONE), dist.LogNormal(ONE, ONE)),
        (dist.Uniform(0 * ONE, 5 * ONE), SQUEEZED),
        (BETA, dist.Uniform(0 * ONE, ONE)),
        (MIXTURE, dist.Normal(torch.zeros(2), 1.0).to_event(1)),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1), MIXTURE),
        (TRIPLE, TRIPLE),
        (dist.VonMises(ONE, ONE), dist.VonMises(ONE, ONE)),
        (dist.LogNormal(ONE, ONE), dist.Delta(ONE)),
        (dist.Categorical(torch.ones(2)), dist.Bernoulli(0.3 * ONE)),
        (dist.Poisson(ONE), dist.Geometric(0.5 * ONE)),
        (dist.Poisson(ONE), mixture(dist.Poisson(torch.tensor([1.0, 50.0])))),
        (dist.Poisson(torch.ones(2)).to_event(1), TRIALS),
        (dist.Multinomial(5, torch.ones(3)), dist.Multinomial(5, torch.ones(3))),
        (BETA, mixture(dist.Beta(torch.ones(3), 1.0))),
        (BETA, mixture(dist.Uniform(torch.tensor([0.0, 0.5]), ONE))),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1), mixture(dist.Dirichlet(torch.ones(3, 2)))),
        (dist.Delta(ONE), dist.Delta(ONE)),
        (dist.OneHotCategorical(torch.ones(3)), dist.OneHotCategorical(torch.ones(3))),
        (
            dist.Bernoulli(0.5 * torch.ones(3)).to_event(1),
            dist.Bernoulli(torch.ones(3)).to_event(1),
        ),
    ],
)
def test_a_proposal_inside_the_priors_support_passes(prior, proposal):
    check_guide(Two(prior), proposing(proposal), IMAGES)


@pytest.mark.parametrize(
    ("prior", "proposal"),
    [
        (dist.LogNormal(ONE, ONE), dist.Normal(100 * ONE, ONE)),  # never negative in a few draws
        (BETA, dist.Gamma(ONE, ONE)),
        (BETA, SQUEEZED),
        (dist.Normal(ONE, ONE), dist.Bernoulli(0.5 * ONE)),
        (dist.Bernoulli(0.5 * ONE), dist.Normal(ONE, ONE)),
        (dist.Categorical(torch.ones(3)), dist.Categorical(torch.ones(4))),
        (BIT, dist.Geometric(0.5 * ONE)),
        (BIT, dist.Poisson(0.01 * ONE)),  # 0 and 1 in nearly all draws
        (BIT, dist.Poisson(1000 * ONE)),
        (BIT, mixture(dist.Poisson(torch.tensor([0.01, 0.02])))),
        (BIT.expand([2]).to_event(1), TRIALS),
        (dist.OneHotCategorical(torch.ones(3)), BIT.expand([3]).to_event(1)),
        (dist.Multinomial(5, torch.ones(3)), dist.Multinomial(6, torch.ones(3))),
        (BETA, mixture(dist.Normal(0.5 * torch.ones(2), 0.01))),
        (BETA, mixture(dist.Uniform(torch.tensor([0.0, 0.5]), 1.5))),
        (BETA, mixture(dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0), []))),
        (dist.Dirichlet(torch.ones(3)), dist.Normal(torch.zeros(3), 1.0).to_event(1)),
    ],
)
def test_a_proposal_outside_the_priors_support_is_refused(prior, proposal):
    with pytest.raises(ValueError, match="(?s)z has support.*new guide"):
        check_guide(Two(prior), proposing(proposal), IMAGES)
