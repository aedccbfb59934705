"""Swap one part of AIR at a time, in one line, and train: priors, likelihoods, decoders, the guide's cell.

    python examples/swap_a_prior.py

First each swap takes a few steps on small scenes; the table says how the loss moved and that every
parameter of model and guide was trained. Then the count prior, fixed at p(n) ~ 0.01^n while AIR learns
what an object is, is replaced by a learned one: prior_counts.png shows what the prior says before and
after, beside the counts that the guide finds.
"""

import argparse
from collections.abc import Callable
from itertools import islice, repeat

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from pyro_scenes import AIR, AIRGuide, Persist, Pixels, Prior, adam, evaluation, fit, viz, warm_up
from pyro_scenes.data import batches, mnist, multi_digits, strokes
from pyro_scenes.experiment import Run, flags, launch
from pyro_scenes.networks import mlp
from pyro_scenes.random import fork_rng

SMALL = {"image_shape": (1, 25, 25), "window": (1, 14, 14), "code": 8}


def beside(scene) -> dist.Distribution:
    """A pose near the one before: objects come in groups."""
    start = scene.canvas.new_tensor([3.0, 0.0, 0.0])  # on the model's device
    loc = start if scene.z_where is None else scene.z_where
    return dist.Normal(loc, scene.canvas.new_tensor([0.2, 0.5, 0.5])).to_event(1)


class Blob(nn.Module):
    """A decoder with the shape built in: a round blob whose size and brightness are all it can vary."""

    def __init__(self, code: int, side: int) -> None:
        super().__init__()
        self.layers = mlp(code, 2)
        line = torch.linspace(-1, 1, side)
        self.register_buffer("radius", line[:, None] ** 2 + line**2)

    def forward(self, z_what: Tensor) -> Tensor:
        width, bright = torch.sigmoid(self.layers(z_what))[..., None, None, None].unbind(-4)
        return bright * torch.exp(-self.radius / (0.1 + width))


# One line each. Site = keyword: whatever is given replaces p(site | scene), and nothing else changes.
MODELS: dict[str, Callable[[], AIR]] = {
    "as it is": lambda: AIR(**SMALL),
    "z_pres=module": lambda: AIR(**SMALL, z_pres=Persist([0.5, 0.3, 0.1], learn=True)),
    "z_pres=function": lambda: AIR(
        **SMALL, z_pres=lambda scene: dist.Bernoulli(0.3 * scene.z_pres)
    ),
    "z_where=module": lambda: AIR(
        **SMALL,
        z_where=Prior(dist.StudentT, df=[4.0] * 3, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0]),
    ),
    "z_where=learned": lambda: AIR(
        **SMALL, z_where=Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0], learn=True)
    ),
    "z_where=function": lambda: AIR(**SMALL, z_where=beside),
    "z_what=module": lambda: AIR(
        **SMALL, z_what=Prior(dist.Laplace, loc=[0.0] * 8, scale=[1.0] * 8)
    ),
    "z_what=function": lambda: AIR(
        **SMALL, z_what=lambda scene: dist.Beta(torch.ones(8), torch.ones(8)).to_event(1)
    ),
    "decoder=module": lambda: AIR(**SMALL, decoder=Blob(8, 14)),
    "decoder=function": lambda: AIR(
        **SMALL,
        decoder=lambda z: torch.sigmoid(z[..., :1] - 2)[..., None, None].expand(
            *z.shape[:-1], 1, 14, 14
        ),
    ),
    "image=Laplace": lambda: AIR(**SMALL, image=Pixels(dist.Laplace, scale=0.2)),
    "image=Bernoulli": lambda: AIR(**SMALL, image=Pixels(dist.Bernoulli)),
    "image=learned scale": lambda: AIR(**SMALL, image=Pixels(dist.Normal, scale=0.3, learn=True)),
    "image=function": lambda: AIR(
        **SMALL, image=lambda scene: dist.Normal(scene.canvas, 0.1 + 0.2 * scene.canvas).to_event(3)
    ),
}
GUIDES: dict[str, Callable[[AIR], AIRGuide]] = {
    "cell=nn.GRUCell": lambda model: AIRGuide(model, cell=nn.GRUCell),
    "cell=function": lambda model: AIRGuide(
        model, cell=lambda inputs, hidden: nn.RNNCell(inputs, hidden, nonlinearity="relu")
    ),
}


def parser() -> argparse.ArgumentParser:
    return flags(__doc__, out="runs/swap_a_prior", steps=2000)


def main(args: argparse.Namespace) -> None:
    run = Run(args)
    for name, build in MODELS.items():
        table(name, model := build(), AIRGuide(model), args)
    for name, build in GUIDES.items():
        table(name, model := AIR(**SMALL), build(model), args)
    learn_counts(run, args)


def table(name: str, model: AIR, guide: AIRGuide, args: argparse.Namespace) -> None:
    """Trains a few steps on small scenes, with the estimator that trains baselines too."""
    digits = strokes(300)
    scenes = multi_digits((digits[0][:, ::2, ::2], digits[1]), 64, canvas=32, seed=args.seed)
    images = (scenes.images[..., 3:28, 3:28] > 127).float()  # 0 or 1, so that Bernoulli fits too
    weights = [*model.parameters(), *guide.parameters()]
    before = [weight.detach().clone() for weight in weights]
    with pyro.validation_enabled(True):
        records = fit(model, guide, repeat(images, 3 if args.smoke else 20))
        losses = [record.loss for record in records]
    trained = sum(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))
    print(
        f"{name:22} loss {losses[0]:8.1f} -> {losses[-1]:8.1f}   trained {trained}/{len(weights)}"
    )


def learn_counts(run: Run, args: argparse.Namespace) -> None:
    """Trains AIR under its fixed prior, then swaps the count prior for a learned one and trains on."""
    size, held_out = (64, 32) if args.smoke else (20_000, 1_000)
    digits = mnist(args.data_root) if args.data_root else strokes()
    scenes = multi_digits(digits, size + held_out, seed=args.seed)
    train, test = scenes[held_out:], run.floats(scenes[:held_out].images)
    model = AIR().to(run.device)
    guide = AIRGuide(model).to(run.device)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)

    def warm(step: int) -> None:
        model.z_pres = Persist(warm_up(step, over=min(500, args.steps // 2 + 1)))

    run.fit(
        model,
        guide,
        train.images,
        optim=adam(model, guide),
        elbo=elbo,
        evaluate=lambda step: {},
        before=warm,
    )
    rows = {"prior, fixed": prior_counts(model)}
    elbos = {"elbo_fixed_prior": bound(model, guide, test, args.seed)}

    model.z_pres = Persist([0.5] * model.steps, learn=True)  # the swap

    stream = batches(train.images, args.batch_size, seed=args.seed + 1, device=run.device)
    optim = torch.optim.Adam(model.z_pres.parameters(), lr=0.05)  # the guide stays as it is
    for _ in fit(model, guide, islice(stream, 3 if args.smoke else 400), elbo=elbo, optim=optim):
        pass
    rows["prior, learned"] = prior_counts(model)
    elbos["elbo_learned_prior"] = bound(model, guide, test, args.seed)
    with torch.no_grad(), fork_rng(args.seed):
        found = evaluation.count_probabilities(guide, test).mean(0)
    rows["guide, held-out images"] = found.cpu().numpy()
    report(run, model, rows, elbos)


def report(run: Run, model: AIR, rows: dict[str, np.ndarray], elbos: dict[str, float]) -> None:
    """Counts as bars and numbers, and what the model with the learned prior draws."""
    with torch.no_grad(), fork_rng(run.args.seed):
        drawn = poutine.trace(model).get_trace(size=12).nodes
    names = {"canvas": "learned prior, canvas", "image": "the same with pixel noise"}
    pictures = {name: drawn[site]["value"].cpu().numpy() for site, name in names.items()}
    run.figure("prior_samples", viz.pictures(pictures))
    run.figure("prior_counts", viz.bars(rows, x="count"))
    metrics = dict(elbos)
    for name, row in rows.items():
        print(f"{name:24}", "  ".join(f"p({n}) = {p:.3f}" for n, p in enumerate(row)))
        key = name.replace(",", "").replace(" ", "_")
        metrics |= {f"{key}_{n}": float(p) for n, p in enumerate(row)}
    run.write(metrics)


def prior_counts(model: AIR) -> np.ndarray:
    """p(n) for n = 0 .. N: the prior draws its objects in the same sites as the guide does."""
    with torch.no_grad():
        return (
            evaluation.count_probabilities(lambda images: model(size=1), model.blank[None])[0]
            .cpu()
            .numpy()
        )


@torch.no_grad()
def bound(model: AIR, guide: AIRGuide, images: Tensor, seed: int) -> float:
    """ELBO per image, in nats, from ten draws."""
    with fork_rng(seed):
        return evaluation.log_weights(model, guide, images, particles=10).mean().item()


if __name__ == "__main__":
    launch(main, parser())
