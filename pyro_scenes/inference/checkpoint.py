"""Checkpoints: plain dictionaries of tensors, numbers and strings, written whole or not at all."""

import os
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["CheckpointError", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

FORMAT = "pyro_scenes checkpoint 1"
KEYS = {"names", "model", "guide", "optim", "step", "random", "extra"}
_DAMAGED = "the checkpoint {} is damaged or of another kind: remove it, or give another one"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another model."""


def save_checkpoint(
    path: str | PathLike,
    model: nn.Module,
    guide: nn.Module,
    *,
    optim: Optimizer | None = None,
    step: int = 0,
    extra: dict[str, Any] | None = None,
) -> None:
    """Writes parameters, the optimiser's state, the step and torch's random state.

    The file replaces an older one in one move: a program killed at any moment leaves one or the other.

    Args:
        extra: Plain data (numbers, strings, tensors, and lists and dictionaries of them) to keep along.

    Raises:
        TypeError: ``extra`` holds something else, which could not be loaded safely.
        OSError: The file cannot be written. An older one is left as it was.
    """
    _check_plain(extra or {})
    content = {
        "format": FORMAT,
        "names": [type(model).__name__, type(guide).__name__],
        "model": model.state_dict(),
        "guide": guide.state_dict(),
        "optim": None if optim is None else optim.state_dict(),
        "step": step,
        "random": _random_state(),
        "extra": extra or {},
    }
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # torch's word for a full disk
            raise OSError(f"cannot write {path} (is the disk full?)") from error
        raise


def read_checkpoint(path: str | PathLike) -> dict[str, Any]:
    """The content of a checkpoint on the CPU, without restoring anything: ``step``, ``extra`` and states.

    Raises:
        CheckpointError: It is missing, damaged, or not a checkpoint of this library.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        whole = ZipFile(path).testzip() is None  # torch does not look at its sums
        content = torch.load(path, map_location="cpu", weights_only=True) if whole else None
    except Exception as error:  # there is no saying what a damaged file raises
        raise CheckpointError(_DAMAGED.format(path)) from error
    if not whole:
        raise CheckpointError(_DAMAGED.format(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT or KEYS - content.keys():
        raise CheckpointError(
            f"{path} was not written by save_checkpoint of this version ({FORMAT})"
        )
    return content


def load_checkpoint(
    path: str | PathLike, model: nn.Module, guide: nn.Module, *, optim: Optimizer | None = None
) -> dict[str, Any]:
    """Restores a model and its guide; with ``optim`` the optimiser and torch's random state too.

    With all of it, training goes on as if it had never stopped (same device, same number of threads).
    Everything is checked first: after an error nothing has been changed.

    Returns:
        The checkpoint's content; ``["step"]`` and ``["extra"]`` as they were saved.

    Raises:
        CheckpointError: As :func:`read_checkpoint`; or the parameters' names or shapes are others.
    """
    content = read_checkpoint(path)
    names = [type(model).__name__, type(guide).__name__]
    if content["names"] != names:
        raise CheckpointError(
            f"{path} is a checkpoint of another model: {content['names']} in the file, {names} here"
        )
    for part, module in (("model", model), ("guide", guide)):
        _check(path, part, content[part], module.state_dict())
    if optim is not None:
        if content["optim"] is None:
            raise CheckpointError(f"{path} holds no optimiser: it can be evaluated, not resumed")
        try:
            optim.load_state_dict(content["optim"])  # checks, then copies
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path} was trained with another optimiser: {error}") from error
        _set_random_state(content["random"])
    model.load_state_dict(content["model"])
    guide.load_state_dict(content["guide"])
    return content


def _check_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key)
            _check_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item)
    elif type(value) not in (bool, int, float, str, type(None)) and not isinstance(value, Tensor):
        raise TypeError(
            f"extra takes numbers, strings, tensors, lists and dictionaries, got {type(value)}: "
            "convert it, a number of numpy with .item()"
        )


def _check(
    path: str | PathLike, part: str, saved: dict[str, Tensor], own: dict[str, Tensor]
) -> None:
    wrong = [
        f"{name} {_shape(saved, name)} in the file, {_shape(own, name)} here"
        for name in sorted({*saved, *own})
        if _shape(saved, name) != _shape(own, name)
    ]
    if wrong:
        raise CheckpointError(
            f"{path} is a checkpoint of another {part}: {'; '.join(wrong[:3])}"
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )


def _shape(state: dict[str, Tensor], name: str) -> tuple[int, ...] | str:
    return tuple(state[name].shape) if name in state else "absent"


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
