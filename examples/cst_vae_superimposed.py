"""CST-VAE (Huang and Murphy, 2016) learns to take overlapping digits apart that nobody labelled.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/cst_vae_superimposed.py --quick

With MNIST (its four files in DIR/MNIST/raw), and the other models and data of the paper:

    python examples/cst_vae_superimposed.py --data-root DIR --out runs/cst_vae_mnist
    python examples/cst_vae_superimposed.py --model st_vae --data translated --out runs/st_vae

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_scenes import adam, evaluation, to_arviz, viz
from pyro_scenes.data import Scenes, Split
from pyro_scenes.experiment import LAYERED, LayeredScorer, Run, flags, launch, layered_split, rate
from pyro_scenes.inference import Weighted, as_printed, falling, ramp, scale_lr
from pyro_scenes.random import fork_rng
from pyro_scenes.recipes import layered_digits_pair

#: Steps at which validation scenes are looked at besides every 250, and Fig. 5b has a row.
EARLY = (0, 10, 25, 50, 100, 150, 200, 300, 400)


def parser() -> argparse.ArgumentParser:
    out = "runs/cst_vae_superimposed"
    parser = flags(
        __doc__, out=out, steps=8_000, batch_size=100, data_root=True, pretrained="cst_vae"
    )
    add = parser.add_argument
    add("--model", choices=("vae", "st_vae", "cst_vae"), default="cst_vae", help="(%(default)s)")
    add("--data", choices=LAYERED, default="superimposed", help="one digit, or two (%(default)s)")
    add("--quick", action="store_true", help="2,000 steps at --lr 2e-3: four minutes")
    add("--recipe", choices=("ours", "paper"), default="ours", help="see docs/models/cst_vae.rst")
    add("--objective", choices=("elbo", "printed"), default="elbo", help="or Eq. 3.1 as printed")
    add("--lr", type=rate, metavar="RATE", help="of Adam (0.001, or 0.002 with --quick)")
    return parser


def main(args: argparse.Namespace) -> None:
    args.steps = min(args.steps, 2000) if args.quick else args.steps
    args.lr = args.lr or (2e-3 if args.quick else 1e-3)
    run = Run(args, evaluate=args.evaluate)
    data = layered_split(args.data, args.data_root, seed=args.seed, small=args.smoke)
    settings = {"image_shape": tuple(data.test.images.shape[1:]), "kind": args.model}
    settings |= {"digits": LAYERED[args.data]["count"], "paper": args.recipe == "paper"}
    model, guide = run.restore(build, settings)
    if not args.evaluate:
        train(model, guide, data, run)
    print("measuring on the test scenes, and drawing", flush=True)
    scorer = LayeredScorer(data, scenes=30_000 if args.quick else None)
    scorer = scorer._replace(particles=5, epochs=1) if args.smoke else scorer
    with torch.no_grad(), fork_rng(args.seed):
        untrained = tuple(part.to(run.device).eval() for part in build(settings))
        run.write(scorer.measure((model, guide), untrained), run.costs())
        figures(model, guide, data.test, run)
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def build(settings: dict[str, Any]) -> tuple[Any, Any]:
    return layered_digits_pair(**settings)


def train(model, guide, data: Split, run: Run) -> None:
    """At first codes cost nothing, and the guide goes over the layers once."""
    args, ours, test = run.args, run.args.recipe == "ours", data.validation
    optim = adam(model, guide, lr=args.lr)
    if not ours:
        weights = [*model.parameters(), *guide.parameters()]
        optim = torch.optim.Adagrad(weights, lr=0.01, weight_decay=1 / len(data.train))
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
                images = test.floats(run.device)
                row["validation_elbo"] = evaluation.log_weights(model, guide, images).mean()
                if args.model != "vae":
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
    images = test[:200].floats(run.device)
    data = to_arviz(model, guide, images[:50], draws=20, seed=run.args.seed)
    run.netcdf("inference_data", data)
    run.figure("samples", viz.pictures(samples(model)))
    if run.settings["kind"] == "vae":
        canvas = data["posterior_pictures"]["canvas"][0, 0, :12]
        rows = {"image": images[:12], "reconstruction": canvas}
        run.figure("reconstructions", viz.pictures(rows))
        return
    layers = evaluation.see_layers(model, guide, images[:12])
    figure = viz.taken_apart(images[:12], layers, truth=test[:12].visible())
    run.figure("reconstructions", figure)
    run.figure("alignment", viz.pictures(run.state, columns=range(10)))
    if run.settings["kind"] == "cst_vae" and run.settings["digits"] == 2:
        hard = test[(evaluation.overlap(test.masks) > 0.25).nonzero()[:12, 0]]
        layers = evaluation.see_layers(model, guide, hard.floats(run.device))
        match = evaluation.match_layers(layers.masks.amax(2), hard.masks).layer
        figure = viz.completion(hard.floats(), layers, layer=match, truth=hard.masks)
        run.figure("completion", figure)
        doubt = evaluation.doubt(*evaluation.explanations(model, guide, images))
        image = images[doubt.argmax()][None]
        draws = evaluation.explanations(model, guide, image, draws=6 if run.args.smoke else 64)
        run.figure("interpretations", viz.explanations(image, *draws))


def samples(model) -> dict[str, Tensor]:
    """Scenes from the prior; then layers, and their canonical images."""
    nodes = poutine.trace(model).get_trace(size=12).nodes
    rows = {"prior sample": nodes["canvas"]["value"]}
    codes = [nodes[name]["value"] for name in nodes if name.startswith("z_what")]
    for i, layer in enumerate(nodes["layers"]["value"].unbind(1) if "layers" in nodes else ()):
        rows[f"layer {i + 1}"] = layer
        rows[f"layer {i + 1}, canonical"] = model.decoder(codes[i])
    return rows


if __name__ == "__main__":
    launch(main, parser())
