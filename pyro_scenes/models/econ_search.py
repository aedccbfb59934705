"""The best of all sequences of experts for an image, and what the greedy choice loses to it."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pyro.distributions import Distribution
from torch import Tensor

from .econ import ECON, Scene

__all__ = ["Part", "Plan", "Search", "cost", "search"]


#: Sequences that a search tries at most.
MOST = 100_000


class Part(NamedTuple):
    """What a guide makes of one layer."""

    z_expert: Int[Tensor, " n"]
    z_what: Float[Tensor, "n code"]
    log_region: Float[Tensor, "n 1 h w"]  # logarithm of its share of each pixel
    proposal: Distribution  # of z_what


class Plan(NamedTuple):
    """How to take images apart."""

    path: Int[Tensor, "n steps"] | None  # the experts, front first; None: by competition
    seed: int  # of the candidates, whatever else is drawn


class Search(NamedTuple):
    """All sequences of experts tried; costs are in nats, at the medians of the codes."""

    plan: Plan  # of the experts that cost least
    cost: Float[Tensor, " n"]
    competed: Float[Tensor, " n"]  # the cost of those that competition chooses: never less


@torch.no_grad()
def search(model: ECON, images: Tensor, explain: Callable[[Plan], list[Part]]) -> Search:
    """Takes images apart by each sequence of experts, K^T in number, or K^(T - 1) and a background."""
    seed = int(torch.randint(2**31, ()))
    choosing = model.steps - model.background
    if model.experts**choosing > MOST:
        raise ValueError(
            f"there are {model.experts}^{choosing} sequences of experts, and more than {MOST} take too long: "
            "search with fewer steps or experts"
        )
    last = [model.experts - 1] * model.background
    paths = [[*path, *last] for path in product(range(model.experts), repeat=choosing)]
    tries = torch.tensor(paths, device=images.device)
    plans = [Plan(None, seed), *(Plan(path.expand(len(images), -1), seed) for path in tries)]
    costs = [cost(model, images, explain(plan)) for plan in plans]
    found = torch.stack(costs[1:]).min(0)
    return Search(Plan(tries[found.indices], seed), found.values, costs[0])


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
