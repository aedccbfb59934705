"""Describing a module in words: its parts and settings, without the values of its weights."""

from dis import get_instructions
from functools import partial
from types import CodeType
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = ["describe", "differences"]


def describe(module: nn.Module) -> dict[str, str]:
    """The class of every part of a module, and its settings, by dotted name.

    Settings are plain attributes: numbers, strings, tuples, classes (such as a family of distributions) and
    functions: these by their names, defaults and the values that they close over, a lambda also by what is in
    it. A module of ``torch.nn`` describes itself. Weights and buffers are not part of it.

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
                own = isinstance(value, Tensor)  # an intermediate result, it may be
                description[f"{path}.{name}".lstrip(".")] = "Tensor" if own else _text(value)
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


def _text(value: Any, depth: int = 8) -> str:
    kind = type(value).__name__
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, Tensor):
        return _numbers(value)
    if isinstance(value, nn.Module) or depth == 0:  # it may hold itself
        return kind
    inside = partial(_text, depth=depth - 1)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(inside, value))})"
    if isinstance(value, dict):
        return f"({', '.join(f'{key}: {inside(item)}' for key, item in value.items())})"
    if isinstance(value, partial):
        return f"partial({inside(value.func)}, {inside(value.args)}, {inside(value.keywords)})"
    if hasattr(value, "__qualname__"):
        held = ", ".join([*_said(value), *map(inside, _held(value))])
        return f"function {value.__qualname__}" + (f" of {held}" if held else "")
    if isinstance(value, Distribution):
        # It computes some of its parameters at their first use: here all are, and in one order.
        named = {**vars(value), **{name: getattr(value, name) for name in value.arg_constraints}}
        return kind + inside(dict(sorted(named.items())))
    return kind + inside(vars(value)) if hasattr(value, "__dict__") else kind


def _numbers(tensor: Tensor) -> str:
    """Shape of a tensor, and of one that is not trained its first numbers and their sum."""
    shape = f"Tensor {tuple(tensor.shape)}"
    if tensor.requires_grad or tensor.is_complex() or tensor.is_meta or tensor.is_sparse:
        return shape
    values = tensor.detach().cpu().flatten().double()
    return shape + " of " + " ".join(f"{x:.4g}" for x in [*values[:6].tolist(), values.sum()])


def _held(function: Any) -> list[Any]:
    """Defaults of a function, and what it closes over: of objects, such as a run's arguments, their class."""
    held = [*(getattr(function, "__defaults__", None) or ())]
    held += (getattr(function, "__kwdefaults__", None) or {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    plain = bool | int | float | str | list | tuple | dict | Tensor | type | partial | Distribution
    return [
        value if isinstance(value, plain) or hasattr(value, "__qualname__") else type(value)
        for value in held
    ]


def _said(function: Any) -> list[str]:
    """The names and the constants in a lambda, in order. A function with a name is known by it."""
    code = getattr(function, "__code__", None)
    return _in_code(code) if code and function.__name__ == "<lambda>" else []


def _in_code(code: CodeType) -> list[str]:
    said = []
    for step in get_instructions(code):
        if isinstance(step.argval, CodeType):
            said += _in_code(step.argval)
        elif step.opname.startswith(("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD")):
            said.append(str(step.argval))
        elif step.opname.startswith("BINARY_OP"):
            said.append(step.argrepr)
        elif "CONST" in step.opname or "SMALL_INT" in step.opname:
            said += [] if step.argval is None else [_text(step.argval)]
    return said
