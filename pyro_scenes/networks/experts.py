"""Experts: modules with one interface, of which each image needs one, or all.

No function here reads on the host which expert is chosen: the host would wait for a GPU.
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
        modules: Each maps inputs (n, *event) to a result (n, *result).
        inputs: (*batch, modules, *event); (*batch, 1, *event) serves all modules. Batches are broadcast.
        event_dims: The number of event dimensions.

    Returns:
        (*batch, modules, *result).
    """
    batch = torch.broadcast_shapes(*(x.shape[: -event_dims - 1] for x in inputs))
    results = []
    for k, module in enumerate(modules):
        slices = [x.select(-event_dims - 1, k % x.shape[-event_dims - 1]) for x in inputs]
        rows = [x.expand(*batch, *x.shape[x.dim() - event_dims :]) for x in slices]
        results.append(module(*(x.reshape(-1, *x.shape[len(batch) :]) for x in rows)))
    return torch.stack(results, 1).unflatten(0, batch)


def select(
    stacked: Shaped[Tensor, "..."], choice: Int[Tensor, "..."], *, event_dims: int
) -> Shaped[Tensor, "..."]:
    """Slices (*batch, *event) of (*batch, experts, *event) by ``choice``; batches are broadcast."""
    event = stacked.shape[stacked.dim() - event_dims :]
    batch = torch.broadcast_shapes(choice.shape, stacked.shape[: -event_dims - 1])
    stacked = stacked.expand(*batch, *stacked.shape[-event_dims - 1 :])
    index = choice.expand(batch).reshape(*batch, *[1] * (event_dims + 1))
    return stacked.gather(len(batch), index.expand(*batch, 1, *event)).squeeze(len(batch))


def certain_logits(choice: Int[Tensor, "*batch"], size: int) -> Shaped[Tensor, "*batch size"]:
    """Logits of a categorical that is certain of ``choice``: 0 there, -inf elsewhere."""
    others = torch.arange(size, device=choice.device) != choice.unsqueeze(-1)
    zeros = torch.zeros(others.shape, device=choice.device)
    return zeros.masked_fill(others, -torch.inf)


def apply_selected(
    modules: Sequence[nn.Module] | nn.ModuleList, choice: Int[Tensor, " n"], *inputs: Tensor
) -> Tensor:
    """Applies ``modules[choice[i]]`` to row i of the inputs (n, *event), for all rows.

    Adjacent modules that differ only in their weights run as one, with the weights that each row chooses. So
    the cost is that of one module of each kind.
    """
    result, first = None, 0
    for _, group in groupby(modules, _kind):
        same = list(group)
        if len(same) == 1:
            rows = same[0](*inputs)
        else:
            rows = _with_chosen_weights(same, (choice - first).clamp(0, len(same) - 1), *inputs)
        chosen = (choice >= first).reshape(-1, *[1] * (rows.dim() - 1))
        result = rows if result is None else torch.where(chosen, rows, result)
        first += len(same)
    if result is None:
        raise ValueError("there are no modules to apply")
    return result


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _kind(module: nn.Module) -> list:
    """Is equal for modules that differ only in the values of their parameters and buffers."""
    settings = [
        (name, type(part), _comparable(vars(part))) for name, part in module.named_modules()
    ]
    return [settings, [(name, part.shape) for name, part in _state(module).items()]]


def _comparable(value: Any) -> Any:
    """A setting's value if it is plain data; else its identity, as of a function or a tensor."""
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
