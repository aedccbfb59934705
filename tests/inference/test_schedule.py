import pytest
import torch

from pyro_scenes.inference import warm_up
from pyro_scenes.inference.schedule import falling, plateaus, ramp, scale_lr


def test_warm_up_falls_from_start_to_end_and_stays():
    values = [warm_up(step, over=10, start=0.9, end=0.2) for step in range(15)]
    assert values[0] == pytest.approx(0.9) and values[10:] == pytest.approx([0.2] * 5)
    assert values[:11] == sorted(values[:11], reverse=True)


def test_warm_up_is_linear_in_log_odds():
    odds = [(p := warm_up(step, over=4)) / (1 - p) for step in range(5)]
    ratios = [b / a for a, b in zip(odds[:-1], odds[1:], strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 4)


def test_a_ramp_is_linear_and_stays_at_its_end():
    values = [ramp(step, over=4, start=3.0, end=1.0) for step in range(7)]
    assert values == pytest.approx([3.0, 2.5, 2.0, 1.5, 1.0, 1.0, 1.0])


def test_the_rate_falls_over_the_second_half():
    values = [falling(step, 8) for step in range(9)]
    assert values == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.01])


@pytest.mark.parametrize(
    "wrong", [lambda: ramp(1, over=0), lambda: falling(1, 0), lambda: warm_up(1, end=1.0)]
)
def test_bad_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        wrong()


def test_five_evaluations_without_a_gain_are_a_plateau():
    assert plateaus([]) == plateaus([3.0, 2.0, 1.0]) == plateaus([1.0] * 5) == 0
    assert plateaus([1.0] * 6) == 1 and plateaus([1.0] * 26) == 5
    gains = [2.0, 2.0, 2.0, 2.0, 1.9, 2.0, 2.0, 2.0, 2.0]
    assert plateaus(gains) == 0 and plateaus([*gains, 1.9]) == 1
    assert plateaus([1.0, 2.0, 2.0, 0.5, 2.0, 2.0], patience=2) == 2


def test_a_factor_is_of_the_rate_that_a_group_began_with():
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.2)]
    optim = torch.optim.SGD(groups)
    for factor in (0.5, 0.1, 0.5):
        scale_lr(optim, factor)
    assert [group["lr"] for group in optim.param_groups] == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize("wrong", [None, "1", [1], torch.ones(2), float("nan")])
def test_what_is_no_number_is_named(unchecked, wrong):
    optim = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    for call in (
        lambda: ramp(wrong, over=3),
        lambda: warm_up(1, start=wrong),
        lambda: falling(1, wrong),
        lambda: scale_lr(optim, wrong),
        lambda: plateaus([1.0], patience=wrong),
    ):
        with pytest.raises((TypeError, ValueError), match="must be (a number|a whole|finite)"):
            call()
