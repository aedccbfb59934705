"""The example of ECON, in miniature and in this process."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import arviz
import numpy as np
import pytest
import torch

from pyro_scenes.data import coloured_shapes, save_scenes
from pyro_scenes.experiment import Scorer, ShapesTask
from pyro_scenes.recipes import schedule

SHAPES = {
    "ari_fg",
    "ari",
    "mean_iou",
    "amodal_iou",
    "invisible_iou",
    "depth_order",
    "count_accuracy",
}
SHAPES |= {"depth_order_pairs", "depth_order_seen", "background_first"}
CLASSES = {"purity", "nmi", "wins"}
RENDERER = {"mse_5", "mse_full_shapes_5", "ari_fg_5", "single_expert_shapes", "classes_made"}
RENDERER |= {"requested_counts", "requested_scenes"}
ALWAYS = {"elbo", "elbo_error", "mse", "mse_full_shapes", "extra_share"}
COSTS = {"steps", "seconds", "cpu_seconds"}
FIGURES = {"reconstructions", "layers_0", "experts", "recombinations", "layer_by_layer", "curves"}


@pytest.fixture
def econ(load, tmp_path, monkeypatch, unchecked):
    """The example as a module, and its main called with words in an empty folder."""
    monkeypatch.chdir(tmp_path)
    example = load("examples/econ_shapes.py")

    def main(*words):
        small = ["--smoke", "--batch-size", "4"]
        example.main(example.parser().parse_args([*small, *map(str, words)]))

    return SimpleNamespace(example=example, main=main)


@pytest.fixture
def brief(monkeypatch):
    """No figures and no samples: a test of its own has them."""
    monkeypatch.setattr(Scorer, "figures", lambda *args: {})
    monkeypatch.setattr(ShapesTask, "judge", lambda self, scorer, **options: scorer)


def known(metrics):
    """Names of the model's own numbers that are known."""
    return {name for name, value in metrics.items() if value is not None and ": " not in name}


def weights(folder):
    return torch.load(f"{folder}/checkpoint.pt")


def same_weights(one, other):
    parts = [(one[part], other[part]) for part in ("model", "guide")]
    return all(torch.equal(a[name], b[name]) for a, b in parts for name in a)


@pytest.mark.slow
def test_a_run_and_what_it_leaves(smoked, written):
    out, _ = smoked("econ_shapes")
    metrics = written(out)
    assert known(metrics) == ALWAYS | SHAPES | CLASSES | RENDERER | COSTS | {
        "amodal_iou_5",
        "depth_order_5",
        "count_accuracy_5",
    }
    # Each number has the untrained model's beside it, and the trivial answers that there are.
    for name in known(metrics) - COSTS - {"wins"}:
        assert f"{name}: untrained, 4 scenes" in metrics, name
    for name in SHAPES | {"purity", "nmi", "ari_fg_5"}:
        assert f"{name}: flood fill" in metrics, name
    for name in ("single_expert_shapes", "requested_counts"):
        assert {f"{name}: blank images", f"{name}: one class for all"} <= set(metrics)
    assert metrics["requested_counts: true scenes"] is not None
    assert {path.stem for path in out.glob("*.png")} == FIGURES | {
        "layers_1",
        "layers_2",
        "completion",
        "five_objects",
    }
    with (out / "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10] and all(r["mse"] for r in rows)
    posterior = arviz.from_netcdf(str(out / "inference_data.nc"))["posterior"]
    assert {"z_what", "z_expert"} <= set(posterior.data_vars)


@pytest.mark.slow
def test_an_evaluation_repeats_the_table_and_takes_scenes_of_ones_own(econ, written, brief):
    econ.main("--layers", 2, "--experts", 1, "--objects", 2, "--steps", 2, "--out", "out")
    evaluate = ["--evaluate", "out/checkpoint.pt"]
    econ.main(*evaluate, "--out", "same")
    for name, value in written("out").items():
        assert written("same")[name] == value, name

    # More objects than it was trained on.
    scenes = coloured_shapes(2, count=(2, 3), seed=3)
    save_scenes("full.npz", scenes)
    econ.main(*evaluate, "--images", "full.npz", "--out", "mine")
    assert known(written("mine")) == ALWAYS | SHAPES | CLASSES | COSTS
    np.savez("bare.npz", images=scenes.images)
    econ.main(*evaluate, "--images", "bare.npz", "--out", "mine")
    assert known(written("mine")) == ALWAYS | COSTS
    save_scenes("large.npz", coloured_shapes(6, canvas=40))
    with pytest.raises(ValueError, match=r"these are \[3, 40, 40\]: give images of the same shape"):
        econ.main(*evaluate, "--images", "large.npz", "--out", "large")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--regions", "given", "--layers", 4],
        ["--objective", "monet", "--regions", "given", "--layers", 4],
        ["--data", "unique", "--gamma", 2, "--layers", 2, "--experts", 1],
        ["--recipe", "paper", "--objective", "paper", "--experts", 2, "--layers", 2],
        ["--recipe", "paper", "--data", "unique", "--regions", "given", "--experts", 2],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_other_kinds(words, econ, written, brief):
    econ.main(*words, "--steps", 2, "--out", "out")
    metrics = written("out")
    softmax = {"amodal_iou_softmax"} if "monet" in words else set()
    assert known(metrics) == ALWAYS | SHAPES | CLASSES | COSTS | softmax
    if "given" in words:
        # Regions are true, and so is what follows from them.
        for name in ("ari_fg", "ari", "mean_iou", "depth_order", "count_accuracy"):
            assert metrics[name] == pytest.approx(1), name
        assert metrics["extra_share"] < 1e-6


@pytest.mark.slow
def test_a_training_on_scenes_of_ones_own_scores_those_that_it_never_saw(econ, written, brief):
    scenes = coloured_shapes(40, count=3, canvas=24)
    save_scenes("mine.npz", scenes)
    given = ["--images", "mine.npz", "--regions", "given", "--steps", 4]
    econ.main(*given, "--out", "out")
    assert SHAPES <= known(written("out")) and written("out")["ari_fg"] == 1
    evaluate = ["--evaluate", "out/checkpoint.pt"]
    econ.main("--images", "mine.npz", *evaluate, "--out", "same")
    # The same scenes in another order, so other draws.
    for name in ("mse", "mse_full_shapes", "amodal_iou"):
        assert written("same")[name] == pytest.approx(written("out")[name], abs=1e-5)
    save_scenes("train.npz", scenes.split().train)
    with pytest.raises(ValueError, match="were used in training"):
        econ.main("--images", "train.npz", *evaluate, "--out", "other")
    with pytest.raises(ValueError, match="one's own: give --images"):
        econ.main(*evaluate, "--out", "other")
    np.savez("bare.npz", images=scenes.images)
    with pytest.raises(ValueError, match="no masks"):
        econ.main("--images", "bare.npz", "--regions", "given", "--out", "third")


def test_it_goes_on_where_experts_cannot_be_set_apart(econ, brief, written, monkeypatch):
    """Empty images have no shapes to cluster."""
    colours = np.arange(40, 46, dtype=np.uint8)[:, None, None, None]
    np.savez("empty.npz", images=np.tile(colours, (1, 3, 16, 16)))
    monkeypatch.setattr(schedule, "SEPARATE", 2)
    with pytest.warns(UserWarning, match="experts are left as they are"):
        econ.main("--images", "empty.npz", "--layers", 2, "--steps", 4, "--out", "out")
    assert written("out")["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--layers", 2, "--experts", 2],
        ["--regions", "given"],
        ["--recipe", "paper", "--experts", 2],
    ],
    ids=str,
)
def test_killed_and_resumed(words, econ, monkeypatch):
    """Experts are set apart and coloured as in one go, both after a row."""
    monkeypatch.setattr(econ.example, "report", lambda *args: None)
    monkeypatch.setattr(schedule, "SEPARATE", 2)
    calls = []
    for name in ("separate_experts", "colour_experts"):
        call = getattr(schedule, name)
        record = lambda *args, name=name, call=call: calls.append(name) or call(*args)  # noqa: E731
        monkeypatch.setattr(schedule, name, record)
    words = [*words, "--steps", 6]
    econ.main(*words, "--out", "whole")
    assert calls == ["separate_experts", "colour_experts"] * ("--layers" in words)

    class Killed(BaseException):
        pass

    brief, rows = Scorer.brief, []

    def die(*args):
        rows.append(1)
        # It lives at steps 2 and 4.
        if len(rows) == 3:
            raise Killed
        return brief(*args)

    monkeypatch.setattr(Scorer, "brief", die)
    with pytest.raises(Killed):
        econ.main(*words, "--out", "parts")
    assert weights("parts")["step"] == 4
    econ.main(*words, "--out", "parts", "--resume")
    whole, parts = weights("whole"), weights("parts")
    assert same_weights(whole, parts) and whole["step"] == parts["step"] == 6
    losses = [[row.get("validation_loss") for row in k["extra"]["history"]] for k in (whole, parts)]
    assert losses[0] == losses[1] and (losses[0][0] is not None) == ("paper" in words)


def test_sizes_leave_the_words_of_the_command_as_they_are(econ):
    args = econ.example.parser().parse_args(["--regions", "given"])
    words, mine = dict(vars(args)), coloured_shapes(4, count=(5, 5), canvas=24)
    own = econ.example.sizes(args, {}, mine)
    assert vars(args) == words
    assert own["image_shape"] == [3, 24, 24] and own["data"] is None
    assert (own["objects"], own["experts"], own["layers"]) == (5, 1, 6)


@pytest.mark.parametrize("shape", [(3, 25, 40), (1, 40, 25), (3, 8, 8)], ids=str)
def test_sizes_that_the_networks_do_not_take_are_refused_before_training(shape, econ):
    np.savez("odd.npz", images=np.zeros((8, *shape), np.uint8))
    with pytest.raises(ValueError, match="sides of images must be of 16 .* pad them, got"):
        econ.main("--images", "odd.npz", "--out", "out")
    assert not list(Path("out").glob("*.p*"))


def test_five_plateaus_end_the_papers_training(econ, monkeypatch):
    rates = []

    def plateaus(losses):
        losses = list(losses)
        assert all(map(math.isfinite, losses))
        return min(5, 2 * len(losses))

    monkeypatch.setattr(econ.example, "plateaus", plateaus)
    monkeypatch.setattr(econ.example, "scale_lr", lambda optim, factor: rates.append(factor))
    monkeypatch.setattr(econ.example, "report", lambda *args: None)
    econ.main("--recipe", "paper", "--experts", 2, "--layers", 2, "--out", "out")
    assert weights("out")["step"] == 6
    assert rates[0] == 1 and rates[-1] == pytest.approx(10**-2)


def test_quick_takes_fewer_steps(econ, monkeypatch):
    class Enough(Exception):
        pass

    def stop(args, **options):
        assert args.steps == 400 and options == {"evaluate": None}
        raise Enough

    monkeypatch.setattr(econ.example, "Run", stop)
    with pytest.raises(Enough):
        econ.main("--quick", "--out", "out")
