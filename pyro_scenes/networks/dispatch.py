"""Modules that each see their own part of a batch."""

from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["dispatch"]


def dispatch(choice: Tensor, modules: Iterable[nn.Module], *inputs: Tensor, **how: int) -> Tensor:
    """``modules[choice[i]](*inputs)`` for each i of a batch: each module runs once, and on its own alone.

    Args:
        choice: int (n,), of a module.
        modules: All make tensors of one shape.
        inputs: Of n each.
        how: The same for all modules.

    Raises:
        ValueError: A choice is no module's number.
    """
    found: Tensor | None = None
    served = 0
    for k, module in enumerate(modules):
        own = (choice == k).nonzero()[:, 0]
        served += len(own)
        if len(own):
            part = module(*(part[own] for part in inputs), **how)
            found = part.new_zeros(len(choice), *part.shape[1:]) if found is None else found
            found = found.index_copy(0, own, part)
    if found is None or served < len(choice):
        raise ValueError(f"there is no module for some of {choice.unique().tolist()}")
    return found
