"""ECON over several seeds, as tables: sprite scenes, one expert, given regions; the paper's procedure.

    python benchmarks/econ_seeds.py --out runs/econ --jobs 2

Runs examples/econ_shapes.py, one thread each (what is already in --out goes on where it stopped), and prints
every run's figures on 1,000 test scenes, with median, worst and floors. The kinds are

    unique, random          sprite scenes, by colours of the data
    given, given_monet      one expert that makes all, true regions given, by a true bound and by MONet's loss
    paper_unique, ...       the paper's networks, objective and plateau rule, for --paper-steps
"""

import argparse

from sweep import flags, sweep, table

from pyro_scenes.experiment import positive

PAPER = ["--recipe", "paper", "--objective", "paper", "--data"]
GIVEN = ["--regions", "given", "--data", "unique"]
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
    "count_accuracy",
    "mse",
    "mse_full_shapes",
    "mse_5",
    "mse_full_shapes_5",
    "ari_fg_5",
    "amodal_iou_5",
    "depth_order_5",
    "count_accuracy_5",
    "extra_share",
    "single_expert_shapes",
    "classes_made",
    "requested_counts",
    "requested_scenes",
    "elbo",
    "steps",
    "seconds",
    "cpu_seconds",
)
#: Of these the least is best.
LEAST = {
    "background_first",
    "mse",
    "mse_full_shapes",
    "mse_5",
    "mse_full_shapes_5",
    "extra_share",
    "steps",
    "seconds",
    "cpu_seconds",
}


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/econ")
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND", help="(all)")
    add("--steps", type=positive, default=1000, metavar="N", help="of our recipe (%(default)s)")
    add("--paper-steps", type=positive, default=2000, metavar="N", help="at most (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    runs = {
        f"{kind}_{seed}": [*KINDS[kind], "--seed", str(seed), *["--smoke"] * args.smoke, "--steps"]
        + [str(args.paper_steps if kind.startswith("paper") else args.steps)]
        for kind in args.kinds
        for seed in args.seeds
    }
    metrics = sweep("econ_shapes.py", runs, args.out, args.jobs)
    for kind in args.kinds:
        rows = {f"seed {seed}": metrics[f"{kind}_{seed}"] for seed in args.seeds}
        print(f"\n{kind}\n\n{table(rows, FIGURES, least=LEAST)}\n")
        for name, row in rows.items():
            print(f"{name}: objects by expert (row) and class {row.get('wins')}")


if __name__ == "__main__":
    main(parser().parse_args())
