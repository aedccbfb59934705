"""CST-VAE (Huang and Murphy, 2016) learns to take overlapping digits apart that nobody labelled.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/cst_vae_superimposed.py --quick

With MNIST (its four files in DIR/MNIST/raw), and the other models and data of the paper:

    python examples/cst_vae_superimposed.py --data-root DIR --out runs/cst_vae_mnist
    python examples/cst_vae_superimposed.py --model st_vae --data translated --out runs/st_vae
    python examples/cst_vae_superimposed.py --model vae --out runs/vae

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse

import numpy as np
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_scenes import (
    CSTVAE,
    STVAE,
    VAE,
    CSTVAEGuide,
    STVAEGuide,
    VAEGuide,
    Weighted,
    adam,
    as_printed,
    evaluation,
    to_arviz,
    viz,
)
from pyro_scenes.data import Scenes, layered_digits, mnist, strokes
from pyro_scenes.experiment import Run, flags, launch, rate
from pyro_scenes.inference import read_checkpoint
from pyro_scenes.networks import FreePoseDecoder
from pyro_scenes.random import fork_rng
from pyro_scenes.render import centre, centroid, inverse, warp

DATA = {"translated": {"count": 1, "canvas": 36}, "superimposed": {"count": 2, "canvas": 50}}
#: When the canonical images are looked at, besides every 250 steps (Fig. 5b).
EARLY = (0, 10, 25, 50, 100, 150, 200, 300, 400)
SHOWN = (0, 10, 25, 50, 100, 250, 1000)


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/cst_vae_superimposed", steps=8_000, batch_size=100)
    add = parser.add_argument
    add("--model", choices=("vae", "st_vae", "cst_vae"), default="cst_vae", help="(%(default)s)")
    add("--data", choices=DATA, default="superimposed", help="one digit, or two (%(default)s)")
    add("--quick", action="store_true", help="2,000 steps at --lr 2e-3: some minutes")
    add("--recipe", choices=("ours", "paper"), default="ours", help="see docs/models/cst_vae.rst")
    add("--objective", choices=("elbo", "printed"), default="elbo", help="or Eq. 3.1 as printed")
    add(
        "--lr",
        type=rate,
        metavar="RATE",
        help="of Adam (0.001, or 0.002 with --quick); not the paper's",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    if args.quick:
        args.steps = min(args.steps, 2000)
    args.lr = args.lr or (2e-3 if args.quick else 1e-3)
    run = Run(args)
    train, test = scenes(args)
    model, guide = (module.to(run.device) for module in build(args))
    alignment: dict[str, Tensor] = {}
    if args.resume and run.checkpoint.exists():
        alignment |= read_checkpoint(run.checkpoint)["extra"].get("alignment", {})
    history = learn(model, guide, train, test, run, alignment)
    print("reading layers and codes of the held-out images, and drawing", flush=True)
    with torch.no_grad(), fork_rng(args.seed):
        last = {name: history[-1][name] for name in ("seconds", "cpu_seconds")}
        metrics = score(model, guide, train, test, run)
        run.write(metrics | {"steps": history[-1]["step"], **last})
        draw(model, guide, test, history, alignment, run)
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def scenes(args: argparse.Namespace) -> tuple[Scenes, Scenes]:
    """Training scenes, and held-out ones of other digits, the same for all seeds."""
    if args.data_root:
        seen, unseen = mnist(args.data_root), mnist(args.data_root, train=False)
        size, tests = 100_000, 10_000
    else:
        pictures, labels = strokes(12_000)
        seen, unseen = (pictures[2000:], labels[2000:]), (pictures[:2000], labels[:2000])
        size, tests = 50_000, 5_000
    if args.smoke:
        size, tests = 128, 64
    train = layered_digits(seen, size, **DATA[args.data], seed=args.seed)
    held_out = layered_digits(unseen, tests, **DATA[args.data], seed=1_000_000)
    return Scenes(train.images, labels=train.labels), held_out  # training needs no masks


def build(args: argparse.Namespace) -> tuple:
    """A model and its guide, of the paper's sizes: about as many latents in each of the three."""
    side, layers = (DATA[args.data][name] for name in ("canvas", "count"))
    shape = (1, side, side)
    code = 20 if layers == 1 or args.model == "cst_vae" else 50
    if args.model == "vae":
        vae = VAE(shape, code)
        return vae, VAEGuide(vae)
    settings: dict = {"image_shape": shape, "code": code, "centred": layers == 1}
    recognition: dict = {}
    if args.recipe == "paper":
        settings |= {"window": shape, "pose": FreePoseDecoder(), "centred": False}
        recognition |= {"looks": 0, "pose_hidden": 32, "hidden": 256 if layers == 1 else 128}
    if args.model == "st_vae":
        st_vae = STVAE(**settings)
        return st_vae, STVAEGuide(st_vae, **recognition)
    if args.recipe == "paper":
        recognition |= {"sweeps": 1, "explained": False}
    cst_vae = CSTVAE(**settings, layers=layers)
    return cst_vae, CSTVAEGuide(cst_vae, **recognition)


def learn(model, guide, train: Scenes, test: Scenes, run: Run, alignment: dict) -> list:
    """Trains both. Codes cost nothing at first, and the guide goes over the layers once."""
    args, ours = run.args, run.args.recipe == "ours"
    optim = adam(model, guide, lr=args.lr)
    if not ours:
        weights = [*model.parameters(), *guide.parameters()]
        optim = torch.optim.Adagrad(weights, lr=0.01, weight_decay=1 / len(train))
    latents = ("z_what",) if isinstance(model, VAE) else ("z_where", "z_what")
    elbo = as_printed(latents) if args.objective == "printed" else Weighted(TraceMeanField_ELBO())

    def warm(step: int) -> None:
        if ours and args.objective == "elbo":
            weight = min(1.0, step / min(3000, 0.4 * args.steps))
            elbo.weights = dict.fromkeys(latents, weight)
        if ours and isinstance(guide, CSTVAEGuide):
            guide.sweeps = 1 if step < 0.3 * args.steps else 2

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        images = run.floats(test[:500].images)
        bound = {"elbo": evaluation.log_weights(model, guide, images).mean().item()}
        if isinstance(model, VAE):
            return bound
        seen = evaluation.see_layers(model, guide, images)
        pictures, labels = canonical(seen, test[:500], model.window)
        if step in SHOWN or step == args.steps:
            alignment[str(step)] = class_means(pictures, labels)
        pixels = torch.tensor(model.window[:0:-1]) / 2
        return bound | {
            "layer_iou": evaluation.layer_iou(seen.masks.amax(2), test[:500].masks).mean().item(),
            "centroid_spread": (centroid(pictures) * pixels).std(0).mean().item(),
        }

    return run.fit(
        model,
        guide,
        train.images,
        optim=optim,
        elbo=elbo,
        evaluate=evaluate,
        early=EARLY,
        extra={"alignment": alignment},
        before=warm,
        clip=200.0,
    )


def canonical(
    seen: evaluation.Layers, test: Scenes, window: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The true digits (m, 1, h, w) as the windows of their layers see them, and their labels (m,)."""
    layer = evaluation.match_layers(seen.masks.amax(2), test.masks).layer.cpu()
    transforms = seen.transforms.cpu()[torch.arange(len(test))[:, None], layer]
    shown = layer >= 0
    pictures = test.masks[shown][:, None].to(transforms)
    return warp(pictures, inverse(transforms[shown]), window), test.labels[shown]


def class_means(pictures: Tensor, labels: Tensor) -> Tensor:
    """The mean of each digit's pictures (10, 1, h, w)."""
    return torch.stack([pictures[labels == digit].mean(0) for digit in range(10)]).nan_to_num()


def score(model, guide, train: Scenes, test: Scenes, run: Run) -> dict[str, float | None]:
    """Bounds on up to 500 held-out images; layers, places and codes on all."""
    particles = 5 if run.args.smoke else 100
    images = run.floats(test[:500].images)
    weights = evaluation.log_weights(model, guide, images, particles=particles)
    bounds = {
        "elbo": weights.mean().item(),
        "iwae": evaluation.importance_bound(weights).mean().item(),
        "iwae_particles": particles,
    }
    return bounds | layer_metrics(model, guide, test, run) | code_metrics(guide, train, test, run)


def layer_metrics(model, guide, test: Scenes, run: Run) -> dict[str, float | None]:
    """How true the layers are, and the places of their windows (R^2, of true digits with a layer)."""
    names = ("layer_iou", "layer_iou_overlapping", "offset_r2")
    if isinstance(model, VAE):
        return dict.fromkeys(names)
    ious, found, true = [], [], []
    for part in chunks(test):
        seen = evaluation.see_layers(model, guide, run.floats(part.images))
        match = evaluation.match_layers(seen.masks.amax(2), part.masks)
        shown = match.layer >= 0
        transforms = seen.transforms[torch.arange(len(part))[:, None], match.layer]
        ious.append(match.iou.mean(1).cpu())
        found.append(centre(transforms, model.image_shape)[shown].cpu())
        true.append(part.centres[shown.cpu()])
    iou, much = torch.cat(ious), evaluation.overlap(test.masks) > 0.25
    overlapping = iou[much].mean().item() if much.any() else None
    values = iou.mean().item(), overlapping, evaluation.r_squared(torch.cat(found), torch.cat(true))
    return dict(zip(names, values, strict=True))


def code_metrics(guide, train: Scenes, test: Scenes, run: Run) -> dict[str, float]:
    """Digits read from frozen codes: one, by 2 x 32 units; or both, in any order, by 2 x 256."""
    one = DATA[run.args.data]["count"] == 1
    train = train[:30_000] if run.args.quick else train

    def read(scenes: Scenes) -> tuple[Tensor, Tensor]:
        parts = [evaluation.codes(guide, run.floats(part.images)) for part in chunks(scenes)]
        digits = scenes.labels.sort(1).values
        return torch.cat(parts), digits[:, 0] if one else digits @ torch.tensor([10, 1])

    found = evaluation.probe(
        read(train),
        read(test),
        hidden=(32, 32) if one else (256, 256),
        epochs=1 if run.args.smoke else 20,
        lr=2e-3 if one else 1e-3,
    )
    name = "code_accuracy" if one else "both_digits_accuracy"
    return {name: found.test, f"{name}_train": found.train}


def chunks(scenes: Scenes) -> list[Scenes]:
    return [scenes[first : first + 500] for first in range(0, len(scenes), 500)]


def draw(model, guide, test: Scenes, history: list, alignment: dict, run: Run) -> None:
    """Figures, and draws for ArviZ."""
    images = run.floats(test[:50].images)
    run.figure("samples", viz.pictures(arrays(samples(model))))  # Fig. 5a
    if isinstance(model, VAE):
        canvas = poutine.trace(
            poutine.replay(model, trace=poutine.trace(guide).get_trace(images[:12]))
        ).get_trace(size=12)
        rows = {"image": images[:12], "reconstruction": canvas.nodes["canvas"]["value"]}
        run.figure("reconstructions", viz.pictures(arrays(rows)))
    else:
        seen = evaluation.see_layers(model, guide, images)
        run.figure("reconstructions", viz.pictures(arrays(taken_apart(seen, images[:12]))))  # 7c
        rows = {f"after {step} steps": pictures for step, pictures in alignment.items()}
        run.figure("alignment", viz.pictures(arrays(rows)))  # Fig. 5b
    if isinstance(model, CSTVAE) and model.layers > 1:
        run.figure("completion", viz.pictures(arrays(completion(model, guide, test, run))))
        run.figure(
            "interpretations", viz.pictures(arrays(interpretations(model, guide, test, run)))
        )
    rows = [{name: row[name] for name in row if "seconds" not in name} for row in history]
    run.figure("curves", viz.curves(rows))
    run.netcdf("inference_data", to_arviz(model, guide, images, draws=20, seed=run.args.seed))


def arrays(rows: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: pictures.cpu().numpy() for name, pictures in rows.items()}


def samples(model) -> dict[str, Tensor]:
    """From the prior; layers with their canonical images."""
    trace = poutine.trace(model).get_trace(size=12)
    rows = {"prior sample": trace.nodes["canvas"]["value"]}
    if isinstance(model, VAE):
        return rows
    for i, layer in enumerate(trace.nodes["layers"]["value"].unbind(1)):
        site = "z_what" if isinstance(model, STVAE) else f"z_what_{i}"
        rows[f"layer {i}"] = layer
        rows[f"layer {i}, canonical"] = model.decoder(trace.nodes[site]["value"])
    return rows


def taken_apart(seen: evaluation.Layers, images: Tensor) -> dict[str, Tensor]:
    """Fig. 7c: image, reconstruction, then layers from the front to the back."""
    rows = {"image": images, "reconstruction": seen.canvas[: len(images)]}
    layers = seen.complete[: len(images)].unbind(1)
    return rows | {f"layer {i}, complete": layer for i, layer in enumerate(layers)}


def completion(model, guide, test: Scenes, run: Run) -> dict[str, Tensor]:
    """Scenes of much overlap: each layer's visible part, the complete object, and the true one."""
    hard = test[(evaluation.overlap(test.masks) > 0.25).nonzero()[:12, 0]]
    images = run.floats(hard.images)
    seen = evaluation.see_layers(model, guide, images)
    match = evaluation.match_layers(seen.masks.amax(2), hard.masks).layer.argsort(1).cpu()
    rows = {"image": images}
    for i in range(model.layers):
        true = hard.masks[torch.arange(len(hard)), match[:, i]]
        rows[f"layer {i}, visible"] = seen.visible[:, i]
        rows[f"layer {i}, complete"] = seen.complete[:, i]
        rows[f"layer {i}, truth"] = true[:, None].float()
    return rows


def interpretations(model, guide, test: Scenes, run: Run) -> dict[str, Tensor]:
    """The image of which the guide is least sure: its likeliest interpretations, with their weights."""
    images = run.floats(test[:200].images)
    found, weights = evaluation.explanations(model, guide, images, draws=8)
    layers = torch.stack([seen.complete for seen in found])
    shares = weights[:, :, None, None, None, None]
    doubt = (shares * (layers - (shares * layers).sum(0)).square()).sum(0).flatten(1).sum(1)
    image = images[doubt.argmax()][None]
    draws = 6 if run.args.smoke else 64
    found, weights = evaluation.explanations(model, guide, image, draws=draws)
    rows = {"image": image}
    for rank, i in enumerate(weights[:, 0].argsort(descending=True)[:6].tolist(), 1):
        pictures = torch.cat([found[i].canvas, found[i].complete[0]])
        rows[f"{rank}. weight {weights[i, 0]:.2f}: canvas, layers"] = pictures
    return rows


if __name__ == "__main__":
    launch(main, parser())
