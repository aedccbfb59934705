"""Digits of which a part is seen: CVAE (Sohn et al., 2015) and VAEAC (Ivanov et al., 2019) draw the rest.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/complete_digits.py --quick

With MNIST (its four files in DIR/MNIST/raw); CVAE learns one mask, VAEAC any:

    python examples/complete_digits.py --data-root DIR --quadrants 1 --out runs/cvae_1
    python examples/complete_digits.py --data-root DIR --model vaeac --out runs/vaeac

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse
from typing import Any

import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_scenes import adam, experiment, to_arviz, viz
from pyro_scenes.data import batches, random_masks
from pyro_scenes.experiment import CompletionScorer, Parts, Run, launch, path, positive, rate
from pyro_scenes.inference import falling, scale_lr
from pyro_scenes.random import fork_rng
from pyro_scenes.recipes import completion_pair, train_guess


def parser() -> argparse.ArgumentParser:
    out = "runs/complete_digits"
    parser = experiment.flags(__doc__, out=out, steps=8_000, batch_size=100, data_root=True)
    add = parser.add_argument
    add("--model", choices=("cvae", "vaeac"), default="cvae", help="(%(default)s)")
    text = "how many CVAE sees: the lower left one, the left half, all but the lower right (%(default)s)"
    add("--quadrants", type=int, choices=(1, 2, 3), default=1, help=text)
    add("--quick", action="store_true", help="1,500 steps, 1,000 test images: three minutes")
    add("--lr", type=rate, metavar="RATE", default=1e-3, help="of Adam (%(default)s)")
    add("--hidden", type=positive, metavar="N", default=500, help="width of networks (%(default)s)")
    text = "do not train: evaluate this one"
    add("--evaluate", type=path, metavar="CHECKPOINT", help=text)
    return parser


def main(args: argparse.Namespace) -> None:
    args.steps = min(args.steps, 1500) if args.quick else args.steps
    run = Run(args, evaluate=args.evaluate)
    model, guide = run.restore(build, settings(args))
    kind, count = run.settings["kind"], run.settings["quadrants"]
    data = experiment.completion_split(
        kind, count, args.data_root, seed=args.seed, small=args.smoke
    )
    if not args.evaluate:
        train(model, guide, data, run)
    print("measuring on the test images, and drawing", flush=True)
    scorer = CompletionScorer(data, images=1000 if args.quick else 2500)
    scorer = scorer._replace(particles=5) if args.smoke else scorer
    with torch.no_grad(), fork_rng(args.seed):
        numbers = scorer.measure(model, guide)
        run.write(numbers, run.costs())
        verdict = experiment.completion_verdict(numbers)
        figures(model, guide, data, run, verdict)
    print(verdict)
    print(f"the pictures are in {run.out}: look at completions.png first")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    sizes = {"image_shape": (1, 28, 28), "hidden": args.hidden}
    return sizes | {"kind": args.model, "quadrants": args.quadrants}


def build(settings: dict[str, Any]) -> tuple[Any, Any]:
    return completion_pair(settings["kind"], settings["image_shape"], hidden=settings["hidden"])


def train(model, guide, data: Parts, run: Run) -> None:
    """A CVAE's baseline network first, on as many batches as a third of the training, at most 3,000."""
    args, source = run.args, (data.train.images, data.masks)
    if args.model == "cvae":
        if not run.kept:
            print("training the baseline network", flush=True)
            stream = batches(source, args.batch_size, seed=args.seed + 1, device=run.device)
            train_guess(model, stream, min(3000, 1 + args.steps // 3))
        model.guess.requires_grad_(False)
    optim = adam(model, guide, lr=args.lr)
    training = run.training(
        model, guide, source, optim=optim, elbo=TraceMeanField_ELBO(), clip=200.0
    )
    scorer = CompletionScorer(data, particles=10)
    for step in training:
        scale_lr(optim, falling(step, args.steps))
        if training.due(every=500):
            with training.row() as row:
                for name, seen in data.seen.items():
                    numbers = scorer.nats(model, guide, data.validation[:1000], seen)
                    row[f"validation_nats, {name}"] = numbers["nats"]
        if args.model == "cvae":
            model.guess.eval()  # it is frozen, of which Pyro warns in training mode
    run.figure("curves", viz.curves(run.history))


def figures(model, guide, data: Parts, run: Run, verdict: str) -> None:
    """Completions, and draws for ArviZ."""
    images = data.test[:8].floats(run.device)
    masks = random_masks(8, seed=1) if run.settings["kind"] == "vaeac" else data.masks[:8]
    seen = masks.to(run.device)
    sheet = experiment.completion_figure(model, images, seen, headline=verdict)
    run.figure("completions", sheet)
    known = images.masked_fill(~seen, torch.nan)
    draws = to_arviz(model, guide, images, known, draws=20, seed=run.args.seed)
    run.netcdf("inference_data", draws)


if __name__ == "__main__":
    launch(main, parser())
