"""Noticing that the caller's loop has swapped parts of a model or a guide."""

import re
from collections.abc import Callable
from operator import is_
from typing import Any

from torch import nn

from ..pairs import modules_of
from .description import describe

__all__ = ["Swapped"]

_FRACTION = re.compile(r"\d*\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|\b(inf|nan)\b")


_LISTS = nn.ModuleList, nn.ModuleDict


class Swapped:
    """Compares the parts of programs with those at the time before, without a look at a tensor's values.

    A part that differs in numbers with a fraction alone is no other part: a prior that a schedule assigns at
    each step has the sites of the one before.
    """

    def __init__(self, *programs: Callable) -> None:
        self.programs = programs
        self.parts, self.words = self._parts(), self._words()

    def since(self) -> bool:
        """Whether a part was swapped since the last call, or since the beginning."""
        parts = self._parts()
        if len(parts) == len(self.parts) and all(map(is_, parts, self.parts)):
            return False
        before, self.parts, self.words = self.words, parts, self._words()
        return before != self.words

    def _parts(self) -> list[Any]:
        # The objects are kept, not their ids: the id of one that is gone may be that of a new one.
        parts: list[Any] = []
        for program in self.programs:
            for module in modules_of(program):
                _collect(module, parts)
        return parts

    def _words(self) -> list[dict[str, str]]:
        return [_words(module) for program in self.programs for module in modules_of(program)]


def _collect(module: nn.Module, parts: list[Any]) -> None:
    parts.append(module)
    for name, value in module.__dict__.items():
        if name[0] != "_" and name != "training":
            parts.append(value)
    for part in module._modules.values():
        if type(part).__module__.startswith("torch.nn.") and not isinstance(part, _LISTS):
            parts.append(part)  # a network: whatever is in it, the sites are the same
        elif part is not None:
            _collect(part, parts)


def _words(module: nn.Module) -> dict[str, str]:
    words = {name: _FRACTION.sub("~", text) for name, text in describe(module).items()}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return words | {f"shape of {name}": str(tuple(value.shape)) for name, value in tensors}
