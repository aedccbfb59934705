"""AIR that is told the counts of 1 % of its scenes, beside one that is told none, and a classifier.

    python benchmarks/labelled_counts.py --data-root DIR --seeds 0 1 2 3 4 5 6 7 8 9 --steps 2000

Every run of a seed has the same scenes and labels; --labels of them, the same for each run. The classifier,
AIR's encoder of images and a hidden layer, is trained on the labelled scenes alone, as many steps on batches
of them: what the labels say without a model. Printed is the share of test scenes whose count is right (mode
of q(n)), seed by seed, and how many seeds reach 95 %. Without --data-root, the built-in digits.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import islice

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO
from sweep import table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyro_scenes import Known, Persist, Pixels, adam, evaluation, fit, presences, semi_supervise
from pyro_scenes.data import Scenes, batches, digits, multi_digits
from pyro_scenes.experiment import natural, path, positive, rate
from pyro_scenes.inference import falling, scale_lr, warm_up
from pyro_scenes.networks import ImageEncoder, mlp
from pyro_scenes.recipes import air_pair, noise_at

#: Width of the windows of digits in pixels, whatever the canvas.
WIDTH = 50 / 3


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seeds", type=natural, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--steps", type=positive, default=2000, metavar="N", help="of training (%(default)s)")
    add("--batch-size", type=positive, default=64, metavar="N", help="(%(default)s)")
    add("--scenes", type=positive, default=20_000, metavar="N", help="(%(default)s)")
    add("--labels", type=positive, metavar="N", help="labelled scenes (1 %% of them)")
    add("--alpha", type=rate, default=20.0, metavar="WEIGHT", help="of log q(n) (%(default)s)")
    add("--canvas", type=positive, default=50, metavar="N", help="pixels a side (%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pyro.enable_validation(False)
    pen, args.labels = digits(args.data_root), args.labels or max(1, args.scenes // 100)
    test = multi_digits(pen.test, 1000, canvas=args.canvas, seed=1_000_000)
    rows = {}
    for seed in args.seeds:
        train = multi_digits(pen.train, args.scenes, canvas=args.canvas, seed=seed)
        rows[f"seed {seed}"] = row = compare(train, test, seed, args)
        print(f"seed {seed}:", ", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    names = [*next(iter(rows.values()))]
    floor = {
        "one count": {name: evaluation.count_accuracy_floor(test.counts) for name in names[:3]}
    }
    print(f"\n{args.labels} of {args.scenes} scenes labelled, {args.steps} steps\n")
    print(table(rows, names, floors=floor))
    for name in names[:3]:
        reached = sum(row[name] >= 0.95 for row in rows.values())
        print(f"{name}: {reached} of {len(rows)} seeds have 95 % or more")


def compare(train: Scenes, test: Scenes, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """The count accuracy of each way to use the scenes, and the CPU seconds of the first."""
    counts = torch.full_like(train.counts, -1)
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    chosen = chosen[: args.labels]
    counts[chosen] = train.counts[chosen]
    start = time.process_time()
    known = air(train, chosen, counts, test, seed, args)
    seconds = time.process_time() - start
    unknown = air(train, chosen, torch.full_like(counts, -1), test, seed, args)
    alone = classifier(train[chosen], test, seed, args)
    return {"AIR, labels": known, "AIR, no labels": unknown, "classifier": alone, "CPU s": seconds}


def air(
    train: Scenes, chosen: Tensor, counts: Tensor, test: Scenes, seed: int, args: argparse.Namespace
) -> float:
    """AIR after its usual training; a quarter of each batch are the scenes that may have labels."""
    pyro.set_rng_seed(seed)
    model, guide = air_pair((1, args.canvas, args.canvas), 3, scale=WIDTH / args.canvas)
    optim, pair = adam(model, guide), semi_supervise(model, guide, alpha=args.alpha)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    stream = islice(mixed(train, chosen, counts, model.steps, seed, args), args.steps)
    for step, _ in enumerate(fit(*pair, stream, elbo=elbo, optim=optim), 1):
        scale_lr(optim, falling(step, args.steps))
        model.z_pres = Persist(warm_up(step, over=min(500, args.steps // 2 + 1)))
        model.image = Pixels(dist.Normal, scale=noise_at(step, args.steps, 0.15))
    guide.eval()
    with torch.no_grad():
        return evaluation.counting(guide, test.floats(), test.counts).count_accuracy


def mixed(
    train: Scenes, chosen: Tensor, counts: Tensor, steps: int, seed: int, args: argparse.Namespace
) -> Iterator[Known]:
    some = args.batch_size // 4
    whole = batches((train.images, counts), args.batch_size - some, seed=seed)
    few = batches((train.images[chosen], counts[chosen]), min(some, len(chosen)), seed=seed)
    for pairs in zip(whole, few):
        images, labels = (torch.cat(parts) for parts in zip(*pairs))
        yield Known(images, presences(labels, steps))


def classifier(train: Scenes, test: Scenes, seed: int, args: argparse.Namespace) -> float:
    """The control: the labels alone."""
    torch.manual_seed(seed)
    network = nn.Sequential(ImageEncoder(train.images.shape[1:], 256), mlp(256, 200, 4))
    optim = torch.optim.Adam(network.parameters(), lr=1e-3)
    size = min(args.batch_size, len(train))
    for images, labels in islice(
        batches((train.images, train.counts), size, seed=seed), args.steps
    ):
        optim.zero_grad()
        cross_entropy(network(images), labels).backward()
        optim.step()
    with torch.no_grad():
        return (network(test.floats()).argmax(1) == test.counts).double().mean().item()


if __name__ == "__main__":
    main(parser().parse_args())
