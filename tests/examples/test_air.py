"""AIR's example: what it writes, scenes of one's own, going on after a stop, and what it says of mistakes."""

import csv
import re
from types import SimpleNamespace

import arviz
import numpy as np
import pytest
import torch
from PIL import Image

from pyro_scenes.data import fingerprints
from pyro_scenes.inference import falling

AIR_EXAMPLE = "air_multi_mnist"
BOUNDS = {"elbo", "elbo_error", "elbo_floor", "iwae", "iwae_error", "particles", "images"}
COUNTS = {"count_accuracy", "count_accuracy_sample", "count_accuracy_floor"}
COSTS = {"steps", "seconds", "cpu_seconds"}
FIGURELESS = {"figures": lambda *args: None}
FIGURES = {"scenes", "reconstructions", "prior", "curves"}


def test_it_writes_what_it_promises(smoked, written):
    out, _ = smoked(AIR_EXAMPLE)
    metrics = written(out)
    of_digits = BOUNDS | COUNTS
    assert set(metrics) == COSTS | of_digits | {f"{name}_disjoint" for name in of_digits}
    assert metrics["steps"] == 10 and metrics["elbo"] < metrics["iwae"]
    assert all(0 <= metrics[name] <= 1 for name in COUNTS)
    assert {path.stem for path in out.glob("*.png")} == FIGURES
    with (out / "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 8, 10]
    assert all(row["validation_elbo"] and row["count_accuracy"] for row in rows)
    posterior = arviz.from_netcdf(str(out / "inference_data.nc"))["posterior"]
    assert (posterior.sizes["draw"], posterior.sizes["step"]) == (20, 3)


def test_scenes_of_ones_own(run, written, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (30, 3, 20, 24), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", images=images, counts=rng.integers(0, 3, 30))
    run(AIR_EXAMPLE, "--smoke", "--images", "own.npz", "--out", "out")
    trained = written("out")
    assert set(trained) == COSTS | BOUNDS | COUNTS and trained["images"] == 3

    evaluate = ["--smoke", "--evaluate", "out/checkpoint.pt"]
    same = run(AIR_EXAMPLE, *evaluate, "--images", "own.npz", "--out", "same", **FIGURELESS)
    assert "27 of 30 scenes were used in training" in same.stdout
    again = written("same")
    assert again["images"] == 3 and again["steps"] == 10
    for name in ("elbo_floor", "count_accuracy_floor"):
        assert again[name] == pytest.approx(trained[name])
    assert not (tmp_path / "same" / "checkpoint.pt").exists()

    np.savez(tmp_path / "new.npz", images=255 - images[:5])
    run(AIR_EXAMPLE, *evaluate, "--images", "new.npz", "--out", "new")
    assert set(written("new")) == COSTS | BOUNDS and written("new")["images"] == 5

    known = torch.load("out/checkpoint.pt")["extra"]["state"]["known"]
    used = np.isin(fingerprints(torch.as_tensor(images)).numpy(), known.numpy())
    np.savez(tmp_path / "used.npz", images=images[used])
    for words, error in (
        (["--images", "used.npz", "--out", "e1"], "all 27 scenes were used in training"),
        (["--images", "new.npz", "--out", "out"], "an --out of its own"),
        (["--images", "new.npz", "--out", "out", "--resume"], "an --out of its own"),
        (["--out", "e2"], "give images of the same shape"),
    ):
        assert error in run(AIR_EXAMPLE, *evaluate, *words, fails=True).stderr
    check = ["posterior_predictive_check", "--smoke", "--checkpoint", "out/checkpoint.pt"]
    assert "give images of the same shape" in run(*check, "--out", "e3", fails=True).stderr


def test_evaluation_is_under_the_prior_of_the_end(run, tmp_path):
    """A checkpoint from the middle of the warm-up holds another."""
    np.savez(tmp_path / "own.npz", images=np.random.default_rng(0).random((20, 20, 20)))
    priors = []

    def stop(model, guide, test, kind, run):
        priors.append(model.z_pres(SimpleNamespace(step=0, z_pres=torch.ones(1))).probs.item())
        raise ValueError("enough")

    words = [AIR_EXAMPLE, "--smoke", "--images", "own.npz"]
    run(*words, "--out", "out", fails=True, warm_up=lambda step, over: 0.9, score=stop)
    evaluate = ["--evaluate", "out/checkpoint.pt", "--out", "evaluated"]
    run(*words, *evaluate, fails=True, score=stop)
    kept = torch.load("out/checkpoint.pt")["model"]["z_pres.probs"]
    assert kept.item() == pytest.approx(0.9)
    assert priors == pytest.approx([0.01, 0.01])


def test_stopped_and_resumed(run, tmp_path):
    """As by the scheduler: the weights are those of a run that was left alone."""
    words = [AIR_EXAMPLE, "--smoke", "--elbo", "graph"]
    patches = FIGURELESS | {"score": lambda *args: {f"count_accuracy{args[3]}": 0.5}}

    def stop(step, steps):
        if step == 5:
            raise KeyboardInterrupt
        return falling(step, steps)

    stopped = run(*words, "--out", "parts", fails=True, **patches, falling=stop)
    assert "--resume continues" in stopped.stderr
    assert torch.load(tmp_path / "parts" / "checkpoint.pt")["step"] == 4
    run(*words, "--out", "parts", "--resume", **patches)
    run(*words, "--out", "whole", **patches)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 10
    for part in ("model", "guide"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])


def test_a_folder_of_pictures(run, tmp_path):
    """Their size and channels, and the flags for their objects, are the checkpoint's."""
    (tmp_path / "mine").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 255, (12, 20, 24, 3), np.uint8)):
        Image.fromarray(image).save(tmp_path / "mine" / f"{i}.png")
    words = ["--smoke", "--images", "mine", "--window", "9x12", "--scale", "0.5", "--objects", "2"]
    first = run(AIR_EXAMPLE, *words, "--out", "out", **FIGURELESS)
    assert "12 colour images of 20 x 24 pixels" in first.stdout
    verdict = first.stdout.split("particles")[1].splitlines()
    assert "take more --steps" in verdict[-2] and "look at reconstructions.png first" in verdict[-1]
    kept = torch.load("out/checkpoint.pt")
    settings = {"image_shape": [3, 20, 24], "steps": 2, "window": (9, 12), "scale": 0.5}
    assert kept["extra"]["settings"] == settings | {"noise": 0.1}

    # Grey pictures to a checkpoint of colour, and no word of windows.
    (tmp_path / "grey").mkdir()
    Image.fromarray(np.eye(24, dtype=np.uint8)[:20] * 255).save(tmp_path / "grey" / "a.jpg")
    evaluate = ["--smoke", "--evaluate", "out/checkpoint.pt", "--images", "grey"]
    again = run(AIR_EXAMPLE, *evaluate, "--out", "new", **FIGURELESS)
    assert "1 grey images of 20 x 24" in again.stdout and "in 1 scene" in again.stdout
    resumed = run(AIR_EXAMPLE, *words[:-6], "--out", "out", "--resume", fails=True)
    for flag in ("--window 9x12", "--scale 0.5", "--objects 2"):
        assert flag in resumed.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--data-root", "nowhere"], "train-images-idx3-ubyte"),
        (["--images", "nowhere.npz"], "no scenes at nowhere.npz"),
        (["--images", "many.npz"], "counts go up to 5.*--objects"),
        (["--images", "two.npz"], "at least 3"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--evaluate", "many.npz"], "damaged or of another kind"),
        (["--out", "many.npz"], "cannot write to the output folder"),
        (["--objects", "0"], "--objects: needs a whole number from 1 to 100, got '0'"),
        (["--objects", "4294967295"], "--objects: needs a whole number from 1 to 100"),
        (["--lr", "-1"], "--lr: needs a number above 0"),
        (["--lr", "1e30"], "diverged"),
        (["--images", ""], "--images: needs the path"),
        (["--images", "last.npz"], "with 1 channel or 3, got .*leave out an alpha"),
        (["--images", "."], "no PNG or JPEG files in it"),
        (["--scale", "2"], "--scale: needs a number above 0, at most 1, got '2'"),
        (["--window", "9x9x9"], "--window: needs a height and a width such as 28x20"),
        (["--images", "many.npz", "--data-root", "."], "give one of them"),
    ],
)
def test_bad_input_is_one_clear_line(words, error, run, tmp_path):
    np.savez(tmp_path / "many.npz", images=np.zeros((6, 20, 20)), counts=np.arange(6))
    np.savez(tmp_path / "two.npz", images=np.eye(20)[None, None] * np.ones((2, 1, 1, 1)))
    np.savez(tmp_path / "last.npz", images=np.zeros((6, 20, 20, 4)))
    result = run(AIR_EXAMPLE, "--smoke", *words, fails=True)
    assert "Traceback" not in result.stderr
    assert re.search(error, result.stderr.splitlines()[-1])
