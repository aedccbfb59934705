"""AIR's likelihood as one term at the end, or as an increment at each step: what does it change?

    python benchmarks/air_increments.py --data-root DIR

Both forms are the same joint density. Measured are (1) CPU milliseconds of a step under the exact sum over
counts, by the number of steps N; (2) the variance of the score-function gradient of the presence head,
without baselines; (3) training under TraceGraph_ELBO with them: count accuracy (mode) on 1000 ``touching``
validation scenes, by step, and the share of the commonest count. Without --data-root, the built-in digits.
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice, product

import pyro
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from sweep import turns
from torch import Tensor

from pyro_scenes import AIR, AIRGuide, Persist, evaluation, fit, warm_up
from pyro_scenes.data import Scenes, batches, digits, multi_digits
from pyro_scenes.experiment import natural, path, positive
from pyro_scenes.models.air import GuideState, Scene


class AtTheEnd(AIR):
    """The likelihood after the loop, on the true canvas, which then depends on every presence."""

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        size = size if images is None else len(images)
        with pyro.plate("images", size, dim=-1):
            scene = Scene(0, self.blank.expand(size, *self.image_shape), self.blank.new_ones(size))
            for t in range(self.steps):  # no markov: the canvas depends on all presences
                scene, _ = self.step(t, scene)
            return pyro.sample("image", self.likelihood(scene.canvas), obs=images)


class Unrolled(AIRGuide):
    """The guide of :class:`AtTheEnd`: the same, without markov."""

    def forward(self, images: Tensor) -> None:
        with pyro.plate("images", len(images), dim=-1):
            zeros = self.zeros.expand(len(images), -1).split(self.sizes, -1)
            state = GuideState(self.embed(images), images.new_ones(len(images)), *zeros)
            for t in range(self.steps):
                state = self.step(t, state, images)


FORMS = {"increments": (AIR, AIRGuide), "at the end": (AtTheEnd, Unrolled)}
PARTS = ("cost", "variance", "training")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seeds", type=natural, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--steps", type=positive, default=2500, metavar="N", help="of training (%(default)s)")
    add("--draws", type=positive, default=200, metavar="N", help="of the gradient (%(default)s)")
    add("--rounds", type=positive, default=10, metavar="N", help="of the timer (%(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    sets = digits(args.data_root)
    train, validation = multi_digits(sets.train, 20_000), multi_digits(sets.validation, 1000)
    if "cost" in args.parts:
        cost(train[:64].floats(), args.rounds)
    if "variance" in args.parts:
        variance(train.images, args)
    if "training" in args.parts:
        for seed, form in product(args.seeds, FORMS):
            training(form, seed, args.steps, train.images, validation)


def cost(images: Tensor, rounds: int) -> None:
    for steps in (1, 2, 3, 6, 12):
        # At the end, 12 steps would paint 2^12 canvases for each image.
        losses = {f: exact(f, steps, images) for f in FORMS if f == "increments" or steps <= 6}
        for form, spent in turns(losses, rounds).items():
            print(f"cost: N = {steps:2}, {form:10} {spent:7.0f} CPU ms")


def exact(form: str, steps: int, images: Tensor) -> Callable[[], float]:
    """Loss and gradients under the exact sum over counts, to be called."""
    kind, guide_kind = FORMS[form]
    model = kind(steps=steps)
    guide, elbo = config_enumerate(guide_kind(model)), TraceEnum_ELBO(max_plate_nesting=1)
    return lambda: elbo.loss_and_grads(model, guide, images)


def variance(images: Tensor, args: argparse.Namespace) -> None:
    """At first, and at the weights that an exact training with increments reaches, which both forms share."""
    pyro.set_rng_seed(0)
    trained = AIR()
    trained_guide, elbo = AIRGuide(trained), TraceEnum_ELBO(max_plate_nesting=1)
    batch = images[:64] / 255
    for steps in (0, min(1500, args.steps)):
        for record in fit(trained, trained_guide, islice(batches(images, 64), steps), elbo=elbo):
            trained.z_pres = Persist(warm_up(record.step))
        for form, (kind, guide_kind) in FORMS.items():
            model = kind(z_pres=trained.z_pres)
            guide = guide_kind(model)
            model.load_state_dict(trained.state_dict())
            guide.load_state_dict(trained_guide.state_dict())
            draws = torch.stack([gradient(model, guide, batch) for _ in range(args.draws)])
            total = draws.var(0).sum()
            print(
                f"variance: after {steps} steps, {form:10} total variance {total.item():.4g}, norm of the "
                f"mean {draws.mean(0).norm().item():.4g} +- {(total / len(draws)).sqrt().item():.2g}"
            )


def gradient(model: AIR, guide: AIRGuide, images: Tensor) -> Tensor:
    """One draw of the presence head's, without a baseline."""
    guide.zero_grad()
    plain = poutine.infer_config(guide, lambda site: {"baseline": {}})
    TraceGraph_ELBO().loss_and_grads(model, plain, images)
    return torch.cat([p.grad.flatten() for p in guide.z_pres.parameters()]) / len(images)


def training(form: str, seed: int, steps: int, images: Tensor, validation: Scenes) -> None:
    pyro.set_rng_seed(seed)
    kind, guide_kind = FORMS[form]
    model = kind()
    guide = guide_kind(model)
    curve, start = [], time.process_time()
    for record in fit(model, guide, islice(batches(images, 64, seed=seed), steps)):
        model.z_pres = Persist(warm_up(record.step))
        if record.step % 500 == 0 or record.step == steps:
            guide.eval()
            with torch.no_grad():
                shares = evaluation.counting(guide, validation.floats(), validation.counts)
            guide.train()
            curve.append(f"{record.step}: {shares.count_accuracy:.3f}")
    curve.append(f"commonest count {shares.count_accuracy_floor:.3f}")
    spent = time.process_time() - start
    print(f"training: {form:10} seed {seed}  {', '.join(curve)}  {spent:.0f} CPU s")


if __name__ == "__main__":
    main(parser().parse_args())
