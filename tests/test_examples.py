"""Every example runs, in miniature, and leaves behind what it promises."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def command(example, *words):
    return [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, words)]


def settings(cache):
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of digits for all examples."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache, tmp_path):
    def run(example, *words, fails=False):
        done = subprocess.run(
            command(example, *words),
            env=settings(cache),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_runs_and_writes_its_metrics(example, run, tmp_path):
    done = run(example, "--smoke", "--out", "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics and all(isinstance(value, int | float) for value in metrics.values())
    assert all(math.isfinite(value) for value in metrics.values())
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").glob("*.png"))
    assert not list((tmp_path / "out").glob("*.part"))  # no half-written file is left


@pytest.mark.parametrize("example", EXAMPLES)
def test_help_is_for_newcomers(example, run):
    text = run(example, "--help").stdout
    for flag in (
        "--out",
        "--seed",
        "--steps",
        "--batch-size",
        "--device",
        "--data-root",
        "--smoke",
        "--resume",
    ):
        assert flag in text
    assert "None)" not in text and f"python examples/{example}.py" in text


def test_air_writes_what_it_promises(run, tmp_path):
    run("air_multi_mnist", "--smoke", "--out", "out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "checkpoint.pt",
        "metrics.csv",
        "inference_data.nc",
        "scenes.png",
        "curves.png",
    } <= files
    assert {"reconstructions.png", "prior.png"} <= files
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    wanted = {"elbo", "iwae", "count_accuracy", "count_accuracy_sample", "steps", "seconds"}
    assert wanted <= set(metrics)
    assert {name + "_disjoint" for name in wanted - {"steps", "seconds"}} <= set(metrics)


def test_air_on_scenes_of_ones_own(run, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (30, 3, 20, 24), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, counts=rng.integers(0, 3, 30))
    run("air_multi_mnist", "--smoke", "--images", "mine.npz", "--out", "out")
    trained = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert trained["steps"] == 10 and "count_accuracy" in trained
    np.savez(tmp_path / "other.npz", images=images[:5] / 255)
    checkpoint = "out/checkpoint.pt"
    run(
        "air_multi_mnist",
        "--smoke",
        "--images",
        "other.npz",
        "--evaluate",
        checkpoint,
        "--out",
        "eval",
    )
    evaluated = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert evaluated["steps"] == 10 and "count_accuracy" not in evaluated and "iwae" in evaluated
    assert not (tmp_path / "eval" / "checkpoint.pt").exists()
    again = ["--smoke", "--images", "other.npz", "--evaluate", checkpoint]
    for resume in ([], ["--resume"]):
        done = run("air_multi_mnist", *again, "--out", "out", *resume, fails=True)
        assert "an --out of its own" in done.stderr
    assert (tmp_path / checkpoint).exists()
    done = run("air_multi_mnist", "--smoke", "--evaluate", checkpoint, "--out", "e2", fails=True)
    assert "give --images of the same shape" in done.stderr
    done = run("swap_a_prior", "--smoke", "--out", "out", "--resume", fails=True)
    assert "--program air_multi_mnist" in done.stderr


def test_air_killed_and_resumed(cache, run, tmp_path):
    words = ["air_multi_mnist", "--smoke", "--elbo", "graph"]
    run(*words, "--out", "whole")
    process = subprocess.Popen(
        command(*words, "--out", "parts"),
        env=settings(cache),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    while not (tmp_path / "parts" / "checkpoint.pt").exists():
        time.sleep(0.005)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(*words, "--out", "parts", "--resume")
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 10
    for part in ("model", "guide"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--data-root", "nowhere"], "train-images-idx3-ubyte"),
        (["--images", "nowhere.npz"], "no scenes at nowhere.npz"),
        (["--images", "many.npz"], "counts go up to 5.*--objects"),
        (["--images", "one.npz"], "at least 2"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--evaluate", "many.npz"], "damaged or of another kind"),
        (["--out", "many.npz"], "cannot write to the output folder"),
        (["--objects", "0"], "--objects: needs a whole number from 1 up, got '0'"),
        (["--lr", "-1"], "--lr: needs a number above 0"),
        (["--lr", "1e30"], "diverged"),
        (["--images", ""], "--images: needs the path"),
        (["--images", "last.npz"], "1 channel or 3, got 20.*transpose"),
        (["--images", "many.npz", "--data-root", "."], "give one of them"),
    ],
)
def test_bad_input_is_one_clear_line(words, error, run, tmp_path):
    np.savez(tmp_path / "many.npz", images=np.zeros((6, 20, 20)), counts=np.arange(6))
    np.savez(tmp_path / "one.npz", images=np.zeros((1, 20, 20)))
    np.savez(tmp_path / "last.npz", images=np.zeros((6, 20, 20, 3)))
    done = run("air_multi_mnist", "--smoke", *words, fails=True)
    assert "Traceback" not in done.stderr
    assert re.search(error, done.stderr.splitlines()[-1])
