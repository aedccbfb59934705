"""Pyro's compiled ELBOs, ``Jit*_ELBO``: what they must not outlive."""

from collections.abc import Callable
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
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["check_compiled"]

_JIT = JitTrace_ELBO, JitTraceEnum_ELBO, JitTraceGraph_ELBO, JitTraceMeanField_ELBO

# An ELBO compiles at its first step, so what it was compiled with is kept as long as it is.
_compiled: WeakKeyDictionary[ELBO, dict] = WeakKeyDictionary()


def check_compiled(elbo: ELBO, model: Callable, guide: Callable) -> None:
    """Raises a ValueError if model or guide are not what a ``Jit*_ELBO`` was compiled with at its first step.

    Compared are the modules, parameters, buffers, functions and plain values of both. Other ELBOs pass.
    """
    if not isinstance(elbo, _JIT):
        return
    now = _contents(model) | _contents(guide)
    first = _compiled.setdefault(elbo, now)
    changed = [key for key in {**first, **now} if not _is_same(first.get(key), now.get(key))]
    if changed:
        owner, name = min(changed, key=lambda key: key[1])
        raise ValueError(
            f"{type(elbo).__name__} is compiled at its first step and does not see what changes later: "
            f"here {name!r}. Make a new ELBO after the change, or use {type(elbo).__name__[3:]}"
        )


def _contents(function: Callable) -> dict[tuple[int, str], Any]:
    module = poutine.unwrap(function)
    if not isinstance(module, nn.Module):
        return {(id(module), "function"): module}
    contents: dict[tuple[int, str], Any] = {(id(module), "module"): module}
    for part in module.modules():
        public = {name: value for name, value in vars(part).items() if not name.startswith("_")}
        held = {**public, **part._parameters, **part._buffers, **part._modules}
        contents |= {(id(part), name): value for name, value in held.items()}
        if not isinstance(part, _NormBase):  # whose running means change by themselves
            fixed = {**part._parameters, **part._buffers}.items()
            versions = {
                name: v._version for name, v in fixed if v is not None and not v.requires_grad
            }
            contents |= {(id(part), f"value of {name}"): versions.get(name) for name, _ in fixed}
    return contents


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, int | float | str | tuple) and one == other)
