"""What is checked before a run begins: its device, and whether it continues what its checkpoint holds."""

import argparse
import sys
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..inference import CheckpointError, read_checkpoint
from ..inference.processes import count
from .progress import Row

__all__ = [
    "Kept",
    "check_processes",
    "check_same_run",
    "check_settings",
    "other_settings",
    "read_kept",
    "resume_key",
    "usable_device",
]

#: Flags that may differ between a training and its continuation. Images are compared themselves.
FREE = ("out", "steps", "resume", "device", "images", "data_root")


class Kept(NamedTuple):
    """What a run's checkpoint keeps beside the weights, in its ``extra``."""

    step: int
    args: dict[str, Any]  # the command, as resume_key returns it
    images: list[int]  # fingerprints of what it trains on, one for each part of a batch
    settings: dict[str, Any]  # what the model and its guide are built of
    state: dict[str, Any]  # what the loop keeps
    history: list[Row]


def read_kept(path: str | PathLike) -> Kept:
    """What the run that wrote a checkpoint kept.

    Raises:
        CheckpointError: There is none, it is damaged, or no run of an example wrote it.
    """
    content = read_checkpoint(path)
    extra = content["extra"]
    kept = Kept(content["step"], *(extra.get(name) for name in Kept._fields[1:]))
    dicts = (kept.args, kept.settings, kept.state)
    if (
        not all(isinstance(part, dict) for part in dicts)
        or not isinstance(kept.images, list)
        or not isinstance(kept.history, list)
        or not kept.history
        or not all(map(_is_row, kept.history))
        or kept.history[-1]["step"] != kept.step
    ):
        raise CheckpointError(f"{path} was not written by the run of an example")
    return kept


def check_processes(args: argparse.Namespace) -> None:
    """Notes how many processes train; raises a ValueError if it is not as many as the flag says."""
    if args.processes not in (1, count()):
        raise ValueError(
            f"--processes {args.processes}, and the group has {count()}: start the program by launch(main, "
            "parser)"
        )
    args.processes = count()


def check_same_run(out: Path, kept: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises a ValueError that names the flags in which a continuation differs from its run."""
    other = [name for name in {**kept, **own} if kept.get(name) != own.get(name)]
    if other:
        flags = ", ".join(_as_flag(str(name), kept.get(name)) for name in other)
        raise ValueError(f"the run in {out} had {flags}: resume it with the same")


def check_settings(path: str, kept: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises a CheckpointError unless a checkpoint has this example's settings and images of this shape."""
    if not {"image_shape"} <= kept.keys() <= own.keys():  # an older one may lack some
        raise CheckpointError(
            f"{path} was written by another example: its settings are {', '.join(map(str, kept))}, "
            f"here they are {', '.join(own)}"
        )
    of, here = (part["image_shape"] for part in (kept, own))
    if not isinstance(of, list | tuple) or tuple(of) != tuple(here):
        raise CheckpointError(
            f"{path} is of images {of} (channels, height, width), these are {here}: give images of the "
            "same shape"
        )


def other_settings(kept: dict[str, Any], own: dict[str, Any]) -> str:
    """The settings of a checkpoint that differ from one's own, in words; empty if none do."""

    def plain(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    names = [name for name in kept if plain(kept[name]) != plain(own[name])]
    return ", ".join(f"{name} {kept[name]}" for name in names)


def resume_key(args: argparse.Namespace) -> dict[str, Any]:
    """What of a command a continuation must repeat."""
    flags = {name: value for name, value in vars(args).items() if name not in FREE}
    if flags.get("processes") == 1:
        del flags["processes"]  # as in the checkpoints of older versions
    return {"program": Path(sys.argv[0]).stem, **flags}


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: It is unknown or absent; the message says why.
    """
    try:
        if name.split(":")[0] not in ("cpu", "cuda"):
            raise RuntimeError("it is neither")
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}): use cpu, or cuda") from error
    return device


def _is_row(row: Any) -> bool:
    needed = ("step", "seconds", "cpu_seconds")
    return (
        isinstance(row, dict)
        and all(name in row for name in needed)
        and all(isinstance(key, str) and type(row[key]) in (int, float) for key in row)
    )


def _as_flag(name: str, value: Any) -> str:
    """A flag as one would have typed it."""
    words = f"--{name.replace('_', '-')}"
    value = "x".join(map(str, value)) if isinstance(value, tuple) else value
    if value is None or value is False:
        return f"no {words}"
    return words if value is True or name == "pretrained" else f"{words} {value}"
