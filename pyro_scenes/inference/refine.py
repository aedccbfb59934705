"""Draws nearer to a model's posterior than a guide's: by their weights, then by moves that keep it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.distributions import Categorical

from ..checks import check_sizes, is_whole
from ..pairs import check_same_model, warn_training_mode
from ..particles import count_images, repeat
from .chains import PILOT, Chains, State, choose
from .importance import check_runs_alone
from .pareto import effective_size, pareto_k
from .splits import Splits

__all__ = ["Draws", "refine"]

MOVES = "redraw", "walk", "step", "count", "split"


class Draws(NamedTuple):
    """Equally weighted draws of the posterior, and what is known of their worth.

    Before moves, an image with ``k_hat`` above 0.7, or an ``ess`` of a few, has draws of little worth: the
    guide does not reach the posterior there. Moves help if they are accepted.
    """

    values: dict[str, Shaped[Tensor, "draws n *event"]]  # by site; an absent object's mean nothing
    log_weights: Float[Tensor, "particles n"]  # of the guide's draws among which these were chosen
    ess: Float[Tensor, " n"]  # effective size of those, from 1 to their number
    k_hat: Float[Tensor, " n"]  # see :func:`pareto_k`
    accepted: dict[str, Float[Tensor, " n"]]  # share of moves, by kind


@torch.no_grad()
def refine(
    model: Callable,
    guide: Callable,
    *batch: Any,
    draws: int = 100,
    pool: int = 10,
    moves: int | Sequence[str] = 0,
    step: float = 0.2,
) -> Draws:
    """Draws of the posterior of each image, by a guide whose draws are not quite of it.

    First, sampling-importance-resampling (Rubin, 1988): of ``draws * pool`` draws of the guide as many as
    ``draws`` are chosen by their weights. Then each is moved by Metropolis-Hastings, in turn by

    ``redraw``
        all latents, to a draw of the guide;
    ``walk``
        all continuous latents, by normal noise on the unconstrained line. Absent objects walk, too;
    ``step``
        one step of the guide, given all others;
    ``count``
        one object more, or one less, of models with ``z_pres_0, z_pres_1, ...`` in unary code;
    ``split``
        an object to two, or two to one (:mod:`pyro_scenes.inference.splits`): of models of one such
        sequence of objects, with a site ``canvas`` on which they are added, bright on black.

    Each leaves the posterior of the model as it is. So draws get better with moves, of the model as it is:
    where it explains an image by the wrong scene, that is where they go.

    Args:
        model: A model and its guide, any pair, in evaluation mode.
        guide: Draws all latents of the model.
        batch: What both are called with: the images, at least; the other parts have a row for each.
        draws: For each image.
        pool: How many times as many draws of the guide. One run of model and guide has ``draws * n`` rows:
            give fewer images at a time if memory ends.
        moves: How many, of all kinds that the pair has, in turn. Or their names, in order.
        step: Scale of a walk, relative to the standard deviation of the guide's draws.

    Raises:
        TypeError: A part of the batch cannot be repeated, or the guide runs inside the model.
        ValueError: An argument is outside its range; model and guide do not have the same latents; a pair has
            no such move; an image has no draw that the model allows, or weights that are NaN.

    Warns:
        TrainingModeWarning: The model or the guide is in training mode.
    """
    check_sizes(draws=draws, pool=pool)
    check_moves(moves, step)
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    check_runs_alone(guide)
    size = count_images(batch)
    chains = Chains(model, guide, repeat(draws, batch)[0])
    state, log_weights = resample(chains, size, pool)
    kinds = _kinds(chains, moves)
    scale = {}
    if "walk" in kinds:
        spread = _spread(Chains(model, guide, repeat(PILOT, batch)[0]), size)
        scale = {n: step * s.repeat(draws, *[1] * (s.dim() - 1)) for n, s in spread.items()}
    accepted: dict[str, list[Tensor]] = {}
    for kind in kinds:
        state, moved = _move(kind, chains, state, scale)
        accepted.setdefault(kind, []).append(moved.reshape(draws, size))
    return Draws(
        {name: value.unflatten(0, (draws, size)) for name, value in state.values.items()},
        log_weights,
        effective_size(log_weights),
        pareto_k(log_weights),
        {kind: torch.cat(rows).to(log_weights).mean(0) for kind, rows in accepted.items()},
    )


def check_moves(moves: int | Sequence[str], step: float) -> None:
    """Raises a ValueError unless these are moves, and a scale of walks."""
    listed = isinstance(moves, Sequence) and not isinstance(moves, str)
    names = moves if isinstance(moves, Sequence) else []
    if not (is_whole(moves, 0) or (listed and all(name in MOVES for name in names))):
        raise ValueError(
            f"moves must be a whole number from 0 up, or a list of {', '.join(MOVES)}, got {moves!r:.60}"
        )
    if not (isinstance(step, Real) and step > 0 and isfinite(step)):
        raise ValueError(f"step must be a number above 0, got {step!r:.60}")


def resample(chains: Chains, size: int, pool: int) -> tuple[State, Float[Tensor, "particles n"]]:
    """Chooses each row's state among all draws of the guide for its image, by weight. Returns all weights.

    Draws come and go: of those so far, each row has one by its share of the weight.
    """
    weights: list[Tensor] = []
    state, total = None, None
    for _ in range(pool):
        drawn = chains.draw()
        log_w = drawn.log_weight.reshape(-1, size)
        _check_weights(log_w)
        weights.append(log_w)
        own = log_w.logsumexp(0)
        total = own if total is None else torch.logaddexp(total, own)
        index = _indices(log_w)
        picked = State(*(_take(part, index) for part in drawn))
        kept = torch.rand_like(log_w).log() < own - total
        state = picked if state is None else choose(kept.flatten(), picked, state)
    log_weights = torch.cat(weights)
    if log_weights.isneginf().all(0).any():
        raise ValueError(
            "an image has no draw of the guide that the model allows: all its weights are 0"
        )
    assert state is not None
    return state, log_weights


def _check_weights(log_weights: Float[Tensor, "draws n"]) -> None:
    if log_weights.isnan().any():
        raise ValueError(
            "log weights are NaN: a parameter of the model or the guide is not finite, or the likelihood "
            "is not defined at these images"
        )


def _indices(log_weights: Float[Tensor, "draws n"]) -> Int64[Tensor, " rows"]:
    """For each row the row of a draw for its image, by weight; its own where all weights are 0."""
    draws, size = log_weights.shape
    none = log_weights.isneginf().all(0)
    chosen = Categorical(logits=log_weights.masked_fill(none, 0.0).T).sample((draws,))
    return (chosen * size + torch.arange(size, device=chosen.device)).flatten()


def _take(part: Any, index: Int64[Tensor, " rows"]) -> Any:
    if isinstance(part, Mapping):
        return {name: value[index] for name, value in part.items()}
    return part[index]


def _kinds(chains: Chains, moves: int | Sequence[str]) -> list[str]:
    """The moves to make; a ValueError if the pair lacks one."""
    asked = [*moves] if isinstance(moves, Sequence) else []
    number = 0 if isinstance(moves, Sequence) else int(moves)
    if not (asked or number):
        return []
    known = ["redraw"]
    if chains.draw().line:
        known.append("walk")
    if len(chains.steps) > 1:
        known.append("step")
    if chains.is_unary:
        known.append("count")
    if Splits.fits(chains):
        known.append("split")
    if lacking := {*asked} - {*known}:
        raise ValueError(
            f"this pair has no moves {', '.join(sorted(lacking))}, but {', '.join(known)}: walk needs a "
            "continuous latent, step sites of several steps, count and split what AIR has"
        )
    return asked or [kind for kind, _ in zip(cycle(known), range(number))]


def _move(
    kind: str, chains: Chains, state: State, scale: Mapping[str, Tensor]
) -> tuple[State, Bool[Tensor, " rows"]]:
    if kind == "walk":
        return chains.walk(state, scale)
    if kind == "count":
        return chains.count(state)
    if kind == "split":
        return Splits(chains).move(state)
    every = torch.ones_like(state.log_q, dtype=torch.bool)
    if kind == "redraw":
        return chains.redraw(state, every)
    chosen = torch.randint(len(chains.steps), (chains.rows,), device=every.device)
    return chains.redraw(state, chains.steps[chosen])


def _spread(chains: Chains, size: int) -> dict[str, Float[Tensor, "n *event"]]:
    """Standard deviation of the guide's draws on the unconstrained line, of each image and number."""
    line = chains.draw().line
    return {name: value.unflatten(0, (-1, size)).std(0) for name, value in line.items()}
