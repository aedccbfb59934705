"""A model and its guide, run beside each other."""

import re
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
from .sites import (
    check_drawn,
    check_observed,
    check_pair,
    check_sites,
    latents,
    warn_unsupported,
)
from .supports import AnyChoice, is_scalar_choice

__all__ = [
    "TrainingModeWarning",
    "check_guide",
    "check_same_model",
    "modules_of",
    "replay",
    "unchanged",
    "warn_caller",
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
    with torch.no_grad(), unchanged(model, guide):
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
        warn_caller(
            f"{' and '.join(names)} in training mode, in which results differ: call model.eval() and "
            "guide.eval() first",
            TrainingModeWarning,
        )


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns what called the library."""
    frames = (frame for frame, _ in walk_stack(sys._getframe()))
    levels = enumerate((frame.f_globals.get("__name__", "") for frame in frames), 1)
    level = next((i for i, name in levels if name.split(".")[0] not in INSIDE), 1)
    warnings.warn(message, category, stacklevel=level)


def replay(model: Callable, proposed: poutine.Trace, *args: Any, **kwargs: Any) -> poutine.Trace:
    """The trace of a model at a guide's draws, after :func:`pyro_scenes.sites.check_pair`."""
    joint = _replay(model, proposed, *args, **kwargs)
    check_pair(joint, proposed)
    return joint


def _compare(model: Callable, guide: Callable, *batch: Any) -> poutine.Trace:
    """Runs both as :func:`check_guide` says. Returns the model's trace at the guide's draws."""
    joint = _run(model, guide, *batch)
    if any(is_scalar_choice(joint.nodes[name]["fn"]) for name in joint.stochastic_nodes):
        chance: dict[str, Tensor] = {}
        for shift in range(2):
            with AnyChoice(chance, shift):
                model(*batch)  # it chooses by the prior, and the guide follows
                _run(model, guide, *batch)
    return joint


def _run(model: Callable, guide: Callable, *batch: Any) -> poutine.Trace:
    proposed = _propose(model, guide, *batch)
    joint = _replay(model, proposed, *batch)
    compared = joint.copy()
    for name in {*joint.stochastic_nodes} - {*proposed.nodes}:
        if joint.nodes[name]["infer"].get("enumerate") == "parallel":
            compared.remove_node(name)  # the ELBO sums over it in the model
    if latents(compared) or latents(proposed):
        check_pair(compared, proposed)
    return joint


def _propose(model: Callable, guide: Callable, *batch: Any) -> poutine.Trace:
    try:
        with poutine.trace() as drawing:
            guide(*batch)
    except (RuntimeError, TypeError, ValueError) as error:
        # A guide may fail in its own ways after a draw of a wrong shape.
        prior = _prior(model, *batch)
        check_drawn(prior, drawing.trace)
        lacking = [name for name in latents(prior) if name not in drawing.trace]
        if lacking and re.search("object is not callable|inside plate", str(error)):
            shape = tuple(prior.nodes[lacking[0]]["fn"].event_shape)
            raise ValueError(
                f"the guide must draw {lacking[0]} from a distribution of pyro.distributions with event "
                f"shape {shape}, see .to_event: {error}"
            ) from error
        raise
    return drawing.trace


def _prior(model: Callable, *args: Any, **kwargs: Any) -> poutine.Trace:
    with torch.no_grad(), unchanged(model):
        return poutine.trace(model).get_trace(*args, **kwargs)


def _replay(model: Callable, proposed: poutine.Trace, *args: Any, **kwargs: Any) -> poutine.Trace:
    check_observed(proposed)
    try:
        return poutine.trace(poutine.replay(model, trace=proposed)).get_trace(*args, **kwargs)
    except Exception:
        # A model may fail in its own ways at draws of wrong shapes: what is wrong is said here.
        check_sites(_prior(model, *args, **kwargs), proposed)
        raise


@contextmanager
def unchanged(*functions: Callable) -> Iterator[None]:
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
