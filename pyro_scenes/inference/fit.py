"""``fit``: stochastic variational inference as a generator; between steps it is the caller's loop."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from pyro.infer import ELBO, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..base import Guide, Model
from .weighted import Weighted

__all__ = ["Diverged", "Record", "adam", "fit"]


class Record(NamedTuple):
    """What a step of :func:`fit` reports."""

    step: int  # how many steps have been taken, this one included
    loss: float  # what was minimised, per image: the negative ELBO in nats
    norm: float  # of the gradient, before clipping, without that of the baselines


class Diverged(RuntimeError):
    """A step's loss or gradient was not finite. The step was not taken: parameters are the last good ones."""


def adam(
    model: nn.Module, guide: nn.Module, *, lr: float = 1e-3, baseline_lr: float = 1e-2
) -> Adam:
    """One Adam over both; parameters with ``baseline`` in their name have a learning rate of their own."""
    for name, rate in (("lr", lr), ("baseline_lr", baseline_lr)):
        if not 0 <= rate < float("inf"):
            raise ValueError(f"{name} must be a number from 0 up, got {rate}")
    named = [*model.named_parameters(), *guide.named_parameters()]
    groups = [
        {"params": [value for name, value in named if "baseline" not in name], "lr": lr},
        {"params": [value for name, value in named if "baseline" in name], "lr": baseline_lr},
    ]
    return Adam([group for group in groups if group["params"]], fused=True)


def fit(
    model: Callable,
    guide: Callable,
    batches: Iterable[Tensor],
    *,
    elbo: ELBO | None = None,
    optim: Optimizer | None = None,
    start: int = 0,
    clip: float = float("inf"),
) -> Iterator[Record]:
    """Trains a model and its guide, one step for each batch, and yields a record after each.

    Args:
        model: A Pyro model of images, called as ``model(images)``.
        guide: Its guide, called as ``guide(images)``.
        batches: Float images (n, C, H, W) in [0, 1], for as many steps as there are batches.
        elbo: Any ELBO of Pyro. Default: ``TraceGraph_ELBO()``, the score function with baselines. A
            ``TraceEnum_ELBO`` sums exactly over every finite discrete latent of the guide.
        optim: A torch optimiser over the parameters to train. Default: :func:`adam`.
        start: Number of steps taken before, where training is resumed.
        clip: Largest norm of the gradient of the loss per image, in each group of the optimiser.

    Raises:
        Diverged: The loss or the gradient is not finite; that step is not taken.
        ValueError: The guide knows its model, as ECON's does, and it is another.
        RuntimeError: No parameter of the optimiser gets a gradient.

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
    named = isinstance(model, Model) and isinstance(guide, Guide)  # not a wrapped one
    if named and getattr(guide, "model", model) is not model:
        raise ValueError("this guide is of another model: give the one that it was built from")
    optim = adam(model, guide) if optim is None else optim  # type: ignore[arg-type]
    inner = elbo
    while isinstance(inner, Weighted):
        inner = inner.elbo
    proposal = config_enumerate(guide) if isinstance(inner, TraceEnum_ELBO) else guide
    for step, images in enumerate(batches, start + 1):
        yield _step(model, proposal, images, elbo, optim, step, clip)


def _step(
    model: Callable,
    guide: Callable,
    images: Tensor,
    elbo: ELBO,
    optim: Optimizer,
    step: int,
    clip: float,
) -> Record:
    optim.zero_grad()
    loss = elbo.loss_and_grads(model, guide, images) / len(images)
    norms = [_clip(group["params"], len(images), clip) for group in optim.param_groups]
    if not any(norms):
        raise RuntimeError(
            "no parameter gets a gradient: is the optimiser over this model and guide, and is "
            "neither a deep copy? (a copy keeps its original's name in Pyro: construct a new one)"
        )
    if not all(abs(number) < float("inf") for number in (loss, *norms)):
        raise Diverged(
            f"step {step} diverged: loss {loss:.4g}, gradient norm {max(norms):.4g}. The parameters "
            f"are those of step {step - 1}. Try a smaller learning rate, or clip the gradient"
        )
    optim.step()
    return Record(step, loss, norms[0])


def _clip(parameters: list[Tensor], size: int, clip: float) -> float:
    """Turns gradients of a sum over images into those of the mean, and clips them. Returns their norm."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    if not gradients:
        return 0.0
    torch._foreach_div_(gradients, size)
    return torch.nn.utils.clip_grad_norm_(parameters, clip).item()
