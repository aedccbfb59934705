"""Noticing that the caller's loop has swapped parts of a model or a guide."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..pairs import modules_of
from .description import text

__all__ = ["Parts"]

_LISTS = nn.ModuleList, nn.ModuleDict


class Parts:
    """The parts of programs beside those at the time before, without a look at a tensor's values.

    Only objects that are new are put into words, and the words compared. A part that differs in numbers with
    a fraction alone is no other part: a prior that a schedule assigns at each step has the sites of the one
    before.
    """

    def __init__(self, *programs: Callable) -> None:
        self.programs = programs
        self.known: dict[str, tuple[Any, str]] = {}
        self.have_changed()

    def have_changed(self) -> bool:
        """Whether a part is another one than at the last call, or at the beginning."""
        before, self.known = self.known, {}
        modules = [module for program in self.programs for module in modules_of(program)]
        for number, module in enumerate(modules):
            for path, part in _parts(module, str(number)):
                # The object is kept, not its id: the id of one that is gone may be that of a new one.
                known = before.get(path)
                self.known[path] = known if known and known[0] is part else (part, _words(part))
        return _all_words(before) != _all_words(self.known)


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, Any]]:
    """Modules, settings, parameters and buffers, by dotted name."""
    yield path, module
    public = {name: value for name, value in vars(module).items() if name[0] != "_"}
    for name, value in {**public, **module._parameters, **module._buffers}.items():
        if name != "training":
            yield f"{path}.{name}", value
    for name, part in module._modules.items():
        if _is_network(part):  # whatever is in it, the sites are the same
            yield f"{path}.{name}", part
        elif part is not None:
            yield from _parts(part, f"{path}.{name}")


def _is_network(part: Any) -> bool:
    return type(part).__module__.startswith("torch.nn.modules.") and not isinstance(part, _LISTS)


def _words(part: Any) -> str:
    return repr(part) if _is_network(part) else text(part, values=False)


def _all_words(known: dict[str, tuple[Any, str]]) -> dict[str, str]:
    return {path: words for path, (_, words) in known.items()}
