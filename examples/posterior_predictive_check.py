"""Does AIR make images like those it saw? Posterior predictive checks of a trained model, in ArviZ.

    python examples/posterior_predictive_check.py
    python examples/posterior_predictive_check.py --checkpoint runs/air_multi_mnist/checkpoint.pt

The model is the one that ships with the package, or one of air_multi_mnist.py's. Each image has a p-value for

    total ink         its summed intensity
    roughness         how much neighbouring pixels differ: a statistic that independent noise gets wrong
    unexplained spot  the brightest 5 x 5 pixels that the canvas of a draw leaves over: a missed object's

and the share of images with an extreme p stands beside that of a calibrated model. The number of objects is
drawn as prior, guide and truth have it.
"""

import argparse
from typing import Any

import numpy as np

from pyro_scenes import criticism, viz
from pyro_scenes.data import Scenes, digits, multi_digits
from pyro_scenes.experiment import Run, checkpoint, flags, launch
from pyro_scenes.recipes import air_pair, as_trained


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/posterior_predictive_check", data_root=True)
    source, text = checkpoint("air"), "of air_multi_mnist.py, on digits (the shipped weights)"
    parser.add_argument(
        "--checkpoint", type=source, default="pretrained", metavar="FILE", help=text
    )
    return parser


def main(args: argparse.Namespace) -> None:
    run = Run(args, evaluate=args.checkpoint)
    # The same test scenes for all seeds.
    test = multi_digits(digits(args.data_root).test, 8 if args.smoke else 100, seed=1_000_000)
    settings = run.settings | {"image_shape": [1, 50, 50]}
    model, guide = run.restore(lambda kept: air_pair(**kept), settings)
    as_trained(model, run.settings.get("noise", 0.3))
    images, draws = test.floats(run.device), 5 if args.smoke else 100
    data = criticism.to_arviz(model, guide, images, draws=draws, seed=args.seed)
    run.netcdf("inference_data", data)
    run.write(counts(data, test, run), check(data, run))
    print(f"the pictures are in {run.out}: look at checks.png first")


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
