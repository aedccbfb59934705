"""``fit``: stochastic variational inference as a generator; between steps it is the caller's loop."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, signature
from numbers import Real
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import is_whole
from ..pairs import check_guide, check_same_model
from .compiled import compiled
from .diverged import Diverged, Step, diverge, divergence
from .known import Known
from .objective import enumerated, innermost
from .parameters import Parameters
from .swapped import Parts

__all__ = ["Diverged", "Record", "fit"]


class Record(NamedTuple):
    """What a step of :func:`fit` reports."""

    step: int  # how many steps have been taken, this one included
    loss: float  # what was minimised, per image: the negative ELBO in nats
    norm: float  # of the gradient, before clipping, without that of the baselines


def fit(
    model: Callable,
    guide: Callable,
    batches: Iterable[Any],
    *,
    elbo: ELBO | None = None,
    optim: Optimizer | None = None,
    start: int = 0,
    clip: float = float("inf"),
) -> Iterator[Record]:
    """Trains a model and its guide, one step for each batch, and yields a record after each.

    At the first step :func:`pyro_scenes.check_guide` compares the two, and again where the loop has swapped
    parts of them since. Pyro's effects are global to a process: run two trainings in two processes, not in
    two threads.

    Args:
        model: A Pyro model of images, called as ``model(images)``: a module, a function, or one of these
            inside handlers, such as ``poutine.condition(model, ...)``.
        guide: Its guide, called alike.
        batches: Float images (n, C, H, W), for as many steps as there are batches; or tuples and lists whose
            first part is the images: both are then called with all parts, ``model(*batch)``; or
            :class:`Known` batches for a pair of :func:`semi_supervise`. A pixel that is NaN is not seen.
        elbo: Any ELBO of Pyro. Default: ``TraceGraph_ELBO()``, the score function with baselines. A
            ``TraceEnum_ELBO`` sums exactly over every finite discrete latent of the guide that is one
            number; vectors (one-hot codes) are drawn.
        optim: A torch optimiser over the parameters to train. Default: :func:`adam`, which also takes in
            parameters of parts that are swapped in later.
        start: Number of steps taken before, where training is resumed.
        clip: Largest norm of the gradient of the loss per image, in each group of the optimiser.

    Raises:
        Diverged: The loss, the gradient or a distribution's parameter is not finite, or outside its
            constraint; that step is not taken.
        TypeError: An argument is not of its type, a batch has parts that model or guide do not take, or
            ``elbo`` has two losses, as ``ReweightedWakeSleep`` has.
        ValueError: ``start`` or ``clip`` is outside its range, the first batch is infinite somewhere, model
            and guide do not agree (:func:`pyro_scenes.check_guide`), or one of them changed under a
            ``Jit*_ELBO``, which would not see it.
        RuntimeError: No parameter of the optimiser gets a gradient, one that was swapped in is not in it, or
            gradients are off (``torch.no_grad``).

    Example:
        ``for record in fit(model, guide, batches): print(record.step, -record.loss)``
    """
    elbo = TraceGraph_ELBO() if elbo is None else elbo
    if not isinstance(elbo, ELBO):
        raise TypeError(f"elbo must be an object such as TraceGraph_ELBO(), got {elbo!r:.60}")
    if not (optim is None or isinstance(optim, Optimizer)):
        raise TypeError(
            f"optim must be a torch optimiser, such as adam(model, guide), got {optim!r:.60}"
        )
    if optim is not None and signature(optim.step).parameters["closure"].default is Parameter.empty:
        raise TypeError(
            f"{type(optim).__name__} computes the loss several times a step, which fit does not: use "
            "another optimiser, such as adam(model, guide)"
        )
    if not (isinstance(clip, Real) and clip > 0):
        raise ValueError(f"clip must be a number above 0, got {clip!r:.60}")
    if not is_whole(start, 0):
        raise ValueError(f"start must be a whole number from 0 up, got {start!r:.60}")
    if not isinstance(batches, Iterable) or (isinstance(batches, Tensor) and batches.dim() < 5):
        kind = type(batches).__name__
        raise TypeError(
            f"batches must be batches to iterate over, such as [images], got one {kind}"
        )
    check_same_model(model, guide)
    inner = innermost(elbo)
    proposal = enumerated(guide) if isinstance(inner, TraceEnum_ELBO) else guide
    parameters = own = None
    for number, batch in enumerate(batches, start + 1):
        parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        if not torch.is_grad_enabled():
            raise RuntimeError("fit needs gradients: take its steps outside torch.no_grad()")
        step = Step(number, parameters is None, model, guide, parts)
        if parameters is None or own is None:
            own, parameters = Parts(model, guide), _first(step, optim)
        elif own.have_changed():
            with divergence(step):
                check_guide(model, guide, *parts)
        with compiled(inner, model, guide, *parts):
            record = _step(step, proposal, elbo, parameters, clip)
        if step.is_first:
            own.ignore_changes()
        yield record


def _first(step: Step, optim: Optimizer | None) -> Parameters:
    """Checks model and guide, and finds their parameters in the same run."""
    for function in (step.model, step.guide):
        _check_call(function, step.parts)
    parts = [part.images if isinstance(part, Known) else part for part in step.parts]
    images, *others = [part for part in parts if isinstance(part, Tensor)] or [torch.zeros(())]
    seen = ~images.isnan()
    if not ((images.isfinite() | ~seen).all() and all(part.isfinite().all() for part in others)):
        raise ValueError(
            "the first batch has numbers that are infinite, or NaN in a part that is not of images: see "
            "data.as_images"
        )
    with poutine.trace(param_only=True) as used, divergence(step):
        check_guide(step.model, step.guide, *step.parts)
    if not seen.all():
        share = 1 - seen.double().mean()
        warnings.warn(
            f"{share:.2%} of the first batch's pixels are NaN, which means unseen: they are not scored",
            stacklevel=3,
        )
    return Parameters(step.model, step.guide, optim, used.trace)


def _check_call(function: Callable, parts: tuple) -> None:
    module = poutine.unwrap(function)
    called = module.forward if isinstance(module, nn.Module) else module
    try:
        signature(called).bind(*parts)
    except TypeError as error:
        name = getattr(module, "__name__", type(module).__name__)
        raise TypeError(
            f"a batch has {len(parts)} parts, with which {name} cannot be called ({error}). Of batches "
            "(images, labels) give the images: (images for images, labels in loader)"
        ) from error


def _step(
    step: Step, proposal: Callable, elbo: ELBO, parameters: Parameters, clip: float
) -> Record:
    optim, size = parameters.optim, len(step.parts[0])
    optim.zero_grad()
    with poutine.trace(param_only=True) as used, divergence(step):
        loss = elbo.loss_and_grads(step.model, proposal, *step.parts)
        if isinstance(loss, tuple):  # of ReweightedWakeSleep it is two
            raise TypeError(
                f"{type(elbo).__name__} has no loss that is one number: fit cannot use it"
            )
        loss = loss / size
    parameters.update(used.trace)
    if all(value.grad is None for group in optim.param_groups for value in group["params"]):
        raise RuntimeError(
            "no parameter gets a gradient: is the optimiser over this model and guide, and is "
            "neither a deep copy? (a copy keeps its original's name in Pyro: construct a new one)"
        )
    norms = _clip(optim, size, clip)
    if not all(abs(number) < float("inf") for number in (loss, *norms)):
        words = ", ".join(f"{norm:.4g}" for norm in norms)
        diverge(step, f"loss {loss:.4g}, gradient norm {words}")
    optim.step()
    return Record(step.number, loss, norms[0])


def _clip(optim: Optimizer, size: int, clip: float) -> list[float]:
    """Turns gradients of a sum over images into those of the mean, and clips them, in each group.

    Returns:
        The groups' norms before clipping, in one transfer from the device.
    """
    norms = []
    for group in optim.param_groups:
        gradients = [value.grad for value in group["params"] if value.grad is not None]
        if gradients:
            torch._foreach_div_(gradients, size)
            norms.append(torch.nn.utils.clip_grad_norm_(group["params"], clip))
        else:
            norms.append(group["params"][0].new_zeros(()))
    return torch.stack(norms).tolist()
