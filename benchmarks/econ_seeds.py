"""ECON over several seeds, as tables: both data sets, one expert with given masks, and the paper's procedure.

    python benchmarks/econ_seeds.py --out runs/econ --jobs 2

Runs examples/econ_shapes.py, one thread each (what is already in --out goes on where it stopped), and
prints every run's figures on 1,000 held-out scenes, with median and worst. The kinds are

    unique, random          our recipe, by colours of the data
    given, given_monet      one expert that makes all, true masks given, by a true bound and by MONet's loss
    paper_unique, ...       the paper's networks, objective and plateau rule, for --paper-steps
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from pyro_scenes.experiment import positive

EXAMPLE = Path(__file__).parent.parent / "examples" / "econ_shapes.py"
PAPER = ["--recipe", "paper", "--objective", "paper", "--data"]
GIVEN = ["--masks", "given", "--data", "unique"]
KINDS: dict[str, list[str]] = {
    "unique": ["--data", "unique"],
    "random": ["--data", "random"],
    "given": GIVEN,
    "given_monet": [*GIVEN, "--objective", "monet"],
    "paper_unique": [*PAPER, "unique"],
    "paper_random": [*PAPER, "random"],
}
FIGURES = (
    "ari_fg",
    "ari",
    "mean_iou",
    "purity",
    "nmi",
    "amodal_iou",
    "amodal_iou_softmax",
    "invisible_iou",
    "depth_order",
    "depth_order_pairs",
    "depth_order_seen",
    "background_first",
    "counts",
    "mse",
    "mse_ratio_5",
    "ari_fg_drop_5",
    "extra_steps_pixels",
    "requested_counts",
    "single_expert_shapes",
    "elbo",
)
#: Of these the least is best.
LEAST = {"background_first", "mse", "mse_ratio_5", "ari_fg_drop_5", "extra_steps_pixels"}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", default="runs/econ", metavar="DIR", help="folder for the runs (%(default)s)")
    add("--kinds", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND", help="(all)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--steps", type=positive, default=1000, metavar="N", help="of our recipe (%(default)s)")
    add("--paper-steps", type=positive, default=2000, metavar="N", help="at most (%(default)s)")
    add("--jobs", type=positive, default=2, metavar="N", help="runs at a time (%(default)s)")
    add("--smoke", action="store_true", help="a few tiny steps, only to see that everything runs")
    return parser


def main(args: argparse.Namespace) -> None:
    plan = [(kind, seed) for kind in args.kinds for seed in args.seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(plan, pool.map(lambda run: train(*run, args), plan), strict=True))
    for kind in args.kinds:
        table(kind, {seed: found[kind, seed] for seed in args.seeds})


def train(kind: str, seed: int, args: argparse.Namespace) -> dict:
    """The metrics of a run."""
    out = Path(args.out) / f"{kind}_{seed}"
    steps = args.paper_steps if kind.startswith("paper") else args.steps
    words = [*KINDS[kind], "--seed", seed, "--steps", steps, "--out", out, "--resume"]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        subprocess.run(
            [sys.executable, str(EXAMPLE), *map(str, words), *["--smoke"] * args.smoke],
            check=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
    return json.loads((out / "metrics.json").read_text())


def table(kind: str, runs: dict[int, dict]) -> None:
    """A row for each figure, a column for each seed."""
    print(f"\n| {kind} |", " | ".join(f"seed {seed}" for seed in runs), "| median | worst |")
    print("|" + " --- |" * (len(runs) + 3))
    for name in FIGURES:
        values = [run.get(name) for run in runs.values()]
        if None in values:
            continue
        worst = (max if name in LEAST else min)(values)
        print(f"| {name} |", " | ".join(map(shown, [*values, median(values), worst])), "|")
    for name in ("wins", "steps", "seconds", "cpu_seconds"):
        print(f"| {name} |", " | ".join(str(run[name]) for run in runs.values()), "| | |")


def shown(value: float) -> str:
    return (
        f"{value:.1f}"
        if abs(value) > 10
        else f"{value:.2e}" if 0 < abs(value) < 0.01 else f"{value:.4f}"
    )


if __name__ == "__main__":
    main(parser().parse_args())
