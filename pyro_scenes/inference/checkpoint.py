"""Checkpoints: plain dictionaries of tensors, numbers and strings, written whole or not at all."""

from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..atomic import write_whole
from ..checks import is_whole
from ..random import random_state, set_random_state
from .description import describe, differences
from .optimiser import kind, pack, unpack
from .processes import count, gathered, is_first, rank

__all__ = [
    "CheckpointError",
    "describe_pair",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]

FORMAT = "pyro_scenes checkpoint 2"
#: What a checkpoint holds, and of which type.
TYPES: dict[str, Any] = {
    "names": list,
    "description": dict,
    "model": dict,
    "guide": dict,
    "optim": (dict, type(None)),
    "step": int,
    "random": dict,
    "extra": dict,
}
_DAMAGED = "the checkpoint {} is damaged or of another kind: remove it, or give another one"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another model."""


def describe_pair(model: nn.Module, guide: nn.Module) -> dict[str, dict[str, str]]:
    """What :func:`describe` says of a model and its guide: a checkpoint is compared by it."""
    for name, module in (("model", model), ("guide", guide)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name} must be a module, got {module!r:.60}")
    return {"model": describe(model), "guide": describe(guide)}


def save_checkpoint(
    path: str | PathLike,
    model: nn.Module,
    guide: nn.Module,
    *,
    optim: Optimizer | None = None,
    step: int = 0,
    extra: dict[str, Any] | None = None,
    description: dict[str, dict[str, str]] | None = None,
) -> None:
    """Writes parameters, settings, the optimiser's state, the step and torch's random state.

    The file replaces an older one in one move: a program killed at any moment leaves one or the other.
    Of several processes (:class:`Parallel`) all must call it: the first writes, with all random states.

    Args:
        extra: Plain data (numbers, strings, tensors, and lists and dictionaries of them) to keep along.
        description: As :func:`describe_pair` returned it before a loop assigned to settings of model or
            guide. Default: as they are now.

    Raises:
        TypeError: ``extra`` holds something else, which could not be loaded safely; or another argument is
            not of its type.
        ValueError: ``step`` is not a whole number from 0 up.
        OSError: The file cannot be written. An older one is left as it was.
    """
    if not (extra is None or isinstance(extra, dict)):
        raise TypeError(f"extra must be a dictionary, got {extra!r:.60}")
    if not is_whole(step, 0):
        raise ValueError(f"step must be a whole number from 0 up, got {step!r:.60}")
    if not (optim is None or isinstance(optim, Optimizer)):
        raise TypeError(f"optim must be a torch optimiser, got {optim!r:.60}")
    own = describe_pair(model, guide)
    if description is not None and (type(description) is not dict or {*description} != {*own}):
        raise TypeError(f"description must be what describe_pair returned, got {description!r:.60}")
    _check_plain(extra or {})
    states = gathered(random_state())
    if not is_first():
        return
    content = {
        "format": FORMAT,
        "names": [type(model).__name__, type(guide).__name__],
        "description": description or own,
        "model": model.state_dict(),
        "guide": guide.state_dict(),
        "optim": None if optim is None else pack(optim, _names(model, guide)),
        "step": int(step),
        "random": states[0] | ({"others": states[1:]} if states[1:] else {}),
        "extra": extra or {},
    }
    with write_whole(path) as part:
        torch.save(content, part)


def read_checkpoint(path: str | PathLike) -> dict[str, Any]:
    """The content of a checkpoint on the CPU, without restoring anything: ``step``, ``extra`` and states.

    Raises:
        CheckpointError: It is missing, damaged, or not a checkpoint of this library.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        with ZipFile(path) as file:
            whole = file.testzip() is None  # torch does not compare the checksums
        content = torch.load(path, map_location="cpu", weights_only=True) if whole else None
    except Exception as error:  # there is no saying what a damaged file raises
        raise CheckpointError(_DAMAGED.format(path)) from error
    if not whole:
        raise CheckpointError(_DAMAGED.format(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by save_checkpoint of this version ({FORMAT})"
        )
    wrong = [key for key, types in TYPES.items() if not isinstance(content.get(key, ...), types)]
    if wrong or isinstance(content["step"], bool) or content["step"] < 0:
        raise CheckpointError(f"{_DAMAGED.format(path)} ({', '.join(wrong) or 'step'})")
    return content


def load_checkpoint(
    path: str | PathLike, model: nn.Module, guide: nn.Module, *, optim: Optimizer | None = None
) -> dict[str, Any]:
    """Restores a model and its guide; with ``optim`` the optimiser and torch's random state too.

    With all of it, training goes on as if it had never stopped (same device, same number of threads).
    Everything is compared first: classes, parts, families, functions and sizes of model and guide; names,
    shapes and types of their weights; the optimiser and its state. After an error nothing has changed.
    Constants, such as a prior's numbers, are restored with the weights: those of the file hold. Of several
    processes each loads it, before :class:`Parallel` is built, and takes its own random state.

    Returns:
        The checkpoint's content; ``["step"]`` and ``["extra"]`` as they were saved.

    Raises:
        CheckpointError: As :func:`read_checkpoint`; or something differs, or weights are not finite; or, with
            ``optim``, another number of processes wrote it.
    """
    content = read_checkpoint(path)
    names = [type(model).__name__, type(guide).__name__]
    if content["names"] != names:
        raise CheckpointError(
            f"{path} is a checkpoint of another model: {content['names']} in the file, {names} here"
        )
    own = describe_pair(model, guide)
    for part, module in (("model", model), ("guide", guide)):
        _compare(path, part, content["description"].get(part), own[part])
        _compare(path, part, _shapes(content[part]), _shapes(module.state_dict()))
        _check_finite(path, content[part], module)
    if optim is None:
        _load(content, model, guide)
        return content
    if content["optim"] is None:
        raise CheckpointError(f"{path} holds no optimiser: it can be evaluated, not resumed")
    try:
        state = unpack(content["optim"], optim, _names(model, guide))
    except ValueError as error:
        raise CheckpointError(f"{path} was trained with another optimiser: {error}") from error
    _set_random_state(path, content["random"])
    _load(content, model, guide)
    optim.load_state_dict(state)
    return content


def _load(content: dict[str, Any], model: nn.Module, guide: nn.Module) -> None:
    model.load_state_dict(dict(content["model"]))
    guide.load_state_dict(dict(content["guide"]))


def _names(model: nn.Module, guide: nn.Module) -> dict[Tensor, str]:
    parts = {"model": model, "guide": guide}
    return {p: f"{part}.{name}" for part in parts for name, p in parts[part].named_parameters()}


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


def _compare(path: str | PathLike, part: str, saved: Any, own: dict[str, Any]) -> None:
    wrong = (
        differences(saved, own, part) if isinstance(saved, dict) else ["no description in the file"]
    )
    if wrong:
        raise CheckpointError(
            f"{path} is a checkpoint of another {part}: {'; '.join(wrong[:3])}"
            + (f"; and {len(wrong) - 3} more differences" if len(wrong) > 3 else "")
        )


def _shapes(state: dict[Any, Any]) -> dict[str, str]:
    """Of each tensor: whether float, integer ..., and its shape."""
    return {
        (
            name if isinstance(name, str) else repr(name)
        ): f"{kind(value)} {tuple(getattr(value, 'shape', ()))}"
        for name, value in state.items()
    }


def _check_finite(path: str | PathLike, state: dict[str, Tensor], module: nn.Module) -> None:
    names = [name for name, _ in module.named_parameters() if not state[name].isfinite().all()]
    if names:
        raise CheckpointError(
            f"{path} has weights that are not finite numbers ({', '.join(names[:3])}): the training "
            "had diverged, give an earlier checkpoint"
        )


def _set_random_state(path: str | PathLike, state: dict[str, Any]) -> None:
    try:
        states = [state, *state.get("others", [])]
        if len(states) == count():
            set_random_state(states[rank()])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{_DAMAGED.format(path)} (random)") from error
    if len(states) != count():
        raise CheckpointError(
            f"the number of processes that wrote {path} is {len(states)}, here it is {count()}: go on with "
            "as many, or load it without optim="
        )
