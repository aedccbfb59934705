"""``fit``: stochastic variational inference as a generator; between steps it is the caller's loop."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch import Tensor, nn
from torch.optim import Optimizer

from ..pairs import check_guide, check_same_model
from .compiled import check_compiled
from .parameters import Parameters
from .weighted import Weighted

__all__ = ["Diverged", "Record", "fit"]


class Record(NamedTuple):
    """What a step of :func:`fit` reports."""

    step: int  # how many steps have been taken, this one included
    loss: float  # what was minimised, per image: the negative ELBO in nats
    norm: float  # of the gradient, before clipping, without that of the baselines


class Diverged(RuntimeError):
    """A step's loss or gradient was not finite. The step was not taken: parameters are the last good ones."""


def fit(
    model: Callable,
    guide: Callable,
    batches: Iterable[Float[Tensor, "n c h w"] | tuple | list],
    *,
    elbo: ELBO | None = None,
    optim: Optimizer | None = None,
    start: int = 0,
    clip: float = float("inf"),
) -> Iterator[Record]:
    """Trains a model and its guide, one step for each batch, and yields a record after each.

    At the first step :func:`pyro_scenes.check_guide` compares the two. Pyro's effects are global to a
    process: run two trainings in two processes, not in two threads.

    Args:
        model: A Pyro model of images, called as ``model(images)``: a module, a function, or one of these
            inside handlers, such as ``poutine.condition(model, ...)``.
        guide: Its guide, called alike.
        batches: Float images, for as many steps as there are batches; or tuples and lists whose first part
            is the images: both are then called with all parts, ``model(*batch)``.
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
        ValueError: Model and guide do not agree (:func:`pyro_scenes.check_guide`), or one of them changed
            under a ``Jit*_ELBO``, which would not see it.
        RuntimeError: No parameter of the optimiser gets a gradient, or one that was swapped in is not in it.

    Example:
        ``for record in fit(model, guide, batches): print(record.step, -record.loss)``
    """
    elbo = TraceGraph_ELBO() if elbo is None else elbo
    if not isinstance(elbo, ELBO):
        raise TypeError(f"elbo must be an object such as TraceGraph_ELBO(), got {elbo!r}")
    if not (optim is None or isinstance(optim, Optimizer)):
        raise TypeError(
            f"optim must be a torch optimiser, such as adam(model, guide), got {optim!r}"
        )
    if not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    check_same_model(model, guide)
    inner = elbo
    while isinstance(inner, Weighted):
        inner = inner.elbo
    proposal = (
        poutine.infer_config(guide, _enumerated) if isinstance(inner, TraceEnum_ELBO) else guide
    )
    parameters = None
    for step, batch in enumerate(batches, start + 1):
        parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        if not torch.is_grad_enabled():
            raise RuntimeError("fit needs gradients: take its steps outside torch.no_grad()")
        if parameters is None:
            parameters = _first(model, guide, parts, optim, step)
        check_compiled(inner, model, guide)
        yield _step(model, proposal, parts, elbo, parameters, step, clip)


def _first(
    model: Callable, guide: Callable, parts: tuple, optim: Optimizer | None, step: int
) -> Parameters:
    """Checks model and guide, and finds their parameters in the same run."""
    for function in (model, guide):
        _check_call(function, parts)
    if not all(part.isfinite().all() for part in parts if isinstance(part, torch.Tensor)):
        raise ValueError("the first batch has numbers that are NaN or infinite: see data.as_images")
    with poutine.trace(param_only=True) as used, _divergence(step):
        check_guide(model, guide, *parts)
    return Parameters(model, guide, optim, used.trace)


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


def _enumerated(site: Any) -> dict[str, Any]:
    """A site's own setting comes first, as with ``config_enumerate``."""
    fn = site["fn"]
    free = site["type"] == "sample" and not site["is_observed"] and "enumerate" not in site["infer"]
    if free and getattr(fn, "has_enumerate_support", False) and fn.event_dim == 0:
        return {"enumerate": "parallel", "expand": site["infer"].get("expand", False)}
    return {}


def _step(
    model: Callable,
    guide: Callable,
    parts: tuple,
    elbo: ELBO,
    parameters: Parameters,
    step: int,
    clip: float,
) -> Record:
    optim, size = parameters.optim, len(parts[0])
    optim.zero_grad()
    with poutine.trace(param_only=True) as used, _divergence(step):
        loss = elbo.loss_and_grads(model, guide, *parts) / size
    parameters.update(used.trace)
    norms = _clip(optim, size, clip)
    if not any(norms):
        raise RuntimeError(
            "no parameter gets a gradient: is the optimiser over this model and guide, and is "
            "neither a deep copy? (a copy keeps its original's name in Pyro: construct a new one)"
        )
    if not all(abs(number) < float("inf") for number in (loss, *norms)):
        _diverge(step, f"loss {loss:.4g}, gradient norm {max(norms):.4g}")
    optim.step()
    return Record(step, loss, norms[0])


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


# What torch says of parameters and draws of a distribution that are not finite.
NOT_FINITE = re.compile(
    r"Expected parameter .* to satisfy the constraint"
    r"|Expected value argument (.|\n)* within the support(.|\n)*\bnan\b"
    r"|probability tensor contains either|Expected p_in >= 0|invalid multinomial distribution"
)


@contextmanager
def _divergence(step: int) -> Iterator[None]:
    """Says :class:`Diverged` where Pyro's validation, or a sampler, is the first to notice."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if match := NOT_FINITE.search(str(error)):
            _diverge(step, match[0].splitlines()[0], error)
        raise


def _diverge(step: int, what: str, cause: Exception | None = None) -> None:
    raise Diverged(
        f"step {step} diverged: {what}. The parameters are those of step {step - 1}. Try a smaller "
        "learning rate, or clip the gradient; and see that no image has NaN"
    ) from cause
