"""The command line that examples share."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from ..inference import CheckpointError, Diverged

__all__ = ["flags", "launch", "natural", "positive"]


def flags(
    description: str, *, out: str, steps: int, batch_size: int = 64
) -> argparse.ArgumentParser:
    """The flags that every example has. Add the example's own with ``add_argument``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--out",
        metavar="DIR",
        default=out,
        help="folder for checkpoint, metrics and figures (%(default)s)",
    )
    add(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help="of data, initial weights and draws (%(default)s)",
    )
    add(
        "--steps",
        type=positive,
        default=steps,
        metavar="N",
        help="training steps in all (%(default)s)",
    )
    add(
        "--batch-size",
        type=positive,
        default=batch_size,
        metavar="N",
        help="images in a step (%(default)s)",
    )
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute (%(default)s)")
    add("--data-root", metavar="DIR", help="folder with MNIST in DIR/MNIST/raw (not downloaded)")
    add("--smoke", action="store_true", help="a few tiny steps, only to see that everything runs")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    return parser


def launch(main: Callable[[argparse.Namespace], Any], parser: argparse.ArgumentParser) -> None:
    """Runs an example's main; what a user can mend becomes one line on stderr, without a traceback."""
    try:
        main(parser.parse_args())
    except (CheckpointError, Diverged, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command with --resume goes on from the last checkpoint")


def natural(text: str) -> int:
    """A flag's whole number of 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"needs a whole number of 0 or more, got {text}")
    return value


def positive(text: str) -> int:
    """A flag's whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of 1 or more, got {text}")
    return value
