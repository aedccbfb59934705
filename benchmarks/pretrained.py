"""Trains the pairs that ship with the package, and writes their weights into it, in half precision.

    python benchmarks/pretrained.py --data-root DIR --out runs/pretrained

AIR and CST-VAE learn MNIST's digits, ECON coloured shapes; each is trained once, with seed 0 (what is already
in --out goes on where it stopped). Then the files are evaluated as they ship, on test scenes: of MNIST, and
of the built-in pen, whose digits they have never seen. The tables have a column for each.
"""

import argparse
from pathlib import Path
from typing import Any

from sweep import flags, sweep, table

from pyro_scenes.experiment import path
from pyro_scenes.inference import load_checkpoint, save_checkpoint
from pyro_scenes.pretrained import PAIRS, pretrained_path

EXAMPLES = {
    "air": "air_multi_mnist.py",
    "cst_vae": "cst_vae_superimposed.py",
    "econ": "econ_shapes.py",
}
TRAINING = {"air": ["--steps", "4000"], "cst_vae": [], "econ": ["--quick"]}


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/pretrained")
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--names", nargs="+", choices=PAIRS, default=[*PAIRS], help="which pairs (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    for name in args.names:
        mnist = ["--data-root", args.data_root] * bool(args.data_root and name != "econ")
        command = [*TRAINING[name], *mnist, *["--smoke"] * args.smoke]
        metrics = sweep(EXAMPLES[name], {name: command}, args.out)[name]
        words = [
            "python",
            f"examples/{EXAMPLES[name]}",
            *TRAINING[name],
            *["--data-root", "DIR"][: len(mnist)],
        ]
        target = Path(args.out) / f"{name}.pt" if args.smoke else pretrained_path(name)
        ship(name, Path(args.out) / name / "checkpoint.pt", target, " ".join(words), metrics)
        print(f"\n{name}: {target}, {target.stat().st_size / 1e6:.1f} MB\n")
        evaluate = ["--evaluate", str(target), *["--smoke"] * args.smoke]
        runs = {f"{name} (built in)": evaluate} | {
            f"{name} (MNIST)": [*evaluate, *mnist] for _ in mnist[:1]
        }
        rows = sweep(EXAMPLES[name], runs, args.out)
        plain = [figure for figure, value in metrics.items() if isinstance(value, int | float)]
        print(table(rows, [figure for figure in plain if ": " not in figure], alike=False))


def ship(name: str, source: Path, target: Path, command: str, metrics: dict[str, Any]) -> None:
    """Writes a run's checkpoint without its optimiser and scenes, and with weights in half precision."""
    model, guide = PAIRS[name]()
    content = load_checkpoint(source, model, guide)
    extra = content["extra"] | {"command": command, "metrics": metrics}
    extra["state"] = {key: part for key, part in extra["state"].items() if key != "known"}
    for weight in [*model.parameters(), *guide.parameters()]:
        weight.data = weight.data.half()
    save_checkpoint(target, model, guide, step=content["step"], extra=extra)


if __name__ == "__main__":
    main(parser().parse_args())
