"""What a step of CST-VAE costs beside a loop in plain torch of the same networks, and where its time goes.

    python benchmarks/cst_vae_cost.py

Both train the same networks on the same batch: one by ``fit``, the other by an ELBO written out by hand,
without traces, which draws each layer once, where model and guide both draw those in front. They take turns,
so that a busy machine slows both; medians of all turns, in CPU milliseconds.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import islice, repeat

import pyro
import torch
from pyro.distributions import Distribution
from pyro.infer import TraceMeanField_ELBO
from sweep import turns
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from pyro_scenes import CSTVAE, CSTVAEGuide, adam, fit
from pyro_scenes.conditionals.families import MIN_PROBABILITY
from pyro_scenes.data import batches, layered_digits, strokes
from pyro_scenes.experiment import positive
from pyro_scenes.handlers import point_estimate
from pyro_scenes.models.st_vae import Layer
from pyro_scenes.render import inverse, warp

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
        loops = {"fit": by_fit(model, guide, images), "plain torch": by_hand(model, guide, images)}
        steps = {name: lambda loop=loop: take(loop, args.steps) for name, loop in loops.items()}
        spent = {name: time / args.steps for name, time in turns(steps, args.turns).items()}
        times = ", ".join(f"{name} {time:.1f} ms" for name, time in spent.items())
        print(f"sweeps={sweeps}: {times}, ratio {spent['fit'] / spent['plain torch']:.2f}")
        with profile(activities=[ProfilerActivity.CPU]) as events:
            take(loops["fit"], args.steps)
        print_shares(events)


def take(loop: Iterator, steps: int) -> None:
    for _ in islice(loop, steps):
        pass


def by_fit(model: CSTVAE, guide: CSTVAEGuide, images: Tensor) -> Iterator:
    elbo, optim = TraceMeanField_ELBO(), adam(model, guide)
    return fit(model, guide, repeat(images), elbo=elbo, optim=optim, clip=200.0)


def by_hand(model: CSTVAE, guide: CSTVAEGuide, images: Tensor) -> Iterator[float]:
    optim = adam(model, guide)
    parameters = optim.param_groups[0]["params"]
    while True:
        optim.zero_grad()
        loss = negative_elbo(model, guide, images)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 200.0).item()
        optim.step()
        yield loss.item()


def negative_elbo(model: CSTVAE, guide: CSTVAEGuide, images: Tensor) -> Tensor:
    """That of (a) to (i) per image, divergences in closed form."""
    divergence = 0.0

    def draw(proposal: Distribution) -> Tensor:
        nonlocal divergence
        loc, scale = proposal.base_dist.loc, proposal.base_dist.scale
        divergence = divergence + (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        return loc + scale * torch.randn_like(loc)

    known: dict[int, Layer] = {}
    with torch.no_grad():
        for i in [*range(model.layers)] * (guide.sweeps - 1):
            known[i] = recognise(guide, images, known, i, point_estimate)
    uncovered = torch.ones_like(images)
    for i in range(model.layers):
        known[i] = recognise(guide, images, known, i, draw)
        uncovered = uncovered * (1 - known[i].picture)
    p = MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * (1 - uncovered)
    likelihood = (images * p.log() + (1 - images) * (1 - p).log()).flatten(1).sum(1)
    return (divergence - likelihood).mean()


def recognise(
    guide: CSTVAEGuide,
    images: Tensor,
    known: dict[int, Layer],
    i: int,
    value: Callable[[Distribution], Tensor],
) -> Layer:
    """(g) to (i): layer i, given the others that are known."""
    residual = guide.residual(images, known, i)
    picture = torch.cat([residual, images - residual], -3)
    transform = guide.model.pose(value(guide.z_where(picture, guide.model.pose)))
    glimpse = warp(picture, inverse(transform), guide.window)
    return guide.model.render(transform, value(guide.z_what(guide.encode(glimpse))))


def print_shares(events: profile) -> None:
    averages = events.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    for kind, names in KINDS.items():
        own = (event for event in averages if event.key.removeprefix("aten::") in names)
        share = sum(event.self_cpu_time_total for event in own) / total
        print(f"    {kind}: {100 * share:.0f} % of the operators' time")


if __name__ == "__main__":
    main(parser().parse_args())
