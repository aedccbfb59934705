"""Specialisation: hand-made scenes, and what must not matter."""

from itertools import permutations
from math import isnan, log

import pytest
import torch
from piles import LEFT, NONE, PILE, regions_of

from pyro_scenes.evaluation import count_classes, specialisation

# experts


def experts_of(winners, labels, truth=None, regions=None, experts=3, classes=3):
    """Its figures for scenes of a pile each, unless told otherwise."""
    winners, labels = torch.tensor(winners), torch.tensor(labels)
    truth = PILE.expand(len(labels), -1, -1, -1) if truth is None else truth
    regions = regions_of(truth) if regions is None else regions
    return specialisation(winners, regions, truth, labels, experts=experts, classes=classes)


def test_experts_with_a_class_each():
    found = experts_of([[0, 1, 2], [1, 1, 0]], [[2, 0, 1], [0, 0, 2]])
    assert found.wins.tolist() == [[0, 0, 2], [3, 0, 0], [0, 1, 0]]
    assert (found.unmatched, found.purity) == (0, 1)
    assert found.mutual_information == pytest.approx(1)


def test_specialisation_by_hand():
    found = experts_of([[0, 0, 1], [0, 1, -1]], [[0, 0, 1], [1, 1, 1]], experts=2, classes=2)
    assert found.wins.tolist() == [[2, 1], [0, 2]] and found.unmatched == 1
    assert found.purity == pytest.approx(4 / 6)
    each = -0.6 * log(0.6) - 0.4 * log(0.4)  # of expert and of class
    joint = -0.8 * log(0.4) - 0.2 * log(0.2)
    assert found.mutual_information == pytest.approx(2 - joint / each)


def test_winners_go_with_their_layers():
    order = [2, 0, 1]
    winners, labels = [[0, 1, 2]] * 2, [[0, 1, 2], [2, 1, 0]]
    expected = experts_of(winners, labels)
    regions = regions_of(PILE)[:, order].expand(2, -1, -1, -1)
    found = experts_of([[row[i] for i in order] for row in winners], labels, regions=regions)
    assert found.wins.tolist() == expected.wins.tolist() and found[1:] == expected[1:]


def test_names_of_experts_and_classes_do_not_matter():
    winners, labels = torch.randint(-1, 4, (30, 3)), torch.randint(3, (30, 3))
    truth = PILE.expand(30, -1, -1, -1)
    known = {"experts": 4, "classes": 3}
    expected = specialisation(winners, regions_of(truth), truth, labels, **known)
    assert 0 < expected.mutual_information < 0.5 and expected.unmatched == (winners < 0).sum()
    for order in permutations(range(4)):
        renamed = torch.tensor([*order, -1])[winners]
        found = specialisation(renamed, regions_of(truth), truth, labels, **known)
        assert torch.equal(found.wins[list(order)], expected.wins)
        assert found[1:3] == expected[1:3]
        assert found.mutual_information == pytest.approx(expected.mutual_information)
    swapped = specialisation(winners, regions_of(truth), truth, 2 - labels, **known)
    assert torch.equal(swapped.wins, expected.wins.flip(1)) and swapped[1:3] == expected[1:3]
    assert swapped.mutual_information == pytest.approx(expected.mutual_information)


def test_one_expert_or_one_class_tells_nothing():
    one_expert = experts_of([[1, 1, 1]], [[0, 1, 2]])
    assert one_expert.purity == pytest.approx(1 / 3) and one_expert.mutual_information == 0
    one_class = experts_of([[0, 1, 2]], [[1, 1, 1]])
    assert (one_class.purity, one_class.mutual_information) == (1, 0)
    both = experts_of([[0, 0, 0]], [[1, 1, 1]], experts=1)
    assert (both.purity, both.mutual_information) == (1, 1)


def test_missed_objects_are_impure_and_hidden_ones_left_out():
    everything = PILE.any(1, keepdim=True).float()
    found = experts_of([[2]], [[0, 1, 2]], regions=everything)
    assert found.wins.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert found.unmatched == 2 and found.purity == pytest.approx(1 / 3)
    buried = torch.stack([LEFT, LEFT, NONE])[None]
    found = experts_of([[0, 1, 2]], [[1, 2, -1]], truth=buried)
    assert found.wins.sum() == 1 and (found.unmatched, found.purity) == (0, 1)


def test_without_objects_there_is_no_specialisation():
    for truth in (NONE[None, None], PILE[:, :0]):
        labels = torch.full(truth.shape[:2], -1)
        winners, regions = torch.zeros(1, 2).long(), torch.rand(1, 2, 3, 7)
        found = specialisation(winners, regions, truth, labels, experts=2, classes=3)
        assert found.wins.tolist() == [[0] * 3] * 2 and found.unmatched == 0
        assert isnan(found.purity) and isnan(found.mutual_information)
    unmatched = experts_of([[-1, -1, -1]], [[0, 1, 2]])
    assert (unmatched.unmatched, unmatched.purity) == (3, 0)
    assert isnan(unmatched.mutual_information)


# where they enter


@pytest.mark.parametrize(
    ("winners", "labels", "sizes", "message"),
    [
        ([[0, 1]], [[0, 1, 2]], {}, "winners .*layers"),
        ([[0.0, 1, 2]], [[0, 1, 2]], {}, "winners .*layers"),
        ([[0, 1, 2]], [[0, 1]], {}, "labels .*objects"),
        ([[0, 1, 2]], [[0.0, 1, 2]], {}, "labels .*objects"),
        ([[0, 1, 3]], [[0, 1, 2]], {}, r"winners must be from -1 to below 3, got \[3\]"),
        ([[0, 1, -2]], [[0, 1, 2]], {}, r"winners .* got \[-2\]"),
        ([[0, 1, 2]], [[0, 1, 3]], {}, r"labels must be from 0 to below 3, got \[3\]"),
        ([[0, 1, 2]], [[0, 1, -1]], {}, r"labels .* got \[-1\]"),
        ([[-1, -1, -1]], [[0, 1, 2]], {"experts": 0}, "winners must be from -1 to below 0"),
    ],
)
def test_winners_and_labels_must_fit(winners, labels, sizes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        experts_of(winners, labels, **sizes)


def test_counts_by_class(unchecked):
    labels = torch.tensor([[0, 2, 2, -1], [-1, -1, -1, -1]])
    assert count_classes(labels, 4).tolist() == [[1, 0, 2, 0], [0, 0, 0, 0]]
    for wrong, message in ((labels, "below 2"), (labels - 1, "-2"), (labels.float(), "integer")):
        with pytest.raises(ValueError, match=message):
            count_classes(wrong, 2)
