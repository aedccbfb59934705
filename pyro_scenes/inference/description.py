"""Describing a module in words: its parts and settings, without the values of its weights."""

import re
import sys
from collections.abc import Callable
from dis import get_instructions, hasconst, hasname
from functools import partial
from numbers import Integral, Real
from types import CodeType
from typing import Any
from zlib import crc32

from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = ["describe", "differences", "text"]

_WHOLE = re.compile(r"(?<=\d)\.0(?![\w.])")
_BYTECODE = re.compile(r" \(([\w-]+):[0-9a-f]{8}\)")


def describe(module: nn.Module) -> dict[str, str]:
    """The class of every part of a module, and its settings, by dotted name.

    Settings are plain attributes: numbers, strings, tuples, classes (such as a family of distributions) and
    functions: these by their names, defaults and the values that they close over, a lambda also by what is in
    it. What begins with an underscore is no setting: name a counter so. A module of ``torch.nn`` describes
    itself. Weights and buffers are not part of it.

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
                description[f"{path}.{name}".lstrip(".")] = "Tensor" if own else text(value)
    return description


def differences(saved: dict[Any, Any], own: dict[str, Any], name: str = "itself") -> list[str]:
    """What differs between two descriptions, in sentences: the file's, and the one here.

    Args:
        name: What the entry of the empty name is called.
    """
    return [
        f"{key or name} is {saved.get(key, 'absent')} in the file, {own.get(key, 'absent')} here"
        for key in sorted({*saved, *own}, key=str)
        if not _are_equal(saved.get(key), own.get(key))
    ]


def _are_equal(saved: Any, own: Any) -> bool:
    """2.0 is 2, and bytecode is compared where it is of one version of Python."""
    words = [_WHOLE.sub("", str(each)) for each in (saved, own)]
    if len({*map(str, map(_BYTECODE.findall, words))}) > 1:
        words = [_BYTECODE.sub("", each) for each in words]
    return words[0] == words[1]


def text(value: Any, *, values: bool = True, depth: int = 8) -> str:
    """A setting in words.

    Args:
        values: Whether numbers with a fraction are told, and what is in a tensor: it is read from its device.
        depth: How deep lists, dictionaries and functions are followed.
    """
    kind = type(value).__name__
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, Real):  # also of numpy
        number = int(value) if isinstance(value, Integral) else float(value)
        return repr(number) if values or isinstance(number, int) else "~"
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, Tensor):
        return _numbers(value) if values else f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, nn.Module) or depth == 0:  # it may hold itself
        return kind
    inside = partial(text, values=values, depth=depth - 1)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(inside, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(inside, value)))}}}"
    if isinstance(value, dict):
        return f"({', '.join(f'{key}: {inside(item)}' for key, item in value.items())})"
    if isinstance(value, partial):
        return f"partial({inside(value.func)}, {inside(value.args)}, {inside(value.keywords)})"
    if hasattr(value, "__qualname__"):
        code = value.__code__ if value.__name__ == "<lambda>" else None  # others are known by name
        parts = [
            *(sorted(_loaded(code, inside)) if code else []),
            *map(inside, _closed_over(value)),
        ]
        checksum = f" ({_checksum(code, inside)})" if code else ""
        return f"function {value.__qualname__}{checksum}" + f" of {', '.join(parts)}" * bool(parts)
    if isinstance(value, Distribution):
        # It computes some of its parameters at their first use: here all are, and in one order.
        named = {**vars(value), **{name: getattr(value, name) for name in value.arg_constraints}}
        return kind + inside(dict(sorted(named.items())))
    if hasattr(value, "__dict__"):
        return kind + inside(vars(value))
    return kind if " at 0x" in repr(value) else " ".join(repr(value).split())


def _numbers(tensor: Tensor) -> str:
    """Shape of a tensor, and of one that is not trained its first numbers and their sum."""
    shape = f"Tensor {tuple(tensor.shape)}"
    if tensor.requires_grad or tensor.is_complex() or tensor.is_meta or tensor.is_sparse:
        return shape
    values = tensor.detach().cpu().flatten().double()
    return shape + " of " + " ".join(f"{x:.4g}" for x in [*values[:6].tolist(), values.sum()])


def _closed_over(function: Any) -> list[Any]:
    """Defaults of a function, and what it closes over: of objects, such as a run's arguments, their class."""
    values = [*(getattr(function, "__defaults__", None) or ())]
    values += (getattr(function, "__kwdefaults__", None) or {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    plain = bool | int | float | str | list | tuple | dict | Tensor | type | partial | Distribution
    return [
        value if isinstance(value, plain) or hasattr(value, "__qualname__") else type(value)
        for value in values
    ]


def _checksum(code: CodeType, inside: Callable[[Any], str]) -> str:
    """Of bytecode, which each version of Python has its own of."""
    return f"{sys.implementation.cache_tag}:{crc32(repr(_compiled(code, inside)).encode()):08x}"


def _compiled(constant: Any, inside: Callable[[Any], str]) -> Any:
    """Code as this version of Python has compiled it, or a constant in words."""
    if isinstance(constant, CodeType):
        inner = [_compiled(part, inside) for part in constant.co_consts]
        return constant.co_code, constant.co_names, inner
    return inside(constant)


def _loaded(constant: Any, inside: Callable[[Any], str]) -> set[str]:
    """The names and constants of code and of what is in it, or what a constant consists of.

    They are those of every version of Python; what is done with them, and how often, is not.
    """
    if isinstance(constant, CodeType):
        steps: list[Any] = [*get_instructions(constant)]
        names = {step.argval for step in steps if step.opcode in hasname}
        parts = [constant.co_consts[step.arg] for step in steps if step.opcode in hasconst]
        # From Python 3.14 on, small numbers are kept elsewhere.
        parts += [step.arg for step in steps if step.opname == "LOAD_SMALL_INT"]
        return names.union(*(_loaded(part, inside) for part in parts))
    if isinstance(constant, tuple | frozenset):
        return set().union(*(_loaded(part, inside) for part in constant))
    if isinstance(constant, slice):
        return _loaded((constant.start, constant.stop, constant.step), inside)
    return set() if constant is None else {inside(constant)}
