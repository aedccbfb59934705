"""The loop of a training: its rows, its checkpoints, and that resuming it equals going on."""

import csv

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from pyro_scenes import AIR, VAE, AIRGuide, Persist, Prior, VAEGuide, adam, warm_up
from pyro_scenes.experiment import Run, flags
from pyro_scenes.inference import CheckpointError, Diverged, falling, read_checkpoint, scale_lr

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"image_shape": (1, 8, 8), "code": 2}


class Killed(BaseException):
    pass


def parse(out, *words):
    return flags("a test", out="runs/test", steps=12, batch_size=8).parse_args(
        ["--out", str(out), *words]
    )


def build(settings):
    model = VAE(**settings)
    return model, VAEGuide(model)


def start(out, *words, images=IMAGES, build=build):
    """A run and its training, at a rate at which a step shows."""
    run = Run(parse(out, *words))
    model, guide = run.restore(build, SETTINGS)
    optim = adam(model, guide, lr=1e-2)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return run, run.training(model, guide, images, optim=optim, elbo=elbo)


def weights(training):
    return torch.cat([p.detach().flatten() for m in training.pair for p in m.parameters()])


def train(out, *words, every=3, early=(), kill=None, number=lambda: 0.0, **options):
    """As an example's main, with a falling rate; dies in the body of step ``kill``."""
    _, training = start(out, *words, **options)
    for step in training:
        scale_lr(training.optim, falling(step, 12))
        if training.due(every, early):
            with training.row() as row:
                row["level"] = step + 0.5
                row["number"] = number()
        if step == kill:
            raise Killed
    return training.history, weights(training)


def steps(history):
    return [row["step"] for row in history]


def without_clock(history):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in history]


def table(out):
    return list(csv.DictReader((out / "metrics.csv").open()))


def test_the_loop_of_an_example(tmp_path):
    """AIR with a presence prior that is warmed up: what a main looks like."""

    def air(settings):
        model = AIR(**settings)
        return model, AIRGuide(model)

    def main(args):
        run = Run(args)
        images = torch.rand(16, 1, 16, 16)
        sizes = {"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 2}
        model, guide = run.restore(air, sizes)
        optim = adam(model, guide)
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        training = run.training(model, guide, images, optim=optim, elbo=elbo, clip=200.0)
        for step in training:
            scale_lr(optim, falling(step, args.steps))
            model.z_pres = Persist(warm_up(step, over=3))
            if training.due(every=2, early=(0,)):
                with training.row() as row:
                    row["presence"] = model.z_pres.values()["probs"]
        return training.history

    whole = main(parse(tmp_path / "whole", "--steps", "4"))
    main(parse(tmp_path / "parts", "--steps", "2"))
    resumed = main(parse(tmp_path / "parts", "--steps", "4", "--resume"))
    assert steps(whole) == [0, 2, 4] and whole[-1]["presence"] == pytest.approx(0.01)
    assert [row["presence"] for row in resumed] == [row["presence"] for row in whole]


@pytest.mark.parametrize("moment", [1, 4, 9, 12])
@pytest.mark.parametrize("early", [(), (0, 1, 5)])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, moment, early):
    whole, expected = train(tmp_path / "whole", early=early)
    with pytest.raises(Killed):
        train(tmp_path / "parts", early=early, kill=moment)
    history, resumed = train(tmp_path / "parts", "--resume", early=early)
    assert torch.equal(resumed, expected)
    assert without_clock(history) == without_clock(whole)
    assert (
        steps(history)
        == sorted({*early, 3, 6, 9, 12})
        == [int(r["step"]) for r in table(tmp_path / "parts")]
    )


def test_what_is_done_after_the_row_is_done_again_once_when_resumed(tmp_path):
    """An event that changes weights, and one that depends on the history and on the state."""

    def events(out, *words, kill=None):
        _, training = start(out, *words)
        for step in training:
            if training.due(every=3):
                with training.row() as row:
                    row["level"] = step
            if step == 6:
                with torch.no_grad():
                    training.pair[0].decoder.layers[0].weight += torch.rand(())
            if len(training.history) == 3 and "halved" not in training.state:
                training.state["halved"] = step
                scale_lr(training.optim, 0.5)
            if step == kill:
                raise Killed
        return weights(training), training.state

    expected, state = events(tmp_path / "whole")
    assert state == {"halved": 9}
    for moment in (6, 7, 9, 10):
        out = tmp_path / str(moment)
        with pytest.raises(Killed):
            events(out, kill=moment)
        resumed, state = events(out, "--resume")
        assert torch.equal(resumed, expected) and state == {"halved": 9}


def test_the_body_comes_before_each_step_and_once_after_the_last(tmp_path):
    _, training = start(tmp_path)
    seen, before = [], []
    for step in training:
        assert all(module.training for module in training.pair)
        seen.append(step)
        before.append(weights(training))
    assert seen == list(range(13)) and not any(module.training for module in training.pair)
    assert all(not torch.equal(*pair) for pair in zip(before[:-1], before[1:]))
    assert torch.equal(before[-1], weights(training))


def test_it_ends_where_the_loop_breaks(tmp_path):
    def broken(*words):
        _, training = start(tmp_path, *words)
        for _ in training:
            if training.due(every=3):
                with training.row():
                    pass
            if len(training.history) == 2:
                break
        assert not any(module.training for module in training.pair)
        return steps(training.history), weights(training)

    once, again = broken(), broken("--resume")
    assert once[0] == again[0] == [3, 6] and torch.equal(once[1], again[1])


def test_a_row_is_evaluated_apart_from_the_training(tmp_path):
    """In evaluation mode, without gradients, with the same draws each time, which change no step."""
    _, expected = train(tmp_path / "quiet")
    modes = []

    def number():
        modes.append(torch.is_grad_enabled())
        return torch.rand(())

    history, trained = train(tmp_path / "noisy", every=1, early=(0,), number=number)
    assert torch.equal(trained, expected) and not any(modes)
    assert len({row["number"] for row in history}) == 1 and len(history) == 13
    _, training = start(tmp_path / "mode")
    for _ in training:
        with training.row() as row:
            row["modes"] = sum(module.training for module in training.pair)
    assert {row["modes"] for row in training.history} == {0}


def test_the_table_over_time(tmp_path):
    history, _ = train(tmp_path, "--steps", "7", early=(0,), number=lambda: None)
    rows = table(tmp_path)
    assert [int(row["step"]) for row in rows] == [0, 3, 6, 7] == steps(history)
    assert list(rows[0]) == ["step", "seconds", "cpu_seconds", "train_elbo", "level"]
    assert [row["train_elbo"] == "" for row in rows] == [True, False, False, False]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_the_table_is_whole_after_a_kill_between_checkpoint_and_table(tmp_path):
    train(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    train(tmp_path, "--resume")
    assert len(table(tmp_path)) == 4


def test_a_finished_run_does_not_train_more_unless_it_is_made_longer(tmp_path):
    _, expected = train(tmp_path)
    history, resumed = train(tmp_path, "--resume")
    assert torch.equal(resumed, expected) and steps(history) == [3, 6, 9, 12]
    history, _ = train(tmp_path, "--resume", "--steps", "15")
    assert steps(history) == [3, 6, 9, 12, 15]


def test_a_smoke_test_is_in_nobodys_way(tmp_path):
    for words in (["--smoke"], ["--smoke"]):
        history, _ = train(tmp_path, *words)
        assert steps(history) == [2, 4, 6, 8, 10]
    history, _ = train(tmp_path, "--resume")
    assert steps(history) == [3, 6, 9, 12]


def test_a_batch_may_be_more_than_images(tmp_path):
    """A tuple's parts are recognised, each, when it is resumed."""
    with pytest.raises(ValueError, match="other images"):
        train(tmp_path)
        train(tmp_path, "--resume", images=(IMAGES, IMAGES))


@pytest.mark.parametrize("images", [1 - IMAGES, IMAGES[:39]])
def test_other_images_cannot_be_resumed(tmp_path, images):
    train(tmp_path)
    with pytest.raises(ValueError, match="other images"):
        train(tmp_path, "--resume", images=images)


def test_another_model_cannot_be_resumed(tmp_path):
    train(tmp_path)

    def other(settings):
        model = VAE((1, 8, 8), 2, z_what=Prior(dist.Laplace, loc=[0.0] * 2, scale=[1.0] * 2))
        return model, VAEGuide(model)

    with pytest.raises(CheckpointError, match="z_what.family is Normal in the file, Laplace here"):
        train(tmp_path, "--resume", build=other)


def test_settings_that_a_loop_assigns_are_no_obstacle(tmp_path):
    def assigned(out, *words):
        _, training = start(out, *words)
        for step in training:
            training.pair[1].sweeps = 1 if step < 6 else 2
            if training.due(every=3):
                with training.row():
                    pass
        return weights(training)

    expected = assigned(tmp_path / "whole")
    assigned(tmp_path / "parts", "--steps", "6")
    assert torch.equal(assigned(tmp_path / "parts", "--resume"), expected)


def test_the_checkpoint_before_the_last_is_kept(tmp_path):
    train(tmp_path)
    found = [
        read_checkpoint(tmp_path / f"checkpoint{name}.pt")["step"] for name in ("", ".previous")
    ]
    assert found == [12, 9]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("-inf"))])
def test_a_step_whose_evaluation_is_not_finite_is_not_saved(tmp_path, value):
    numbers = iter([0.0, 1.0, value])
    with pytest.raises(Diverged, match="step 9 was not saved: number is .*step 6.*of step 3"):
        train(tmp_path, number=lambda: next(numbers))
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6
    assert [int(row["step"]) for row in table(tmp_path)] == [3, 6]


def test_an_evaluation_that_diverges_is_not_saved(tmp_path):
    """Weights of 1e30 are finite, what a sampler gets is not."""

    def number():
        if len(calls) == 2:
            torch.bernoulli(torch.tensor(torch.nan))
        calls.append(1)
        return 0.0

    calls = []
    with pytest.raises(Diverged, match="step 9 was not saved: .*of step 6"):
        train(tmp_path, number=number)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6


def test_another_error_of_an_evaluation_is_itself(tmp_path):
    with pytest.raises(RuntimeError, match="shape") as caught:
        train(tmp_path, number=lambda: torch.zeros(2) @ torch.zeros(3, 3))
    assert not isinstance(caught.value, Diverged)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    _, training = start(tmp_path)
    with pytest.raises(
        Diverged, match="weights are not finite; the last checkpoint is .* of step 3"
    ):
        for step in training:
            if step == 6:
                with torch.no_grad():
                    training.pair[0].decoder.layers[0].weight.fill_(torch.inf)
            if training.due(every=3):
                with training.row():
                    pass
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


@pytest.mark.parametrize(
    ("moment", "text"), [(8, "step 6, the one before .* step 3"), (1, "no checkpoint yet")]
)
def test_divergence_names_the_checkpoints(tmp_path, moment, text):
    _, training = start(tmp_path)
    with pytest.raises(Diverged, match=f"step {moment + 1} diverged.*{text}"):
        for step in training:
            if training.due(every=3):
                with training.row():
                    pass
            if step == moment:
                training.pair[0].z_what.loc.fill_(torch.nan)


def test_validation_is_off_in_steps_and_rows_only(tmp_path):
    inside = []

    def number():
        inside.append(torch.distributions.Distribution._validate_args)
        return 0.0

    before = torch.distributions.Distribution._validate_args
    train(tmp_path, number=number)
    assert not any(inside) and torch.distributions.Distribution._validate_args == before
