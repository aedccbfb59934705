"""CST-VAE's examples and benchmarks, in miniature."""

import csv
import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import arviz
import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of digits for all examples."""
    return tmp_path_factory.mktemp("cache")


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
