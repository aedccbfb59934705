import pytest
import torch

from pyro_scenes.evaluation import describe_wins
from pyro_scenes.evaluation.floors import beside, single_shape_floors


def test_each_figure_stands_before_its_floors():
    answers = {
        "flood fill": {"ari": 1.0, "other": 0.0, "wins": [[1]]},
        "blank images": {"mse": 0.3},
    }
    table = beside({"ari": 0.9, "wins": [[2]], "mse": 0.1}, answers)
    assert list(table) == ["ari", "ari: flood fill", "wins", "mse", "mse: blank images"]
    assert table["ari: flood fill"] == 1.0 and table["mse"] == 0.1


def test_a_floor_may_be_a_named_tuple():
    floors = single_shape_floors(torch.ones(2, 3, 3, dtype=torch.bool), 2)
    table = beside({"classes_made": 1.0}, floors)
    assert table == {
        "classes_made": 1.0,
        "classes_made: blank images": 0.0,
        "classes_made: one class for all": 0.5,
    }


def test_wins_in_words():
    wins = torch.tensor([[4, 1], [0, 0]])
    assert describe_wins(wins, ("circle", "square")) == [
        "expert 0: won 4 circles, 1 square",
        "expert 1: won nothing",
    ]
    assert describe_wins(wins)[0] == "expert 0: won 4 of class 0, 1 of class 1"


@pytest.mark.parametrize("names", [(), ("circle",)])
def test_wins_of_no_experts(names):
    assert describe_wins(torch.zeros(0, 1, dtype=torch.long), names) == []
