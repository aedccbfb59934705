"""Proposals of a region's code: a guess that is corrected."""

import pyro.distributions as dist
import pytest
import torch

from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.networks import FlatDecoder, RegionEncoder

SHAPE, CODE = (3, 8, 8), 5
LIKE = dist.Normal(torch.zeros(CODE), 1.0).to_event(1)
IMAGES, REGIONS = torch.rand(4, *SHAPE), torch.rand(4, 1, 8, 8)
SCOPE = torch.ones(4, 1, 8, 8)


def encoder():
    return RegionEncoder(SHAPE, 6, channels=4, blocks=2)


KINDS = {
    "features": lambda: RegionProposal(SHAPE, LIKE, encoder=encoder(), features=6),
    "guess": lambda: RegionProposal(SHAPE, LIKE, guess=FlatDecoder(CODE, SHAPE).guess),
    "both": lambda: RegionProposal(
        SHAPE, LIKE, encoder=encoder(), features=6, guess=FlatDecoder(CODE, SHAPE).guess
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_proposes_codes_about_its_median(kind):
    proposal = KINDS[kind]()
    parameters = proposal(IMAGES, REGIONS, SCOPE)
    found = proposal.read(parameters)
    assert found.batch_shape == (4,) and found.event_shape == (CODE,)
    torch.testing.assert_close(found.mean, proposal.median(parameters))
    found.log_prob(found.rsample()).sum().backward()
    assert all(value.grad is not None for value in proposal.parameters())


def test_a_head_of_zeros_proposes_the_guess():
    decoder = FlatDecoder(CODE, SHAPE)
    proposal = RegionProposal(SHAPE, LIKE, guess=decoder.guess)
    proposal.head.head[-1].weight.data.zero_()
    guess = decoder.guess(IMAGES, REGIONS, SCOPE)
    found = proposal.median(proposal(IMAGES, REGIONS, SCOPE))
    torch.testing.assert_close(found, guess)


def test_a_guess_stands_in_for_the_priors_median():
    """Whatever the prior: one far from zero shifts it nowhere."""
    decoder, far = FlatDecoder(CODE, SHAPE), dist.Normal(torch.full((CODE,), 7.0), 0.1).to_event(1)
    proposal = RegionProposal(SHAPE, far, guess=decoder.guess)
    proposal.head.head[-1].weight.data.zero_()
    found = proposal.median(proposal(IMAGES, REGIONS, SCOPE))
    torch.testing.assert_close(found, decoder.guess(IMAGES, REGIONS, SCOPE))


def test_proposals_of_other_widths_are_read_alike():
    """Parameters are finished: any proposal for a latent reads those of another."""
    one, other = (
        RegionProposal(SHAPE, LIKE, guess=FlatDecoder(CODE, SHAPE).guess, narrow=narrow)
        for narrow in (0.05, 1.0)
    )
    parameters = one(IMAGES, REGIONS, SCOPE)
    torch.testing.assert_close(one.read(parameters).stddev, other.read(parameters).stddev)


def test_narrow_proposals_start_narrow():
    scales = [
        RegionProposal(SHAPE, LIKE, encoder=encoder(), features=6, narrow=narrow)
        for narrow in (0.05, 1.0)
    ]
    narrow, wide = (one.read(one(IMAGES, REGIONS, SCOPE)).stddev.mean() for one in scales)
    assert narrow < 0.3 * wide


def test_a_guess_pulls_at_no_region():
    """Else a bright colour's logit would pull hard at the attention."""
    regions = REGIONS.clone().requires_grad_()
    proposal = KINDS["guess"]()
    pulled = torch.autograd.grad(proposal(IMAGES, regions, SCOPE).sum(), regions, allow_unused=True)
    assert pulled == (None,)
