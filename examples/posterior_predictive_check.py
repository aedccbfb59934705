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

import numpy as np
from pyro.infer import TraceEnum_ELBO

from pyro_scenes import AIR, AIRGuide, Persist, adam, criticism, load_checkpoint, viz, warm_up
from pyro_scenes.data import Scenes, mnist, multi_digits, strokes
from pyro_scenes.experiment import Run, flags, launch, path
from pyro_scenes.inference import read_checkpoint


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/posterior_predictive_check", steps=2000)
    parser.add_argument(
        "--checkpoint", type=path, metavar="FILE", help="of air_multi_mnist.py, on digits"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    run = Run(args, trains=not args.checkpoint)
    train, test = scenes(args)
    kept = read_checkpoint(args.checkpoint)["extra"] if args.checkpoint else {}
    if kept.get("settings", {}).get("image_shape", [1, 50, 50]) != [1, 50, 50]:
        raise ValueError(f"{args.checkpoint} is not of grey scenes of 50 x 50, as are drawn here")
    model = AIR(**kept.get("settings", {})).to(run.device)
    guide = AIRGuide(model).to(run.device)

    def warm(step: int) -> None:
        model.z_pres = Persist(warm_up(step, over=min(500, args.steps // 2 + 1)))

    if args.checkpoint:
        load_checkpoint(args.checkpoint, model.eval(), guide.eval())
    else:
        run.fit(
            model,
            guide,
            train.images,
            optim=adam(model, guide),
            elbo=TraceEnum_ELBO(max_plate_nesting=1),
            evaluate=lambda step: {},
            before=warm,
        )

    draws = 5 if args.smoke else 100
    images = run.floats(test.images)
    data = criticism.to_arviz(model.eval(), guide.eval(), images, draws=draws, seed=args.seed)
    run.netcdf("inference_data", data)
    counts(data, test, run)
    functions = criticism.STATISTICS | {"unexplained_spot": unexplained_spot}
    checks = criticism.statistics(data, **functions)
    p = criticism.p_values(checks)
    tails = criticism.tail_shares(p)
    groups = checks["observed_data"], checks["posterior_predictive"]
    run.figure("checks", viz.predictive_checks(*groups, p, tails))
    for name, tail in tails.items():
        print(
            f"{name:20}", f"{tail.share:.0%} of images in the tails, calibrated {tail.expected:.0%}"
        )
    shares = {f"tail_share_{name}": tail.share for name, tail in tails.items()}
    run.write({"expected_tail_share": tails["total_ink"].expected} | shares)


def unexplained_spot(images: np.ndarray, draw: dict[str, np.ndarray]) -> np.ndarray:
    """Of images (n, 1, 50, 50), the largest mean over 5 x 5 pixels of what the draw's canvas leaves."""
    spots = (images - draw["canvas"]).reshape(-1, 10, 5, 10, 5)
    return spots.mean((2, 4)).max((1, 2))


def scenes(args: argparse.Namespace) -> tuple[Scenes, Scenes]:
    """Training scenes, and held-out ones of other digits."""
    if args.data_root:
        seen, unseen = mnist(args.data_root), mnist(args.data_root, train=False)
    else:
        pictures, labels = strokes()
        seen, unseen = (pictures[2000:], labels[2000:]), (pictures[:2000], labels[:2000])
    train = multi_digits(seen, 64 if args.smoke else 20_000, seed=args.seed)
    return train, multi_digits(unseen, 8 if args.smoke else 100, seed=1_000_000 + args.seed)


def counts(data, test: Scenes, run: Run) -> None:
    """Prior, guide and truth on the number of objects: the guide's counts show what the prior should be."""
    most = int(data["prior"]["z_pres"].sizes["step"])
    found = {"truth": test.counts.numpy()}
    for group, name in (("posterior", "guide, aggregated"), ("prior", "prior")):
        found[name] = data[group]["count"].values.reshape(-1)
    shares = {name: np.bincount(n, minlength=most + 1) / n.size for name, n in found.items()}
    run.figure("check_count", viz.bars(shares, x="object count"))
    for name, share in shares.items():
        print(f"{name:20}", "  ".join(f"p({n}) = {p:.3f}" for n, p in enumerate(share)))


if __name__ == "__main__":
    launch(main, parser())
