"""AIR on multi-MNIST over several seeds and both estimators: tables of every run.

    python benchmarks/air_seeds.py --data-root DIR --out runs/air_seeds --seeds 0 1 2 --jobs 2

Runs examples/air_multi_mnist.py for each seed and estimator (what is already in --out goes on where it
stopped), one thread each, and prints the figures on the test scenes beside their floors, and when the count
accuracy (mode of q(n)) on validation scenes, every 250 steps, first reached 90, 95 and 98 %, in steps and
CPU seconds. Without --data-root, the built-in digits.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from sweep import flags, sweep, table

from pyro_scenes.experiment import path, positive, rate

FIGURES = (
    "count_accuracy",
    "count_accuracy_sample",
    "count_accuracy_disjoint",
    "count_accuracy_sample_disjoint",
    "elbo",
    "elbo_disjoint",
    "iwae",
    "iwae_disjoint",
)


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/air_seeds")
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--noise", type=rate, default=0.3, metavar="S", help="of a pixel: Pyro's AIR has 0.3")
    add("--exact-steps", type=positive, default=4000, metavar="N", help="(%(default)s)")
    add("--graph-steps", type=positive, default=5000, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    common = ["--data-root", args.data_root] * bool(args.data_root) + ["--smoke"] * args.smoke
    runs = {
        f"{elbo}_{seed}": [
            *common,
            "--noise",
            str(args.noise),
            "--elbo",
            elbo,
            "--seed",
            str(seed),
            "--steps",
            str(steps),
        ]
        for elbo, steps in (("exact", args.exact_steps), ("graph", args.graph_steps))
        for seed in args.seeds
    }
    metrics = sweep("air_multi_mnist.py", runs, args.out, args.jobs)
    for elbo in ("exact", "graph"):
        print(f"\n{elbo}, test scenes\n")
        rows = {name: metrics[name] for name in runs if name.startswith(elbo)}
        print(table(rows, FIGURES, floors={"floor": floors(next(iter(rows.values())))}))
    print("\nSteps (CPU seconds) until the count accuracy on validation scenes reached\n")
    print("| | 90 % | 95 % | 98 % | all steps |\n| --- | --- | --- | --- | --- |")
    for name in runs:
        print(f"| {name} | {' | '.join(reached(Path(args.out) / name / 'metrics.csv'))} |")


def floors(metrics: dict[str, Any]) -> dict[str, Any]:
    """What one count for all scenes has, and seeing no object, by the name of the figure."""
    return {
        name.replace("_floor", ""): value for name, value in metrics.items() if "_floor" in name
    }


def reached(file: Path) -> list[str]:
    """When a run's count accuracy first was 90, 95 and 98 %, and its end."""
    with file.open(encoding="utf-8") as lines:
        history = list(csv.DictReader(lines))
    firsts = [
        next((row for row in history if float(row["count_accuracy"]) >= goal), None)
        for goal in (0.90, 0.95, 0.98)
    ]
    return [
        f"{r['step']} ({float(r['cpu_seconds']):.0f})" if r else "-" for r in (*firsts, history[-1])
    ]


if __name__ == "__main__":
    main(parser().parse_args())
