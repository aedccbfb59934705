"""Pyro's compiled ELBOs, ``Jit*_ELBO``: what they must not outlive."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from pyro import poutine
from pyro.infer import (
    ELBO,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from ..pairs import modules_of

__all__ = ["JIT", "compiled"]

JIT = JitTrace_ELBO, JitTraceEnum_ELBO, JitTraceGraph_ELBO, JitTraceMeanField_ELBO

# An ELBO compiles at its first step, so what it was compiled with is kept as long as it is.
_compiled: WeakKeyDictionary[ELBO, dict] = WeakKeyDictionary()
#: In place of what changes by itself.
_CHANGES = object()


@contextmanager
def compiled(elbo: ELBO, model: Callable, guide: Callable, *parts: Any) -> Iterator[None]:
    """Around a step: a ValueError if model, guide or batch are not what a ``Jit*_ELBO`` was compiled with.

    Compared are the modules, parameters, buffers, functions and plain values of both, and the shapes of the
    parts of a batch; but not what changed in the first step, such as a counter. Other ELBOs pass.
    """
    if not isinstance(elbo, JIT):
        yield
        return
    now = _contents(model) | _contents(guide)
    now |= {(i, "shape of the batch"): _shape(part) for i, part in enumerate(parts)}
    is_first = elbo not in _compiled
    first = _compiled.setdefault(elbo, now)
    if changed := [key for key in _differing(first, now) if first.get(key) is not _CHANGES]:
        owner, name = min(changed, key=lambda key: key[1])
        raise ValueError(
            f"{type(elbo).__name__} is compiled at its first step and does not see what changes later: "
            f"here {name!r}. Make a new ELBO after the change, or use {type(elbo).__name__[3:]}"
        )
    yield
    if is_first:
        first |= dict.fromkeys(_differing(now, now | _contents(model) | _contents(guide)), _CHANGES)


def _differing(one: dict, other: dict) -> list[tuple[int, str]]:
    return [key for key in {**one, **other} if not _is_same(one.get(key), other.get(key))]


def _shape(part: Any) -> Any:
    return (tuple(part.shape), str(part.dtype)) if isinstance(part, Tensor) else part


def _contents(function: Callable) -> dict[tuple[int, str], Any]:
    contents: dict[tuple[int, str], Any] = {(id(poutine.unwrap(function)), "function"): function}
    for part in [part for module in modules_of(function) for part in module.modules()]:
        public = {name: value for name, value in vars(part).items() if not name.startswith("_")}
        here = {**public, **part._parameters, **part._buffers, **part._modules}
        contents |= {(id(part), name): value for name, value in here.items()}
        if not isinstance(part, _NormBase):  # whose running means change without a new version
            fixed = {**part._parameters, **part._buffers}.items()
            versions = {
                name: v._version for name, v in fixed if v is not None and not v.requires_grad
            }
            contents |= {(id(part), f"value of {name}"): versions.get(name) for name, _ in fixed}
    return contents


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, int | float | str | tuple) and one == other)
