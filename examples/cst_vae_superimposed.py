"""CST-VAE (Huang and Murphy, 2016) learns to take overlapping digits apart that nobody labelled.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/cst_vae_superimposed.py --quick

With MNIST (its four files in DIR/MNIST/raw), the other models and data of the paper, and pictures of your
own, two bright objects each on black, 20 pixels large:

    python examples/cst_vae_superimposed.py --data-root DIR --out runs/cst_vae_mnist
    python examples/cst_vae_superimposed.py --model st_vae --data translated --out runs/st_vae
    python examples/cst_vae_superimposed.py --images FOLDER --layers 2 --window 20 --out runs/mine

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse
from typing import Any

import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_scenes import adam, evaluation, experiment, to_arviz, viz
from pyro_scenes.data import Scenes, Split
from pyro_scenes.experiment import LAYERED, LayeredScorer, Run, launch, path, rate, sides, up_to
from pyro_scenes.inference import Weighted, as_printed, falling, ramp, scale_lr
from pyro_scenes.random import fork_rng
from pyro_scenes.recipes import layered_digits_pair

#: Steps at which validation scenes are looked at besides every 250, and Fig. 5b has a row.
EARLY = (0, 10, 25, 50, 100, 150, 200, 300, 400)


def parser() -> argparse.ArgumentParser:
    out = "runs/cst_vae_superimposed"
    parser = experiment.flags(
        __doc__, out=out, steps=8_000, batch_size=100, data_root=True, pretrained="cst_vae"
    )
    add = parser.add_argument
    add("--model", choices=("vae", "st_vae", "cst_vae"), default="cst_vae", help="(%(default)s)")
    add("--data", choices=LAYERED, default="superimposed", help="one digit, or two (%(default)s)")
    add("--quick", action="store_true", help="2,000 steps at --lr 2e-3: four minutes")
    add("--recipe", choices=("ours", "paper"), default="ours", help="see docs/models/cst_vae.rst")
    add("--objective", choices=("elbo", "printed"), default="elbo", help="or Eq. 3.1 as printed")
    add("--lr", type=rate, metavar="RATE", help="of Adam (0.001, or 0.002 with --quick)")
    add("--images", type=path, metavar="PATH", help=experiment.IMAGES)
    add("--layers", type=up_to(10), metavar="N", help="objects in each scene (as the data have; 2)")
    text = "height and width of an object in pixels (28, or half of your --images)"
    add("--window", type=sides, metavar="HxW", help=text)
    return parser


def main(args: argparse.Namespace) -> None:
    args.steps = min(args.steps, 2000) if args.quick else args.steps
    args.lr = args.lr or (2e-3 if args.quick else 1e-3)
    run = Run(args, evaluate=args.evaluate)
    data, sizes = sets(run)
    settings = {"image_shape": tuple(data.test.images.shape[1:]), "kind": args.model}
    model, guide = run.restore(build, settings | sizes | {"paper": args.recipe == "paper"})
    if not args.evaluate:
        train(model, guide, data, run)
    print("measuring on the test scenes, and drawing", flush=True)
    scorer = LayeredScorer(data, scenes=30_000 if args.quick else None, digits=not args.images)
    scorer = scorer._replace(particles=5, epochs=1) if args.smoke else scorer
    with torch.no_grad(), fork_rng(args.seed):
        untrained = tuple(part.to(run.device).eval() for part in build(run.settings))
        numbers = scorer.measure((model, guide), untrained)
        run.write(numbers, run.costs())
        figures(model, guide, data.test, run)
    print(experiment.layer_verdict(numbers, run.settings["digits"]))
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def sets(run: Run) -> tuple[Split, dict[str, Any]]:
    """The scenes, and the settings that depend on them."""
    args, mine = run.args, experiment.own_scenes(run, most=10, on_black=True)
    if mine is None:
        data = experiment.layered_split(args.data, args.data_root, seed=args.seed, small=args.smoke)
        most, window, binary = LAYERED[args.data]["count"], None, True
    else:
        binary, data = experiment.is_binary(run, mine), experiment.divide(run, mine)
        most = 2 if mine.counts is None else max(1, int(mine.counts.max()))
        # The shipped weights have the default window.
        window = None if run.pretrained else [max(8, side // 2) for side in mine.images.shape[2:]]
    sizes = {"digits": args.layers or most, "window": args.window or window, "binary": binary}
    return data, sizes


def build(settings: dict[str, Any]) -> tuple[Any, Any]:
    return layered_digits_pair(**settings)


def train(model, guide, data: Split, run: Run) -> None:
    """At first codes cost nothing, and the guide goes over the layers once."""
    args, ours, test = run.args, run.args.recipe == "ours", data.validation
    optim = adam(model, guide, lr=args.lr)
    if not ours:
        weights = [*model.parameters(), *guide.parameters()]
        optim = torch.optim.Adagrad(weights, lr=0.01, weight_decay=1 / len(data.train))
    experiment.remember(run, data.train, test)
    latents = ("z_what",) if args.model == "vae" else ("z_where", "z_what")
    elbo = as_printed(latents) if args.objective == "printed" else Weighted(TraceMeanField_ELBO())
    training = run.training(model, guide, data.train.images, optim=optim, elbo=elbo, clip=200.0)
    warm_up = min(3000, 0.4 * args.steps) if ours and args.objective == "elbo" else None
    warm_up = None if run.pretrained else warm_up
    for step in training:
        scale_lr(optim, falling(step, args.steps))
        if warm_up:
            elbo.weights = dict.fromkeys(latents, ramp(step, over=warm_up))
        if ours and args.model == "cst_vae":
            guide.sweeps = 1 if step < 0.3 * args.steps and not run.pretrained else 2
        if training.due(early=EARLY):
            with training.row() as row:
                images = test[:500].floats(run.device)
                row["validation_elbo"] = evaluation.log_weights(model, guide, images).mean()
                if args.model != "vae" and not args.images:
                    layers = evaluation.see_layers(model, guide, images)
                    row["layer_iou"] = evaluation.layer_iou(layers.masks.amax(2), test.masks).mean()
                    aligned = evaluation.alignment(layers, test.masks, test.labels, model.window)
                    row["centroid_spread"] = aligned.spread
                    if step in (*EARLY, args.steps):
                        run.state[f"after {step} steps"] = aligned.means
    marks = {"warm-up ends": warm_up} if warm_up else None
    run.figure("curves", viz.curves(run.history, units={"centroid_spread": "pixels"}, marks=marks))


def figures(model, guide, test: Scenes, run: Run) -> None:
    """Figures, and draws for ArviZ."""
    means = {name: row for name, row in run.state.items() if name.startswith("after ")}
    draws = 6 if run.args.smoke else 64
    for name, figure in experiment.layered_figures(model, guide, test, means, draws=draws).items():
        run.figure(name, figure)
    data = to_arviz(model, guide, test[:50].floats(run.device), draws=20, seed=run.args.seed)
    run.netcdf("inference_data", data)


if __name__ == "__main__":
    launch(main, parser())
