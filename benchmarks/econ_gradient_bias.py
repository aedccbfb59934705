"""How far the gradient of ECON's competition is from that of the bound, which the sum over all sequences has.

    python benchmarks/econ_gradient_bias.py

ECON's guide draws experts from a competition whose probabilities carry no gradient (the paper's); with
``choice="enumerate"`` all K^T sequences are summed over, and they do. On the same scenes, mean gradients over
many draws are compared by their cosine and the ratio of their norms, for each group of parameters:

    drawn    experts drawn by competition, beside the sum; the noise of drawn experts is in it
    mean     the expectation of that over experts, at the codes of the sum: its bias alone
    floor    two independent estimates of the sum: what noise alone does to a cosine and a ratio

before training and after some steps of it (with the competition, as is the default).
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor

from pyro_scenes import ECON, ECONGuide, adam, fit
from pyro_scenes.data import batches, coloured_shapes
from pyro_scenes.experiment import positive
from pyro_scenes.networks import UNet

SHAPE = (3, 16, 16)
ELBO = TraceEnum_ELBO(max_plate_nesting=2)
GROUPS = {
    "decoders": "decoders.",
    "proposals": "proposals.",
    "attention": "attention.",
    "all": "",
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--experts", type=positive, default=3, metavar="K", help="(%(default)s)")
    add("--layers", type=positive, default=3, metavar="T", help="(%(default)s)")
    add("--images", type=positive, default=8, metavar="N", help="in a draw (%(default)s)")
    add("--draws", type=positive, default=60, metavar="N", help="of the sum (%(default)s)")
    add("--drawn", type=positive, default=600, metavar="N", help="of experts (%(default)s)")
    add("--steps", type=positive, default=100, metavar="N", help="of training (%(default)s)")
    add("--temperature", type=float, default=1.0, help="of competition, in nats (%(default)s)")
    add("--seed", type=int, default=0, help="(%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pyro.enable_validation(False)
    pyro.set_rng_seed(args.seed)
    scenes = coloured_shapes(1000, count=2, canvas=16, radius=3, colours="random").images
    stream = batches(scenes, 16, seed=args.seed)
    model = ECON(SHAPE, args.experts, args.layers)
    attention = [UNet(4, (16, 24, 32)) for _ in range(args.experts)]
    guide = ECONGuide(model, attention=attention, temperature=args.temperature)
    images = next(stream)[: args.images]
    print(f"{'steps':>6} {'group':10} {'drawn':>15} {'mean':>15} {'floor':>15}  (cosine, ratio)")
    report(0, args, model, guide, images)
    optim = adam(model, guide, lr=1e-3)
    for _ in fit(model, guide, islice(stream, args.steps), elbo=ELBO, optim=optim, clip=10.0):
        pass
    report(args.steps, args, model, guide, images)


def report(
    step: int, args: argparse.Namespace, model: ECON, guide: ECONGuide, images: Tensor
) -> None:
    """Prints the table's rows of these parameters."""

    attention, proposals = [*guide.attention], [*guide.proposals]
    exact = ECONGuide(
        model,
        attention=attention,
        proposals=proposals,
        temperature=guide.temperature,
        choice="enumerate",
    )
    drawn = mean_gradient(model, guide, images, args.drawn, seed=1)
    summed, again = (mean_gradient(model, exact, images, args.draws, seed=k) for k in (2, 3))
    with held(exact):
        expected = mean_gradient(model, exact, images, args.draws, seed=2)
    for group, prefix in GROUPS.items():
        columns = (compare(prefix, other, summed) for other in (drawn, expected, again))
        print(f"{step:6} {group:10} " + " ".join(columns), flush=True)


@contextmanager
def held(guide: ECONGuide) -> Iterator[None]:
    """Inside, the competition's probabilities carry no gradient."""
    compete: Callable[..., Any] = guide.compete
    guide.__dict__["compete"] = lambda *args: dist.Categorical(
        logits=compete(*args).logits.detach()
    )
    yield
    del guide.__dict__["compete"]


def mean_gradient(
    model: ECON, guide: ECONGuide, images: Tensor, draws: int, seed: int
) -> dict[str, Tensor]:
    """The gradient of each parameter, mean over draws."""
    torch.manual_seed(seed)
    named = dict([*model.named_parameters(), *guide.named_parameters()])
    for value in named.values():
        value.grad = None
    for _ in range(draws):
        ELBO.loss_and_grads(model, config_enumerate(guide), images)
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad / draws
        for name, value in named.items()
    }


def compare(prefix: str, one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    """The cosine, and the ratio of the norms, of parameters whose names start so."""
    flat = [
        torch.cat([grad.flatten() for name, grad in found.items() if name.startswith(prefix)])
        for found in (one, other)
    ]
    norms = [vector.norm() for vector in flat]
    cosine = flat[0] @ flat[1] / (norms[0] * norms[1])
    return f"{cosine:8.3f} {norms[0] / norms[1]:6.2f}"


if __name__ == "__main__":
    main(parser().parse_args())
