"""Fig. 6 and 7 of Huang and Murphy (2016), as tables and plots: every model, several seeds.

    python benchmarks/cst_vae_tables.py --data-root DIR --out runs/cst_vae --jobs 3

Runs examples/cst_vae_superimposed.py, one thread each (what is already in --out goes on where it stopped):
VAE and ST-VAE on Translated digits; VAE, ST-VAE and CST-VAE on Superimposed ones. Steps are such that all
models of one kind of data take about the same CPU time. Without --data-root, the built-in digits. The
ceilings of codes, classifiers on pixels, are in cst_vae_classifiers.py.
"""

import argparse
import csv
from itertools import pairwise
from pathlib import Path

from sweep import flags, sweep, table

from pyro_scenes import viz
from pyro_scenes.experiment import path, rate

#: Steps by data and model, the best model first.
STEPS = {
    "superimposed": {"cst_vae": 8_000, "st_vae": 16_000, "vae": 32_000},
    "translated": {"st_vae": 8_000, "vae": 16_000},
}
FIGURES = ("elbo", "iwae", "code_accuracy", "layer_iou", "layer_iou_overlapping", "overlap_iou")
FIGURES += ("attribution", "centre_r2", "shapes_read", "scenes_read", "steps", "cpu_seconds")


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/cst_vae")
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--scale", type=rate, default=1.0, help="of the number of steps (%(default)s)")
    add("--recipe", choices=("ours", "paper"), default="ours", help="of the example (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    common = ["--recipe", args.recipe, *["--smoke"] * args.smoke]
    common += ["--data-root", args.data_root] if args.data_root else []
    runs = {
        f"{data}_{model}_{seed}": f"--data {data} --model {model} --seed {seed} --steps".split()
        + [str(max(1, round(args.scale * steps))), *common]
        for data, models in STEPS.items()
        for model, steps in models.items()
        for seed in args.seeds
    }
    metrics = sweep("cst_vae_superimposed.py", runs, args.out, args.jobs)
    history = {name: read_history(Path(args.out) / name / "metrics.csv") for name in runs}
    for data, models in STEPS.items():
        for model in models:
            names = [f"{data}_{model}_{seed}" for seed in args.seeds]
            print(f"\n{data}, {model}\n\n{table({name: metrics[name] for name in names}, FIGURES)}")
            print(
                "\ncentroids' spread a fifth from step",
                ", ".join(aligned(history[name]) for name in names),
            )
        print_gaps(data, args.seeds, history)
        figure = curves({m: [history[f"{data}_{m}_{seed}"] for seed in args.seeds] for m in models})
        figure.savefig(Path(args.out) / f"bounds_{data}.png", dpi=120)


def read_history(file: Path) -> list[dict[str, float]]:
    with file.open(encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        return [{name: float(value) for name, value in row.items() if value} for row in rows]


def aligned(rows: list[dict[str, float]]) -> str:
    """The first step at which the canonical centroids are spread a fifth as much as at first."""
    spreads = {row["step"]: row.get("centroid_spread", float("nan")) for row in rows}
    steps = (step for step, spread in spreads.items() if spread <= spreads[0] / 5)
    return f"{next(steps, float('nan')):.0f}"


def print_gaps(data: str, seeds: list[int], history: dict[str, list[dict[str, float]]]) -> None:
    """Whether each model's bound is above the next one's, at equal steps and at equal CPU time."""
    for better, worse in pairwise(STEPS[data]):
        pairs = [[history[f"{data}_{m}_{seed}"] for m in (better, worse)] for seed in seeds]
        for x in ("step", "cpu_seconds"):
            gaps = ", ".join(f"{least_gap(*pair, x):.1f}" for pair in pairs)
            print(f"least gap {better} - {worse} at equal {x}, from step 250, by seed: {gaps} nats")


def least_gap(rows: list[dict[str, float]], others: list[dict[str, float]], x: str) -> float:
    gaps = []
    for row in rows:
        other = [other for other in others if other[x] <= row[x] or other is others[0]][-1]
        gaps += [row["validation_elbo"] - other["validation_elbo"]] * (row["step"] >= 250)
    return min(gaps, default=0.0)


def curves(groups: dict[str, list[list[dict[str, float]]]]):
    """Validation bounds over CPU seconds (Fig. 6a and 7a), a line for each seed, from step 100 on."""
    lines = {}
    for model, runs in groups.items():
        late = [[row for row in rows if row["step"] >= 100] or rows for rows in runs]
        names = ("cpu_seconds", "validation_elbo")
        lines[model] = [tuple([row[name] for row in rows] for name in names) for rows in late]
    return viz.lines(lines, x="CPU seconds", y="validation ELBO, nats per image")


if __name__ == "__main__":
    main(parser().parse_args())
