"""Every example runs, in miniature, and leaves behind what it promises."""

import csv
import gc
import importlib.util
import json
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

from pyro_scenes.data import coloured_shapes, save_scenes
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
