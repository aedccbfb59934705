import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from pyro_scenes import AIR, AIRGuide, Persist, Prior, adam
from pyro_scenes.experiment import Run, flags, launch
from pyro_scenes.inference import Diverged, read_checkpoint
from pyro_scenes.random import fork_rng

IMAGES = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def parse(out, *words):
    return flags("a test", out="runs/test", steps=12, batch_size=8).parse_args(
        ["--out", str(out), *words]
    )


def train(args, evaluate=lambda step: {}, every=3, **options):
    run = Run(args)
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    guide = AIRGuide(model)
    history = run.fit(
        model,
        guide,
        IMAGES,
        optim=adam(model, guide),
        elbo=TraceEnum_ELBO(max_plate_nesting=1),
        evaluate=evaluate,
        every=every,
        **options,
    )
    return history, torch.cat(
        [p.detach().flatten() for m in (model, guide) for p in m.parameters()]
    )


class Killed(BaseException):
    pass


def test_it_ends_where_it_is_done(tmp_path):
    seen = []

    def done():
        return len(seen) >= 2

    history, _ = train(parse(tmp_path), lambda step: seen.append(step) or {}, done=done)
    assert [row["step"] for row in history] == seen == [3, 6]
    history, _ = train(parse(tmp_path, "--resume"), lambda step: seen.append(step) or {}, done=done)
    assert [row["step"] for row in history] == seen == [3, 6]


@pytest.mark.parametrize("moment", [1, 4, 7, 11])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, moment):
    whole, expected = train(parse(tmp_path / "whole"))
    seen = []

    def die(step):
        seen.append(step)
        if step == moment:
            raise Killed

    with pytest.raises(Killed):
        train(parse(tmp_path / "parts"), before=die)
    history, weights = train(parse(tmp_path / "parts", "--resume"))
    assert torch.equal(weights, expected)
    assert [row["train_elbo"] for row in history] == [row["train_elbo"] for row in whole]
    assert [row["step"] for row in history] == [3, 6, 9, 12]


def dying(moment):
    def die(step):
        if step == moment:
            raise Killed

    return die


def test_early_steps_are_rows_too_in_order_and_once(tmp_path):
    asked = []

    def evaluate(step):
        asked.append(step)
        return {"twice": 2 * step}

    early = (5, 0, 1, 3, 12, 99)
    history, _ = train(parse(tmp_path), evaluate=evaluate, early=early)
    steps = [0, 1, 3, 5, 6, 9, 12]
    assert asked == steps == [row["step"] for row in history]
    assert [row["twice"] for row in history] == [2 * step for step in steps]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == steps
    assert list(rows[0]) == ["step", "seconds", "cpu_seconds", "train_elbo", "twice"]
    assert [row["train_elbo"] == "" for row in rows] == [True] + [False] * 6
    assert [float(row["twice"]) for row in rows] == [2 * step for step in steps]


def test_without_early_steps_there_is_no_row_at_the_start(tmp_path):
    history, _ = train(parse(tmp_path), evaluate=lambda step: {"step again": step})
    assert [row["step"] for row in history] == [3, 6, 9, 12]
    assert [row["step again"] for row in history] == [3, 6, 9, 12]


def test_looking_early_changes_no_step(tmp_path):
    _, expected = train(parse(tmp_path / "late"))
    _, weights = train(
        parse(tmp_path / "early"),
        evaluate=lambda step: {"x": torch.rand(()).item()},
        early=(0, 1, 2, 5),
    )
    assert torch.equal(weights, expected)


@pytest.mark.parametrize(("moment", "kept"), [(1, 0), (2, 1), (4, 3), (6, 5)])
def test_what_was_looked_at_is_not_looked_at_again(tmp_path, moment, kept):
    early, asked = (0, 1, 5), []

    def evaluate(step):
        asked.append(step)
        return {"level": step + 0.5}

    whole, expected = train(parse(tmp_path / "whole"), evaluate=evaluate, early=early)
    asked.clear()
    with pytest.raises(Killed):
        train(parse(tmp_path / "parts"), evaluate=evaluate, early=early, before=dying(moment))
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["step"] == kept
    history, weights = train(parse(tmp_path / "parts", "--resume"), evaluate=evaluate, early=early)
    assert asked == [0, 1, 3, 5, 6, 9, 12] == [row["step"] for row in history]
    assert torch.equal(weights, expected)
    for name in ("train_elbo", "level"):
        assert [row.get(name) for row in history] == [row.get(name) for row in whole]
    rows = list(csv.DictReader((tmp_path / "parts" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == asked


def test_a_finished_run_does_not_begin_again(tmp_path):
    train(parse(tmp_path), early=(0,))
    history, _ = train(parse(tmp_path, "--resume"), early=(0,))
    assert [row["step"] for row in history] == [0, 3, 6, 9, 12]


def test_a_number_that_is_known_at_some_steps_only_has_its_column(tmp_path):
    """As ``evaluate`` is told the step, it may look closer at some."""
    train(parse(tmp_path), evaluate=lambda step: {"dear": 0.5} if step == 3 else {"cheap": 1.0})
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [(row["dear"], row["cheap"]) for row in rows] == [("0.5", "")] + [("", "1.0")] * 3


def moved(out, **options):
    """How far the parameters go in all, by plain gradient descent at a learning rate of 1."""
    run = Run(parse(out))
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    guide = AIRGuide(model)
    weights = [*model.parameters(), *guide.parameters()]
    before = [weight.detach().clone() for weight in weights]
    optim = torch.optim.SGD(weights, lr=1.0)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    run.fit(model, guide, IMAGES, optim=optim, elbo=elbo, evaluate=lambda step: {}, **options)
    steps = [weight.detach() - old for weight, old in zip(weights, before, strict=True)]
    return torch.cat([step.flatten() for step in steps]).norm().item()


def test_gradients_are_clipped(tmp_path):
    """12 steps at a norm of at most 1e-4 and a learning rate of at most 1."""
    far = moved(tmp_path / "clipped", clip=1e-4)
    assert 1e-4 < far <= 12 * 1e-4 * 1.001
    assert moved(tmp_path / "less", clip=1e-2) > 10 * far


def test_evaluating_does_not_disturb_training(tmp_path):
    _, expected = train(parse(tmp_path / "quiet"))
    history, weights = train(
        parse(tmp_path / "noisy"), evaluate=lambda step: {"x": torch.rand(()).item()}
    )
    assert torch.equal(weights, expected)
    assert len({row["x"] for row in history}) == 1  # the same draws at each evaluation


def test_the_table_over_time(tmp_path):
    history, _ = train(parse(tmp_path, "--steps", "7"), evaluate=lambda step: {"accuracy": 0.5})
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [3, 6, 7] == [row["step"] for row in history]
    assert list(rows[0]) == ["step", "seconds", "cpu_seconds", "train_elbo", "accuracy"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_resuming_a_finished_run_trains_no_more(tmp_path):
    _, expected = train(parse(tmp_path))
    history, weights = train(parse(tmp_path, "--resume"))
    assert torch.equal(weights, expected) and history[-1]["step"] == 12


def test_the_table_is_whole_after_a_kill_between_checkpoint_and_table(tmp_path):
    train(parse(tmp_path), evaluate=lambda step: {"accuracy": np.float64(0.5)})
    (tmp_path / "metrics.csv").unlink()
    train(parse(tmp_path, "--resume"))
    assert len(list(csv.DictReader((tmp_path / "metrics.csv").open()))) == 4


def test_a_finished_run_can_be_made_longer(tmp_path):
    train(parse(tmp_path))
    history, _ = train(parse(tmp_path, "--resume", "--steps", "15"))
    assert [row["step"] for row in history] == [3, 6, 9, 12, 15]


def test_resuming_nothing_starts(tmp_path):
    assert train(parse(tmp_path, "--resume"))[0][0]["step"] == 3


def test_a_run_is_not_overwritten(tmp_path):
    train(parse(tmp_path))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="--resume.*another --out"):
        Run(parse(tmp_path))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_other_images_cannot_be_resumed(tmp_path, monkeypatch):
    train(parse(tmp_path))
    monkeypatch.setitem(globals(), "IMAGES", 1 - IMAGES)
    with pytest.raises(ValueError, match="other images"):
        train(parse(tmp_path, "--resume"))


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = Run(parse(tmp_path))
    code = "import sys; from test_run import *; Run(parse(sys.argv[1]))"
    second = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(second, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert "another process writes to" in done.stderr
    first.lock.release()


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    def poison(step):
        if step == 6:
            with torch.no_grad():
                model.decoder.layers[0].weight.fill_(torch.inf)

    run = Run(parse(tmp_path))
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    guide = AIRGuide(model)
    settings = {"optim": adam(model, guide), "elbo": TraceEnum_ELBO(max_plate_nesting=1)}
    with pytest.raises(Diverged, match="not finite"):
        run.fit(model, guide, IMAGES, evaluate=lambda step: {}, every=3, before=poison, **settings)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


def test_a_smoke_test_is_in_nobodys_way(tmp_path):
    for words in (["--smoke"], ["--smoke"], ["--resume"]):
        history, _ = train(parse(tmp_path, *words))
    assert history[0]["step"] == 3 and history[-1]["step"] == 12


def test_another_seed_cannot_be_resumed(tmp_path):
    train(parse(tmp_path))
    with pytest.raises(ValueError, match="--seed 0"):
        train(parse(tmp_path, "--resume", "--seed", "1"))


def test_divergence_keeps_the_last_good_checkpoint(tmp_path):
    def poison(step):
        if step == 8:
            with torch.no_grad():
                nan.parts["loc"].value.fill_(torch.nan)

    nan = Prior(dist.Normal, loc=[0.0] * 4, scale=[1.0] * 4)
    run = Run(parse(tmp_path))
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    guide = AIRGuide(model)
    model.z_what = lambda scene: nan(scene)
    with pytest.raises(Diverged, match=r"step 9 diverged.*last good checkpoint.*step 6"):
        run.fit(
            model,
            guide,
            IMAGES,
            optim=adam(model, guide),
            elbo=TraceEnum_ELBO(max_plate_nesting=1),
            evaluate=lambda step: {},
            every=3,
            before=poison,
        )
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6


def test_warming_up_is_part_of_what_is_resumed(tmp_path):
    """A prior that changes with the step is the right one again after resuming."""
    seen = {}

    def run(out, *words):
        def warm(step):
            model.z_pres = Persist(0.9 if step < 5 else 0.1)
            seen.setdefault(out, []).append((step, model.z_pres.probs.value.item()))

        sitting = Run(parse(tmp_path / out, *words))
        model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
        guide = AIRGuide(model)
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        sitting.fit(
            model,
            guide,
            IMAGES,
            optim=adam(model, guide),
            elbo=elbo,
            evaluate=lambda step: {},
            before=warm,
        )
        return torch.cat([p.detach().flatten() for p in guide.parameters()])

    run("whole")
    assert [step for step, _ in seen["whole"]] == list(range(13))
    run("parts", "--steps", "6")
    run("parts", "--resume")
    assert dict(seen["parts"]) == dict(seen["whole"])


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", "cpu:x"])
def test_an_unusable_device_is_said(tmp_path, device):
    with pytest.raises(ValueError, match="device .* cannot be used"):
        Run(parse(tmp_path, "--device", device))


def test_an_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        Run(parse(tmp_path / "file" / "below"))


@pytest.mark.parametrize(
    "words", [["--steps", "0"], ["--batch-size", "-1"], ["--seed", "-3"], ["--steps", "x"]]
)
def test_bad_numbers_are_refused(tmp_path, words, capsys):
    with pytest.raises(SystemExit):
        parse(tmp_path, *words)
    assert words[0] in capsys.readouterr().err


def test_metrics_are_flat_json(tmp_path):
    run = Run(parse(tmp_path))
    run.write({"elbo": 1.5, "steps": 3})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"elbo": 1.5, "steps": 3}
    assert {path.name for path in tmp_path.iterdir()} <= {"metrics.json", ".lock"}


def test_own_random_leaves_no_trace():
    torch.manual_seed(3)
    first = torch.rand(2)
    torch.manual_seed(3)
    with fork_rng(9):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), first) and not torch.equal(inside, first)


def test_what_a_user_can_mend_is_one_line(monkeypatch):
    def main(args):
        raise FileNotFoundError("MNIST needs this and that")

    monkeypatch.setattr("sys.argv", ["example.py"])
    with pytest.raises(SystemExit, match="^error: MNIST needs this and that$"):
        launch(main, argparse.ArgumentParser())
