"""What a step of CST-VAE costs beside a loop in plain torch of the same networks, and where its time goes.

    python benchmarks/cst_vae_cost.py

Both train the same networks on the same batch: one by ``fit``, the other by an ELBO written out by hand,
without Pyro, which draws each layer once, where model and guide both draw those in front. They take turns,
so that a busy machine slows both; medians of all turns. Seconds are CPU.
"""

import argparse
import time
from itertools import repeat
from statistics import median

import pyro
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from pyro_scenes import CSTVAE, CSTVAEGuide, adam, fit
from pyro_scenes.conditionals.families import MARGIN
from pyro_scenes.data import batches, layered_digits, strokes
from pyro_scenes.experiment import positive

KINDS = {
    "matrix products": ("mm", "addmm"),
    "bilinear sampling": ("grid_sampler_2d", "grid_sampler_2d_backward"),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--turns", type=positive, default=20, metavar="N", help="of each (%(default)s)")
    add("--steps", type=positive, default=10, metavar="N", help="in a turn (%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pyro.enable_validation(False)
    images = next(batches(layered_digits(strokes(1000), 200).images, 100))
    for sweeps in (1, 2):
        model = CSTVAE()
        guide = CSTVAEGuide(model, sweeps=sweeps)
        ours, plain = (steps(f(model, guide, images)) for f in (with_pyro, without_pyro))
        ours(args.steps), plain(args.steps)
        turns = [(ours(args.steps), plain(args.steps)) for _ in range(args.turns)]
        pyros, plains = ([1000 * x / args.steps for x in xs] for xs in zip(*turns, strict=True))
        ratio = median(a / b for a, b in turns)
        print(
            f"sweeps={sweeps}: fit {median(pyros):.1f} ms, plain torch {median(plains):.1f} ms, "
            f"ratio {ratio:.2f} (of turns: {min(a / b for a, b in turns):.2f} to "
            f"{max(a / b for a, b in turns):.2f})"
        )
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            ours(args.steps)
        shares(seen)


def steps(training):
    def run(count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            next(training)
        return time.process_time() - start

    return run


def with_pyro(model: CSTVAE, guide: CSTVAEGuide, images: Tensor):
    elbo, optim = TraceMeanField_ELBO(), adam(model, guide)
    return fit(model, guide, repeat(images), elbo=elbo, optim=optim, clip=200.0)


def without_pyro(model: CSTVAE, guide: CSTVAEGuide, images: Tensor):
    optim = adam(model, guide)
    parameters = optim.param_groups[0]["params"]
    while True:
        optim.zero_grad()
        loss = by_hand(model, guide, images)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 200.0).item()
        optim.step()
        yield loss.item()


def by_hand(model: CSTVAE, guide: CSTVAEGuide, images: Tensor) -> Tensor:
    """The negative ELBO of (a) to (i), divergences in closed form."""
    divergence = 0.0

    def take(name, head, features):
        nonlocal divergence
        loc, raw = head.head(features).chunk(2, -1)
        loc, scale = head.start + loc, nn.functional.softplus(raw + head.spread) + 1e-4
        divergence = divergence + (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        return loc + scale * torch.randn_like(loc)

    def guess(name, head, features):
        return head.guess(features)

    known: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for i in [*range(model.layers)] * (guide.sweeps - 1):
            known[i] = model.render(*guide.see(images, known, i, guess))
    dark = 1.0
    for i in range(model.layers):
        known[i] = model.render(*guide.see(images, known, i, take))
        dark = dark * (1 - known[i][0])
    p = MARGIN + (1 - 2 * MARGIN) * (1 - dark)
    likelihood = (images * p.log() + (1 - images) * (1 - p).log()).flatten(1).sum(1)
    return (divergence - likelihood).mean()


def shares(seen: profile) -> None:
    events = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    for kind, names in KINDS.items():
        spent = sum(e.self_cpu_time_total for e in events if e.key.removeprefix("aten::") in names)
        print(f"    {kind}: {100 * spent / total:.0f} % of the operators' time")


if __name__ == "__main__":
    main(parser().parse_args())
