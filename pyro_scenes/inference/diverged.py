"""Numbers that are not finite in a training: noticing them, and saying where they come from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..missing import NOT_FINITE
from ..pairs import modules_of, unchanged

__all__ = ["Diverged", "Step", "diverge", "divergence"]


class Diverged(RuntimeError):
    """A step's loss or gradient was not finite. The step was not taken: parameters are the last good ones."""


class Step(NamedTuple):
    """A step that is being taken."""

    number: int
    is_first: bool  # of this fit: nothing has been learned in it
    model: Callable
    guide: Callable
    parts: tuple  # of the batch


@contextmanager
def divergence(step: Step) -> Iterator[None]:
    """Says :class:`Diverged` where Pyro's validation, or a sampler, is the first to notice.

    A finite number outside its constraint at the first step comes from no training: that error stays itself.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if (match := NOT_FINITE.search(str(error))) and not (step.is_first and not _sources(step)):
            diverge(step, match[0].splitlines()[0], error)
        raise


def diverge(step: Step, what: str, cause: Exception | None = None) -> None:
    sources = _sources(step)
    found = f"Not finite before it: {', '.join(sources[:3])}. " if sources else ""
    if any(name.startswith(("buffer", "part")) for name in sources):
        advice = "No training can mend these"
    elif step.is_first:
        advice = "Nothing has been learned yet: see what model and guide make of this batch"
    else:
        advice = "Try a smaller learning rate, or clip the gradient"
    raise Diverged(
        f"step {step.number} diverged: {what}. The parameters are those of step {step.number - 1}. "
        f"{found}{advice}"
    ) from cause


def _sources(step: Step) -> list[str]:
    """Names of parts of the batch, and of buffers and parameters in use, that are not finite."""
    named: list[tuple[str, Tensor]] = [
        (f"part {i + 1} of the batch", part)
        for i, part in enumerate(step.parts)
        if isinstance(part, Tensor)
    ]
    wrong = [_named(name, part) for name, part in named if not part.isfinite().all()]
    used = _used(step)
    for module in [*modules_of(step.model), *modules_of(step.guide)]:
        buffers, weights = (
            [(name, part) for name, part in parts if _memory(part) in used]
            for parts in (module.named_buffers(), module.named_parameters())
        )
        # A buffer may hold infinities on purpose, such as the mask of an attention.
        wrong += [f"buffer {name}" for name, part in buffers if part.isnan().any()]
        wrong += [name for name, part in weights if not part.isfinite().all()]
    return wrong


def _named(name: str, part: Tensor) -> str:
    unseen = " (NaN: unseen pixels, of which a guide may make NaN, see Blind)"
    return name if part.isinf().any() else name + unseen


def _used(step: Step) -> set[int]:
    """The memory of the tensors that guide and model use, as far as they run."""
    with torch.no_grad(), unchanged(step.model, step.guide), _Use() as use:
        for program in (step.guide, step.model):
            with suppress(Exception):
                program(*step.parts)
    return use.memory


class _Use(TorchDispatchMode):
    """Collects what torch's operations are given."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs))
        self.memory |= {_memory(leaf) for leaf in leaves if isinstance(leaf, Tensor)}
        return func(*args, **(kwargs or {}))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
