"""ECON's example and benchmarks, in miniature."""

import csv
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import arviz
import numpy as np
import pytest
import torch

from pyro_scenes.data import coloured_shapes, save_scenes

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


def written(out):
    return json.loads(Path(out, "metrics.json").read_text())


# ECON.


@pytest.fixture
def econ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = loaded(ROOT / "examples" / "econ_shapes.py")

    def main(*words):
        small = ["--smoke", "--batch-size", "4", "--layers", "3"]
        example.main(example.parser().parse_args([*small, *map(str, words)]))

    return SimpleNamespace(example=example, main=main)


ECON_SHAPES = {"ari_fg", "ari", "mean_iou", "amodal_iou", "invisible_iou", "depth_order", "counts"}
ECON_SHAPES |= {"depth_order_pairs", "depth_order_seen", "background_first"}
ECON_CLASSES = {"purity", "nmi", "wins"}
ECON_RENDERER = {"mse_5", "mse_ratio_5", "ari_fg_5", "ari_fg_drop_5", "single_expert_shapes"}
ECON_RENDERER |= {"requested_counts", "requested_scenes"}
ECON_ALWAYS = {"elbo", "mse", "extra_steps_pixels", "steps", "seconds", "cpu_seconds"}
ECON_FIGURES = {
    "reconstructions",
    "layers",
    "experts",
    "recombinations",
    "layer_by_layer",
    "curves",
}


def known(metrics):
    return {name for name, value in metrics.items() if value is not None}


@pytest.mark.slow
def test_econ_on_its_own_scenes_and_on_those_of_others(econ, monkeypatch):
    econ.main("--out", "out")
    everything = ECON_ALWAYS | ECON_SHAPES | ECON_CLASSES | ECON_RENDERER
    assert everything <= known(written("out"))
    drawn = {path.stem for path in Path("out").glob("*.png")}
    assert drawn == ECON_FIGURES | {"completion", "five_objects"}
    with Path("out", "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10] and all(
        row["mse"] for row in rows
    )
    data = arviz.from_netcdf(str(Path("out", "inference_data.nc")))
    assert {"z_what", "z_expert", "z_region", "masks", "canvas"} <= set(data["posterior"].data_vars)
    assert not list(Path("out").glob("*.part"))
    evaluate = ["--evaluate", "out/checkpoint.pt"]
    with monkeypatch.context() as patched:
        patched.setattr(econ.example, "draw", lambda *args: None)  # drawn above
        econ.main(*evaluate, "--out", "same")
    for name, value in written("out").items():  # the same scenes, models and random draws
        assert written("same")[name] == value, name

    scenes = coloured_shapes(6, count=(0, 5), seed=3)  # more objects than it was trained on
    save_scenes("full.npz", scenes)
    econ.main(*evaluate, "--images", "full.npz", "--out", "mine")
    assert known(written("mine")) == ECON_ALWAYS | ECON_SHAPES | ECON_CLASSES
    assert Path("mine", "completion.png").exists()
    np.savez("bare.npz", images=scenes.images)
    econ.main(*evaluate, "--images", "bare.npz", "--out", "mine")
    assert known(written("mine")) == ECON_ALWAYS
    assert {path.stem for path in Path("mine").glob("*.png")} == ECON_FIGURES  # no older one
    save_scenes("large.npz", coloured_shapes(6, canvas=40))
    with pytest.raises(ValueError, match=r"are \[3, 40, 40\]: give --images of the same shape"):
        econ.main(*evaluate, "--images", "large.npz", "--out", "large")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--masks", "given", "--layers", 4],
        ["--experts", 1, "--objective", "monet"],
        ["--data", "unique", "--gamma", 2],
        ["--recipe", "paper", "--objective", "paper", "--experts", 2],
        [
            "--recipe",
            "paper",
            "--data",
            "unique",
            "--masks",
            "given",
            "--experts",
            2,
            "--layers",
            4,
        ],
    ],
)
def test_econ_of_other_kinds(words, econ, monkeypatch, capsys):
    monkeypatch.setattr(econ.example, "draw", lambda *args: None)  # drawn above
    monkeypatch.setattr(econ.example, "requested", lambda *args: {})
    econ.main(*words, "--out", "out")
    metrics = written("out")
    assert ECON_ALWAYS | ECON_SHAPES | ECON_CLASSES <= known(metrics) and metrics["steps"] == 10
    if "given" in words:  # regions are true, and so is what follows from them
        for name in ("ari_fg", "ari", "mean_iou", "depth_order", "counts", "ari_fg_5"):
            assert metrics[name] == 1, name
        assert metrics["extra_steps_pixels"] < 1e-6
    assert ("amodal_iou_softmax" in metrics) == ("monet" in words)
    if "--gamma" in words:
        gap = loaded(ROOT / "benchmarks" / "econ_gap.py")
        gap.main(gap.parser().parse_args(["out/checkpoint.pt", "--scenes", "2"]))
        assert "out/checkpoint.pt: median" in capsys.readouterr().out


@pytest.mark.slow
def test_econ_trains_on_scenes_of_ones_own(econ):
    scenes = coloured_shapes(40, count=(1, 2), canvas=24)
    save_scenes("mine.npz", scenes)
    econ.main("--images", "mine.npz", "--masks", "given", "--out", "out")
    assert ECON_SHAPES <= known(written("out")) and written("out")["ari_fg"] == 1
    with pytest.raises(ValueError, match="one's own: give --images"):
        econ.main("--evaluate", "out/checkpoint.pt", "--out", "other")
    np.savez("bare.npz", images=scenes.images)
    with pytest.raises(ValueError, match="has no masks"):
        econ.main("--images", "bare.npz", "--masks", "given", "--out", "third")


@pytest.mark.slow
def test_econ_goes_on_where_experts_cannot_be_set_apart(econ, monkeypatch, capsys):
    """Empty images have no shapes to cluster."""
    np.savez("empty.npz", images=np.full((6, 3, 16, 16), 40, np.uint8))
    monkeypatch.setattr(econ.example, "APART", 4)
    monkeypatch.setattr(econ.example, "draw", lambda *args: None)
    econ.main("--images", "empty.npz", "--out", "out")
    assert "experts are left as they are" in capsys.readouterr().out
    assert written("out")["steps"] == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--experts", 3],
        ["--masks", "given", "--layers", 4],
        ["--recipe", "paper", "--experts", 2],
    ],
    ids=str,
)
def test_econ_killed_and_resumed(words, econ, monkeypatch):
    class Killed(BaseException):
        pass

    example = econ.example
    monkeypatch.setattr(example, "draw", lambda *args: None)
    monkeypatch.setattr(example, "score", lambda *args: {})
    monkeypatch.setattr(example, "APART", 2)  # both just before a checkpoint
    words = [*words, "--steps", 8]
    done = []
    for name in ("separate_experts", "colour_experts"):
        call = getattr(example, name)
        counted = lambda *args, name=name, call=call: done.append(name) or call(*args)  # noqa: E731
        monkeypatch.setattr(example, name, counted)
    econ.main(*words, "--out", "whole")
    error, calls, once = example.error, [], done.copy()
    assert once == ["separate_experts", "colour_experts"] * (words[0] == "--experts")

    def die(*args):
        calls.append(1)  # not the arguments: the run among them locks its folder
        if len(calls) == 3:  # at steps 2 and 4 it lives
            raise Killed
        return error(*args)

    monkeypatch.setattr(example, "error", die)
    with pytest.raises(Killed):
        econ.main(*words, "--out", "parts")
    assert torch.load("parts/checkpoint.pt")["step"] == 4
    econ.main(*words, "--out", "parts", "--resume")
    assert done == once * 2
    whole, parts = (torch.load(f"{name}/checkpoint.pt") for name in ("whole", "parts"))
    for part in ("model", "guide"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    assert whole["extra"]["losses"] == parts["extra"]["losses"]
    assert ("2" in whole["extra"]["losses"]) == ("paper" in words)


def test_masks_among_all_layers(econ):
    """Those of a softmax, and the same told against the last layer, are two readings of one."""
    logits = torch.randn(2, 4, 3, 5)
    told = (logits - logits[:, -1:]).sigmoid()
    told[:, -1] = 1
    torch.testing.assert_close(econ.example.among_all(told), logits.softmax(1))


def test_learning_rate_falls_on_a_plateau(econ, monkeypatch):
    drops = econ.example.drops
    assert drops([]) == drops([3.0, 2.0, 1.0]) == drops([1.0, 2.0, 2.0, 2.0, 1.0]) == 0
    assert drops([1.0] * 6) == 1 and drops([1.0] * 5 + [0.5] + [1.0] * 4) == 0
    assert drops([1.0] * 26) == 5 == drops([-1.0, *range(25)])
    monkeypatch.setattr(econ.example, "drops", lambda losses: 5 * bool(losses))
    monkeypatch.setattr(econ.example, "draw", lambda *args: None)
    monkeypatch.setattr(econ.example, "score", lambda *args: {})
    econ.main("--recipe", "paper", "--out", "out")
    assert written("out")["steps"] == 2


def test_quick_econ_takes_fewer_steps(econ, monkeypatch):
    class Enough(Exception):
        pass

    def stop(args, trains):
        assert args.steps == 400 and trains
        raise Enough

    monkeypatch.setattr(econ.example, "Run", stop)
    with pytest.raises(Enough):
        econ.main("--quick", "--out", "out")
