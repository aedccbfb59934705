"""Competition: what is chosen, by whom, and when nothing is worth it."""

import pytest
import torch

from pyro_scenes.conditionals import Bids, Competition

NOTHING = torch.zeros(3, 2, 4)  # candidates, images, experts


def bids(**parts):
    return Bids(**{name: parts.get(name, NOTHING) for name in Bids._fields})


def at(value, *places):
    found = NOTHING.clone()
    for place in places:
        found[place] = value
    return found


def test_in_evaluation_the_best_expert_is_certain():
    competition = Competition().eval()
    shape = torch.rand(3, 2, 4)
    candidate, logits, _ = competition(bids(shape=shape))
    best = shape.amin(2).argmin(0)
    assert torch.equal(candidate, best)
    for n in range(2):
        assert logits[n].softmax(0).argmax() == shape[best[n], n].argmin()
        assert logits[n].softmax(0).max() == 1
    for _ in range(5):
        assert torch.equal(competition(bids(shape=shape))[0], candidate)


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1.0}, {"enough": -1.0}, {"every": 0}, {"plenty": float("nan")}],
    ids=str,
)
def test_bad_settings_are_refused(bad, unchecked):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Competition(**bad)


def test_in_training_it_is_by_chance_and_temperature():
    shape = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(3, 2, 4)
    for temperature in (0.5, 2.0):
        _, logits, _ = Competition(temperature=temperature)(bids(shape=shape))
        torch.testing.assert_close(logits.softmax(1), (-shape[0] / temperature).softmax(1))
    candidates = [Competition()(bids(shape=shape))[0] for _ in range(60)]
    assert set(torch.cat(candidates).tolist()) == {0, 1, 2}


def test_a_proposal_that_explains_more_is_chosen_but_only_up_to_plenty():
    gain = at(30.0, 1) + at(500.0, 2)
    lacks = at(20.0, 2)
    competition = Competition(plenty=100.0).eval()
    assert competition(bids(gain=gain, shape=lacks))[0].tolist() == [2, 2]
    assert competition(bids(gain=at(110.0, 1) + at(500.0, 2), shape=lacks))[0].tolist() == [1, 1]


@pytest.mark.parametrize(("weight", "winner"), [(0.0, 1), (1.0, 2)])
def test_appearance_counts_for_experts_as_much_as_asked(weight, winner):
    shape, appearance = torch.tensor([3.0, 1.0, 2.0, 9.0]), torch.tensor([9.0, 9.0, 0.0, 9.0])
    parts = {"shape": shape.expand(3, 2, 4), "appearance": appearance.expand(3, 2, 4)}
    _, logits, _ = Competition(appearance=weight).eval()(bids(**parts))
    assert logits.argmax(1).tolist() == [winner] * 2


def test_nothing_is_worth_it_where_all_experts_lose_by_it():
    worth = torch.ones(3, 2, 4)
    worth[:, 1, 3] = -1  # one of them does not, of the second image
    for training in (True, False):
        competition = Competition().train(training)
        assert competition(bids(worth=worth))[2].tolist() == [True, False]


def test_what_costs_more_than_it_explains_is_no_rival_in_evaluation():
    """A sliver that lacks least gives way to a part that is worth it; where nothing is, to none."""
    worth = torch.ones(3, 2, 4)
    worth[1, 0] = -1
    parts = {"shape": at(5.0, 1) + at(9.0, 2), "worth": worth}
    candidate, _, idle = Competition().eval()(bids(**parts))
    assert candidate.tolist() == [1, 0] and idle.tolist() == [False, True]
