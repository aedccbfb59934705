"""What is checked before anything is allocated: numbers, seeds, memory."""

import math
import resource

import numpy as np
import pytest
import torch

from pyro_scenes.data import (
    coloured_shapes,
    layered_digits,
    limits,
    multi_digits,
    shape_masks,
    strokes,
)
from pyro_scenes.data.limits import available_memory, check_memory, check_whole, seeded

DIGITS = (torch.full((4, 28, 28), 200, dtype=torch.uint8), torch.arange(4))
MAKERS = {
    "strokes": lambda size=2, **more: strokes(size, cache="/nowhere", **more),
    "coloured_shapes": lambda size=2, **more: coloured_shapes(size, **more),
    "layered_digits": lambda size=2, **more: layered_digits(DIGITS, size, **more),
    "multi_digits": lambda size=2, **more: multi_digits(DIGITS, size, **more),
}


@pytest.mark.parametrize("number", [1, 7, np.int64(3), np.uint8(1)])
def test_whole_numbers_pass(number):
    check_whole(number=number)


@pytest.mark.parametrize("number", [0, -1, 2.5, 2.0, math.nan, True, None, "3", 2**63, [1]])
def test_others_are_named(number):
    with pytest.raises(ValueError, match="canvas must be a whole number from 1 up, got "):
        check_whole(size=1, canvas=number)


def test_draws_are_those_of_the_seed():
    draws = [torch.rand(4, generator=seeded(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# Every maker of scenes and digits.


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_sizes_are_whole_and_positive(make, size, unchecked):
    with pytest.raises(ValueError, match="size must be a whole number from 1 up, got"):
        make(size)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seeds_are_whole(make, seed, unchecked):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 up, got"):
        make(seed=seed)


@pytest.mark.parametrize("make", [make for name, make in MAKERS.items() if name != "strokes"])
@pytest.mark.parametrize("canvas", [0, 50.5, "50"])
def test_canvases_are_whole(make, canvas, unchecked):
    with pytest.raises(ValueError, match="canvas must be a whole number from"):
        make(canvas=canvas)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_more_than_memory_holds_is_refused_before_it_is_asked_for(make):
    with pytest.raises(ValueError, match=r"about .* GiB of memory would be needed, and .* GiB are"):
        make(10**12)


@pytest.mark.parametrize(
    ("maker", "bad"),
    [
        ("coloured_shapes", {"count": 4_294_967_295}),
        ("coloured_shapes", {"count": (0, 300)}),
        ("coloured_shapes", {"count": 300, "size": 50_000}),
        ("layered_digits", {"count": 4_294_967_295}),
        ("layered_digits", {"count": 300}),
        ("multi_digits", {"counts": (0, 4_294_967_295)}),
        ("multi_digits", {"counts": (300,)}),
    ],
)
def test_more_objects_than_a_canvas_can_show_are_refused(maker, bad):
    with pytest.raises(
        ValueError, match="too many for a canvas of .* cover it more than (10|2) times"
    ):
        MAKERS[maker](**bad)


@pytest.mark.parametrize("radius", [1e9, 1e300])
def test_a_radius_beyond_all_canvases_draws_nothing(radius):
    with pytest.raises(ValueError, match="do not fit a canvas"):
        coloured_shapes(1, radius=radius)
    with pytest.raises(ValueError, match="GiB of memory would be needed"):
        shape_masks(radius)


# Memory.


def test_memory_is_what_the_least_of_all_limits_leaves(tmp_path, monkeypatch):
    whole = available_memory()
    assert 0 < whole < math.inf
    monkeypatch.setattr(limits, "CONTAINER", (tmp_path / "max", tmp_path / "none"))
    (tmp_path / "max").write_text("1000000\n")
    assert available_memory() == 1_000_000
    (tmp_path / "max").write_text("max\n")
    assert available_memory() > 1_000_000


def test_the_limit_of_the_process_counts():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**40, before[1]))
    try:
        assert available_memory() < 2**40
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_message_says_what_and_what_to_do(monkeypatch):
    monkeypatch.setattr(limits, "available_memory", lambda: 2.0**30)
    check_memory(2**30, "a cat")
    with pytest.raises(ValueError, match="^a cat: about 3 GiB .* 1 GiB are available: a kitten$"):
        check_memory(3 * 2**30, "a cat", "a kitten")
