"""CST-VAE on coloured digits, one over the other: do layers with decoded opacity come apart, and in order?

    python benchmarks/cst_vae_colour.py --data-root DIR

Without --data-root, the built-in digits. Prints, every 250 steps, figures of 1,000 held-out scenes.
"""

import argparse
import time
from itertools import islice

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_scenes import CSTVAE, CSTVAEGuide, Pixels, Weighted, adam, evaluation, fit
from pyro_scenes.data import Scenes, batches, layered_digits, mnist, strokes
from pyro_scenes.experiment import path, positive


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--steps", type=positive, default=1500, metavar="N", help="of training (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the weights (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    train, test = scenes(args.data_root)
    pyro.set_rng_seed(args.seed)
    pyro.enable_validation(False)
    model = CSTVAE((3, 50, 50), image=Pixels(dist.Normal, scale=0.3))
    guide = CSTVAEGuide(model, sweeps=1)
    elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0, z_where=0.0)
    optim, start = adam(model, guide, lr=1e-3), time.process_time()
    stream = islice(batches(train.images, 100), args.steps)
    for record in fit(model, guide, stream, elbo=elbo, optim=optim, clip=5000.0):
        done = record.step / args.steps
        elbo.weights = dict.fromkeys(elbo.weights, min(1.0, done / 0.4))
        guide.sweeps = 1 if done < 0.3 else 2
        for group in optim.param_groups:
            group["lr"] = 1e-3 * min(1.0, 2 * (1 - done) + 0.02)
        if record.step % 250 == 0 or record.step == args.steps:
            print(f"step {record.step}, {time.process_time() - start:.0f} CPU s:", end=" ")
            print(", ".join(f"{k} {v:.4f}" for k, v in figures(model, guide, test).items()))


def scenes(root: str | None) -> tuple[Scenes, Scenes]:
    if root:
        seen, unseen = mnist(root), mnist(root, train=False)
    else:
        pictures, labels = strokes(12_000)
        seen, unseen = (pictures[2000:], labels[2000:]), (pictures[:2000], labels[:2000])
    held_out = layered_digits(unseen, 1000, colour=True, seed=1)
    return layered_digits(seen, 30_000, colour=True), held_out


@torch.no_grad()
def figures(model: CSTVAE, guide: CSTVAEGuide, test: Scenes) -> dict[str, float]:
    images = test.images / 255
    seen = evaluation.see_layers(model, guide, images)
    match = evaluation.match_layers(seen.masks[:, :, 0], test.masks)
    shared = evaluation.overlap(test.masks)
    return {
        "layer IoU": match.iou.mean().item(),
        "where over 25 % overlap": match.iou[shared > 0.25].mean().item(),
        "front in layer 0, over 10 %": (match.layer[shared > 0.1, 0] == 0).double().mean().item(),
        "mean square": (seen.canvas - images).square().mean().item(),
    }


if __name__ == "__main__":
    main(parser().parse_args())
