"""AIR on multi-MNIST over several seeds and both estimators: a table of every run.

    python benchmarks/air_seeds.py --data-root DIR --out runs/air_seeds --seeds 0 1 2 --jobs 2

Runs examples/air_multi_mnist.py for each seed and estimator (what is already in --out goes on where it
stopped), one thread each, and prints when the held-out count accuracy (mode of q(n), 1000 ``touching``
scenes, every 250 steps) first reached 90, 95 and 98 %, in steps and CPU seconds, and the figures at the
end, on 10,000 scenes. Without --data-root, the built-in digits.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

EXAMPLE = Path(__file__).parent.parent / "examples" / "air_multi_mnist.py"
FINAL = ("count_accuracy", "count_accuracy_sample", "count_accuracy_disjoint", "elbo", "iwae")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--out", default="runs/air_seeds", metavar="DIR", help="folder for the runs (%(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--exact-steps", type=int, default=4000, metavar="N", help="(%(default)s)")
    add("--graph-steps", type=int, default=5000, metavar="N", help="(%(default)s)")
    add("--jobs", type=int, default=2, metavar="N", help="runs at a time (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    plan = [(elbo, seed) for elbo in ("exact", "graph") for seed in args.seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(pool.map(lambda run: train(*run, args), plan))
    # The three shares are steps (CPU seconds) until held-out count accuracy first reached them.
    print("| estimator | seed | 90 % | 95 % | 98 % | steps | CPU s |", " | ".join(FINAL), "|")
    print("|" + " --- |" * (7 + len(FINAL)))
    rows = [summary(elbo, seed, folder) for (elbo, seed), folder in zip(plan, folders, strict=True)]
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")
    for elbo in ("exact", "graph"):
        finals = [row[-len(FINAL) :] for row in rows if row[0] == elbo]
        for name, pick in (("median", median), ("worst", min)):
            shown = " | ".join(f"{pick(column):.4f}" for column in zip(*finals, strict=True))
            print(f"| {elbo} | {name} | | | | | | {shown} |")


def train(elbo: str, seed: int, args: argparse.Namespace) -> Path:
    out = Path(args.out) / f"{elbo}_{seed}"
    steps = args.exact_steps if elbo == "exact" else args.graph_steps
    words = ["--elbo", elbo, "--seed", seed, "--steps", steps, "--out", out, "--resume"]
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


def summary(elbo: str, seed: int, out: Path) -> list:
    history = list(csv.DictReader((out / "metrics.csv").open()))
    metrics = json.loads((out / "metrics.json").read_text())
    reached = []
    for goal in (0.90, 0.95, 0.98):
        rows = [row for row in history if float(row["count_accuracy"]) >= goal]
        reached.append(f"{rows[0]['step']} ({float(rows[0]['cpu_seconds']):.0f})" if rows else "-")
    cost = [metrics["steps"], round(metrics["cpu_seconds"])]
    return [elbo, seed, *reached, *cost, *(round(metrics[name], 4) for name in FINAL)]


if __name__ == "__main__":
    main(parser().parse_args())
