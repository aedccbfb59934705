"""What is looked at before a run begins: its device, its folder, and whether it is the same as before."""

import argparse
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

__all__ = ["fingerprint", "flag", "locked_folder", "plain", "usable_device"]

#: Flags that may differ between a training and its continuation.
FREE = ("out", "steps", "resume", "device")


def usable_device(name: str) -> torch.device:
    """The device of that name, or a ValueError that says why not."""
    kind = name.split(":")[0]
    try:
        if kind not in ("cpu", "cuda"):
            raise RuntimeError("it is neither")
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}): use cpu, or cuda") from error
    return device


def locked_folder(path: str) -> tuple[Path, FileLock]:
    """Makes the folder, and locks it as long as the lock is kept."""
    out = Path(path)
    lock = FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process writes to {out}: give another --out") from error
    except OSError as error:
        raise ValueError(f"cannot write to the output folder {out}: {error.strerror}") from error
    return out, lock


def fingerprint(images: Tensor) -> list[int]:
    """Shape and checksum, by which images are known again."""
    pixels: Any = images.cpu().contiguous().numpy()
    return [*images.shape, zlib.crc32(pixels)]


def flag(name: str, value: Any) -> str:
    """A flag as one would have typed it."""
    words = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return f"no {words}"
    return words if value is True else f"{words} {value}"


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """What of a command a continuation must repeat."""
    kept = {name: value for name, value in vars(args).items() if name not in FREE}
    return {"program": Path(sys.argv[0]).stem, **kept}
