"""Swap one part of AIR at a time, in one line, and train: priors, likelihoods, decoders, the guide's cell.

    python examples/swap_a_prior.py

First each swap takes a few steps on small scenes; the table says how the loss moved and that every parameter
was trained. Then, in the trained AIR that ships with the package, the count prior p(n) ~ 0.01^n is replaced
by a learned one: prior_counts.png shows both beside the guide's counts and the truth, of test scenes.
"""

import argparse
from functools import partial
from itertools import islice, repeat

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from pyro_scenes import (
    AIR,
    AIRGuide,
    Persist,
    Pixels,
    Prior,
    Product,
    evaluation,
    fit,
    load_pretrained,
    viz,
)
from pyro_scenes.data import Scenes, batches, digits, multi_digits
from pyro_scenes.experiment import Run, flags, launch
from pyro_scenes.random import fork_rng

ELBO = TraceEnum_ELBO(max_plate_nesting=1)
small = partial(AIR, (1, 25, 25), (1, 14, 14), code=8)


def beside(scene) -> dist.Distribution:
    """A pose near the one before: objects come in groups."""
    start = scene.canvas.new_tensor([3.0, 0.0, 0.0])  # on the model's device
    loc = start if scene.z_where is None else scene.z_where
    return dist.Normal(loc, scene.canvas.new_tensor([0.2, 0.5, 0.5])).to_event(1)


class Blob(nn.Module):
    """A decoder with the shape built in: a round blob whose size and brightness are all it can vary."""

    def __init__(self, code: int, side: int) -> None:
        super().__init__()
        self.layers = nn.Linear(code, 2)
        line = torch.linspace(-1, 1, side)
        self.register_buffer("radius", line[:, None] ** 2 + line**2)

    def forward(self, z_what: Tensor) -> Tensor:
        width, bright = torch.sigmoid(self.layers(z_what))[..., None, None, None].unbind(-4)
        return bright * torch.exp(-self.radius / (0.1 + width))


POSE = {"loc": [3.0, 0.0, 0.0], "scale": [0.2, 1.0, 1.0]}
SHIFT = Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.0, 1.0])
SCALE = Prior(dist.LogNormal, loc=[1.1], scale=[0.1])
# One line each. Site = keyword: whatever is given replaces p(site | scene), and nothing else changes.
SWAPS = {
    "as it is": small,
    "z_pres=learned": lambda: small(z_pres=Persist([0.5, 0.3, 0.1], learn=True)),
    "z_pres=function": lambda: small(z_pres=lambda scene: dist.Bernoulli(0.3 * scene.z_pres)),
    "z_where=StudentT": lambda: small(z_where=Prior(dist.StudentT, df=[4.0] * 3, **POSE)),
    "z_where=product": lambda: small(z_where=Product(scale=SCALE, shift=SHIFT)),
    "z_where=function": lambda: small(z_where=beside),
    "z_what=Laplace": lambda: small(z_what=Prior(dist.Laplace, loc=[0.0] * 8, scale=[1.0] * 8)),
    "z_what=one-hot": lambda: small(z_what=Prior(dist.OneHotCategorical, logits=[0.0] * 8)),
    "z_what=Beta": lambda: small(z_what=lambda scene: dist.Beta(torch.ones(8), 1).to_event(1)),
    "decoder=module": lambda: small(decoder=Blob(8, 14)),
    "image=Laplace": lambda: small(image=Pixels(dist.Laplace, scale=0.2)),
    "image=Bernoulli": lambda: small(image=Pixels(dist.Bernoulli)),
    "image=learned scale": lambda: small(image=Pixels(dist.Normal, scale=0.3, learn=True)),
    "image=function": lambda: small(image=lambda scene: dist.Normal(scene.canvas, 0.4).to_event(3)),
    "cell=nn.GRUCell": lambda: AIRGuide(small(), cell=nn.GRUCell),
    "cell=function": lambda: AIRGuide(small(), cell=partial(nn.RNNCell, nonlinearity="relu")),
}


def parser() -> argparse.ArgumentParser:
    return flags(__doc__, out="runs/swap_a_prior", data_root=True)


def main(args: argparse.Namespace) -> None:
    run, sets = Run(args), digits(args.data_root)
    size, held_out = (64, 32) if args.smoke else (20_000, 1_000)
    train = multi_digits(sets.train, size, seed=args.seed).images
    halves = nn.functional.avg_pool2d(train[:64].float(), 2)
    images = (halves > 127).float()  # 0 or 1, so that Bernoulli fits too
    for name, swap in SWAPS.items():
        try_out(name, swap(), images, steps=3 if args.smoke else 20)
    model, guide = (part.to(run.device) for part in load_pretrained("air"))
    learn_counts(model, guide, train, multi_digits(sets.test, held_out, seed=1_000_000), run)


def try_out(name: str, part: AIR | AIRGuide, images: Tensor, *, steps: int) -> None:
    """Trains a few steps on small scenes, with the estimator that trains baselines too."""
    guide = part if isinstance(part, AIRGuide) else AIRGuide(part)
    weights = [*guide.model.parameters(), *guide.parameters()]
    before = [weight.detach().clone() for weight in weights]
    losses = [record.loss for record in fit(guide.model, guide, repeat(images, steps))]
    trained = sum(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))
    print(f"{name:20} loss {losses[0]:6.1f} -> {losses[-1]:6.1f}  trained {trained}/{len(weights)}")


def learn_counts(model: AIR, guide: AIRGuide, train: Tensor, test: Scenes, run: Run) -> None:
    """Swaps the count prior for a learned one, and trains on."""
    prior, _, before = measure(model, guide, test.floats(run.device))
    model.z_pres = Persist([0.5] * model.steps, learn=True)  # the swap
    stream = batches(train, 64, seed=run.args.seed, device=run.device)
    stream = islice(stream, 3 if run.args.smoke else 400)
    optim = torch.optim.Adam(model.z_pres.parameters(), lr=0.05)  # the guide stays as it is
    list(fit(model, guide, stream, elbo=ELBO, optim=optim))
    learned, q, after = measure(model, guide, test.floats(run.device))
    shares = {"prior": prior, "learned prior": learned, "guide": q}
    shares["truth"] = test.counts.bincount(minlength=model.steps + 1) / len(test)
    run.figure("prior_counts", viz.bars(shares, x="objects", headline="Objects in a scene"))
    canvas = poutine.trace(model).get_trace(size=12).nodes["canvas"]["value"].detach()
    run.figure(
        "prior_samples", viz.annotated(canvas, headline="Scenes of the learned prior, some empty")
    )
    elbos = {"elbo": before, "elbo_learned": after, "elbo_gain": after - before}
    metrics = {name: elbo.mean().item() for name, elbo in elbos.items()}
    metrics |= {f"{k}_error": v.std().item() / len(v) ** 0.5 for k, v in elbos.items()}
    for name, row in shares.items():
        metrics |= {f"{name.replace(' ', '_')}_{n}": p for n, p in enumerate(row.tolist())}
    run.write(metrics)


@torch.no_grad()
def measure(model: AIR, guide: AIRGuide, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shares of counts 0 .. N in the prior, of the guide's sites, and in the guide; each image's ELBO."""
    p = evaluation.count_probabilities(lambda images: model(size=1), model.blank[None])[0]
    with fork_rng(0):
        elbo = evaluation.log_weights(model, guide, images, particles=10).mean(0)
        return p, evaluation.count_probabilities(guide, images).mean(0), elbo


if __name__ == "__main__":
    launch(main, parser())
