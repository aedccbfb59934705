"""Proposals of a region's code: from features, and from a decoder's guess that is corrected."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_scenes.conditionals import RegionProposal, SpriteProposal
from pyro_scenes.networks import FlatDecoder, RegionEncoder, SpriteDecoder

SHAPE, CODE = (3, 8, 8), 5
PRIOR = dist.Normal(torch.zeros(CODE), 1.0).to_event(1)
BOUNDED = dist.Beta(2 * torch.ones(CODE), 2 * torch.ones(CODE)).to_event(1)
IMAGES, REGIONS = torch.rand(4, *SHAPE), torch.rand(4, 1, 8, 8)
SCOPES = torch.ones(4, 1, 8, 8)


class Painter(nn.Module):
    """A model, as far as a proposal asks it."""

    def __init__(self):
        super().__init__()
        self.image_shape = SHAPE
        self.decoders = nn.ModuleList([SpriteDecoder(CODE, SHAPE), FlatDecoder(CODE, SHAPE)])


def features(prior=PRIOR):
    return RegionProposal(RegionEncoder(SHAPE, 6, channels=4, blocks=2), 6, prior)


KINDS = {
    "features": features,
    "bounded": lambda: features(BOUNDED),
    "sprite": lambda: SpriteProposal(Painter(), 0, PRIOR),
    "flat": lambda: SpriteProposal(Painter(), 1, PRIOR),
}


@pytest.fixture(params=KINDS)
def proposal(request):
    return KINDS[request.param]()


def test_it_proposes_codes_that_the_prior_may_draw(proposal):
    parameters = proposal(IMAGES, REGIONS, SCOPES)
    made = proposal.distribution(parameters)
    assert parameters.shape == (4, 2 * CODE)
    assert made.batch_shape == (4,) and made.event_shape == (CODE,)
    draws = made.rsample(torch.Size([50]))
    assert made.support.check(draws).all()
    made.log_prob(draws).sum().backward()
    assert all(value.grad is not None for value in proposal.parameters())


def test_each_image_is_read_on_its_own(proposal):
    whole = proposal(IMAGES, REGIONS, SCOPES)
    for i in range(4):
        alone = proposal(*(part[i : i + 1] for part in (IMAGES, REGIONS, SCOPES)))
        torch.testing.assert_close(alone[0], whole[i], atol=1e-4, rtol=1e-4)


def test_parameters_of_any_batch_make_a_distribution(proposal):
    """So that those of several experts can be selected from first."""
    parameters = torch.stack([proposal(IMAGES, REGIONS, SCOPES)] * 3, 1)
    assert proposal.distribution(parameters).batch_shape == (4, 3)


def test_untrained_features_propose_about_what_the_prior_draws():
    made = features().distribution(features()(IMAGES, REGIONS, SCOPES))
    assert made.mean.abs().max() < 1 and (made.stddev - 1).abs().max() < 0.5


@pytest.mark.parametrize("expert", [0, 1])
def test_a_correction_of_zero_proposes_the_decoders_guess(expert):
    """Whatever the prior: one far from zero shifts it nowhere."""
    for loc in (0.0, 7.0):
        prior = dist.Normal(torch.full((CODE,), loc), 1.0).to_event(1)
        painter = Painter()
        proposal = SpriteProposal(painter, expert, prior)
        proposal.correct.head.head[-1].weight.data.zero_()
        proposal.correct.head.head[-1].bias.data.zero_()
        guess = painter.decoders[expert].guess(IMAGES, REGIONS, SCOPES)
        made = proposal.distribution(proposal(IMAGES, REGIONS, SCOPES))
        torch.testing.assert_close(made.mean, guess)
        assert (made.stddev < 0.3).all()  # surer than the prior
        assert torch.equal(proposal.guess(IMAGES, REGIONS, SCOPES), guess)


def test_the_decoder_stays_the_models():
    """It is asked as it is at each call, and is no part of the proposal."""
    painter = Painter()
    proposal = SpriteProposal(painter, 1, PRIOR)
    assert not set(proposal.modules()) & set(painter.modules())
    before = proposal.guess(IMAGES, REGIONS, SCOPES)
    painter.decoders[1].colour.bias.data += 1
    torch.testing.assert_close(
        proposal.guess(IMAGES, REGIONS, SCOPES)[:, :3], before[:, :3] - 1, atol=1e-3, rtol=0
    )


def test_a_guess_pulls_at_no_region():
    """Else a bright colour's logit would pull hard at the attention."""
    regions = REGIONS.clone().requires_grad_()
    proposal = KINDS["flat"]()
    made = proposal(IMAGES, regions, SCOPES).sum()
    assert torch.autograd.grad(made, regions, allow_unused=True) == (None,)


def test_a_guess_of_a_code_with_bounds_is_refused():
    with pytest.raises(ValueError, match="a guess may be any number.*give proposals="):
        SpriteProposal(Painter(), 0, BOUNDED)


def test_a_mixture_of_normals_may_be_any_number():
    parts = dist.Normal(torch.zeros(2, 5), 1.0).to_event(1)
    prior = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts)
    made = SpriteProposal(Painter(), 0, prior)
    assert made.distribution(made(IMAGES, REGIONS, SCOPES)).event_shape == (5,)
