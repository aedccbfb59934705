"""The example of VAE, ST-VAE and CST-VAE, in miniature, and its benchmarks."""

import csv
import math
import re
from pathlib import Path

import arviz
import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_scenes import CSTVAE, CSTVAEGuide, evaluation
from pyro_scenes.data import Digits, coloured_shapes, save_scenes, strokes
from pyro_scenes.experiment import layered
from pyro_scenes.pretrained import pretrained_path

from .conftest import ROOT

LAYERS = {*evaluation.LayerMetrics._fields}
#: One digit overlaps with nothing.
OVERLAPS = {"layer_iou_overlapping", "overlap_iou", "attribution"}
BOUNDS = {"elbo", "iwae", "elbo_error", "iwae_error", "particles", "images"}
CODES = {"code_accuracy", "code_accuracy_train"}
CANVASES = {"mse", "explained_variance"}
COSTS = {"steps", "seconds", "cpu_seconds"}


#: What a run's state has beside its figures: the prints of its scenes.
KEPT = ("known",)


class Stop(BaseException):
    """Ends an example in the middle, as a kill does."""


def stop(*args):
    raise Stop


@pytest.fixture
def few_digits(cache, monkeypatch):
    """Sets of 100 digits, which are drawn in no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    images, labels = strokes(300)
    sets = Digits(*zip(images.split(100), labels.split(100), strict=True))
    monkeypatch.setattr(layered, "digits", lambda root: sets)
    return sets


@pytest.fixture
def example(run, few_digits):
    """The example with these words, in an empty folder."""
    return lambda *words, **patches: run("cst_vae_superimposed", "--smoke", *words, **patches)


def nothing(*args):
    """In place of the figures, where others have looked at them."""


class Unmeasured:
    """In place of the scorer, where only the training is of interest."""

    def __init__(self, *args, **kwargs):
        pass

    def _replace(self, **kwargs):
        return self

    def measure(self, *args):
        known = {"explained_variance": 0.5, "layer_iou": 0.5, "layer_iou: image cut in two": 0.6}
        return {"elbo": -1.0, "elbo: untrained": -2.0, **known}


def read_rows(out):
    with Path(out, "metrics.csv").open() as table:
        return [{**row, "seconds": 0, "cpu_seconds": 0} for row in csv.DictReader(table)]


@pytest.mark.parametrize("data", ["translated", "superimposed"])
@pytest.mark.parametrize("model", ["vae", "st_vae", "cst_vae"])
def test_every_model_on_all_data(model, data, example, written):
    example("--model", model, "--data", data, "--out", "out", figures=nothing)
    metrics = written("out")
    figures = {name for name in metrics if ": " not in name}
    layers = LAYERS if model != "vae" else set()
    used = {"layers_in_use"} if layers else set()
    assert figures == BOUNDS | CANVASES | CODES | COSTS | layers | used
    unknown = {name for name in figures if metrics[name] is None}
    assert unknown == (OVERLAPS & layers if data == "translated" else set())
    assert metrics["steps"] == 10 and metrics["elbo"] < metrics["iwae"] < 0
    assert all(0 <= metrics[name] <= 1 for name in CODES)
    assert {"elbo: untrained", "iwae: untrained", "code_accuracy: untrained"} <= set(metrics)
    trivial = {"image cut in two", "image copied whole", "another scene's objects", "true layers"}
    assert {f"{name}: {answer}" for answer in trivial for name in layers} <= set(metrics)
    assert metrics.get("layer_iou: true layers", 1) == 1

    rows = read_rows("out")
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 8, 10]
    names = ["validation_elbo"] + ["layer_iou", "centroid_spread"] * (model != "vae")
    assert all(math.isfinite(float(row[name])) for row in rows for name in names)
    assert [row["train_elbo"] for row in rows].count("") == 1


@pytest.mark.parametrize(
    ("model", "figures"),
    [
        ("vae", {"samples", "reconstructions", "curves"}),
        ("st_vae", {"samples", "reconstructions", "curves", "alignment"}),
        (
            "cst_vae",
            {"samples", "reconstructions", "curves", "alignment", "completion", "interpretations"},
        ),
    ],
)
def test_figures_and_draws(model, figures, example, smoked):
    if model == "cst_vae":
        out, _ = smoked("cst_vae_superimposed")
    else:
        out, words = Path("out"), ["--model", model, "--data", "translated", "--steps", 2]
        example(*words, "--out", out, LayeredScorer=Unmeasured)
    assert {path.stem for path in out.glob("*.png")} == figures
    posterior = arviz.from_netcdf(str(out / "inference_data.nc"))["posterior"]
    assert posterior.sizes["draw"] == 20 and posterior.sizes["image_id"] == 50
    assert "z_what" in posterior and ("z_where" in posterior) == (model != "vae")


@pytest.mark.parametrize("model", ["vae", "cst_vae"])
def test_scenes_of_ones_own(model, run, written, tmp_path):
    """Without truth: bounds and reconstructions, beside their floors; no more is drawn than is known."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.random((30, 16, 24, 3), np.float32))
    example = ["cst_vae_superimposed", "--smoke", "--images", "mine.npy"]
    run(*example, "--model", model, "--layers", 3, "--window", "9x8", "--out", "out")
    metrics = written("out")
    used = {"layers_in_use"} if model == "cst_vae" else set()
    assert {name for name in metrics if ": " not in name} == BOUNDS | CANVASES | COSTS | used
    assert {"mse: mean image", "mse: untrained", "elbo: untrained"} <= set(metrics)
    pictures = {"samples", "reconstructions", "curves"} | ({"interpretations"} if used else set())
    assert {path.stem for path in Path("out").glob("*.png")} == pictures
    settings = torch.load("out/checkpoint.pt")["extra"]["settings"]
    assert settings["window"] == (9, 8) and settings["digits"] == 3 and not settings["binary"]

    evaluate = ["--evaluate", "out/checkpoint.pt"]
    again = run(*example, *evaluate, "--out", "same", figures=nothing)
    assert "27 of 30 scenes were used in training" in again.stdout
    assert written("same")["mse"] == pytest.approx(metrics["mse"], rel=1e-3)
    *_, verdict, last = again.stdout.splitlines()
    assert "look at reconstructions.png" in last and ("take more" in verdict or used)


def test_scenes_of_ones_own_with_masks(run, written, tmp_path):
    """And a checkpoint of images of 0 and 1 takes no others."""
    save_scenes("mine.npz", coloured_shapes(30, canvas=24, count=(0, 2), seed=1))
    words = ["cst_vae_superimposed", "--smoke", "--images", "mine.npz", "--out", "out"]
    said = run(*words).stdout
    known = {name for name, value in written("out").items() if value is not None}
    assert {"layer_iou", "layer_iou: image cut in two"} <= known
    assert not known & {"shapes_read", "centre_r2", "code_accuracy"}
    assert "layers fit the true shapes by an IoU of" in said
    np.save("grey.npy", np.random.default_rng(0).random((9, 50, 50)))
    shipped = ["--evaluate", pretrained_path("cst_vae"), "--images", "grey.npy", "--out", "new"]
    refused = run("cst_vae_superimposed", "--smoke", *shipped, fails=True)
    assert "images of 0 and 1 alone" in refused.stderr


def test_an_evaluation_repeats_the_figures(example, written):
    example("--steps", 2, "--out", "out", figures=nothing)
    example("--evaluate", "out/checkpoint.pt", "--out", "same", figures=nothing)
    assert written("same") == written("out")


def test_no_set_has_a_digit_of_another(few_digits):
    split = layered.layered_split("translated", small=True)
    boxes = [_crops(scenes) for scenes in split]
    assert not boxes[0] & boxes[1] and not boxes[0] & boxes[2] and not boxes[1] & boxes[2]


def _crops(scenes):
    """Each scene's digit, cut out, as bytes."""
    crops = set()
    for mask in scenes.masks[:, 0]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        crop = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        crops.add((crop.shape, crop.numpy().tobytes()))
    return crops


@pytest.fixture
def trained(example):
    """The example without what comes after its training: its rows."""

    def trained(out, *words):
        example("--out", out, *words, figures=nothing, LayeredScorer=Unmeasured)
        return read_rows(out)

    return trained


@pytest.mark.parametrize("model", ["vae", "st_vae", "cst_vae"])
def test_recipes_and_objectives_of_the_paper(model, trained):
    kinds = {"ours": [], "paper": ["--recipe", "paper"], "printed": ["--objective", "printed"]}
    elbos = [
        trained(out, "--model", model, "--steps", 2, *words)[-1] for out, words in kinds.items()
    ]
    elbos = {float(row["validation_elbo"]) for row in elbos}
    assert len(elbos) == 3 and all(map(math.isfinite, elbos))


def test_killed_and_resumed(trained, monkeypatch):
    rows = trained("whole")
    alignment, calls = evaluation.alignment, []

    def die(*args):
        calls.append(1)
        # At steps 0, 2 and 4 it lives.
        return alignment(*args) if len(calls) < 4 else stop()

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "alignment", die)
        with pytest.raises(Stop):
            trained("parts")
    checkpoint = torch.load("parts/checkpoint.pt")
    assert checkpoint["step"] == 4 and list(checkpoint["extra"]["state"]) == [
        *KEPT,
        "after 0 steps",
    ]
    assert trained("parts", "--resume") == rows
    whole, parts = (torch.load(f"{name}/checkpoint.pt") for name in ("whole", "parts"))
    for part in ("model", "guide"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    one, other = (checkpoint["extra"]["state"] for checkpoint in (whole, parts))
    assert list(one) == list(other) == [*KEPT, "after 0 steps", "after 10 steps"]
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("words", "steps", "lr"),
    [
        ([], 8000, 1e-3),
        (["--quick", "--lr", "0.01"], 2000, 0.01),
        (["--quick"], 2000, 2e-3),
        (["--quick", "--steps", "30"], 30, 2e-3),
    ],
)
def test_quick_takes_fewer_steps(words, steps, lr, run):
    def check(args, evaluate):
        assert args.steps == steps and args.lr == lr and evaluate is None
        stop()

    with pytest.raises(Stop):
        run("cst_vae_superimposed", *words, Run=check)


# Benchmarks.


@pytest.fixture
def benchmark(load, monkeypatch):
    """A benchmark as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: load(f"benchmarks/{name}.py")


def test_tables_of_all_models(trained, benchmark, written, monkeypatch, capsys):
    """Its runs are made in this process, by the flags that it gives to the example."""
    tables, flags = benchmark("cst_vae_tables"), {}

    def sweep(name, runs, out, jobs):
        assert name == "cst_vae_superimposed.py"
        flags.update(runs)
        for run_name, words in runs.items():
            trained(f"{out}/{run_name}", *words)
        return {run_name: written(f"{out}/{run_name}") for run_name in runs}

    monkeypatch.setattr(tables, "sweep", sweep)
    tables.main(tables.parser().parse_args("--smoke --seeds 0 --scale 0.00025 --out runs".split()))
    kinds = [(data, model) for data, models in tables.STEPS.items() for model in models]
    assert set(flags) == {f"{data}_{model}_0" for data, model in kinds}
    # A 4,000th of each model's own number.
    assert [flags[f"superimposed_{m}_0"][7] for m in ("cst_vae", "st_vae", "vae")] == [
        "2",
        "4",
        "8",
    ]
    text = capsys.readouterr().out
    assert all(f"{data}, {model}" in text for data, model in kinds)
    assert text.count("| elbo |") == len(kinds) and text.count("untrained") == len(kinds)
    assert set(tables.FIGURES) <= BOUNDS | CODES | COSTS | LAYERS
    assert text.count("least gap") == 6
    drawn = {path.stem for path in Path("runs").glob("*.png")}
    assert drawn == {"bounds_translated", "bounds_superimposed"}


def test_gaps_are_between_rows_of_equal_cost(benchmark):
    tables = benchmark("cst_vae_tables")
    better = [{"step": s, "validation_elbo": float(e)} for s, e in ((0, -9), (250, -5), (500, -4))]
    worse = [{"step": s, "validation_elbo": float(e)} for s, e in ((0, -9), (250, -7), (500, -5))]
    assert tables.least_gap(better, worse, "step") == 1
    assert tables.least_gap(worse, better, "step") == -2


def test_centroids_are_aligned_at_the_first_row_of_a_fifth_of_their_spread(benchmark):
    rows = [{"step": s, "centroid_spread": 10.0 / (s + 1)} for s in range(10)]
    assert benchmark("cst_vae_tables").aligned(rows) == "4"
    assert benchmark("cst_vae_tables").aligned([{"step": 0}]) == "nan"


def test_costs_of_cst_vae(benchmark, capsys):
    cost = benchmark("cst_vae_cost")
    cost.main(cost.parser().parse_args(["--turns", "1", "--steps", "1"]))
    text = capsys.readouterr().out
    ratios = [float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", text)]
    assert len(ratios) == 2 and all(ratio > 0 for ratio in ratios)
    assert text.count("matrix products: ") == text.count("bilinear sampling: ") == 2


@pytest.mark.parametrize("sweeps", [1, 2])
def test_the_loss_by_hand_is_that_of_pyro(sweeps, benchmark):
    model = CSTVAE((1, 12, 12), (1, 7, 7), layers=3, code=4)
    guide = CSTVAEGuide(model, sweeps=sweeps)
    images = torch.rand(5, 1, 12, 12).round()
    pyro.set_rng_seed(1)
    by_hand = benchmark("cst_vae_cost").negative_elbo(model, guide, images)
    pyro.set_rng_seed(1)
    loss = TraceMeanField_ELBO().loss(model, guide, images) / len(images)
    torch.testing.assert_close(by_hand.item(), loss, rtol=1e-4, atol=1e-3)


def test_colours_and_classifiers_print_their_figures(benchmark, few_digits, monkeypatch, capsys):
    colour = benchmark("cst_vae_colour")
    monkeypatch.setattr(colour, "digits", lambda root: few_digits)
    colour.main(colour.parser().parse_args(["--smoke", "--steps", "2"]))
    text = capsys.readouterr().out
    assert "step 2" in text and "| depth_order |" in text and "true layers" in text
    classifiers = benchmark("cst_vae_classifiers")
    classifiers.main(classifiers.parser().parse_args(["--smoke", "--seeds", "0"]))
    assert capsys.readouterr().out.count("training, test") == 3
