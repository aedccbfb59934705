"""The state of an optimiser by the names of parameters, and its way back, checked."""

import math
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["kind", "pack", "unpack"]


def pack(optim: Optimizer, names: dict[Tensor, str]) -> dict[str, Any]:
    """An optimiser's class, groups and state, with parameters by name.

    Parameters without a name, as those of a part that was replaced, are left out.
    """
    groups = [
        {**group, "params": [names[p] for p in group["params"] if p in names]}
        for group in optim.param_groups
    ]
    state = {names[p]: dict(state) for p, state in optim.state.items() if p in names}
    return {"class": type(optim).__name__, "groups": groups, "state": state}


def unpack(saved: Any, optim: Optimizer, names: dict[Tensor, str]) -> dict[str, Any]:
    """What ``optim.load_state_dict`` takes, of what :func:`pack` returned. Changes nothing.

    Raises:
        ValueError: It is of another optimiser or of other parameters; the message says what differs.
    """
    if not (isinstance(saved, dict) and {"class", "groups", "state"} <= saved.keys()):
        raise ValueError("its state is damaged")
    if saved["class"] != type(optim).__name__:
        raise ValueError(f"{saved['class']} in the file, {type(optim).__name__} here")
    groups, states = saved["groups"], saved["state"]
    if not isinstance(groups, list) or len(groups) != len(optim.param_groups):
        raise ValueError(f"not {len(optim.param_groups)} groups of parameters")
    if not isinstance(states, dict):
        raise ValueError("its state is damaged")
    options = [_options(*pair, names) for pair in zip(groups, optim.param_groups, strict=True)]
    expected = _after_a_step(optim)
    state = {
        i: _state(states[names[p]], expected[i], p, names[p])
        for i, p in enumerate(_parameters(optim))
        if names.get(p) in states
    }
    first = 0
    for group, own in zip(options, optim.param_groups, strict=True):
        _check_options(optim, group, own["params"])
        group["params"] = list(range(first, first := first + len(own["params"])))
    loaded = {"state": state, "param_groups": options}
    _try(optim, loaded)
    return loaded


def kind(value: Any) -> str:
    """Of a tensor: float, complex, bool or integer. Of anything else: its type, of a number ``number``."""
    if not isinstance(value, Tensor):
        return "number" if type(value) in (int, float) else type(value).__name__
    if value.layout != torch.strided or value.is_quantized:
        return f"{value.layout} {value.dtype}"
    if value.dtype.is_floating_point:
        return "float"
    if value.dtype.is_complex:
        return "complex"
    return "bool" if value.dtype == torch.bool else "integer"


def _options(saved: Any, own: dict[str, Any], names: dict[Tensor, str]) -> dict[str, Any]:
    """A group's options: numbers from the file, such as the learning rate; the rest must be equal."""
    mine = {names[p] for p in own["params"] if p in names}
    params = saved.get("params") if isinstance(saved, dict) else None
    if not isinstance(params, list) or {*map(str, params)} != mine:
        raise ValueError("other parameters in its groups")
    options = {name: value for name, value in saved.items() if name != "params"}
    for name, value in options.items():
        like = own["lr"] if name == "initial_lr" else own.get(name, "absent")
        if not _alike(value, like):
            raise ValueError(f"{name} is {value!r} in the file, {like!r} here")
    return {**own, **options}


def _check_options(optim: Optimizer, group: dict[str, Any], params: list[Tensor]) -> None:
    """Asks the optimiser's constructor, which knows the ranges, such as that of a learning rate."""
    known = signature(type(optim)).parameters
    type(optim)(
        params, **{name: value for name, value in group.items() if name in {*known} - {"params"}}
    )


def _try(optim: Optimizer, loaded: dict[str, Any]) -> None:
    """Takes a step with a copy: from good state, a gradient of 0 leads to finite numbers."""
    copy = deepcopy(optim)
    copy.load_state_dict(deepcopy(loaded))
    for p in _parameters(copy):
        p.data, p.grad = torch.zeros_like(p), torch.zeros_like(p)
    copy.step()
    numbers = [*_parameters(copy), *(v for state in copy.state.values() for v in state.values())]
    if not all(torch.as_tensor(number).isfinite().all() for number in numbers):
        raise ValueError("its state has numbers that are not finite, or negative mean squares")


def _parameters(optim: Optimizer) -> list[Tensor]:
    return [p for group in optim.param_groups for p in group["params"]]


def _alike(value: Any, like: Any) -> bool:
    """Whether both are finite numbers, as many, or else equal."""
    if isinstance(like, tuple):
        return (
            isinstance(value, tuple) and len(value) == len(like) and all(map(_alike, value, like))
        )
    if isinstance(like, Tensor):
        return kind(value) == kind(like) and value.shape == like.shape
    if kind(like) == "number":
        return kind(value) == "number" and math.isfinite(value)
    return type(value) is type(like) and value == like


def _after_a_step(optim: Optimizer) -> list[dict[str, Any]]:
    """The state of each parameter after a step: that of a copy, as every optimiser keeps its own kinds."""
    copy = deepcopy(optim)
    for p in _parameters(copy):
        p.grad = torch.zeros_like(p)
    copy.step()
    return [copy.state[p] for p in _parameters(copy)]


def _state(saved: Any, expected: dict[str, Any], p: Tensor, name: str) -> dict[str, Any]:
    if not isinstance(saved, dict) or saved.keys() != expected.keys():
        entries = list(saved) if isinstance(saved, dict) else saved
        raise ValueError(f"the state of {name} has {entries!r}, not {list(expected)}")
    state = {}
    for key, like in expected.items():
        value, shape = saved[key], getattr(like, "shape", None)
        if kind(value) != kind(like) or getattr(value, "shape", None) != shape:
            raise ValueError(f"{key} of {name} is not of the parameter's shape and type")
        # A tensor from a file may overlap itself, and a fused step would write outside it.
        like_p = isinstance(value, Tensor) and shape == p.shape
        state[key] = torch.empty_like(p, dtype=value.dtype).copy_(value) if like_p else value
    return state
