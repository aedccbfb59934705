"""Bounds of several particles: what they cost, and AIR trained by them for equal CPU seconds.

    python benchmarks/bounds.py

(1) CPU milliseconds of loss and gradients of AIR (50 x 50 pixels, N = 3) with 8 particles as copies of the
batch, beside a loop over 8 particles (``num_particles=8`` of Pyro's ELBOs), by the number of images.
(2) AIR on scenes of 0 to 2 digits, 25 x 25 pixels, trained by each estimator for ``--seconds`` CPU seconds of
one thread, evaluations not counted. On 500 validation scenes: the share whose count is right (the guide's
mode; floor: the commonest count), and on 200 of them bounds in nats (floor: no objects).
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from sweep import turns
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pyro_scenes import (
    AIR,
    AIRGuide,
    Importance,
    Persist,
    Pixels,
    Summed,
    evaluation,
    fit,
    warm_up,
)
from pyro_scenes.data import batches, digits, multi_digits
from pyro_scenes.experiment import natural, path, positive

PARTICLES = 8
PARTS = ("cost", "training")
ESTIMATORS: dict[str, Callable[[], ELBO]] = {
    "TraceGraph_ELBO": TraceGraph_ELBO,
    "Importance(5)": partial(Importance, 5),
    "TraceEnum_ELBO": partial(TraceEnum_ELBO, max_plate_nesting=1),
    "Summed(5)": partial(Summed, 5, max_plate_nesting=1),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seeds", type=natural, nargs="+", default=[0], metavar="N", help="(%(default)s)")
    add("--seconds", type=positive, default=55, metavar="N", help="of training (%(default)s)")
    add("--rounds", type=positive, default=10, metavar="N", help="of the timer (%(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    if "cost" in args.parts:
        for size in (4, 16, 64):
            cost(torch.rand(size, 1, 50, 50), args.rounds)
    if "training" in args.parts:
        sets = digits(args.data_root)
        scenes = [multi_digits(sets.train, 10_000), multi_digits(sets.validation, 500)]
        train, validation = (avg_pool2d(each.floats(), 2) for each in scenes)
        for seed, name in product(args.seeds, ESTIMATORS):
            training(name, seed, args.seconds, train, (validation, scenes[1].counts))


def cost(images: Tensor, rounds: int) -> None:
    model = AIR()
    guide = AIRGuide(model)
    exact = TraceEnum_ELBO(max_plate_nesting=1, num_particles=PARTICLES)
    loops = {"Trace_ELBO": Trace_ELBO(num_particles=PARTICLES), "TraceEnum_ELBO": exact}
    tall: dict[str, ELBO] = {
        gradient: Importance(PARTICLES, gradient=gradient) for gradient in ("iwae", "dreg", "wake")
    }
    tall["summed"] = Summed(PARTICLES, max_plate_nesting=1)
    steps = {
        name: partial(
            elbo.loss_and_grads, model, config_enumerate(guide) if elbo is exact else guide, images
        )
        for name, elbo in (loops | tall).items()
    }
    spent = turns(steps, rounds)
    for name in tall:
        loop = "TraceEnum_ELBO" if name == "summed" else "Trace_ELBO"
        print(
            f"cost: {len(images):2} images, {name:6} {spent[name]:5.0f} CPU ms, {loop} in a loop "
            f"{spent[loop]:5.0f}: {spent[name] / spent[loop]:.2f}"
        )


def training(
    name: str, seed: int, seconds: int, train: Tensor, validation: tuple[Tensor, Tensor]
) -> None:
    pyro.set_rng_seed(seed)
    # A pixel is the mean of four, so its noise is half that of 50 x 50.
    pixels = Pixels(dist.Normal, scale=0.15)
    model = AIR((1, 25, 25), (1, 14, 14), steps=3, code=20, image=pixels)
    guide = AIRGuide(model, hidden=128)
    if name == "TraceGraph_ELBO":
        print(f"training: seed {seed}, untrained: {scores(model, guide, *validation)}", flush=True)
    records = fit(model, guide, batches(train, 20, seed=seed), elbo=ESTIMATORS[name]())
    for quarter, step in quarters(model, records, seconds):
        found = scores(model, guide, *validation)
        print(f"training: seed {seed}, {name}, {quarter / 4:.0%}, step {step}: {found}", flush=True)


def quarters(model: AIR, records: Iterator, seconds: int) -> Iterator[tuple[int, int]]:
    """Trains, and stops at each quarter of the CPU seconds: its number, and the step."""
    spent, quarter, start = 0.0, 1, time.process_time()
    for record in records:
        model.z_pres = Persist(warm_up(record.step, over=300))
        if spent + time.process_time() - start >= quarter * seconds / 4:
            spent += time.process_time() - start
            yield quarter, record.step
            quarter, start = quarter + 1, time.process_time()
        if quarter > 4:
            return


def scores(model: AIR, guide: AIRGuide, images: Tensor, counts: Tensor) -> str:
    """Counts and bounds under the prior of presence that training ends with."""
    prior, model.z_pres = model.z_pres, Persist(0.01)
    model.eval(), guide.eval()
    with torch.no_grad():
        shares = evaluation.counting(guide, images, counts)
        images = images[:200]
        bounds = evaluation.estimate(evaluation.log_weights(model, guide, images, particles=10))
        summed = -Summed(10, max_plate_nesting=1).loss(model, guide, images) / len(images)
        empty = model.likelihood(model.blank.expand_as(images)).log_prob(images).mean().item()
    model.train(), guide.train()
    model.z_pres = prior
    return (
        f"counts {shares.count_accuracy:.3f} (commonest {shares.count_accuracy_floor:.3f}), ELBO "
        f"{bounds.elbo:.1f}, IWAE-10 {bounds.iwae:.1f}, Summed(10) {summed:.1f} (no objects {empty:.1f})"
    )


if __name__ == "__main__":
    main(parser().parse_args())
