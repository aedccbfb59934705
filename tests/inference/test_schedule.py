import pytest

from pyro_scenes.inference import warm_up


def test_it_falls_from_start_to_end_and_stays():
    values = [warm_up(step, over=10, start=0.9, end=0.2) for step in range(15)]
    assert values[0] == pytest.approx(0.9) and values[10:] == pytest.approx([0.2] * 5)
    assert values[:11] == sorted(values[:11], reverse=True)


def test_it_is_linear_in_log_odds():
    odds = [(p := warm_up(step, over=4)) / (1 - p) for step in range(5)]
    ratios = [b / a for a, b in zip(odds[:-1], odds[1:], strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 4)
