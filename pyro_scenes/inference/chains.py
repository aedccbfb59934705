"""Markov chains on the latents of images. Their moves are of the guide, and leave the posterior as it is.

A row is one chain, of one image: n images are repeated (:func:`~pyro_scenes.particles.repeat`), so guide and
model run once for all. What a guide draws beside the model's latents, auxiliary sites and hidden random
numbers r, is drawn anew in each run: the chains are on z and r, and r given z is what the guide draws.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from ..conditionals.product import without_mixtures
from ..handlers import fixed, rows_first
from ..particles import by_image, image_log_probs
from ..sites import check_sites, latents, where_counted
from ..supports import UNLIKELY, is_scalar_choice, unwrapped

__all__ = ["Chains", "State", "bijection", "choose"]

#: Draws of the guide from which the spread of each number is taken.
PILOT = 20

Values = dict[str, Shaped[Tensor, "rows *event"]]


class State(NamedTuple):
    """Where the chains are."""

    values: Values  # by site, in the order of the guide
    line: Values  # of continuous sites: the same without constraints
    log_p: Float[Tensor, " rows"]  # log p(image, values)
    log_slope: Float[Tensor, " rows"]  # log |d values / d line|
    log_q: Float[Tensor, "rows sites"]  # of each site, given those before

    @property
    def log_weight(self) -> Float[Tensor, " rows"]:
        return self.log_p - self.log_q.sum(-1)


class Chains:
    """Rows of chains, and the moves.

    Args:
        model: Called with the batch.
        guide: Called alike. It draws the model's latents.
        batch: What both are called with, images first; each row is a chain.

    Attributes:
        names: The sites.
        steps: For each step of the guide, which sites it has, (sites,): those whose names end in its number.
            Sites without a number are the last of these.
        is_unary: Whether the model's presences z_pres_0, z_pres_1, ... are in unary code.
    """

    def __init__(self, model: Callable, guide: Callable, batch: tuple) -> None:
        self.model, self.guide, self.batch = model, guide, batch
        self.rows = len(batch[0])
        joint, proposed = self.run({})
        check_sites(joint, proposed)
        self.names = [*latents(proposed)]
        ends = [re.search(r"_(\d+)$", name) for name in self.names]
        numbers = [int(end[1]) if end else -1 for end in ends]
        ordered = sorted({*numbers}, key=lambda number: (number < 0, number))
        device = batch[0].device
        self.steps = torch.tensor([[n == k for n in numbers] for k in ordered], device=device)
        self.presences = [f"z_pres_{t}" for t in range(len(ordered)) if f"z_pres_{t}" in self.names]
        self.is_unary = bool(self.presences) and self._ends_with_a_0()

    def run(
        self, values: Mapping[str, Tensor], redrawn: Bool[Tensor, "rows sites"] | None = None
    ) -> tuple[poutine.Trace, poutine.Trace]:
        """Traces of the model at the guide's draws, and of the guide, at given values, or drawn there."""
        rows = {} if redrawn is None else dict(zip(self.names, redrawn.unbind(-1), strict=True))
        with fixed(values, rows):
            proposed = poutine.trace(self.guide).get_trace(*self.batch)
        replayed = poutine.replay(self.model, trace=proposed)
        return poutine.trace(replayed).get_trace(*self.batch), proposed

    def draw(
        self,
        values: Mapping[str, Tensor] | None = None,
        redrawn: Bool[Tensor, "rows sites"] | None = None,
    ) -> State:
        """The state at given values, or at draws of the guide."""
        return self.state(*self.run({} if values is None else values, redrawn))

    def state(self, joint: poutine.Trace, proposed: poutine.Trace) -> State:
        proposed.compute_log_prob()
        sites = {name: joint.nodes[name] for name in self.names}
        log_q = [by_image(n, proposed.nodes[n]["log_prob"], self.rows) for n in self.names]
        log_p = image_log_probs(joint, self.rows)
        line, log_slope = {}, torch.zeros_like(log_p)
        for name, site in sites.items():
            transform = bijection(site["fn"])
            if transform is not None:
                points = transform.inv(site["value"])
                slope = _counted(site, transform.log_abs_det_jacobian(points, site["value"]))
                log_slope = log_slope + by_image(name, slope, self.rows)
                line[name] = points.movedim(-1 - site["fn"].event_dim, 0)
        values = {name: rows_first(site) for name, site in sites.items()}
        return State(values, line, log_p, log_slope, torch.stack(log_q, -1))

    def accept(
        self, state: State, proposed: State, log_ratio: Float[Tensor, " rows"]
    ) -> tuple[State, Bool[Tensor, " rows"]]:
        """Each row's next state, and whether it is the proposed one."""
        accepted = torch.rand_like(log_ratio).log() < log_ratio  # never if it is NaN
        if self.is_unary:
            # Impossible under the model; but a prior's 0 is a number, and evidence of hundreds of nats.
            accepted = accepted & self.in_unary_code(proposed.values)
        return choose(accepted, proposed, state), accepted

    def redraw(
        self,
        state: State,
        sites: Bool[Tensor, "rows sites"],
        values: Mapping[str, Tensor] | None = None,
        log_ratio: Float[Tensor, " rows"] | float = 0.0,
    ) -> tuple[State, Bool[Tensor, " rows"]]:
        """Moves these sites to a draw of the guide given the others.

        Args:
            sites: All of a row: an independence move. Those of one step: also the birth and the death of
                the last object.
            values: Of the others, if the move begins with a change of these.
            log_ratio: Of that change: the density of its reverse by its own.
        """
        proposed = self.draw(state.values if values is None else values, sites)
        redrawn = torch.where(sites, state.log_q - proposed.log_q, 0.0).sum(-1)
        return self.accept(state, proposed, proposed.log_p - state.log_p + redrawn + log_ratio)

    def walk(
        self, state: State, scale: Mapping[str, Tensor]
    ) -> tuple[State, Bool[Tensor, " rows"]]:
        """Moves all continuous sites by normal noise of this scale on the unconstrained line."""
        line = {name: u + scale[name] * torch.randn_like(u) for name, u in state.line.items()}
        others = {name: value for name, value in state.values.items() if name not in line}
        # Supports may depend on what was drawn before: the model maps the line to values.
        with fixed(others), _OnLine(line):
            moved = poutine.trace(self.model).get_trace(*self.batch)
        proposed = self.draw({name: rows_first(moved.nodes[name]) for name in self.names})
        log_ratio = proposed.log_p + proposed.log_slope - state.log_p - state.log_slope
        return self.accept(state, proposed, log_ratio)

    def count(self, state: State) -> tuple[State, Bool[Tensor, " rows"]]:
        """Adds an object, drawn by the guide given the others, or takes the last away; either as often."""
        present = torch.stack([state.values[name] for name in self.presences], -1)
        count, more = present.sum(-1).long(), torch.rand(self.rows, device=present.device) < 0.5
        step = torch.where(more, count, count - 1)
        possible = (step >= 0) & (step < len(self.presences))
        step = step.clamp(0, len(self.presences) - 1)
        values, sites = dict(state.values), self.steps[step].clone()
        for t, name in enumerate(self.presences):
            values[name] = torch.where((step == t) & possible, more.to(present), values[name])
            sites[:, self.names.index(name)] = False
        log_ratio = torch.zeros_like(state.log_p).masked_fill(~possible, -torch.inf)
        return self.redraw(state, sites, values, log_ratio)

    def in_unary_code(self, values: Mapping[str, Tensor]) -> Bool[Tensor, " rows"]:
        present = torch.stack([values[name] for name in self.presences], -1)
        return (present == present.cumprod(-1)).all(-1)

    def _ends_with_a_0(self) -> bool:
        """Whether the model allows no presence after a 0."""
        joint, _ = self.run({n: self.batch[0].new_zeros(self.rows) for n in self.presences})
        sites = [joint.nodes[name] for name in self.presences]
        return all(is_scalar_choice(site["fn"]) for site in sites) and all(
            (site["fn"].log_prob(torch.ones_like(site["value"])) < UNLIKELY).all()
            for site in sites[1:]
        )


class _OnLine(Messenger):
    """Inside, continuous sites are at these points of the unconstrained line, of their own support."""

    def __init__(self, line: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.line = line

    def _pyro_sample(self, msg: Any) -> None:
        transform = bijection(msg["fn"]) if msg["name"] in self.line else None
        if transform is not None:
            msg["value"] = transform(self.line[msg["name"]].movedim(0, -1 - msg["fn"].event_dim))


def bijection(distribution: Any) -> Transform | None:
    """From the unconstrained line to a support; None of what cannot walk: discrete, a point, a sphere."""
    if distribution.support.is_discrete or isinstance(unwrapped(distribution), Delta):
        return None
    try:
        return biject_to(without_mixtures(distribution.support))
    except NotImplementedError:
        return None


def _counted(site: Any, log_slope: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """0 where the site is masked out."""
    counted = where_counted(site)
    if counted is None:
        return log_slope
    first: Any = (..., *[0] * site["fn"].event_dim)
    return torch.where(counted[first], log_slope, 0.0)


def choose(rows: Bool[Tensor, " rows"], first: State, second: State) -> State:
    """The first state in these rows, the second in the others."""

    def pick(a: Any, b: Any) -> Any:
        if isinstance(a, dict):
            return {name: pick(a[name], b[name]) for name in a}
        return torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), a, b)

    return State(*(pick(a, b) for a, b in zip(first, second, strict=True)))
