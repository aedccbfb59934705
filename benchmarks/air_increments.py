"""AIR's likelihood as one term at the end, or as an increment at each step: what does it change?

    python benchmarks/air_increments.py --data-root DIR

Both forms are the same joint density. Measured are (1) CPU milliseconds of a step under the exact sum
over counts, by the number of steps N; (2) the variance of the score-function gradient of the presence
head, without baselines, over draws at one set of weights; (3) training under TraceGraph_ELBO
with baselines: held-out count accuracy (mode, 1000 ``touching`` scenes), by step, for each seed.
Without --data-root, the built-in digits.
"""

import argparse
import time
from itertools import islice

import pyro
import torch
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from torch import Tensor

from pyro_scenes import AIR, AIRGuide, Persist, evaluation, fit, warm_up
from pyro_scenes.data import batches, mnist, multi_digits, strokes
from pyro_scenes.models.air import Scene, Seen


class AtTheEnd(AIR):
    """The likelihood after the loop, on the true canvas, which then depends on every presence."""

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        size = size if images is None else len(images)
        with pyro.plate("images", size, dim=-1):
            scene = Scene(0, self.blank.expand(size, *self.image_shape), self.blank.new_ones(size))
            for t in range(self.steps):  # no markov: the canvas remembers all
                scene, _ = self.step(t, scene)
            return pyro.sample("image", self.likelihood(scene.canvas), obs=images)


class Unrolled(AIRGuide):
    """The guide of :class:`AtTheEnd`: the same, without markov."""

    def forward(self, images: Tensor) -> None:
        with pyro.plate("images", len(images), dim=-1):
            nothing = self.nothing.expand(len(images), -1).split(self.sizes, -1)
            seen = Seen(self.embed(images), images.new_ones(len(images)), *nothing)
            for t in range(self.steps):
                seen = self.step(t, seen, images)


FORMS = {"increments": (AIR, AIRGuide), "at the end": (AtTheEnd, Unrolled)}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--steps", type=int, default=2500, metavar="N", help="of training (%(default)s)")
    add("--parts", nargs="+", default=["cost", "variance", "training"], help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    digits = mnist(args.data_root) if args.data_root else strokes()
    scenes = multi_digits(digits, 20_000)
    if "cost" in args.parts:
        cost(scenes.images[:64] / 255)
    if "variance" in args.parts:
        variance(scenes.images)
    if "training" in args.parts:
        for seed in args.seeds:
            for form in FORMS:
                training(form, seed, args.steps, scenes.images[1000:], scenes[:1000])


def cost(images: Tensor) -> None:
    for steps in (1, 2, 3, 6, 12):
        for form, (model, guide) in FORMS.items():
            if form == "at the end" and steps > 6:
                continue  # 2 ** 12 canvases for each image
            model = model(steps=steps)
            guide, elbo = config_enumerate(guide(model)), TraceEnum_ELBO(max_plate_nesting=1)
            elbo.loss_and_grads(model, guide, images)
            start, times = time.process_time(), 10
            for _ in range(times):
                elbo.loss_and_grads(model, guide, images)
            print(
                f"cost: N = {steps:2}, {form:10} {1e3 * (time.process_time() - start) / times:7.0f} CPU ms"
            )


def variance(images: Tensor, draws: int = 200) -> None:
    """At the weights after 1500 exact steps with increments, which both forms share."""
    pyro.set_rng_seed(0)
    trained = AIR()
    trained_guide = AIRGuide(trained)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    batch = images[:64] / 255
    for done in (0, 1500):
        for record in fit(trained, trained_guide, islice(batches(images, 64), done), elbo=elbo):
            trained.z_pres = Persist(warm_up(record.step))
        for form, (model, guide) in FORMS.items():
            model = model()
            guide = guide(model)
            model.load_state_dict(trained.state_dict())
            guide.load_state_dict(trained_guide.state_dict())
            guide.control = lambda h, z_pres: {}  # no baseline
            found = torch.stack([presence_gradient(model, guide, batch) for _ in range(draws)])
            error = (found.var(0).sum() / draws).sqrt().item()
            print(
                f"variance: after {done} steps, {form:10} total variance {found.var(0).sum().item():.4g}, "
                f"norm of the mean {found.mean(0).norm().item():.4g} +- {error:.2g}"
            )


def presence_gradient(model: AIR, guide: AIRGuide, images: Tensor) -> Tensor:
    guide.zero_grad()
    TraceGraph_ELBO().loss_and_grads(model, guide, images)
    return torch.cat([p.grad.flatten() for p in guide.z_pres.parameters()]) / len(images)


def training(form: str, seed: int, steps: int, images: Tensor, test) -> None:
    pyro.set_rng_seed(seed)
    model, guide = FORMS[form]
    model = model()
    guide = guide(model)
    curve, start = [], time.process_time()
    for record in fit(model, guide, islice(batches(images, 64, seed=seed), steps)):
        model.z_pres = Persist(warm_up(record.step))
        if record.step % 500 == 0:
            guide.eval()
            with torch.no_grad():
                mode = evaluation.count_probabilities(guide, test.images / 255).argmax(1)
            guide.train()
            curve.append(f"{record.step}: {evaluation.count_accuracy(mode, test.counts):.3f}")
    print(
        f"training: {form:10} seed {seed}  {', '.join(curve)}  {time.process_time() - start:.0f} CPU s"
    )


if __name__ == "__main__":
    main(parser().parse_args())
