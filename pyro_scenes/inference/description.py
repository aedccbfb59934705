"""Describing a module in words: its parts and settings, without the values of its weights."""

from functools import partial
from typing import Any

from torch import Tensor, nn

__all__ = ["describe", "differences"]


def describe(module: nn.Module) -> dict[str, str]:
    """The class of every part of a module, and its settings, by dotted name.

    Settings are plain attributes: numbers, strings, tuples, classes (such as a family of distributions) and
    functions. A module of ``torch.nn`` describes itself. Weights and buffers are not part of it.

    Example:
        ``describe(VAE((1, 8, 8), code=2))["image.family"]`` is ``'Bernoulli'``.
    """
    description = {}
    for path, part in module.named_modules():
        if type(part).__module__.startswith("torch.nn."):
            description[path] = f"{type(part).__name__}({part.extra_repr()})"
            continue
        description[path] = type(part).__name__
        for name, value in vars(part).items():
            if not name.startswith("_") and name != "training":
                description[f"{path}.{name}".lstrip(".")] = _text(value)
    return description


def differences(saved: dict[Any, Any], own: dict[str, Any], name: str = "itself") -> list[str]:
    """What differs between two descriptions, in sentences: the file's, and the one here.

    Args:
        name: What the entry of the empty name is called.
    """
    return [
        f"{key or name} is {saved.get(key, 'absent')} in the file, {own.get(key, 'absent')} here"
        for key in sorted({*saved, *own}, key=str)
        if saved.get(key) != own.get(key)
    ]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        return f"({', '.join(f'{key}: {_text(item)}' for key, item in value.items())})"
    if isinstance(value, partial):
        return f"partial({_text(value.func)}, {_text(value.args)}, {_text(value.keywords)})"
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "__qualname__"):
        return _function(value)
    if isinstance(value, Tensor | nn.Module) or not hasattr(value, "__dict__"):
        return type(value).__name__
    try:
        return f"{type(value).__name__}{_text(vars(value))}"
    except RecursionError:  # it holds itself
        return type(value).__name__


def _function(function: Any) -> str:
    """Name of a function, what a lambda uses, and the classes that it closes over."""
    code = getattr(function, "__code__", None)
    parts = list(code.co_names) if code and function.__name__ == "<lambda>" else []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            parts += [cell.cell_contents.__qualname__]
        except (AttributeError, ValueError):  # no class or function; or not assigned yet
            continue
    return f"function {function.__qualname__}" + (f" of {', '.join(parts)}" if parts else "")
