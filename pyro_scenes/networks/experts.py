"""Experts: several modules of one interface, of which each image needs one, or all.

Which one may be known on a GPU alone: nothing here asks it, so the host does not wait.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap

__all__ = ["apply_each", "apply_selected", "certain_logits", "select"]


def apply_each(modules: Iterable[Any], *inputs: Tensor, event_dims: int) -> Tensor:
    """Applies the k-th module to the k-th slice of each input.

    Args:
        modules: They take inputs (n, *event) and make tensors of one shape.
        inputs: Each (*batch, modules, *event), or (*batch, 1, *event) for all modules alike. Batches are
            broadcast against each other.
        event_dims: How many dimensions an event has.

    Returns:
        (*batch, modules, *result).
    """
    batch = torch.broadcast_shapes(*(part.shape[: -event_dims - 1] for part in inputs))
    results = []
    for k, module in enumerate(modules):
        slices = [part.select(-event_dims - 1, k % part.shape[-event_dims - 1]) for part in inputs]
        events = [part.shape[part.dim() - event_dims :] for part in slices]
        rows = [part.expand(*batch, *event) for part, event in zip(slices, events, strict=True)]
        results.append(module(*(part.reshape(-1, *part.shape[len(batch) :]) for part in rows)))
    return torch.stack(results, 1).unflatten(0, batch)


def select(
    stacked: Shaped[Tensor, "..."], choice: Int[Tensor, "..."], *, event_dims: int
) -> Shaped[Tensor, "..."]:
    """The chosen slice of each batch element: (*batch, experts, *event) and (*batch,) to (*batch, *event).

    The two batches are broadcast against each other.
    """
    event = stacked.shape[stacked.dim() - event_dims :]
    batch = torch.broadcast_shapes(choice.shape, stacked.shape[: -event_dims - 1])
    stacked = stacked.expand(*batch, *stacked.shape[-event_dims - 1 :])
    index = choice.expand(batch).reshape(*batch, *[1] * (event_dims + 1))
    return stacked.gather(len(batch), index.expand(*batch, 1, *event)).squeeze(len(batch))


def certain_logits(choice: Int[Tensor, "*batch"], size: int) -> Shaped[Tensor, "*batch size"]:
    """The logits of a categorical that gives these numbers for sure."""
    others = torch.arange(size, device=choice.device) != choice.unsqueeze(-1)
    zeros = torch.zeros(others.shape, device=choice.device)
    return zeros.masked_fill(others, -torch.inf)


def apply_selected(
    modules: Sequence[nn.Module] | nn.ModuleList, choice: Int[Tensor, " n"], *inputs: Tensor
) -> Tensor:
    """``modules[choice[i]]`` of row i of the inputs, (n, *event) each, for all rows.

    Modules in a row that differ in their weights alone run as one, with the weights that each row has
    chosen; so the cost is that of one module for each kind, and not of each module.
    """
    result, first = None, 0
    for _, group in groupby(modules, _kind):
        alike = list(group)
        if len(alike) == 1:
            rows = alike[0](*inputs)
        else:
            rows = _with_chosen_weights(alike, (choice - first).clamp(0, len(alike) - 1), *inputs)
        chosen = (choice >= first).reshape(-1, *[1] * (rows.dim() - 1))
        result = rows if result is None else torch.where(chosen, rows, result)
        first += len(alike)
    if result is None:
        raise ValueError("there are no modules to apply")
    return result


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _kind(module: nn.Module) -> list:
    """Equal for modules that differ in the values of their parameters and buffers alone."""
    settings = [
        (name, type(part), _comparable(vars(part))) for name, part in module.named_modules()
    ]
    return [settings, [(name, part.shape) for name, part in _state(module).items()]]


def _comparable(value: Any) -> Any:
    """A setting by its value if it is plain data; by its identity otherwise, as a function or a tensor."""
    if isinstance(value, dict):
        own = ("_parameters", "_buffers", "_modules")
        return {key: _comparable(part) for key, part in value.items() if key not in own}
    if isinstance(value, list | tuple | set):
        return [_comparable(part) for part in value]
    return value if isinstance(value, bool | int | float | str | None) else id(value)


def _with_chosen_weights(modules: list[nn.Module], choice: Tensor, *inputs: Tensor) -> Tensor:
    states = [_state(module) for module in modules]
    weights = {name: torch.stack([s[name] for s in states])[choice] for name in states[0]}

    def one(chosen: dict[str, Tensor], *row: Tensor) -> Tensor:
        return functional_call(modules[0], chosen, tuple(part[None] for part in row))[0]

    return vmap(one, randomness="different")(weights, *inputs)
