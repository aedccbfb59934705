"""Every example runs, in miniature, and leaves behind what it promises."""

import csv
import gc
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import arviz
import numpy as np
import pytest
import torch

from pyro_scenes.experiment import launch

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


@pytest.fixture(scope="session")
def smoked(cache, tmp_path_factory):
    """What an example leaves behind if it is called from a shell; each is called once."""
    done = {}

    def smoked(example):
        if example not in done:
            folder = tmp_path_factory.mktemp(example)
            words = command(example, "--smoke", "--out", "out")
            done[example] = folder / "out", subprocess.run(
                words, env=settings(cache), cwd=folder, capture_output=True, text=True
            )
        return done[example]

    return smoked


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(cache, tmp_path, monkeypatch, capsys, unchecked):
    """As from a shell, but in this process: most of a process of its own would go into imports."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *args: None)

    def run(example, *words, fails=False):
        module = loaded(ROOT / "examples" / f"{example}.py")
        monkeypatch.setattr(sys, "argv", [f"{example}.py", *map(str, words)])
        said = None
        try:
            launch(module.main, module.parser())
        except SystemExit as stopped:
            said = stopped.code
        gc.collect()  # the run locks its folder
        out, err = capsys.readouterr()
        assert bool(said) == fails, f"{out}{err}{said}"
        return SimpleNamespace(stdout=out, stderr=f"{err}{said}" if isinstance(said, str) else err)

    return run


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_runs_and_writes_its_metrics(example, smoked):
    out, done = smoked(example)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    numbers = [np.ravel(value) for value in metrics.values()]  # a table is a list of lists
    assert numbers and all(np.isfinite(value).all() for value in numbers)
    assert list(out.glob("*.png"))
    assert not list(out.glob("*.part"))  # no half-written file is left


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


def test_air_writes_what_it_promises(smoked):
    out, _ = smoked("air_multi_mnist")
    assert {
        "checkpoint.pt",
        "metrics.csv",
        "inference_data.nc",
        "scenes.png",
        "curves.png",
    } <= {path.name for path in out.iterdir()}
    assert (out / "reconstructions.png").exists() and (out / "prior.png").exists()
    metrics = json.loads((out / "metrics.json").read_text())
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


def test_a_mistake_is_one_line_in_a_shell(cache, tmp_path):
    words = command("swap_a_prior", "--smoke", "--device", "gpu")
    done = subprocess.run(words, env=settings(cache), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: device 'gpu' cannot be used")
    assert done.stderr.count("\n") == 1


# CST-VAE.


@pytest.fixture
def superimposed(cache, tmp_path, monkeypatch):
    """The example as a module, and its main called with words in an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    example = loaded(ROOT / "examples" / "cst_vae_superimposed.py")

    def main(*words, smoke=True):
        example.main(example.parser().parse_args([*["--smoke"] * smoke, *map(str, words)]))

    return SimpleNamespace(example=example, main=main)


def written(out):
    return json.loads(Path(out, "metrics.json").read_text())


FIGURES = {"samples", "reconstructions", "curves"}


@pytest.mark.parametrize(
    ("model", "data", "figures"),
    [
        ("vae", "translated", FIGURES),
        ("vae", "superimposed", FIGURES),
        ("st_vae", "translated", FIGURES | {"alignment"}),
        ("st_vae", "superimposed", FIGURES | {"alignment"}),
        ("cst_vae", "translated", FIGURES | {"alignment"}),
        pytest.param(
            *("cst_vae", "superimposed"),
            FIGURES | {"alignment", "completion", "interpretations"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_model_on_all_data(model, data, figures, superimposed):
    superimposed.main("--model", model, "--data", data, "--out", "out")
    metrics = written("out")
    accuracy = "code_accuracy" if data == "translated" else "both_digits_accuracy"
    known = {"elbo", "iwae", accuracy, f"{accuracy}_train", "steps", "seconds", "cpu_seconds"}
    seen = {"layer_iou", "layer_iou_overlapping", "offset_r2"}
    assert known | seen <= set(metrics)
    lacking = {name for name, value in metrics.items() if value is None}
    # One digit overlaps with nothing.
    alone = set() if data == "superimposed" else {"layer_iou_overlapping"}
    assert lacking == (seen if model == "vae" else alone)
    assert all(math.isfinite(metrics[name]) for name in set(metrics) - lacking)
    assert metrics["steps"] == 10 and metrics["elbo"] < metrics["iwae"] < 0
    for name in {accuracy, f"{accuracy}_train", "layer_iou"} - lacking:
        assert 0 <= metrics[name] <= 1
    assert {path.stem for path in Path("out").glob("*.png")} == figures
    with Path("out", "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 8, 10]
    assert all(row["elbo"] for row in rows) and [row["train_elbo"] for row in rows].count("") == 1
    data = arviz.from_netcdf(str(Path("out", "inference_data.nc")))
    posterior = data["posterior"]
    assert posterior.sizes["draw"] == 20 and posterior.sizes["image_id"] == 50
    assert "z_what" in posterior and ("layers" in posterior) == (model != "vae")
    assert not list(Path("out").glob("*.part"))


@pytest.mark.parametrize("words", [["--recipe", "paper"], ["--objective", "printed"]])
@pytest.mark.parametrize("model", ["vae", "st_vae", "cst_vae"])
def test_recipes_and_objectives_of_the_paper(model, words, superimposed, monkeypatch):
    monkeypatch.setattr(superimposed.example, "draw", lambda *args: None)  # drawn above
    superimposed.main("--model", model, *words, "--out", "theirs")
    superimposed.main("--model", model, "--out", "ours")
    theirs, ours = (written(out) for out in ("theirs", "ours"))
    assert math.isfinite(theirs["elbo"]) and theirs["elbo"] != ours["elbo"]
    assert set(theirs) == set(ours)


def test_superimposed_killed_and_resumed(superimposed, monkeypatch):
    class Killed(BaseException):
        pass

    example = superimposed.example
    monkeypatch.setattr(example, "draw", lambda *args: None)
    superimposed.main("--out", "whole")
    canonical, calls = example.canonical, []

    def die(*args):
        calls.append(args)
        if len(calls) == 4:  # at steps 0, 2, 4 it lives
            raise Killed
        return canonical(*args)

    monkeypatch.setattr(example, "canonical", die)
    with pytest.raises(Killed):
        superimposed.main("--out", "parts")
    kept = torch.load("parts/checkpoint.pt")
    assert kept["step"] == 4 and list(kept["extra"]["alignment"]) == ["0"]
    superimposed.main("--out", "parts", "--resume")
    whole, parts = (torch.load(f"{name}/checkpoint.pt") for name in ("whole", "parts"))
    for part in ("model", "guide"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    one, other = (kept["extra"]["alignment"] for kept in (whole, parts))
    assert list(one) == list(other) == ["0", "10"]
    assert all(torch.equal(one[step], other[step]) for step in one)
    timeless = [
        {name: value for name, value in written(out).items() if "seconds" not in name}
        for out in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    ("words", "steps", "lr"),
    [
        ([], 8000, 1e-3),
        (["--quick", "--lr", "0.01"], 2000, 0.01),
        (["--quick"], 2000, 2e-3),
        (["--quick", "--steps", "30"], 30, 2e-3),
    ],
)
def test_quick_takes_fewer_steps(words, steps, lr, superimposed, monkeypatch):
    class Enough(Exception):
        pass

    def stop(args):
        assert args.steps == steps and args.lr == lr
        raise Enough

    monkeypatch.setattr(superimposed.example, "Run", stop)
    with pytest.raises(Enough):
        superimposed.main(*words, smoke=False)


def test_tables_of_all_models(superimposed, monkeypatch, capsys):
    """Its runs are made in this process, by the words that it gives to the example."""
    tables = loaded(ROOT / "benchmarks" / "cst_vae_tables.py")

    def run(command, **settings):
        assert settings["check"] and command[:2] == [sys.executable, str(tables.EXAMPLE)]
        superimposed.main(*command[2:], smoke=False)

    monkeypatch.setattr(superimposed.example, "draw", lambda *args: None)
    monkeypatch.setattr(tables, "subprocess", SimpleNamespace(run=run))
    tables.main(tables.parser().parse_args("--smoke --seeds 0 --jobs 1 --out runs".split()))
    folders = {f"{data}_{model}_0" for model, data in tables.STEPS}
    assert {path.name for path in Path("runs").iterdir() if path.is_dir()} == folders
    assert all(written(f"runs/{folder}")["steps"] == 10 for folder in folders)
    assert {path.stem for path in Path("runs").glob("*.png")} == {
        "bounds_translated",
        "bounds_superimposed",
    }
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if line.startswith("|")]
    for model, data in tables.STEPS:
        assert any(row.startswith(f"| {model} | median |") for row in rows), (model, data)
    widths = [row.count("|") for row in rows]
    assert sorted(set(widths)) == [11, 12]  # one number more on superimposed digits
    assert "reads both layers" in told and told.count("least gap") == 6


def test_costs_of_cst_vae(monkeypatch, capsys):
    cost = loaded(ROOT / "benchmarks" / "cst_vae_cost.py")
    cost.main(cost.parser().parse_args(["--turns", "1", "--steps", "1"]))
    told = capsys.readouterr().out
    ratios = [float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", told)]
    assert len(ratios) == 2 and all(ratio > 0 for ratio in ratios)
    assert told.count("matrix products: ") == told.count("bilinear sampling: ") == 2
