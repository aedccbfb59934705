"""Does AIR make images like those it saw? Posterior predictive checks of a trained model, in ArviZ.

    python examples/posterior_predictive_check.py --checkpoint runs/air_multi_mnist/checkpoint.pt

Without a checkpoint of air_multi_mnist.py, a model is trained first. Each image has a p-value for each of

    total ink         its summed intensity
    roughness         how much neighbouring pixels differ: a statistic that independent noise gets wrong
    unexplained spot  the brightest 5 x 5 pixels that the canvas of a draw leaves over: a missed object's

and the share of images with an extreme p stands beside that of a calibrated model. The number of objects is
drawn as prior, guide and truth have it.
"""

import argparse
from typing import Any

import numpy as np
from pyro.infer import TraceEnum_ELBO

from pyro_scenes import AIR, AIRGuide, Persist, adam, criticism, evaluation, viz, warm_up
from pyro_scenes.data import Digits, Scenes, digits, multi_digits
from pyro_scenes.experiment import Run, flags, launch, path
from pyro_scenes.inference import falling, scale_lr


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/posterior_predictive_check", steps=2000, data_root=True)
    parser.add_argument(
        "--checkpoint", type=path, metavar="FILE", help="of air_multi_mnist.py, on digits"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    run = Run(args, evaluate=args.checkpoint)
    pen = digits(args.data_root)
    # The same test scenes for all seeds.
    test = multi_digits(pen.test, 8 if args.smoke else 100, seed=1_000_000)
    model, guide = run.restore(build, {"image_shape": [1, 50, 50], "steps": 3})
    if not args.checkpoint:
        learn(model, guide, pen, run)
    # A checkpoint from the middle of the warm-up holds another prior.
    model.z_pres = Persist(0.01)
    images, draws = test.floats(run.device), 5 if args.smoke else 100
    data = criticism.to_arviz(model, guide, images, draws=draws, seed=args.seed)
    run.netcdf("inference_data", data)
    run.write(counts(data, test, run), check(data, run))
    print(f"the pictures are in {run.out}: look at checks.png first")


def build(settings: dict[str, Any]) -> tuple[AIR, AIRGuide]:
    model = AIR(**settings)
    return model, AIRGuide(model)


def learn(model: AIR, guide: AIRGuide, pen: Digits, run: Run) -> None:
    """Trains both, as air_multi_mnist.py does."""
    args, optim = run.args, adam(model, guide)
    train = multi_digits(pen.train, 64 if args.smoke else 20_000, seed=args.seed).images
    validation = multi_digits(pen.validation, 32 if args.smoke else 1_000, seed=2_000_000)
    images, elbo = validation.floats(run.device), TraceEnum_ELBO(max_plate_nesting=1)
    training = run.training(model, guide, train, optim=optim, elbo=elbo)
    for step in training:
        scale_lr(optim, falling(step, args.steps))
        model.z_pres = Persist(warm_up(step, over=min(500, args.steps // 2 + 1)))
        if training.due():
            with training.row() as row:
                row["validation_elbo"] = evaluation.log_weights(model, guide, images).mean()


def unexplained_spot(images: np.ndarray, draw: dict[str, np.ndarray]) -> np.ndarray:
    """Of images (n, 1, 50, 50), the largest mean over 5 x 5 pixels of what the draw's canvas leaves."""
    spots = (images - draw["canvas"]).reshape(-1, 10, 5, 10, 5)
    return spots.mean((2, 4)).max((1, 2))


def check(data: Any, run: Run) -> dict[str, float]:
    """The share of images with an extreme p-value, for each statistic, beside a calibrated model's."""
    functions = criticism.STATISTICS | {"unexplained_spot": unexplained_spot}
    checks = criticism.statistics(data, **functions)
    p = criticism.p_values(checks)
    tails = criticism.tail_shares(p)
    groups = checks["observed_data"], checks["posterior_predictive"]
    run.figure("checks", viz.predictive_checks(*groups, p, tails))
    calibrated = tails["total_ink"]
    shares = {"calibrated": calibrated.expected, "calibrated_error": calibrated.standard_error}
    for name, tail in tails.items():
        shares |= {name: tail.share, f"{name}_too_little": tail.low, f"{name}_too_much": tail.high}
    return {f"tail_share_{name}": share for name, share in shares.items()}


def counts(data: Any, test: Scenes, run: Run) -> dict[str, float]:
    """Prior, guide and truth on the number of objects: the guide's counts show what the prior should be."""
    most = int(data["prior"]["z_pres"].sizes["step"])
    numbers = {"prior": data["prior"]["count"].values, "guide": data["posterior"]["count"].values}
    numbers["truth"] = test.counts.numpy()
    shares = {
        name: np.bincount(n.ravel(), minlength=most + 1) / n.size for name, n in numbers.items()
    }
    run.figure(
        "check_count", viz.bars(shares, x="objects", headline="How many objects a scene has")
    )
    return {f"{name}_{n}": share for name, row in shares.items() for n, share in enumerate(row)}


if __name__ == "__main__":
    launch(main, parser())
