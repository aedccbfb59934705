"""Experts: several modules of one interface, applied side by side, without asking which image needs which."""

from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

__all__ = ["apply_each", "select"]


def apply_each(
    modules: Sequence[nn.Module] | nn.ModuleList, *inputs: Tensor, event_dims: int
) -> Tensor:
    """Applies the k-th module to the k-th slice of each input.

    All modules run on the whole batch: a GPU need not tell the host which rows each module has to serve.

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
