"""Fig. 6 and 7 of Huang and Murphy (2016), as tables and plots: every model, several seeds.

    python benchmarks/cst_vae_tables.py --data-root DIR --out runs/cst_vae --jobs 3

Runs examples/cst_vae_superimposed.py, one thread each (what is already in --out goes on where it stopped):
VAE and ST-VAE on Translated digits; VAE, ST-VAE and CST-VAE on Superimposed ones. Latents are 20 (and 6 for
the pose) there; 50, 50 + 6, and 2 (20 + 6) here. Steps are such that all models of one kind of data take
about the same CPU time. Then it trains classifiers on pixels, through a spatial transformer, and, on single
digits, a convolutional one that reads CST-VAE's layers. Without --data-root, the built-in digits.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from pyro_scenes import CSTVAE, CSTVAEGuide, evaluation, load_checkpoint, viz
from pyro_scenes.data import Scenes, layered_digits, mnist, strokes
from pyro_scenes.experiment import positive, rate
from pyro_scenes.networks import FreePoseDecoder, PoseEncoder, mlp
from pyro_scenes.render import warp

EXAMPLE = Path(__file__).parent.parent / "examples" / "cst_vae_superimposed.py"
STEPS = {
    ("cst_vae", "superimposed"): 8_000,
    ("st_vae", "superimposed"): 16_000,
    ("vae", "superimposed"): 32_000,
    ("st_vae", "translated"): 8_000,
    ("vae", "translated"): 16_000,
}
FINAL = {
    "translated": ("elbo", "iwae", "code_accuracy", "layer_iou", "offset_r2"),
    "superimposed": (
        "elbo",
        "iwae",
        "both_digits_accuracy",
        "layer_iou",
        "layer_iou_overlapping",
        "offset_r2",
    ),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--out", default="runs/cst_vae", metavar="DIR", help="folder for the runs (%(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--scale", type=rate, default=1.0, help="of the number of steps (%(default)s)")
    add("--jobs", type=positive, default=2, metavar="N", help="runs at a time (%(default)s)")
    add("--smoke", action="store_true", help="a few tiny steps, only to see that everything runs")
    add("--recipe", choices=("ours", "paper"), default="ours", help="of the example (%(default)s)")
    add("--no-classifiers", action="store_true", help="leave those on pixels out")
    return parser


def main(args: argparse.Namespace) -> None:
    plan = [(*kind, seed) for kind in STEPS for seed in args.seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = dict(zip(plan, pool.map(lambda run: train(*run, args), plan), strict=True))
    for data, names in FINAL.items():
        print(f"\n{data}\n")
        table([kind for kind in STEPS if kind[1] == data], args.seeds, folders, names)
    for data in FINAL:
        gaps(data, args.seeds, folders)
        curves(data, args.seeds, folders).savefig(Path(args.out) / f"bounds_{data}.png", dpi=120)
    if not args.no_classifiers:
        torch.set_num_threads(args.jobs)
        for seed in args.seeds:
            classifiers(seed, args, folders["cst_vae", "superimposed", seed])


def train(model: str, data: str, seed: int, args: argparse.Namespace) -> Path:
    out = Path(args.out) / f"{data}_{model}_{seed}"
    steps = max(1, round(args.scale * STEPS[model, data]))
    words = ["--model", model, "--data", data, "--seed", seed, "--steps", steps, "--out", out]
    words += ["--recipe", args.recipe, "--resume"] + ["--smoke"] * args.smoke
    if args.data_root:
        words += ["--data-root", args.data_root]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        subprocess.run(
            [sys.executable, str(EXAMPLE), *map(str, words)],
            check=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
    return out


def table(kinds: list, seeds: list[int], folders: dict, names: tuple[str, ...]) -> None:
    print("| model | seed | steps | CPU s |", " | ".join(names), "| spread / 5 at |")
    print("|" + " --- |" * (5 + len(names)))
    for kind in kinds:
        rows = []
        for seed in seeds:
            metrics = json.loads((folders[*kind, seed] / "metrics.json").read_text())
            rows.append([metrics[name] for name in names])
            cost = f"{metrics['steps']} | {metrics['cpu_seconds']:.0f}"
            print(f"| {kind[0]} | {seed} | {cost} |", shown(rows[-1]), end="")
            print(f" | {aligned(history(folders[*kind, seed]))} |")
        for name, pick in (("median", median), ("worst", min)):
            found = [None if None in column else pick(column) for column in zip(*rows, strict=True)]
            print(f"| {kind[0]} | {name} | | |", shown(found), "| |")


def shown(row: list) -> str:
    return " | ".join("" if x is None else f"{x:.1f}" if abs(x) > 2 else f"{x:.4f}" for x in row)


def history(out: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((out / "metrics.csv").open())
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def aligned(rows: list[dict[str, float]]) -> str:
    """The first step at which the canonical centroids are spread a fifth as much as at first."""
    if "centroid_spread" not in rows[0]:
        return ""
    goal = rows[0]["centroid_spread"] / 5
    reached = [int(row["step"]) for row in rows if row["centroid_spread"] <= goal]
    return str(reached[0]) if reached else "-"


def gaps(data: str, seeds: list[int], folders: dict) -> None:
    """Whether each model's bound is above the next one's, at equal steps and at equal CPU time."""
    models = [model for model, kind in STEPS if kind == data]
    for better, worse in pairwise(models):
        for x in ("step", "cpu_seconds"):
            least = []
            for seed in seeds:
                one, other = (history(folders[model, data, seed]) for model in (better, worse))
                ours = [row for row in one if row["step"] >= 250]
                least.append(min((row["elbo"] - at(other, x, row[x]) for row in ours), default=0.0))
            print(
                f"{data}: least gap {better} - {worse} at equal {x}, from step 250, by seed:",
                end="",
            )
            print(" ", ", ".join(f"{gap:.1f}" for gap in least), "nats")


def at(rows: list[dict[str, float]], x: str, value: float) -> float:
    """The bound last seen by then."""
    return [row["elbo"] for row in rows if row[x] <= value or row is rows[0]][-1]


def curves(data: str, seeds: list[int], folders: dict):
    """Held-out bounds over CPU seconds (Fig. 6a and 7a), a line for each seed, from step 100 on."""
    groups = {}
    for model, kind in STEPS:
        if kind == data:
            runs = [history(folders[model, data, seed]) for seed in seeds]
            shown = [[row for row in run if row["step"] >= 100] or run for run in runs]
            groups[model] = [
                ([row["cpu_seconds"] for row in run], [row["elbo"] for row in run]) for run in shown
            ]
    return viz.lines(groups, x="CPU seconds", y="held-out ELBO, nats per image")


def classifiers(seed: int, args: argparse.Namespace, folder: Path) -> None:
    """Supervised on pixels (Fig. 6b, 7b); and what a classifier of single digits reads from layers."""
    torch.manual_seed(seed)
    seen, unseen = digits(args)
    size, tests = (200, 100) if args.smoke else (100_000, 10_000)
    one = [
        layered_digits(d, n, count=1, canvas=36, seed=s)
        for d, n, s in ((seen, size, seed), (unseen, tests, 1_000_000))
    ]
    two = [
        layered_digits(d, n, seed=s) for d, n, s in ((seen, size, seed), (unseen, tests, 1_000_000))
    ]
    single = [scenes.labels[:, 0] for scenes in one]
    both = [scenes.labels.sort(1).values @ torch.tensor([10, 1]) for scenes in two]
    rows = {
        "translated, pixels, 2 x 32": fitted(Pixels(36, 32, 10), one, single),
        "translated, pixels through a spatial transformer, 2 x 32": fitted(
            Transformer(36, 32, 10), one, single
        ),
        "superimposed, pixels, 2 x 256": fitted(Pixels(50, 256, 100), two, both),
    }
    for name, (network, train, test) in rows.items():
        print(f"seed {seed}: {name}: train {train:.4f}, test {test:.4f}")
    alone = [Scenes(scenes.masks[:, :1].to(torch.uint8) * 255) for scenes in two]
    first = [scenes.labels[:, 0] for scenes in two]
    reader, _, test = fitted(convolutions(50), alone, first, epochs=3)
    share = read_layers(reader, two[1], folder, args.recipe)
    print(
        f"seed {seed}: a CNN (single digits on 50 x 50: {test:.4f}) reads both layers: {share:.4f}"
    )


def digits(args: argparse.Namespace) -> tuple:
    if args.data_root:
        return mnist(args.data_root), mnist(args.data_root, train=False)
    pictures, labels = strokes(12_000)
    return (pictures[2000:], labels[2000:]), (pictures[:2000], labels[:2000])


class Pixels(nn.Sequential):
    """The paper's directly supervised classifier."""

    def __init__(self, side: int, hidden: int, classes: int) -> None:
        super().__init__(nn.Flatten(), mlp(side * side, hidden, hidden, classes))


class Transformer(nn.Module):
    """The same behind a spatial transformer (Jaderberg et al., 2015) that starts at the identity."""

    def __init__(self, side: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.locate = nn.Sequential(PoseEncoder((1, side, side), 64), nn.Linear(64, 6))
        nn.init.zeros_(self.locate[1].weight)
        self.locate[1].bias.data = torch.eye(2, 3).flatten()
        self.classify = Pixels(side, hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        transform = self.locate(images).unflatten(-1, (2, 3))
        return self.classify(warp(images, transform, images.shape))


def convolutions(side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        mlp(32 * ((side + 3) // 4) ** 2, 128, 10),
    )


def fitted(
    network: nn.Module, scenes: list[Scenes], labels: list[Tensor], *, epochs: int = 10
) -> tuple[nn.Module, float, float]:
    """Adam, its learning rate falling linearly to 0. Returns the network and its accuracies."""
    optim = torch.optim.Adam(network.parameters(), 1e-3)
    batches = [i for _ in range(epochs) for i in torch.randperm(len(scenes[0])).split(100)]
    for step, index in enumerate(batches):
        optim.param_groups[0]["lr"] = 1e-3 * (1 - step / len(batches))
        optim.zero_grad()
        loss = nn.functional.cross_entropy(network(scenes[0].images[index] / 255), labels[0][index])
        loss.backward()
        optim.step()
    return network, *(accuracy(network, *pair) for pair in zip(scenes, labels, strict=True))


@torch.no_grad()
def accuracy(network: nn.Module, scenes: Scenes, labels: Tensor) -> float:
    found = [network(part / 255).argmax(1) for part in scenes.images.split(1000)]
    return (torch.cat(found) == labels).double().mean().item()


def ours() -> tuple[CSTVAE, CSTVAEGuide]:
    model = CSTVAE()
    return model, CSTVAEGuide(model)


def papers() -> tuple[CSTVAE, CSTVAEGuide]:
    model = CSTVAE(window=(1, 50, 50), pose=FreePoseDecoder())
    guide = CSTVAEGuide(model, hidden=128, pose_hidden=32, looks=0, sweeps=1, explained=False)
    return model, guide


@torch.no_grad()
def read_layers(reader: nn.Module, test: Scenes, folder: Path, recipe: str) -> float:
    """The share of scenes of whose two layers the reader says both digits right, in any order."""
    model, guide = papers() if recipe == "paper" else ours()
    load_checkpoint(folder / "checkpoint.pt", model, guide)
    found = []
    for part in test.images.split(500):
        seen = evaluation.see_layers(model, guide, part / 255)
        layers = (seen.complete > 0.5).float().flatten(0, 1)
        found.append(reader(layers).argmax(1).unflatten(0, (len(part), 2)))
    right = torch.cat(found).sort(1).values == test.labels.sort(1).values
    return right.all(1).double().mean().item()


if __name__ == "__main__":
    main(parser().parse_args())
