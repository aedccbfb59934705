"""A model and its guide, run beside each other."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import getclosurevars
from traceback import walk_stack
from types import FunctionType, MethodType
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from .base import Model
from .random import fork_rng
from .sites import UNLIKELY, check_observed, check_pair, check_sites, latents, warn_unsupported

__all__ = [
    "TrainingModeWarning",
    "check_guide",
    "check_same_model",
    "modules_of",
    "replay",
    "warn_training_mode",
]


#: A warning names the line outside these packages: this one, and those whose decorators it has.
INSIDE = {"pyro_scenes", "torch", "jaxtyping"}


class TrainingModeWarning(UserWarning):
    """A model or a guide is evaluated in training mode, where dropout is active and AIR's logits bounded."""


def check_guide(model: Callable, guide: Callable, images: Tensor, *rest: Any) -> None:
    """Checks on one batch that model and guide agree in sites, shapes, supports, plates and masks.

    The model and the guide are run without gradients, with discrete latents as drawn and then at random
    values that the prior allows, so that masks are compared where objects are present and where they are
    absent. Random state, parameters and buffers are left as they were.

    Args:
        model: Any Pyro model, called as ``model(images, *rest)``.
        guide: Its guide, called alike: a module or a function.
        images: A batch that both take.

    Raises:
        ValueError: They do not agree, or a conditional of the model is wrong (see ``Model.check``). The
            message names the site and says what to write.

    Warns:
        UserWarning: Images lie outside the support of their likelihood, such as grey ones of a Bernoulli.
    """
    check_same_model(model, guide)
    if isinstance(poutine.unwrap(guide), Messenger):
        return  # such a guide (Pyro's AutoMessenger) runs inside the model, at its very sites
    with torch.no_grad(), _unchanged(model, guide):
        for owner in modules_of(model):
            if isinstance(owner, Model):
                owner.check()
        with pyro.validation_enabled(False):
            warn_unsupported(_compare(model, guide, images, *rest))


def check_same_model(model: Callable, guide: Callable) -> None:
    """Raises a ValueError if the guide was built from another model, as far as :func:`modules_of` sees them.

    A TypeError if one of them cannot be called.
    """
    for name, program in (("model", model), ("guide", guide)):
        if isinstance(program, type) or not callable(program):
            raise TypeError(
                f"{name} must be a module or a function that draws by pyro.sample, got {program!r:.60}"
            )
    parts = [part for module in modules_of(model) for part in module.modules()]
    whole = isinstance(poutine.unwrap(model), nn.Module) or any(isinstance(p, Model) for p in parts)
    for part in [part for module in modules_of(guide) for part in module.modules()]:
        own = poutine.unwrap(getattr(part, "model", None))
        if whole and isinstance(own, Model) and not any(own is other for other in parts):
            raise ValueError(
                "this guide is of another model: give the model that it was built from, or build a "
                "new guide"
            )


def modules_of(program: Any) -> list[nn.Module]:
    """The modules that a program calls, as far as they can be seen without running it.

    They are seen through Pyro's wrappers, methods and ``partial``; of a function, in its closure, in the
    globals that it names, and in the functions of its own file that it names.
    """
    found, seen, todo = [], set(), [program]
    while todo:
        program = poutine.unwrap(todo.pop())
        if id(program) in seen:
            continue
        seen.add(id(program))
        if isinstance(program, nn.Module):
            found.append(program)
        elif isinstance(program, partial):
            todo.append(program.func)
        elif isinstance(program, MethodType):
            todo.append(program.__self__)
        elif isinstance(program, FunctionType):
            todo += [value for value in _named(program) if _is_followed(value, program)]
    return found


def _named(function: FunctionType) -> list[Any]:
    try:
        names = getclosurevars(function)
    except ValueError:  # a variable that is not assigned yet
        return []
    return [*names.nonlocals.values(), *names.globals.values()]


def _is_followed(value: Any, function: FunctionType) -> bool:
    value = poutine.unwrap(value)
    if isinstance(value, FunctionType):
        return value.__module__ == function.__module__
    return isinstance(value, nn.Module | partial | MethodType)


def warn_training_mode(*programs: Callable) -> None:
    """Warns what called the library, by a :class:`TrainingModeWarning`, of modules in training mode."""
    modules = dict.fromkeys(module for program in programs for module in modules_of(program))
    names = [type(module).__name__ for module in modules if module.training]
    if names:
        frames = (frame for frame, _ in walk_stack(sys._getframe()))
        levels = enumerate((frame.f_globals.get("__name__", "") for frame in frames), 1)
        warnings.warn(
            f"{' and '.join(names)} in training mode, in which results differ: call model.eval() and "
            "guide.eval() first",
            TrainingModeWarning,
            stacklevel=next((i for i, name in levels if name.split(".")[0] not in INSIDE), 1),
        )


def replay(model: Callable, proposed: poutine.Trace, *args: Any, **kwargs: Any) -> poutine.Trace:
    """The trace of a model at a guide's draws, after :func:`pyro_scenes.sites.check_pair`."""
    joint = _replay(model, proposed, *args, **kwargs)
    check_pair(joint, proposed)
    return joint


def _compare(model: Callable, guide: Callable, *batch: Any) -> poutine.Trace:
    """Runs both as :func:`check_guide` says. Returns the model's trace at the guide's draws."""
    joint = _run(model, guide, *batch)
    if any(_is_scalar_choice(joint.nodes[name]["fn"]) for name in joint.stochastic_nodes):
        chance: dict[str, Tensor] = {}
        for shift in range(2):
            with _AnyChoice(chance, shift):
                model(*batch)  # it chooses by the prior, and the guide follows
                _run(model, guide, *batch)
    return joint


def _run(model: Callable, guide: Callable, *batch: Any) -> poutine.Trace:
    proposed = poutine.trace(guide).get_trace(*batch)
    joint = _replay(model, proposed, *batch)
    compared = joint.copy()
    for name in {*joint.stochastic_nodes} - {*proposed.nodes}:
        if joint.nodes[name]["infer"].get("enumerate") == "parallel":
            compared.remove_node(name)  # the ELBO sums over it in the model
    if latents(compared) or latents(proposed):
        check_pair(compared, proposed)
    return joint


def _replay(model: Callable, proposed: poutine.Trace, *args: Any, **kwargs: Any) -> poutine.Trace:
    check_observed(proposed)
    try:
        return poutine.trace(poutine.replay(model, trace=proposed)).get_trace(*args, **kwargs)
    except Exception:
        # A model may fail in its own ways at draws of wrong shapes: what is wrong is said here.
        with torch.no_grad(), _unchanged(model):
            prior = poutine.trace(model).get_trace(*args, **kwargs)
        check_sites(prior, proposed)
        raise


def _is_scalar_choice(distribution: Any) -> bool:
    return getattr(distribution, "has_enumerate_support", False) and distribution.event_dim == 0


class _AnyChoice(Messenger):
    """Inside, a discrete latent takes any value that is possible where it is drawn first, and keeps it.

    Args:
        chance: Uniform random numbers by site, made where there are none.
        shift: How many values further, so that of two shifts one has an object where the other has none.
    """

    def __init__(self, chance: dict[str, Tensor], shift: int) -> None:
        super().__init__()
        self.chance, self.shift = chance, shift
        self.values: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"] or msg["value"] is not None or not _is_scalar_choice(fn):
            return
        if name not in self.values:
            self.values[name] = self.choose(name, fn)
        msg["value"] = self.values[name]

    def choose(self, name: str, distribution: Any) -> Tensor:
        values = distribution.enumerate_support(expand=False)
        possible = distribution.log_prob(values) >= UNLIKELY
        if name not in self.chance:
            self.chance[name] = torch.rand(possible.shape[1:], device=values.device)
        count = possible.sum(0).clamp(min=1)
        rank = ((self.chance[name] * count).long() + self.shift) % count
        index = (possible.cumsum(0) > rank).long().argmax(0)
        return values.expand(possible.shape).gather(0, index[None])[0]


@contextmanager
def _unchanged(*functions: Callable) -> Iterator[None]:
    """Restores random state and buffers, such as the running means of a BatchNorm."""
    modules = [module for function in functions for module in modules_of(function)]
    buffers = [part for module in modules for part in module.buffers()]
    before = [(part, part.clone()) for part in buffers]
    try:
        with fork_rng():
            yield
    finally:
        for part, value in before:
            if not torch.equal(part, value):
                part.copy_(value)
