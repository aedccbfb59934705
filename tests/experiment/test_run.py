"""A run: its folder and device, what it restores, and what it writes."""

import json
import math
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import arviz
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer import Trace_ELBO

from pyro_scenes import VAE, Pixels, VAEGuide, adam
from pyro_scenes.experiment import Run, flags
from pyro_scenes.inference import CheckpointError
from pyro_scenes.random import fork_rng

IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"image_shape": (1, 8, 8), "code": 2}


def parse(out, *words):
    parser = flags("a test", out="runs/test", steps=2, batch_size=8)
    parser.add_argument("--images")
    return parser.parse_args(["--out", str(out), *words])


def build(settings):
    model = VAE(**settings)
    return model, VAEGuide(model)


def train(out, *words):
    run = Run(parse(out, *words))
    model, guide = run.restore(build, SETTINGS)
    run.state["known"] = [3, 4]
    training = run.training(
        model, guide, IMAGES, optim=adam(model, guide), elbo=Trace_ELBO(), clip=10.0
    )
    for _ in training:
        if training.due(every=1):
            with training.row():
                pass
    return model, guide


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of two steps, and its pair."""
    out = tmp_path_factory.mktemp("trained")
    return out / "checkpoint.pt", *train(out)


def names(folder):
    return {path.name for path in folder.iterdir()} - {".lock", ".run"}


# The folder.


def test_a_run_is_not_overwritten(tmp_path):
    train(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="--resume.*another --out"):
        Run(parse(tmp_path))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "curves.png", "inference_data.nc"])
@pytest.mark.parametrize("words", [[], ["--resume"]])
def test_files_of_ones_own_are_not_overwritten(tmp_path, name, words):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"no run has written .*{name}.*another --out"):
        Run(parse(tmp_path, *words))
    assert (tmp_path / name).read_text() == "mine" and names(tmp_path) == {name}


def test_a_folder_in_a_files_place_is_noticed_before_the_training(tmp_path):
    """Even if a run has written a file of that name once."""
    run = Run(parse(tmp_path))
    run.write({"elbo": 1.0})
    run.folder.lock.release()
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(ValueError, match="no run has written .*metrics.json"):
        Run(parse(tmp_path))


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_checkpoint_of_ones_own_is_not_overwritten(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    for words in ([], ["--resume"], ["--smoke"]):
        with pytest.raises(CheckpointError, match="another kind"):
            Run(parse(tmp_path, *words))
    torch.save({"weights": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="not written by"):
        Run(parse(tmp_path))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_other_files_are_in_nobodys_way(tmp_path):
    for name in ("notes.txt", "scenes.npz"):
        (tmp_path / name).write_text("mine")
    train(tmp_path)
    train(tmp_path, "--resume")
    assert all((tmp_path / name).read_text() == "mine" for name in ("notes.txt", "scenes.npz"))


def test_a_file_that_appears_while_it_runs_is_not_overwritten(tmp_path):
    run = Run(parse(tmp_path))
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(ValueError, match="not written by a run"):
        run.write({"elbo": 1.0})
    assert (tmp_path / "metrics.json").read_text() == "mine" and names(tmp_path) == {"metrics.json"}


def test_what_a_run_wrote_it_may_write_again(tmp_path):
    for number in (1, 2):
        run = Run(parse(tmp_path))
        run.write({"number": number})
        run.folder.lock.release()
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"number": 2}


def test_a_checkpoint_alone_can_be_resumed_elsewhere(tmp_path, trained):
    (tmp_path / "checkpoint.pt").write_bytes(trained[0].read_bytes())
    train(tmp_path, "--resume", "--steps", "3")
    assert names(tmp_path) == {"checkpoint.pt", "checkpoint.previous.pt", "metrics.csv"}


def test_a_smoke_test_leaves_what_it_did_not_write(tmp_path):
    train(tmp_path, "--smoke")
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(ValueError, match="notes.csv"):
        Run(parse(tmp_path))
    assert (tmp_path / "notes.csv").read_text() == "mine"


@contextmanager
def full_disk():
    """Files of more than 4 KB cannot be written inside: nor pytest's own report, if it goes to a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_leaves_no_part_and_the_older_file(tmp_path):
    class Figure:
        def savefig(self, part, **options):
            part.write_bytes(bytes(9000))

    tree = xr.DataTree.from_dict({"/posterior": xr.Dataset({"z": ("draw", np.random.rand(9000))})})
    run = Run(parse(tmp_path))
    run.text("a.json", "older")
    run.netcdf("c", xr.DataTree())
    older = (tmp_path / "c.nc").read_bytes()
    for save, name, content in (
        (run.text, "a.json", "x" * 9000),
        (run.figure, "b", Figure()),
        (run.netcdf, "c", tree),
    ):
        with pytest.raises(OSError, match=f"{name}.*(large|full)"), full_disk():
            save(name, content)
    assert names(tmp_path) == {"a.json", "c.nc"}
    assert (tmp_path / "a.json").read_text() == "older"
    assert (tmp_path / "c.nc").read_bytes() == older


def test_inference_data_is_written_as_arviz_does(tmp_path):
    if not hasattr(arviz, "InferenceData"):
        pytest.skip("ArviZ 1 has DataTrees")
    posterior = {"z": np.random.rand(1, 3, 2), "label": np.array([["a", "b", "c"]])}
    data = arviz.from_dict(posterior=posterior, observed_data={"image": np.ones((2, 2))})
    data.to_netcdf(str(tmp_path / "theirs"))
    Run(parse(tmp_path)).netcdf("ours", data)
    ours, theirs = (arviz.from_netcdf(tmp_path / name) for name in ("ours.nc", "theirs"))
    assert ours.groups() == theirs.groups() == ["posterior", "observed_data"]
    assert all(ours[group].identical(theirs[group]) for group in ours.groups())


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = Run(parse(tmp_path))
    code = "import sys; from test_run import *; Run(parse(sys.argv[1]))"
    second = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(second, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert "another process writes to" in done.stderr
    first.folder.lock.release()


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        Run(parse(tmp_path / "file" / "below"))


# The device, and going on.


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", "cpu:x"])
def test_an_unusable_device_is_named(tmp_path, device):
    with pytest.raises(ValueError, match="device .* cannot be used"):
        Run(parse(tmp_path, "--device", device))


@pytest.mark.parametrize("words", [["--seed", "1"], ["--batch-size", "4"]])
def test_other_flags_cannot_be_resumed(tmp_path, trained, words):
    (tmp_path / "checkpoint.pt").write_bytes(trained[0].read_bytes())
    with pytest.raises(ValueError, match=f"the run in .* had {words[0]} [08]: resume it with"):
        Run(parse(tmp_path, "--resume", *words))


def test_the_same_images_may_lie_elsewhere(tmp_path):
    train(tmp_path, "--images", "here.npz")
    train(tmp_path, "--images", "there.npz", "--resume")


def test_resuming_nothing_starts(tmp_path, capsys):
    train(tmp_path, "--resume")
    assert "there is no checkpoint in" in capsys.readouterr().out


# Restoring.


def test_a_checkpoint_is_evaluated(tmp_path, trained):
    path, model, guide = trained
    run = Run(parse(tmp_path), evaluate=str(path))
    again, its_guide = run.restore(build, {**SETTINGS, "code": 7})
    for old, new in ((model, again), (guide, its_guide)):
        assert all(map(torch.equal, old.state_dict().values(), new.state_dict().values()))
        assert not any(module.training for module in new.modules())
    assert run.settings == SETTINGS and run.state == {"known": [3, 4]}
    assert [row["step"] for row in run.history] == [1, 2]


def test_flags_that_a_checkpoint_overrules_are_said(tmp_path, trained, capsys):
    Run(parse(tmp_path / "a"), evaluate=str(trained[0])).restore(build, {**SETTINGS, "code": 7})
    assert "not those of the flags: code 2" in capsys.readouterr().out
    Run(parse(tmp_path / "b"), evaluate=str(trained[0])).restore(build, SETTINGS)
    assert "flags" not in capsys.readouterr().out


def test_evaluating_writes_no_checkpoint_beside_a_training(trained):
    with pytest.raises(ValueError, match="an --out of its own"):
        Run(parse(trained[0].parent), evaluate=str(trained[0]))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({**SETTINGS, "image_shape": (1, 8, 9)}, r"of images \(1, 8, 8\) .*these are \(1, 8, 9\)"),
        (
            {"image_shape": (1, 8, 8), "experts": 3},
            "another example.* settings are image_shape, code",
        ),
    ],
)
def test_a_checkpoint_of_another_example_is_refused_in_words(tmp_path, trained, settings, match):
    run = Run(parse(tmp_path), evaluate=str(trained[0]))
    with pytest.raises(CheckpointError, match=match):
        run.restore(build, settings)


def test_a_checkpoint_of_other_parts_is_refused(tmp_path, trained):
    def other(settings):
        model = VAE(**settings, image=Pixels(dist.Normal, scale=0.1))
        return model, VAEGuide(model)

    run = Run(parse(tmp_path), evaluate=str(trained[0]))
    with pytest.raises(CheckpointError, match="image.family is Bernoulli in the file, Normal here"):
        run.restore(other, SETTINGS)


CRAFTED = [
    {"args": None},
    {"args": 3},
    {"images": None},
    {"settings": None},
    {"settings": ["code"]},
    {"settings": {}},
    {"settings": {"image_shape": 8, "code": 2}},
    {"settings": {"image_shape": (1, 8, 8), "code": "x"}},
    {"settings": {"image_shape": (1, 8, 8), "code": 2, "more": 1}},
    {"state": None},
    {"history": None},
    {"history": []},
    {"history": [1, 2]},
    {"history": [{"step": 2}]},
    {"history": [{"step": "2", "seconds": 1.0, "cpu_seconds": 1.0}]},
    {"history": [{"step": 7, "seconds": 1.0, "cpu_seconds": 1.0}]},
    {"history": [{"step": 2, "seconds": None, "cpu_seconds": 1.0}]},
]


@pytest.mark.parametrize("change", CRAFTED)
@pytest.mark.parametrize("resume", [True, False])
def test_crafted_content_is_refused_in_a_sentence(tmp_path, trained, change, resume):
    content = torch.load(trained[0], weights_only=True)
    content["extra"] |= change
    path = tmp_path / ("checkpoint.pt" if resume else "other.pt")
    torch.save(content, path)
    args = parse(tmp_path if resume else tmp_path / "new", *(["--resume"] if resume else []))
    with pytest.raises(ValueError) as caught:
        run = Run(args, evaluate=None if resume else str(path))
        run.restore(build, SETTINGS)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, TypeError)


# Numbers.


class Score(NamedTuple):
    ari: float
    pairs: int


def test_metrics_are_flat_json(tmp_path, capsys):
    run = Run(parse(tmp_path))
    numbers = {"elbo": 1.5, "x": np.float64(math.nan), "y": torch.tensor(2.0), "z": -math.inf}
    run.write(Score(0.5, 3), numbers, {"absent": None})
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept == {
        **{"ari": 0.5, "pairs": 3, "elbo": 1.5, "x": None, "y": 2.0, "z": None, "absent": None}
    }
    assert names(tmp_path) == {"metrics.json"} and "0.5000" in capsys.readouterr().out


def test_two_metrics_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same name: ari"):
        Run(parse(tmp_path)).write(Score(0.5, 3), {"ari": 0.5})


def test_fork_rng_leaves_no_trace():
    torch.manual_seed(3)
    first = torch.rand(2)
    torch.manual_seed(3)
    with fork_rng(9):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), first) and not torch.equal(inside, first)
