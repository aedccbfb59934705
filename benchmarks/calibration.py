"""How far trained guides are from their models' posteriors, by simulation-based calibration.

    python benchmarks/calibration.py --data-root DIR

The scenes are the model's own draws, not data: what is tested is the guide as an inverse of its model. Three
guides of each model, AIR and CST-VAE with the weights that ship, ST-VAE trained briefly on one digit:

* untrained, the floor;
* data: trained with the model on scenes of digits, as users have it;
* draws: the same, trained for some more steps on the model's own draws, the model frozen.

AIR believes in 0, 1 and 2 objects alike, as many as its data have; with the prior it was trained with, 0.01,
nearly all its draws are empty. Printed, by kind of quantity: coverage of central intervals, the mean over the
kind's quantities, and the least p-value times the number of quantities. Without --data-root, the built-in
digits.
"""

import argparse
import re
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
import xarray as xr
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pyro_scenes import AIRGuide, CSTVAEGuide, Persist, STVAEGuide, adam, fit, load_pretrained
from pyro_scenes.criticism import calibration, sbc
from pyro_scenes.data import batches
from pyro_scenes.experiment import layered_split, natural, path, positive
from pyro_scenes.inference import Weighted, falling, ramp, scale_lr
from pyro_scenes.recipes import layered_digits_pair

UNTRAINED = {"air": AIRGuide, "st_vae": STVAEGuide, "cst_vae": CSTVAEGuide}
KINDS = ("count", "z_where", "z_what", "log_p")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pairs", nargs="+", choices=UNTRAINED, default=[*UNTRAINED], help="(all three)")
    add("--data-root", type=path, metavar="DIR", help="with MNIST/raw, for ST-VAE")
    add("--data-steps", type=natural, default=1500, metavar="N", help="of ST-VAE (%(default)s)")
    add("--draws-steps", type=natural, default=600, metavar="N", help="on draws (%(default)s)")
    add("--simulations", type=positive, default=400, metavar="N", help="(%(default)s)")
    add("--draws", type=positive, default=29, metavar="L", help="for each (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in args.pairs:
        torch.manual_seed(0)
        for kind, (model, guide) in guides(name, args):
            start, number = time.process_time(), (args.simulations, args.draws)
            ranks = sbc(model.eval(), guide.eval(), simulations=number[0], draws=number[1], seed=0)
            spent = time.process_time() - start
            print(
                f"{name}, guide {kind}: ranks in {spent:.0f} CPU seconds\n{table(ranks)}",
                flush=True,
            )


def guides(name: str, args: argparse.Namespace) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The model with each of its guides, in turn."""
    if name == "st_vae":
        model, guide = layered_digits_pair(name, (1, 36, 36), 1)
        scenes = layered_split("translated", args.data_root).train.images
        train(model, guide, batches(scenes, 100), args.data_steps)
    else:
        model, guide = load_pretrained(name)
    if name == "air":
        model.z_pres = Persist([2 / 3, 1 / 2, 0.0])
    model.requires_grad_(False)
    yield "untrained", (model, UNTRAINED[name](model))
    yield "data", (model, guide)
    train(model, guide, own_draws(model, 64), args.draws_steps)
    yield "draws", (model, guide)


@torch.no_grad()
def own_draws(model: Any, size: int) -> Iterator[Tensor]:
    while True:
        yield model(size=size)


def train(model: Any, guide: Any, images: Iterator[Tensor], steps: int) -> None:
    """By the ELBO. On data, with the model, and latents cost nothing at first."""
    start, on_data = time.process_time(), any(p.requires_grad for p in model.parameters())
    exact = isinstance(guide, AIRGuide)
    inner = TraceEnum_ELBO(max_plate_nesting=1) if exact else TraceMeanField_ELBO()
    elbo, optim = Weighted(inner), adam(model, guide, lr=2e-3 if on_data else 5e-4)
    pair, stream = (model.train(on_data), guide.train()), islice(images, steps)
    for record in fit(*pair, stream, elbo=elbo, optim=optim, clip=200.0):
        scale_lr(optim, falling(record.step, steps))
        if on_data:
            elbo.weights = dict.fromkeys(("z_where", "z_what"), ramp(record.step, over=0.4 * steps))
    print(f"trained {steps} steps in {time.process_time() - start:.0f} CPU seconds", flush=True)


def table(ranks: xr.Dataset) -> str:
    found, lines = calibration(ranks), []
    for kind in KINDS:
        some = [result for name, result in found.items() if kind_of(name) == kind]
        if some:
            half, most = (
                np.mean([result.coverage[level] for result in some]) for level in (0.5, 0.9)
            )
            p = min(1.0, len(found) * min(result.p for result in some))
            mean = np.mean([result.mean for result in some])
            lines.append(
                f"  {kind:8} {half:.3f} {most:.3f}  mean {mean:.3f}  p {p:.2g}  of {len(some)}"
            )
    return "\n".join(lines)


def kind_of(quantity: str) -> str:
    """Poses are z_where, their sums and their ends."""
    return re.sub("^(sum|least|most) ", "", quantity).split("[")[0]


if __name__ == "__main__":
    main(parser().parse_args())
