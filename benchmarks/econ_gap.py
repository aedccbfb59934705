"""What competition, layer by layer, loses to the best of all sequences of experts.

    python benchmarks/econ_gap.py runs/econ/random_0/checkpoint.pt runs/econ/random_1/checkpoint.pt

Of each checkpoint of examples/econ_shapes.py, on held-out scenes: the nats by which the experts that the
guide chooses cost more than the best of all sequences, for the candidates that it chooses with either; and
in how many scenes they are the best. A search tries K^(T - 1) sequences, 256 of them by default (K^T without
a background): half a minute a scene.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from pyro_scenes import ECONGuide, load_checkpoint
from pyro_scenes.experiment import path, positive
from pyro_scenes.inference import read_checkpoint

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import econ_shapes  # noqa: E402


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoints", nargs="+", type=path, metavar="CHECKPOINT")
    add("--scenes", type=positive, default=10, metavar="N", help="of each (%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    for checkpoint in args.checkpoints:
        settings = read_checkpoint(checkpoint)["extra"].get("settings", {})
        if settings.get("recipe") is None or settings["data"] is None:
            raise SystemExit(f"{checkpoint} is not of coloured shapes by examples/econ_shapes.py")
        model, guide = econ_shapes.build(settings)
        load_checkpoint(checkpoint, model.eval(), guide.eval())
        scenes = econ_shapes.shapes(settings, args.scenes, seed=1_000_000)
        with econ_shapes.informed(model, guide, scenes):
            gaps = gap(guide, scenes.images)
        best = (gaps < 0.5).float().mean().item()
        print(
            f"{checkpoint}: median {gaps.median():.2f} nats, mean {gaps.mean():.2f}, worst "
            f"{gaps.max():.1f}; the best of all, or less than half a nat from it, in {best:.1%} of scenes"
        )


def gap(guide: ECONGuide, images: Tensor) -> Tensor:
    """Nats (n,), from 0 up."""
    torch.manual_seed(0)
    found = guide.search(images / 255)
    return found.competed - found.cost


if __name__ == "__main__":
    main(parser().parse_args())
