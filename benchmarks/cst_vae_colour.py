"""CST-VAE on coloured digits, one over the other: do layers with decoded opacity come apart, and in order?

    python benchmarks/cst_vae_colour.py --data-root DIR

Without --data-root, the built-in digits. Prints, every 250 steps, figures of 1,000 validation scenes; at the
end those of as many test scenes, and what trivial answers have.
"""

import argparse
import time
from itertools import islice

import pyro
import pyro.distributions as dist
from pyro.infer import TraceMeanField_ELBO
from sweep import table

from pyro_scenes import CSTVAE, CSTVAEGuide, Pixels, Weighted, adam, evaluation, fit
from pyro_scenes.data import Scenes, Split, batches, digits, layered_digits
from pyro_scenes.evaluation.layers import visible_layers
from pyro_scenes.experiment import natural, path, positive
from pyro_scenes.inference import falling, ramp, scale_lr

FIGURES = ("layer_iou", "layer_iou_overlapping", "overlap_iou", "depth_order", "mse")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--steps", type=positive, default=1500, metavar="N", help="of training (%(default)s)")
    add("--seed", type=natural, default=0, metavar="N", help="of the weights (%(default)s)")
    add("--smoke", action="store_true", help="few scenes, to check that everything runs")
    return parser


def main(args: argparse.Namespace) -> None:
    data = scenes(args)
    pyro.set_rng_seed(args.seed)
    pyro.enable_validation(False)
    model = CSTVAE((3, 50, 50), image=Pixels(dist.Normal, scale=0.3))
    guide = CSTVAEGuide(model, sweeps=1)
    train(model, guide, data, args.steps)
    test, layers = data.test, look(model, guide, data.test)
    trivial = {
        "image cut in two": evaluation.floors.cut_in_two(test.images),
        "image copied whole": evaluation.floors.copy_whole(test.images),
        "true layers": evaluation.floors.true_layers(test.masks),
    }
    rows = {name: figures(answer, test) for name, answer in trivial.items()}
    # These are white.
    del rows["true layers"]["mse"]
    print(table({f"seed {args.seed}": figures(layers, test)}, FIGURES, least={"mse"}, floors=rows))


def scenes(args: argparse.Namespace) -> Split:
    sizes = (200, 50, 50) if args.smoke else (30_000, 1000, 1000)
    parts = zip(digits(args.data_root), sizes, (0, 2, 1), strict=True)
    return Split(*(layered_digits(*part, colour=True, seed=seed) for *part, seed in parts))


def train(model: CSTVAE, guide: CSTVAEGuide, data: Split, steps: int) -> None:
    elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0, z_where=0.0)
    optim, start = adam(model, guide, lr=1e-3), time.process_time()
    stream = islice(batches(data.train.images, 100), steps)
    for record in fit(model, guide, stream, elbo=elbo, optim=optim, clip=5000.0):
        step = record.step
        elbo.weights = dict.fromkeys(elbo.weights, ramp(step, over=0.4 * steps))
        guide.sweeps = 1 if step < 0.3 * steps else 2
        scale_lr(optim, falling(step, steps))
        if step % 250 == 0 or step == steps:
            values = figures(look(model, guide, data.validation), data.validation)
            print(f"step {step}, {time.process_time() - start:.0f} CPU s:", end=" ")
            print(", ".join(f"{name} {value:.4f}" for name, value in values.items()))


def look(model: CSTVAE, guide: CSTVAEGuide, scenes: Scenes) -> evaluation.Layers:
    layers = evaluation.see_layers(model.eval(), guide.eval(), scenes.floats())
    model.train(), guide.train()
    return layers


def figures(layers: evaluation.Layers, scenes: Scenes) -> dict[str, float]:
    """Of ``LayerMetrics``; pairs that overlap in the right order; the mean squared error of the canvas."""
    metrics = evaluation.layer_metrics(layers, scenes.masks)._asdict()
    regions = visible_layers(layers.masks, layers.masks)[:, :, 0]
    metrics["depth_order"] = evaluation.depth_order(regions, scenes.masks).pairs
    metrics["mse"] = (layers.canvas - scenes.floats()).square().mean().item()
    return {name: metrics[name] for name in FIGURES}


if __name__ == "__main__":
    main(parser().parse_args())
