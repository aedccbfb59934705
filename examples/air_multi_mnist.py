"""AIR (Eslami et al., 2016) learns to count, place and draw digits that nobody labelled.

By default the digits are drawn by a built-in pen, so nothing is downloaded:

    python examples/air_multi_mnist.py

With MNIST (its four files in DIR/MNIST/raw), or with scenes of your own:

    python examples/air_multi_mnist.py --data-root DIR --out runs/air_mnist
    python examples/air_multi_mnist.py --images scenes.npz --out runs/mine
    python examples/air_multi_mnist.py --images new.npz --evaluate runs/mine/checkpoint.pt --out runs/new

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO
from torch import Tensor

from pyro_scenes import (
    AIR,
    AIRGuide,
    Persist,
    adam,
    evaluation,
    load_checkpoint,
    to_arviz,
    viz,
    warm_up,
)
from pyro_scenes.data import Scenes, load_scenes, mnist, multi_digits, strokes
from pyro_scenes.experiment import Run, flags, launch, path, positive, rate
from pyro_scenes.inference import read_checkpoint
from pyro_scenes.random import fork_rng

ELBOS = {"exact": TraceEnum_ELBO(max_plate_nesting=1), "graph": TraceGraph_ELBO()}
COSTS = ("seconds", "cpu_seconds")


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/air_multi_mnist", steps=2000)
    add = parser.add_argument
    add("--elbo", choices=ELBOS, default="exact", help="exact sum over counts, or score function")
    add("--objects", type=positive, default=3, metavar="N", help="most in a scene (%(default)s)")
    add("--images", type=path, metavar="NPZ", help="your scenes: images, and maybe counts")
    add("--evaluate", type=path, metavar="CHECKPOINT", help="do not train: evaluate this one")
    add("--lr", type=rate, default=1e-3, metavar="RATE", help="learning rate of Adam (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    if args.images and args.data_root:
        raise ValueError("--images and --data-root are two sources of scenes: give one of them")
    run = Run(args, trains=not args.evaluate)
    kept = read_checkpoint(args.evaluate)["extra"] if args.evaluate else {}
    if args.evaluate and not {"settings", "history"} <= kept.keys():
        raise ValueError(f"{args.evaluate} was not written by this example")
    args.objects = kept.get("settings", {}).get("steps", args.objects)
    train, tests = scenes(args)
    held_out = tests[""]
    settings = kept.get("settings") or sizes(held_out, args.objects)
    shape = list(held_out.images.shape[1:])
    if settings["image_shape"] != shape:
        raise ValueError(
            f"{args.evaluate} is of images {settings['image_shape']} (channels, height, width), these "
            f"are {shape}: give --images of the same shape"
        )
    model = AIR(**settings).to(run.device)
    guide = AIRGuide(model).to(run.device)
    if args.evaluate:
        history = kept["history"]
        print(f"evaluating {args.evaluate}, trained for {history[-1]['step']} steps")
        load_checkpoint(args.evaluate, model.eval(), guide.eval())
    else:
        history = learn(model, guide, train, held_out, run, settings)
    metrics = {"steps": history[-1]["step"], **{name: history[-1][name] for name in COSTS}}
    with torch.no_grad(), fork_rng(args.seed):
        for kind, test in tests.items():
            found = score(model, guide, test, run)
            metrics |= {name + kind: value for name, value in found.items()}
        run.write(metrics)
        draw(model, guide, held_out, history, run)
    print(f"the pictures are in {run.out}: look at scenes.png first")


def learn(
    model: AIR, guide: AIRGuide, train: Scenes, held_out: Scenes, run: Run, settings: dict
) -> list:
    """Trains both. What an object looks like is learned before whether there is one: see warm_up."""
    args = run.args

    def warm(step: int) -> None:
        model.z_pres = Persist(warm_up(step, over=min(500, args.steps // 2 + 1)))

    return run.fit(
        model,
        guide,
        train.images,
        optim=adam(model, guide, lr=args.lr),
        elbo=ELBOS[args.elbo],
        evaluate=lambda step: counting(guide, held_out[:1000], run),
        extra={"settings": settings},
        before=warm,
    )


def scenes(args: argparse.Namespace) -> tuple[Scenes, dict[str, Scenes]]:
    """Training scenes, and held-out ones by the suffix of their metrics."""
    if args.images:
        mine = load_scenes(args.images, most=args.objects)
        if args.evaluate:
            return mine, {"": mine}
        if len(mine) < 2:
            raise ValueError(f"{args.images} has {len(mine)} image: training needs at least 2")
        order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(args.seed))
        held_out = max(1, len(mine) // 10)
        return mine[order[held_out:]], {"": mine[order[:held_out]]}
    if args.data_root:
        seen, unseen = mnist(args.data_root), mnist(args.data_root, train=False)
        size, tests = 60_000, 10_000
    else:
        pictures, labels = strokes(12_000)
        seen, unseen = (pictures[2000:], labels[2000:]), (pictures[:2000], labels[:2000])
        size, tests = 20_000, 2_000
    if args.smoke:
        size, tests = 64, 32
    held_out = {
        suffix: multi_digits(unseen, tests, kind=kind, seed=1_000_000)  # the same for all seeds
        for suffix, kind in (("", "touching"), ("_disjoint", "disjoint"))
    }
    return multi_digits(seen, size, seed=args.seed), held_out


def sizes(scenes: Scenes, objects: int) -> dict[str, list[int] | int]:
    """Of AIR: windows of 28 pixels on canvases of 50, and in that proportion on others."""
    channels, height, width = scenes.images.shape[1:]
    window = [channels, max(8, round(0.56 * height)), max(8, round(0.56 * width))]
    return {"image_shape": [channels, height, width], "window": window, "steps": objects}


def counting(guide: AIRGuide, test: Scenes, run: Run) -> dict[str, float]:
    """Held-out count accuracy, of the mode of q(n) and of a sample."""
    if test.counts is None:
        return {}
    with torch.no_grad():
        images, truth = run.floats(test.images), test.counts
        mode = evaluation.count_probabilities(guide, images).argmax(1).cpu()
        sample = evaluation.sample_counts(guide, images).cpu()
    return {
        "count_accuracy": evaluation.count_accuracy(mode, truth),
        "count_accuracy_sample": evaluation.count_accuracy(sample, truth),
    }


def score(model: AIR, guide: AIRGuide, test: Scenes, run: Run) -> dict[str, float]:
    """Bounds on up to 500 held-out images, counts on all, in chunks of 1000."""
    particles = 5 if run.args.smoke else 100
    weights = evaluation.log_weights(
        model, guide, run.floats(test[:500].images), particles=particles
    )
    bound = evaluation.importance_bound(weights).mean().item()
    chunks = [test[first : first + 1000] for first in range(0, len(test), 1000)]
    found = [(counting(guide, chunk, run), len(chunk)) for chunk in chunks]
    shares = {name: sum(f[name] * n for f, n in found) / len(test) for name in found[0][0]}
    return {"elbo": weights.mean().item(), "iwae": bound, "iwae_particles": particles, **shares}


def draw(model: AIR, guide: AIRGuide, test: Scenes, history: list, run: Run) -> None:
    """Figures, and draws for ArviZ."""
    images = run.floats(test[:24].images)
    seen = evaluation.interpret(model, guide, images)
    found = seen.counts.tolist()
    truth = found if test.counts is None else test.counts[:24].tolist()
    titles = [f"{n} found" if n == m else f"{n} found, {m} there" for n, m in zip(found, truth)]
    boxes = seen.boxes.cpu().numpy()
    run.figure("scenes", viz.scenes(images.cpu().numpy(), boxes, titles=titles))
    rows = {"image": images[:12], "reconstruction (one draw of the guide)": seen.canvas[:12]}
    rows = {name: pictures.cpu().numpy() for name, pictures in rows.items()}
    run.figure("reconstructions", viz.pictures(rows, boxes={"image": boxes}))
    rows = {f"prior, given n = {n}": prior(model, n).cpu().numpy() for n in range(model.steps + 1)}
    run.figure("prior", viz.pictures(rows))
    rows = [{name: row[name] for name in row if name not in COSTS} for row in history]
    run.figure("curves", viz.curves(rows))
    data = to_arviz(model, guide, run.floats(test[:50].images), draws=20, seed=run.args.seed)
    run.netcdf("inference_data", data)


def prior(model: AIR, count: int, size: int = 12) -> Tensor:
    """Canvases of the prior given the count: without it nearly all would be empty (p(n) ~ 0.01^n)."""
    device = model.blank.device
    present = {
        f"z_pres_{t}": torch.ones(size, device=device) * (t < count) for t in range(model.steps)
    }
    trace = poutine.trace(poutine.condition(model, data=present)).get_trace(size=size)
    return trace.nodes["canvas"]["value"]


if __name__ == "__main__":
    launch(main, parser())
