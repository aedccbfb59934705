"""The command line that examples share."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ..inference import Diverged

__all__ = ["flags", "launch", "natural", "path", "positive", "rate"]


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
        type=path,
        metavar="DIR",
        default=out,
        help="the run's folder (%(default)s)",
    )
    add("--seed", type=natural, default=0, metavar="N", help="of scenes and weights (%(default)s)")
    add("--steps", type=positive, default=steps, metavar="N", help="of training (%(default)s)")
    add("--batch-size", type=positive, default=batch_size, metavar="N", help="images (%(default)s)")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute (%(default)s)")
    add("--data-root", type=path, metavar="DIR", help="MNIST lies in DIR/MNIST/raw (no download)")
    add("--smoke", action="store_true", help="a few tiny steps, only to see that everything runs")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    return parser


def launch(main: Callable[[argparse.Namespace], Any], parser: argparse.ArgumentParser) -> None:
    """Runs an example's main; what a user can mend becomes one line on stderr, without a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers stop jobs with it
    try:
        main(parser.parse_args())
    except (Diverged, OSError, ValueError) as error:
        text = str(error).split("Trace Shapes:")[0].strip()  # Pyro appends pages
        sys.exit(f"error: {' '.join(text.split())}")
    except KeyboardInterrupt:
        sys.exit(
            "\nstopped; with --resume it goes on from its last checkpoint, if there is one yet"
        )


def natural(text: str) -> int:
    """A flag's whole number from 0 up."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A flag's whole number from 1 up."""
    return _whole(text, 1)


def path(text: str) -> str:
    """A flag's file or folder, ``~`` expanded; not empty, as an unset variable of the shell would be."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("needs the path of a file or folder, got an empty one")
    return os.path.expanduser(text)


def rate(text: str) -> float:
    """A flag's number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {text!r}")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value < 2**32:
        raise argparse.ArgumentTypeError(f"needs a whole number from {least} up, got {text!r}")
    return value
