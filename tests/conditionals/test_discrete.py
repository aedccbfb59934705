"""Proposals for discrete codes."""

import pyro.distributions as dist
import pytest
import torch

from pyro_scenes import Amortised
from pyro_scenes.handlers import point_estimate

PROBS = torch.tensor([0.1, 0.2, 0.7])
LIKE = {
    "one-hot": dist.OneHotCategorical(PROBS),
    "one-hot, unnormalised": dist.OneHotCategorical(3 * PROBS),
    "one-hot, in a batch": dist.OneHotCategorical(PROBS).expand((4,)),
    "one-hot, masked": dist.OneHotCategorical(PROBS).expand((1,)).mask(torch.tensor([False])),
    "straight-through": dist.OneHotCategoricalStraightThrough(PROBS),
    "bits": dist.Bernoulli(PROBS).to_event(1),
    "bits, in a batch": dist.Bernoulli(PROBS).expand((4, 3)).to_event(1),
}


@pytest.mark.parametrize("name", LIKE)
def test_a_discrete_proposal_starts_at_the_prior(name):
    found = Amortised(5, LIKE[name], hidden=(7,))
    for parameter in found.head.parameters():
        torch.nn.init.zeros_(parameter)
    proposed = found(torch.randn(6, 5))
    assert proposed.batch_shape == (6,) and proposed.event_shape == (3,)
    torch.testing.assert_close(proposed.mean, PROBS.expand(6, 3))
    assert LIKE[name].support.check(proposed.sample((100,))).all()
    estimate = point_estimate(proposed)
    assert torch.equal(estimate, torch.tensor([0.0, 0.0, 1.0]).expand(6, 3))


@pytest.mark.parametrize("family", ["one-hot", "bits"])
def test_a_certain_prior_leaves_finite_logits(family):
    sure = torch.tensor([1.0, 0.0])
    like = dist.OneHotCategorical(sure) if family == "one-hot" else dist.Bernoulli(sure).to_event(1)
    assert Amortised(5, like)(torch.randn(6, 5)).log_prob(torch.tensor([0.0, 1.0])).isfinite().all()


def test_features_decide_and_everything_is_trained():
    found, features = (
        Amortised(5, LIKE["one-hot"], hidden=(7,)).double(),
        torch.randn(6, 5).double(),
    )
    proposed = found(features)
    assert (proposed.probs[0] - proposed.probs[1]).abs().max() > 1e-3
    proposed.log_prob(proposed.sample()).sum().backward()
    assert all(value.grad.any() for value in found.parameters())


@pytest.mark.parametrize(
    "like",
    [
        dist.Bernoulli(0.5),
        dist.Normal(0.0, 1.0),
        dist.Categorical(PROBS),
        dist.Poisson(PROBS).to_event(1),
        dist.OneHotCategorical(PROBS).expand((2,)).to_event(1),
    ],
    ids=["bit", "number", "class", "counts", "two vectors"],
)
def test_what_cannot_be_proposed_is_said(like):
    with pytest.raises(ValueError, match="continuous, of bits, or one-hot"):
        Amortised(5, like)
