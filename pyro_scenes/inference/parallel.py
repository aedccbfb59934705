"""An ELBO over the batches of several processes, each with a copy of the model and its guide."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import torch
import torch.distributed as world
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from ..pairs import check_same_model, modules_of
from .processes import broadcast, count, gathered, total

__all__ = ["Parallel"]


class Parallel(ELBO):
    """An ELBO of Pyro whose gradients, and loss, are the means over processes.

    Start as many processes as there are devices (``torchrun --nproc_per_node=2 train.py``). Each gives its
    own share of every batch, and all take the same steps::

        torch.distributed.init_process_group()
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        elbo = Parallel(TraceEnum_ELBO(max_plate_nesting=1), model, guide)
        torch.manual_seed(rank)  # after model and guide are built: each process draws its own noise
        stream = (images[rank::size] for images in batches(scenes, 64))
        for record in fit(model, guide, stream, elbo=elbo):
            ...

    Two processes with batches of 32 take the steps of one with batches of 64: a gradient is averaged before
    it is clipped, so clipping, the records and :class:`Diverged` are the same in every process. So must be
    what the loop does between steps: if it sets weights by random numbers, call :meth:`share` after it.

    Parameters and buffers of parts that are swapped in later are shared at the step after. ``loss`` and
    ``differentiable_loss`` are those of the process that asks, and exchange nothing: they may be called by
    one process alone.

    Args:
        elbo: The ELBO of each process's batch.
        model: The model, a module or a function. Parameters and buffers become those of the first process.
        guide: Its guide.

    Raises:
        RuntimeError: No group of processes has been started.
        TypeError: ``elbo`` is not an ELBO object, or has two losses.
        ValueError: The processes have different models or guides, or batches of different sizes; or a
            parameter belongs to no module (``pyro.param`` in a function).
        ConnectionError: Another process is gone. With the backend gloo this is noticed at once; with nccl
            ``torchrun`` ends the process, or its watchdog after the group's timeout.
    """

    def __init__(self, elbo: ELBO, model: Callable, guide: Callable) -> None:
        super().__init__()
        if not isinstance(elbo, ELBO):
            raise TypeError(f"elbo must be an object such as Trace_ELBO(), got {elbo!r:.60}")
        if not (world.is_available() and world.is_initialized()):
            raise RuntimeError(
                "Parallel needs a group of processes: start the program by torchrun, and call "
                "torch.distributed.init_process_group() first"
            )
        check_same_model(model, guide)
        self.elbo, self.programs = elbo, (model, guide)
        self._shared: dict[int, Tensor] = {}
        self._is_new = True
        self.share()

    def share(self) -> None:
        """Gives all processes the first one's parameters and buffers. Every process must call it."""
        self._shared.clear()
        self._share(self._tensors())

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        return self.elbo.loss(model, guide, *args, **kwargs)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Any:
        return self.elbo.differentiable_loss(model, guide, *args, **kwargs)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        self._share(self._tensors(model, guide))
        with poutine.trace(param_only=True) as used:
            loss = self.elbo.loss_and_grads(model, guide, *args, **kwargs)
        if isinstance(loss, tuple):
            raise TypeError(f"{type(self.elbo).__name__} has no loss that is one number")
        # Once more, as some guides make their parameters at their first call.
        trained = [value for value in self._tensors(model, guide) if value.requires_grad]
        if self._is_new:
            _check_owned(used.trace, [*self.programs, model, guide])
            self._is_new = False
        size = len(args[0]) if args and hasattr(args[0], "__len__") else 1
        return _average(trained, float(loss), size)

    def _tensors(self, *programs: Callable) -> list[Tensor]:
        """Parameters and buffers, in the same order in every process."""
        found: list[Tensor] = []
        for program in (*self.programs, *programs):
            for module in modules_of(program):
                found += [*module.parameters(), *module.buffers()]
        return [*{id(value): value for value in found}.values()]

    def _share(self, tensors: list[Tensor]) -> None:
        new = [value for value in tensors if id(value) not in self._shared]
        # The tensors are kept: the id of one that is gone may be that of a new one.
        self._shared = {id(value): value for value in tensors}
        if new:
            layout = crc32(repr([(value.shape, value.dtype) for value in new]).encode())
            if len(set(gathered(layout))) > 1:
                raise ValueError(
                    "the processes have different models or guides: build the same, and swap the same "
                    "parts at the same step, in each of them"
                )
            broadcast(new)

    def _get_trace(self, *args: Any) -> Any:
        return self.elbo._get_trace(*args)


def _check_owned(used: poutine.Trace, programs: list[Callable]) -> None:
    modules = [module for program in programs for module in modules_of(program)]
    own = [name for module in modules for name, _ in module.named_parameters()]
    endings = tuple(name.removesuffix("_unconstrained") for name in own)
    # Pyro writes $$$ between the name of a module and that of its weight.
    others = [name for name in used.param_nodes if not name.replace("$$$", ".").endswith(endings)]
    if others:
        raise ValueError(
            f"{others[0]} belongs to no module that model or guide calls, so Parallel cannot share it: keep it "
            "in a module, as a PyroParam or a parameter"
        )


def _average(trained: list[Tensor], loss: float, size: int) -> float:
    """Replaces gradients by their means over processes, as far as any has one. Returns the mean loss."""
    numbers = [loss, size, size**2, *(value.grad is not None for value in trained)]
    loss, sizes, squares, *users = total(torch.tensor(numbers, dtype=torch.float64)).tolist()
    if sizes**2 != squares * count():
        raise ValueError(
            f"the processes have batches of different sizes, here {size} images: give each as many"
        )
    # A part may be used in one process alone; the optimiser must then step in all of them, or in none.
    gradients = []
    for value, users_of in zip(trained, users, strict=True):
        if users_of:
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad
            gradients.append(value.grad)
    if gradients:
        flat = total(torch.cat([gradient.flatten() for gradient in gradients])) / count()
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    return loss / count()
