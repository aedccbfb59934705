"""What a step of ECON costs beside a loop in plain torch of the same networks, and beside MONet.

    python benchmarks/econ_cost.py

All train the same kinds of networks on the same batch of 32 scenes: ECON by ``fit``; the same guide and
model by a bound written out by hand, with one draw, in a loop without traces (distributions are Pyro's
still); and a MONet of as many steps: one sprite decoder of variable shape, one U-Net, and MONet's mask
loss. They take turns, so that a busy machine
slows all; medians of all turns. Seconds are CPU.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import repeat
from statistics import median

import pyro
import torch
from pyro.distributions import Distribution
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from pyro_scenes import ECON, ECONGuide, adam, fit
from pyro_scenes.data import batches, coloured_shapes
from pyro_scenes.experiment import positive
from pyro_scenes.inference import MaskLoss
from pyro_scenes.models.econ_search import cost
from pyro_scenes.networks import ExpertAttention, SpriteDecoder, UNet

SHAPE = (3, 32, 32)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--turns", type=positive, default=10, metavar="N", help="of each (%(default)s)")
    add("--steps", type=positive, default=5, metavar="N", help="in a turn (%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pyro.enable_validation(False)
    images = next(batches(coloured_shapes(200, colours="random").images, 32))
    loops = {
        "ECON by fit": econ(images),
        "ECON without traces": plain(images),
        "MONet by fit": monet(images),
    }
    for loop in loops.values():
        spend(loop, args.steps)
    turns = [
        {name: spend(loop, args.steps) for name, loop in loops.items()} for _ in range(args.turns)
    ]
    for name in loops:
        spent = [1000 * turn[name] / args.steps for turn in turns]
        ratio = median(turn["ECON by fit"] / turn[name] for turn in turns)
        limits = f"{min(spent):.0f} to {max(spent):.0f}"
        print(
            f"{name}: {median(spent):.0f} ms a step ({limits}); ECON by fit takes {ratio:.2f} times"
        )


def spend(loop: Iterator, steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        next(loop)
    return time.process_time() - start


def econ(images: Tensor) -> Iterator:
    model = ECON()
    guide = ECONGuide(model)
    elbo = TraceEnum_ELBO(max_plate_nesting=2)
    return fit(model, guide, repeat(images), elbo=elbo, optim=adam(model, guide), clip=100.0)


def monet(images: Tensor) -> Iterator:
    decoder = SpriteDecoder(8, SHAPE, shape=3)
    model = ECON(SHAPE, experts=1, steps=5, code=8, decoders=[decoder], background=False)
    attention = ExpertAttention([UNet(4, (16, 24, 32), fold=2)])
    guide = ECONGuide(model, attention=attention)
    return fit(model, guide, repeat(images), elbo=MaskLoss(), optim=adam(model, guide), clip=100.0)


def plain(images: Tensor) -> Iterator:
    """Minus the bound given the experts, as ``cost`` writes it out, at one draw."""
    model = ECON()
    guide = ECONGuide(model)
    optim = adam(model, guide)
    weights = optim.param_groups[0]["params"]

    def take(name: str, proposal: Distribution, best: Tensor) -> Tensor:
        return proposal.rsample() if proposal.has_rsample else proposal.sample()

    while True:
        optim.zero_grad()
        loss = cost(model, images, guide.explain(images, take)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 100.0).item()
        optim.step()
        yield loss.item()


if __name__ == "__main__":
    main(parser().parse_args())
