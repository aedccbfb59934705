"""The best of all sequences of experts for an image, and what competition loses to it."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pyro.distributions import Distribution
from torch import Tensor

from ..scene import forked
from .econ import ECON, Scene

__all__ = ["Part", "Search", "cost", "search"]


class Part(NamedTuple):
    """What a guide makes of one layer."""

    z_expert: Int[Tensor, " n"]
    z_what: Float[Tensor, "n code"]
    log_region: Float[Tensor, "n 1 h w"]  # logarithm of its share of each pixel
    proposal: Distribution  # of z_what


class Search(NamedTuple):
    """All sequences of experts tried; costs are in nats, at the medians of the codes."""

    path: Int[Tensor, "n steps"]  # of the experts that cost least, front first
    cost: Float[Tensor, " n"]
    competed: Float[Tensor, " n"]  # the cost of those that competition chooses: never less


@torch.no_grad()
def search(model: ECON, images: Tensor, explain: Callable[[Tensor | None], list[Part]]) -> Search:
    """Takes images apart by each sequence of experts, K^T in number, from the same random numbers.

    Args:
        explain: By the experts of a path (n, steps), or, of None, by competition.
    """
    choosing = model.steps - model.background
    last = [model.experts - 1] * model.background
    paths = [[*path, *last] for path in product(range(model.experts), repeat=choosing)]
    tries = torch.tensor(paths, device=images.device)
    costs = []
    for path in (None, *tries):
        with forked():
            parts = explain(None if path is None else path.expand(len(images), -1))
        costs.append(cost(model, images, parts))
    found = torch.stack(costs[1:]).min(0)
    return Search(tries[found.indices], found.values, costs[0])


def cost(model: ECON, images: Tensor, parts: list[Part]) -> Float[Tensor, " n"]:
    """Minus the bound on log p(image | experts), if codes were drawn; at medians, a score."""
    scene = Scene(0, torch.zeros_like(images))
    made = [model.decode(part.z_expert, part.z_what, i) for i, part in enumerate(parts)]
    shown = model.shown(torch.stack([logits for _, logits in made], 1))
    total = torch.zeros_like(images[:, 0, 0, 0])
    for i, (part, (colours, _)) in enumerate(zip(parts, made, strict=True)):
        prior = model.z_what(scene._replace(layer=i, z_expert=part.z_expert))
        code = part.proposal.log_prob(part.z_what) - prior.log_prob(part.z_what)
        lacks = part.log_region - shown[:, i : i + 1] - model.fits(images, colours)
        total = total + code.where(model.there(part.z_expert, i), 0.0)
        total = total + (part.log_region.exp() * lacks).sum((1, 2, 3))
        scene = scene._replace(z_expert=part.z_expert, z_what=part.z_what)
    return total
