"""Several processes that train together: their steps are one's, with all its images.

Two groups of two processes are started, once each: one that checks itself, one in which a process is killed.
"""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributed as world
from pyro.infer import ReweightedWakeSleep, Trace_ELBO, TraceEnum_ELBO
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from torch import multiprocessing, nn

from pyro_scenes import AIR, ECON, VAE, AIRGuide, ECONGuide, VAEGuide, adam, fit
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.experiment import Run, flags, launch, program
from pyro_scenes.inference import (
    CheckpointError,
    Parallel,
    Weighted,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from pyro_scenes.inference.processes import broadcast
from pyro_scenes.networks import RegionEncoder, UNet

STEPS, IMAGES = 20, 8
#: Where both processes of a group fork from: torch is imported once.
FORKS = "forkserver"


# What each process runs. Noise is a function of the image, wherever it is, to compare with one process.


class Noise(Messenger):
    """Draws a guide's latents by numbers that belong to a step and an image."""

    def __init__(self, rank, size, choose=None):
        super().__init__()
        self.rank, self.size, self.choose, self.step = rank, size, choose, 0

    def own(self, numbers):
        return numbers[self.rank :: self.size]

    def _pyro_sample(self, msg):
        fn = msg["fn"]
        if msg["is_observed"] or msg["name"].startswith(("z_pres", "z_region", "images", "pixels")):
            return
        if msg["name"].startswith("z_expert"):
            msg["value"] = self.own(self.choose)
            return
        seed = 100 * self.step + sum(map(ord, msg["name"]))
        generator = torch.Generator().manual_seed(seed)
        shape = IMAGES, *fn.event_shape
        noise = self.own(torch.randn(shape, generator=generator, dtype=torch.float64))
        msg["value"] = fn.base_dist.loc + fn.base_dist.scale * noise


class Branches(PyroModule):
    """Has parts that it calls only where images need them."""

    def __init__(self):
        super().__init__()
        self.bright, self.dark, self.never = (nn.Linear(1, 1) for _ in range(3))

    def forward(self, images):
        means = images.flatten(1).mean(1)[:, None]
        loc = torch.zeros_like(means)
        for part, needed in ((self.bright, means > 0.5), (self.dark, means <= 0.5)):
            if needed.any():
                loc = loc + needed * part(means)
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("image", dist.Normal(loc, 0.1).to_event(1), obs=images.flatten(1)[:, :1])


def nothing(images):
    pass


def bare(images):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("images", len(images)):
        pyro.sample("image", dist.Normal(loc, 1.0), obs=images.mean((1, 2, 3)))


def air():
    model = AIR((1, 8, 8), (1, 4, 4), steps=2, code=3)
    return model, AIRGuide(model, hidden=8), TraceEnum_ELBO(max_plate_nesting=1)


def econ():
    """Each process's images choose another expert."""
    model = ECON((1, 8, 8), experts=2, layers=2, code=2)
    prior, parts = model.latents()["z_what_0"], range(2)
    encoders = [RegionEncoder((1, 8, 8), 4, channels=4) for _ in parts]
    proposals = [RegionProposal(encoder, 4, prior) for encoder in encoders]
    attention = [UNet(2, (4, 4)) for _ in parts]
    guide = ECONGuide(model, attention=attention, proposals=proposals)
    return model, guide, TraceEnum_ELBO(max_plate_nesting=2)


def branches():
    return Branches(), nothing, Trace_ELBO()


def pictures():
    """The first process has the even ones, which are dark; the other the odd ones."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 1, 8, 8, generator=generator, dtype=torch.float64)
    images[::2] *= 0.4
    images[1::2] = 0.6 + 0.4 * images[1::2]
    return images


def modules(*programs):
    return [program for program in programs if isinstance(program, nn.Module)]


def train(build, rank, size, lr=2e-4):
    """Weights, records and how many parameters Adam has stepped, after steps of which most are clipped.

    Adam divides a gradient by its size, rounding errors as well: with lr = 1e-3 ECON's weights differ by 5e-12.
    """
    pyro.clear_param_store()
    torch.manual_seed(rank)  # other processes build other weights and buffers
    model, guide, elbo = build()
    noise = Noise(rank, size, choose=torch.arange(IMAGES) % 2)
    elbo = Parallel(Weighted(elbo), model, guide) if size > 1 else elbo
    proposal = noise(guide) if isinstance(guide, nn.Module) else guide
    optim = torch.optim.Adam((p for m in modules(model, guide) for p in m.parameters()), lr)
    records = []
    stream = [pictures()[rank::size]] * STEPS
    for record in fit(model, proposal, stream, elbo=elbo, optim=optim, clip=1.0):
        noise.step = record.step
        records.append([record.loss, record.norm])
    weights = [v for m in modules(model, guide) for v in m.state_dict().values()]
    return weights, torch.tensor(records), len(optim.state)


def refused(error, function, *args, **options):
    """The words with which a call is refused, in each process."""
    try:
        function(*args, **options)
    except error as refusal:
        return str(refusal)
    return None


def vae(code=2):
    model = VAE((1, 4, 4), code)
    return model, VAEGuide(model, hidden=4)


def tiny(rank):
    return torch.rand(4, 1, 4, 4).round()


def swapped(rank):
    """Weights after a part was swapped in that each process drew for itself."""
    torch.manual_seed(rank)
    model, guide = vae()
    elbo = Parallel(Trace_ELBO(), model, guide)
    for record in fit(model, guide, [tiny(rank)] * 3, elbo=elbo):
        if record.step == 1:
            model.decoder = VAE((1, 4, 4), 2).decoder
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def resumed(rank, folder):
    """Weights after four steps, and after two, a checkpoint, and two more by another pair."""
    path, batches, results = folder / "two.pt", [torch.rand(4, 1, 4, 4).round()] * 2, []
    for seed in range(2):
        torch.manual_seed(seed)
        model, guide = vae()
        optim = adam(model, guide)
        if seed:
            load_checkpoint(path, model, guide, optim=optim)
        elbo = Parallel(Trace_ELBO(), model, guide)
        if not seed:
            torch.manual_seed(rank)
            list(fit(model, guide, batches, elbo=elbo, optim=optim))
            save_checkpoint(path, model, guide, optim=optim, step=2)
        list(fit(model, guide, batches, elbo=elbo, optim=optim))
        noise = torch.rand(())
        results.append(
            torch.cat([p.detach().flatten() for p in guide.parameters()] + [noise[None]])
        )
    return results


def parse(out, *words):
    parser = flags("a test", out=str(out), steps=6, batch_size=8)
    return parser.parse_args(list(words))


def build(settings):
    model = VAE(**settings)
    return model, VAEGuide(model, hidden=4)


def program_of(args, kill=None):
    """As an example's main, with a loop that draws weights; interrupted in the body of a step, if asked."""
    run = Run(args)
    model, guide = run.restore(build, {"image_shape": (1, 4, 4), "code": 2})
    images = torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    training = run.training(model, guide, images, optim=adam(model, guide), elbo=Trace_ELBO())
    for step in training:
        if training.due(2):
            with training.row() as row:
                row["level"] = torch.rand(())
        if step == 4:
            nn.init.normal_(next(model.decoder.parameters()))
        if step == kill:
            break
    run.folder.is_open and run.folder.lock.release()
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in run.history]
    return rows, torch.cat(
        [p.detach().flatten() for p in (*model.parameters(), *guide.parameters())]
    )


def check_group(rank, folder):
    """All that one group of two processes is asked, into a file."""
    torch.set_num_threads(1)
    world.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    found = {"swapped": swapped(rank), "resumed": resumed(rank, folder)}
    found["whole"] = program_of(parse(folder / "whole"))
    program_of(parse(folder / "parts"), kill=3)
    found["parts"] = program_of(parse(folder / "parts", "--resume"))
    column = torch.full((3, 4), 1.0 + rank)[:, 1]
    broadcast([column, torch.zeros(0)])
    found["column"] = column
    model, guide = vae()
    elbo = Parallel(Trace_ELBO(), model, guide)
    found["sizes"] = refused(ValueError, elbo.loss_and_grads, model, guide, tiny(rank)[: 1 + rank])
    found["models"] = refused(ValueError, Parallel, Trace_ELBO(), *vae(code=2 + rank))
    found["losses"] = refused(
        TypeError, Parallel(ReweightedWakeSleep(), *vae()).loss_and_grads, *vae(), tiny(rank)
    )
    elbo = Parallel(Trace_ELBO(), bare, nothing)
    found["bare"] = refused(ValueError, elbo.loss_and_grads, bare, nothing, tiny(rank))
    if rank == 0:  # alone
        found["loss"] = elbo.loss(bare, nothing, tiny(rank))
    torch.set_default_dtype(torch.float64)
    for name, pair in PAIRS.items():
        found[name] = train(pair, rank, 2)
    torch.save(found, folder / f"{rank}.pt")


PAIRS = {"air": air, "econ": econ, "branches": branches}


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("group")
    multiprocessing.start_processes(check_group, (folder,), 2, start_method=FORKS)
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", PAIRS)
def test_two_processes_take_the_steps_of_one(group, name, double):
    weights, records, stepped = train(PAIRS[name], 0, 1)
    assert (records[:, 1] > 1.0).sum() > STEPS / 2  # the clip counts
    for others, their_records, theirs in (found[name] for found in group[1]):
        for one, other in zip(weights, others, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        torch.testing.assert_close(records, their_records, rtol=1e-12, atol=1e-12)
        assert stepped == theirs
    assert all(map(torch.equal, *(found[name][0] for found in group[1])))


def test_a_part_that_no_process_uses_is_not_stepped(group):
    model = Branches()
    assert group[1][0]["branches"][2] == len([*model.bright.parameters(), *model.dark.parameters()])


def test_a_part_that_is_swapped_in_is_shared(group):
    assert torch.equal(*(found["swapped"] for found in group[1]))


def test_going_on_equals_never_having_stopped(group):
    for found in group[1]:
        assert torch.equal(*found["resumed"])
    (*one, noise), (*other, noise_of_other) = (found["resumed"][0] for found in group[1])
    assert one == other and noise != noise_of_other


def test_a_checkpoint_of_two_processes_is_resumed_by_two(group):
    model, guide = vae()
    load_checkpoint(group[0] / "two.pt", model, guide)
    with pytest.raises(CheckpointError, match="processes.*is 2, here it is 1"):
        load_checkpoint(group[0] / "two.pt", model, guide, optim=adam(model, guide))


def test_a_run_of_two_processes_is_the_same_in_both_and_after_a_stop(group):
    runs = [found[name] for found in group[1] for name in ("whole", "parts")]
    for history, weights in runs:
        assert history == runs[0][0] and torch.equal(weights, runs[0][1])
    assert [row["step"] for row in runs[0][0]] == [2, 4, 6]
    kept = read_checkpoint(group[0] / "whole" / "checkpoint.pt")
    assert kept["step"] == 6 and kept["extra"]["args"]["processes"] == 2
    with pytest.raises(ValueError, match="had --processes 2: resume it with the same"):
        Run(parse(group[0] / "whole", "--resume"))


def test_a_tensor_of_any_layout_is_broadcast(group):
    assert all(found["column"].tolist() == [1.0, 1.0, 1.0] for found in group[1])


def test_what_differs_between_processes_is_refused_in_all(group):
    for found in group[1]:
        assert re.search("batches of different sizes", found["sizes"])
        assert re.search("different models or guides", found["models"])
        assert re.search("no loss that is one number", found["losses"])
        assert re.search("loc belongs to no module", found["bare"])
    assert group[1][0]["loss"] > 0


def test_a_group_must_have_been_started():
    with pytest.raises(RuntimeError, match="torchrun"):
        Parallel(Trace_ELBO(), *vae())


def test_another_object_is_no_elbo(unchecked):
    with pytest.raises(TypeError, match="such as Trace_ELBO"):
        Parallel(Trace_ELBO, *vae())


# --processes


def killed(args):
    """A training whose second process is killed at the third step."""
    rank = world.get_rank()
    Path(args.folder, f"pid_{rank}").write_text(f"{os.getpid()} {sys.stdout.name}")
    torch.set_num_threads(1)
    run = Run(args)
    model, guide = run.restore(build, {"image_shape": (1, 4, 4), "code": 2})
    training = run.training(
        model, guide, tiny(0).repeat(4, 1, 1, 1), optim=adam(model, guide), elbo=Trace_ELBO()
    )
    for step in training:
        if training.due(2):
            with training.row():
                pass
        if step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["program.py", *map(str, words)])
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    monkeypatch.setattr(program, "METHOD", FORKS)


def test_a_killed_process_ends_the_others(tmp_path, monkeypatch):
    command(monkeypatch, "--processes", "2", "--out", tmp_path / "out")
    parser = flags("a test", out="runs/test", steps=6, batch_size=8)
    parser.set_defaults(folder=str(tmp_path))
    with pytest.raises(SystemExit, match="process 1 of 2 was killed .SIGKILL.*--resume continues"):
        launch(killed, parser)
    for rank in range(2):
        pid, output = (tmp_path / f"pid_{rank}").read_text().split()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
        assert (output == os.devnull) == (rank > 0)
    assert read_checkpoint(tmp_path / "out" / "checkpoint.pt")["step"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", "7"], "cannot share a batch of 7"),
        (["--device", "cuda:1"], "--device cpu, or --device cuda and as many GPUs"),
        (["--device", "cuda", "--processes", "1000", "--batch-size", "2000"], "as many GPUs"),
        (["--evaluate", "x.pt"], "does not train"),
    ],
)
def test_what_processes_cannot_share_is_said_before_they_start(monkeypatch, words, message):
    command(monkeypatch, "--processes", "2", *words)
    with pytest.raises(SystemExit, match=message):
        launch(killed, flags("a test", out="runs/test", steps=6, batch_size=8, pretrained="air"))


def test_a_run_outside_launch_is_one_process(tmp_path):
    with pytest.raises(ValueError, match="by launch"):
        Run(parse(tmp_path, "--processes", "2"))
