"""What holds for every example: it runs, in miniature, and leaves behind what it promises."""

from pathlib import Path

import numpy as np
import pytest

from .conftest import ROOT

#: All but the live page, which trains nothing and has its own tests.
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "live")
FLAGS = ("--out", "--seed", "--device", "--smoke")
TRAINING = ("--steps", "--batch-size", "--resume", "--evaluate")
SHIPS = ("air_multi_mnist", "cst_vae_superimposed", "econ_shapes")
TRAINS = (*SHIPS, "complete_digits")


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_runs_and_writes_its_metrics(example, smoked, written):
    out, result = smoked(example)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    numbers = [np.ravel(value) for value in written(out).values()]
    assert numbers and all(np.isfinite(value).all() for value in numbers)
    assert list(out.glob("*.png"))
    # No half-written file is left.
    assert not list(out.glob(".*.part"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_help_is_for_newcomers(example, run):
    text = run(example, "--help").stdout
    assert all(flag in text for flag in FLAGS)
    assert all((flag in text) == (example in TRAINS) for flag in TRAINING)
    assert ("--pretrained" in text) == (example in SHIPS)
    assert "None)" not in text and f"python examples/{example}.py" in text


@pytest.mark.parametrize("example", SHIPS)
def test_it_starts_from_the_weights_that_ship(example, run, written):
    figureless = {"figures": lambda *args: None} if example != "econ_shapes" else {}
    result = run(example, "--smoke", "--evaluate", "pretrained", "--out", "shipped", **figureless)
    assert "evaluating" in result.stdout and written("shipped")["steps"] >= 400
    assert not Path("shipped", "checkpoint.pt").exists()
    run(example, "--smoke", "--pretrained", "--steps", "1", "--out", "on", **figureless)
    run(example, "--smoke", "--steps", "1", "--out", "new", **figureless)
    assert written("on")["elbo"] > written("new")["elbo"] + 10
