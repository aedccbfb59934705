"""The competition of sprites: what is chosen, by whom, and when nothing is worth it."""

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from pyro_scenes.models.competition import Competition

SIDE = (4, 3)


@pytest.fixture
def maps():
    """Of 3 candidates, 2 images, 4 sprites."""
    wide, one = (3, 2, 4, 1, *SIDE), (2, 1, 1, *SIDE)
    return {
        "alpha_logits": torch.randn(3, 2, 1, 1, *SIDE),
        "opacity_logits": torch.randn(wide),
        "scope": torch.rand(one),
        "excess_nll": 6 * torch.rand(wide),
        "background_nll": 9 * torch.rand(one),
        "code": torch.randn(3, 2, 4),
        "pixels": 4,
    }


def test_candidates_are_compared_by_the_terms_of_the_bound(maps):
    """Each pixel stands for four; caps and weights as asked for."""
    competition = Competition(appearance=0.7, pixel_cap=3.0, gain_cap=50.0, margin=float("inf"))
    found = competition.compare(**maps)
    alpha, scope = maps["alpha_logits"].sigmoid(), maps["scope"]
    region = scope * alpha
    opacity = maps["opacity_logits"].sigmoid()
    shape = scope * kl_divergence(Bernoulli(alpha.expand_as(opacity)), Bernoulli(opacity))
    appearance, gain = region * maps["excess_nll"].clamp(max=3), region * maps[
        "background_nll"
    ].clamp(max=3)
    whole = region * (maps["excess_nll"] - maps["background_nll"])
    shape, appearance, gain, whole = (
        4 * part.sum((-3, -2, -1)).movedim(0, 1) for part in (shape, appearance, gain, whole)
    )
    code = maps["code"].movedim(0, 1)
    loss = (shape + code + appearance - gain.clamp(max=50)).amin(2)
    torch.testing.assert_close(found.candidate_loss, loss)
    torch.testing.assert_close(found.sprite_loss, shape + 0.7 * appearance - gain)
    torch.testing.assert_close(found.cost, (shape + code + whole).amin(2))


def test_in_training_it_is_by_chance_and_temperature():
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(2, 4)
    for temperature in (0.5, 2.0):
        logits = Competition(temperature=temperature).expert_logits(scores, -torch.ones(2), True)
        assert logits.shape == (2, 6)  # and the background, and the empty layer
        expected = (-scores / temperature).softmax(1)
        torch.testing.assert_close(logits.softmax(1)[:, :4], expected)
        assert not logits.softmax(1)[:, 4:].any()
    loss = torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])
    chances = Competition().candidate_logits(loss, -torch.ones(2, 3), True)
    torch.testing.assert_close(chances.softmax(1), (-loss).softmax(1))


def test_in_evaluation_the_best_is_certain():
    loss, scores = torch.rand(2, 3), torch.rand(2, 4)
    candidate = Competition().candidate_logits(loss, -torch.ones(2, 3), False).softmax(1)
    assert candidate.amax(1).tolist() == [1, 1] and torch.equal(candidate.argmax(1), loss.argmin(1))
    expert = Competition().expert_logits(scores, -torch.ones(2), False).softmax(1)
    assert expert.amax(1).tolist() == [1, 1] and torch.equal(expert.argmax(1), scores.argmin(1))


@pytest.mark.parametrize("training", [True, False])
def test_what_costs_more_than_it_explains_is_empty(training):
    cost = torch.tensor([1.0, -1.0])
    logits = Competition().expert_logits(torch.rand(2, 4), cost, training)
    assert (logits.softmax(1)[:, 5] == torch.tensor([1.0, 0.0])).all()


def test_in_evaluation_it_is_no_rival_of_what_is_worth_it():
    """A sliver of the least loss gives way to a part that is worth it; where nothing is, to none."""
    loss, cost = torch.tensor([[0.0, 5.0, 9.0]]).expand(2, 3), torch.ones(2, 3)
    cost[0, 1] = -1
    logits = Competition().candidate_logits(loss, cost, False)
    assert logits.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "bad",
    [{"temperature": 0.0}, {"appearance": -1.0}, {"pixel_cap": float("nan")}, {"margin": -1.0}],
    ids=str,
)
def test_bad_settings_are_refused(bad, unchecked):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Competition(**bad)
