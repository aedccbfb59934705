"""AIR (Eslami et al., 2016) learns to count, place and draw digits that nobody labelled.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/air_multi_mnist.py

With MNIST (its four files in DIR/MNIST/raw), or with pictures of your own, bright objects on black that are
about a fifth of the canvas wide:

    python examples/air_multi_mnist.py --data-root DIR --out runs/air_mnist
    python examples/air_multi_mnist.py --images FOLDER --scale 0.2 --out runs/mine
    python examples/air_multi_mnist.py --images NEW --evaluate runs/mine/checkpoint.pt --out runs/new

metrics.json has the figures on test scenes, metrics.csv those on validation scenes over time.
"""

import argparse

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO
from torch import Tensor

from pyro_scenes import AIR, AIRGuide, Persist, Pixels, adam, evaluation, experiment, viz
from pyro_scenes.criticism import to_arviz
from pyro_scenes.data import Scenes, digits, multi_digits
from pyro_scenes.experiment import Run, flags, launch, path, rate, remember, share, sides, up_to
from pyro_scenes.inference import falling, scale_lr, warm_up
from pyro_scenes.random import fork_rng
from pyro_scenes.recipes import air_pair, as_trained, noise_at

ELBOS = {"exact": TraceEnum_ELBO(max_plate_nesting=1), "graph": TraceGraph_ELBO()}


def parser() -> argparse.ArgumentParser:
    parser = flags(
        __doc__, out="runs/air_multi_mnist", steps=2400, data_root=True, pretrained="air"
    )
    add = parser.add_argument
    add("--elbo", choices=ELBOS, default="exact", help="exact sum over counts, or score function")
    add("--objects", type=up_to(100), default=3, metavar="N", help="most in a scene (%(default)s)")
    add("--images", type=path, metavar="PATH", help=experiment.IMAGES)
    text = "width of an object, as a share of the image's (a third)"
    add("--scale", type=share, default=1 / 3, metavar="S", help=text)
    text = "height and width of a glimpse in pixels (1.7 times an object's)"
    add("--window", type=sides, metavar="HxW", help=text)
    text = "standard deviation of a pixel (%(default)s)"
    add("--noise", type=rate, default=0.1, metavar="S", help=text)
    add("--lr", type=rate, default=1e-3, metavar="RATE", help="learning rate of Adam (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    if args.images and args.data_root:
        raise ValueError("--images and --data-root are two sources of scenes: give one of them")
    run = Run(args, evaluate=args.evaluate)
    train, validation, tests = scenes(run)
    shape = list(tests[""].images.shape[1:])
    settings = {"image_shape": shape, "steps": args.objects}
    settings |= {"window": args.window, "scale": args.scale, "noise": args.noise}
    model, guide = run.restore(lambda kept: air_pair(**kept), settings)
    if not args.evaluate:
        learn(model, guide, train, validation, run)
    print("measuring on the test scenes, and drawing", flush=True)
    as_trained(model, run.settings.get("noise", 0.3))
    with torch.no_grad(), fork_rng(args.seed):
        numbers = {kind: score(model, guide, tests[kind], kind, run) for kind in tests}
        run.write(run.costs(), *numbers.values())
        figures(model, guide, tests[""], run)
        print(experiment.count_verdict(model, guide, tests[""], numbers[""]))
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def scenes(run: Run) -> tuple[Scenes, Scenes, dict[str, Scenes]]:
    """Training and validation scenes, and test scenes by the suffix of their metrics."""
    args = run.args
    mine = experiment.own_scenes(run, most=None if args.evaluate else args.objects, on_black=True)
    if mine is not None:
        split = experiment.divide(run, mine)
        return split.train, split.validation[:1000], {"": split.test}
    pen = digits(args.data_root)
    size, held_out = (60_000, 10_000) if args.data_root else (20_000, 2_000)
    size, held_out = (64, 32) if args.smoke else (size, held_out)
    # Those for validation and tests are the same for all seeds.
    kinds = {"": "touching", "_disjoint": "disjoint"}
    tests = {k: multi_digits(pen.test, held_out, kind=kinds[k], seed=1_000_000) for k in kinds}
    validation = multi_digits(pen.validation, min(held_out, 1000), seed=2_000_000)
    return multi_digits(pen.train, 1 if args.evaluate else size, seed=args.seed), validation, tests


def learn(model: AIR, guide: AIRGuide, train: Scenes, validation: Scenes, run: Run) -> None:
    """Trains both: first that there are objects (warm_up), then how many, then their details (noise_at)."""
    steps, noise = run.args.steps, run.settings["noise"]
    over = min(500, steps // 2 + 1)
    remember(run, train, validation)
    optim, elbo = adam(model, guide, lr=run.args.lr), ELBOS[run.args.elbo]
    training = run.training(model, guide, train.images, optim=optim, elbo=elbo)
    images = validation.floats(run.device)
    for step in training:
        scale_lr(optim, falling(step, steps))
        if not run.pretrained:
            model.z_pres = Persist(warm_up(step, over=over))
            model.image = Pixels(dist.Normal, scale=noise_at(step, steps, noise))
        if training.due(early=(0, 50, 100)):
            with training.row() as row:
                row["validation_elbo"] = evaluation.log_weights(model, guide, images).mean()
                if validation.counts is not None:
                    right = evaluation.counting(guide, images, validation.counts)
                    row["count_accuracy"] = right.count_accuracy
    marks = {"warm-up ends": over}
    if noise_at(0, steps, noise) != noise:
        marks[f"noise is {noise:g}: another bound"] = 0.6 * steps
    run.figure("curves", viz.curves(run.history, marks=None if run.pretrained else marks))


def score(model: AIR, guide: AIRGuide, test: Scenes, kind: str, run: Run) -> dict:
    """Bounds on up to 500 scenes, beside that of seeing no object; counts on all scenes."""
    images, particles = test.floats(run.device), 5 if run.args.smoke else 100
    weights = evaluation.log_weights(model, guide, images[:500], particles=particles)
    floor = model.likelihood(model.blank).log_prob(images[:500]).mean().item()
    metrics = evaluation.estimate(weights)._asdict() | {"elbo_floor": floor}
    if test.counts is not None:
        metrics |= evaluation.counting(guide, images, test.counts)._asdict()
    return {name + kind: value for name, value in metrics.items()}


def figures(model: AIR, guide: AIRGuide, test: Scenes, run: Run) -> None:
    """Figures, of scenes with objects and two without, and draws for ArviZ."""
    order = test.empty().int().argsort(stable=True)
    some, test = test[torch.cat([order[:22], order[22:][-2:]])], test[order]
    scene = evaluation.interpret(model, guide, some.floats(run.device))
    run.figure("scenes", viz.counted(some.images, scene.boxes, scene.counts, some.counts))
    run.figure("reconstructions", viz.objects_found(some.images, scene, some.counts))
    rows = {f"given n = {n}": prior(model, n) for n in range(1, min(model.steps, 6) + 1)}
    headline = "Scenes of the prior, given the number n of objects"
    run.figure("prior", viz.pictures(rows, headline=headline))
    images = test[:50].floats(run.device)
    run.netcdf("inference_data", to_arviz(model, guide, images, draws=20, seed=run.args.seed))


def prior(model: AIR, count: int) -> Tensor:
    """Canvases of the prior given the count: without it nearly all would be empty (p(n) ~ 0.01^n)."""
    present = {f"z_pres_{t}": model.blank.new_full((8,), t < count) for t in range(model.steps)}
    trace = poutine.trace(poutine.condition(model, data=present)).get_trace(size=8)
    return trace.nodes["canvas"]["value"]


if __name__ == "__main__":
    launch(main, parser())
