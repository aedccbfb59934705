"""Noticing that the caller's loop has swapped parts of a model or a guide."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.distributions.constraints import is_dependent

from ..pairs import modules_of
from .description import text

__all__ = ["Parts"]

_LISTS = nn.ModuleList, nn.ModuleDict
_NONE = object(), ""


class Parts:
    """The parts of programs beside those at the time before, without a look at a tensor's values.

    Only objects that are new are put into words, and the words compared. A part that differs in numbers with
    a fraction alone is no other part: a prior that a schedule assigns at each step has the sites of the one
    before. But the parameters of a family whose support depends on them, such as bounds, are compared.
    """

    def __init__(self, *programs: Callable) -> None:
        self.programs = programs
        self.known: dict[str, tuple[Any, str]] = {}
        self.changing: set[str] = set()
        self._changes()

    def have_changed(self) -> bool:
        """Whether a part is another one than at the last call, or at the beginning."""
        return bool(self._changes() - self.changing)

    def ignore_changes(self) -> None:
        """To call after a step: what changed in it, such as a counter, is no other part, now and later."""
        self.changing |= self._changes()

    def _changes(self) -> set[str]:
        before, self.known, changes = self.known, {}, set()
        modules = [module for program in self.programs for module in modules_of(program)]
        for number, module in enumerate(modules):
            for path, part, is_bound in _parts(module, str(number)):
                # The object is kept, not its id: the id of one that is gone may be that of a new one.
                old, words = before.get(path, _NONE)
                if old is not part:
                    told, words = words, _words(part, is_bound)
                    changes |= {path} if words != told else set()
                self.known[path] = part, words
        return changes | (before.keys() - self.known.keys())


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, Any, bool]]:
    """Modules, settings, parameters and buffers, by dotted name, and whether it bounds a support."""
    yield path, module, False
    public = {name: value for name, value in vars(module).items() if name[0] != "_"}
    has_bounds = is_dependent(getattr(getattr(module, "family", None), "support", None))
    for name, value in {**public, **module._parameters, **module._buffers}.items():
        if name != "training":
            yield f"{path}.{name}", value, has_bounds and isinstance(value, Tensor)
    for name, part in module._modules.items():
        if _is_network(part):  # whatever is in it, the sites are the same
            yield f"{path}.{name}", part, False
        elif part is not None:
            yield from _parts(part, f"{path}.{name}")


def _is_network(part: Any) -> bool:
    return type(part).__module__.startswith("torch.nn.modules.") and not isinstance(part, _LISTS)


def _words(part: Any, is_bound: bool) -> str:
    return repr(part) if _is_network(part) else text(part, values=is_bound)
