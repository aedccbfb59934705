"""The command line that examples share."""

import argparse
import os
from collections.abc import Callable

from ..pretrained import pretrained_path

__all__ = [
    "checkpoint",
    "flags",
    "natural",
    "path",
    "positive",
    "rate",
    "share",
    "sides",
    "up_to",
]


def flags(
    description: str,
    *,
    out: str,
    steps: int | None = None,
    batch_size: int = 64,
    data_root: bool = False,
    pretrained: str | None = None,
) -> argparse.ArgumentParser:
    """The flags that every example has. Add the example's own with ``add_argument``.

    Args:
        description: The help's text.
        out: Default of ``--out``.
        steps: Default of ``--steps``. None: the example does not train.
        batch_size: Default of ``--batch-size``.
        data_root: Whether the example reads MNIST, and so has ``--data-root``.
        pretrained: The name of weights that ship with the package (:func:`load_pretrained`), for
            ``--pretrained``, a training that starts from them, and ``--evaluate``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=path, metavar="DIR", default=out, help="output folder (%(default)s)")
    add("--seed", type=natural, default=0, metavar="N", help="random seed (%(default)s)")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute (%(default)s)")
    if data_root:
        help_text = "read MNIST from DIR/MNIST/raw (default: drawn digits)"
        add("--data-root", type=path, metavar="DIR", help=help_text)
    add("--smoke", action="store_true", help="do very little, to check that everything runs")
    if steps:
        add("--steps", type=positive, default=steps, metavar="N", help="of training (%(default)s)")
        add(
            "--batch-size",
            type=up_to(100_000),
            default=batch_size,
            metavar="N",
            help="images in a batch (%(default)s)",
        )
        add("--resume", action="store_true", help="continue from the checkpoint in --out, if any")
        help_text = (
            "train in N processes, which share each batch; with cuda, on N GPUs (%(default)s)"
        )
        add("--processes", type=up_to(1024), metavar="N", default=1, help=help_text)
    if pretrained:
        help_text = "start from the weights that ship with the package"
        add("--pretrained", action="store_const", const=pretrained, help=help_text)
        help_text = "do not train: evaluate this one, or those weights: --evaluate pretrained"
        add("--evaluate", type=checkpoint(pretrained), metavar="CHECKPOINT", help=help_text)
    return parser


def natural(text: str) -> int:
    """A flag's whole number from 0 up."""
    return _whole(text, 0, 2**32 - 1)


def positive(text: str) -> int:
    """A flag's whole number from 1 up."""
    return _whole(text, 1, 2**32 - 1)


def up_to(most: int) -> Callable[[str], int]:
    """A flag's whole number from 1 to ``most``: ``add_argument("--objects", type=up_to(10))``."""
    return lambda text: _whole(text, 1, most)


def path(text: str) -> str:
    """A flag's file or folder, ``~`` expanded; not empty, as an unset variable of the shell would be."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("needs the path of a file or folder, got an empty one")
    return os.path.expanduser(text)


def checkpoint(name: str) -> Callable[[str], str]:
    """A flag's checkpoint: a file, or ``pretrained``, the weights of that name in the package."""
    return lambda text: str(pretrained_path(name)) if text == "pretrained" else path(text)


def rate(text: str) -> float:
    """A flag's number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {text!r}")
    return value


def sides(text: str) -> tuple[int, int]:
    """A flag's height and width in pixels: ``28``, or ``28x20``."""
    numbers = [up_to(10_000)(part) for part in text.lower().split("x")]
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"needs a height and a width such as 28x20, got {text!r}")
    return numbers[0], numbers[-1]


def share(text: str) -> float:
    """A flag's number above 0, at most 1."""
    value = rate(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"needs a number above 0, at most 1, got {text!r}")
    return value


def _whole(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(
            f"needs a whole number from {least} to {most}, got {text!r}"
        )
    return value
