"""The example of CVAE and VAEAC, in miniature."""

import csv
from pathlib import Path

import arviz
import pytest
import torch

from pyro_scenes.data import Digits, strokes
from pyro_scenes.experiment import completion


@pytest.fixture
def example(run, cache, monkeypatch):
    """The example with these words, on 100 digits for each set, which are drawn in no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    images, labels = strokes(300)
    sets = Digits(*zip(images.split(100), labels.split(100), strict=True))
    monkeypatch.setattr(completion, "digits", lambda root: sets)
    return lambda *words, **patches: run(
        "complete_digits", "--smoke", "--hidden", 20, *words, **patches
    )


def nothing(*args):
    """In place of the figures, where others have looked at them."""


def names(numbers):
    return {name.split(":")[0] for name in numbers if "," in name}


def test_each_mask_has_its_figures_and_floors(example, written):
    said = example("--quadrants", 3, "--out", "cvae").stdout
    example("--model", "vaeac", "--out", "vaeac", "--steps", 2)
    cvae, vaeac = written("cvae"), written("vaeac")
    figures = ("nats", "nats_error", "elbo")
    assert names(cvae) == {f"{figure}, 3 of 4 seen" for figure in figures}
    assert names(vaeac) == {f"{figure}, {n} of 4 seen" for figure in figures for n in (1, 2, 3)}
    floors = {f"nats, 3 of 4 seen: {answer}" for answer in ("mean image", "baseline network")}
    assert floors <= set(cvae) and "nats, 1 of 4 seen: mean image" in vaeac
    assert all(cvae[f"elbo, {mask}"] < -cvae[f"nats, {mask}"] < 0 for mask in ("3 of 4 seen",))
    assert "3 of 4 seen: " in said and "look at completions.png first" in said
    for out in map(Path, ("cvae", "vaeac")):
        assert {path.stem for path in out.glob("*.png")} == {"completions", "curves"}
        drawn = arviz.from_netcdf(str(out / "inference_data.nc"))["posterior_predictive"]
        assert drawn.sizes["draw"] == 20 and drawn.sizes["image_id"] == 8


def test_an_evaluation_repeats_the_figures_and_a_resumed_run_goes_on(example, written):
    example("--steps", 4, "--out", "out", figures=nothing)
    example("--evaluate", "out/checkpoint.pt", "--quadrants", 1, "--out", "same", figures=nothing)
    assert written("same") == written("out")
    baseline = {
        name: value
        for name, value in torch.load("out/checkpoint.pt")["model"].items()
        if name.startswith("guess.")
    }
    example("--steps", 8, "--out", "out", "--resume", figures=nothing)
    after = torch.load("out/checkpoint.pt")["model"]
    assert all(torch.equal(after[name], value) for name, value in baseline.items())
    with Path("out", "metrics.csv").open() as table:
        assert [int(row["step"]) for row in csv.DictReader(table)] == [2, 4, 6, 8]


def test_sets_share_no_digit_and_masks_are_the_model_s(example, monkeypatch):
    parts = completion.completion_split("vaeac", 1, small=True)
    assert len(parts.train) == len(parts.masks) == 128 and len(parts.test) == 64
    assert set(parts.train.images.unique().tolist()) == {0, 255}
    assert list(parts.seen) == ["1 of 4 seen", "2 of 4 seen", "3 of 4 seen"]
    fixed = completion.completion_split("cvae", 2, small=True)
    assert (fixed.masks == fixed.seen["2 of 4 seen"]).all()
    other = completion.completion_split("cvae", 2, small=True, seed=1)
    assert torch.equal(other.test.images, fixed.test.images)
    assert not torch.equal(other.train.images, fixed.train.images)
