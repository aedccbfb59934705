"""Moves that split an object in two, and merge two into one: for objects that touch and were read as one.

Where one window holds two objects, no draw of the guide with two has a good window for each. But the guide
reads either well if it is shown alone. So a move draws a line, at a random angle through the centre of mass
of what all other objects leave of the image, and asks the guide for the first object of each side (split),
or of both together (merge)::

    rest   = image - canvas of the other objects
    a, b   ~ q(first object | rest on one side of the line), q(first object | rest on the other side)
    whole  ~ q(first object | rest)
    accept with p(image, scene of a, b) q(whole) / p(image, scene of whole) q(a) q(b), or the reverse

The line depends on what the move leaves as it is, so the reverse move has the same line with the same
probability. ``whole`` is in a slot drawn among all objects, and becomes a; b is the last object.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from pyro import poutine
from torch import Tensor

from ..handlers import fixed, rows_first
from .chains import Chains, State, Values

__all__ = ["Splits"]


class Draw(NamedTuple):
    """An object for each row."""

    values: Values  # by site, without the step
    log_q: Float[Tensor, " rows"]


class Splits:
    """The moves of a model and a guide whose presences are in unary code, and that draw a canvas.

    Args:
        chains: Of images on which the canvas is added, bright on black.
    """

    def __init__(self, chains: Chains) -> None:
        self.chains, self.images = chains, chains.batch[0]
        ends = [name[:-1] for name in chains.names if name.endswith("_0") and name != "z_pres_0"]
        self.parts = ends  # z_where_, z_what_
        self.steps = len(chains.presences)

    @staticmethod
    def fits(chains: Chains) -> bool:
        """Whether a pair has such moves: steps with the same sites, one after the other."""
        names, steps = {*chains.names}, range(len(chains.presences))
        parts = {name[:-1] for name in names if name.endswith("_0")}
        return (
            chains.is_unary
            and len(chains.batch) == 1
            and names == {f"{part}{t}" for part in parts for t in steps}
            and len(parts) > 1
            and _draws_canvas(chains.model)
        )

    def move(self, state: State) -> tuple[State, Bool[Tensor, " rows"]]:
        """Tries to split an object, or to merge two, in each row."""
        rows, device = self.chains.rows, self.images.device
        count = torch.stack([state.values[n] for n in self.chains.presences], -1).sum(-1).long()
        split = torch.rand(rows, device=device) < 0.5
        last = torch.where(split, count, count - 1)  # where b is, or is to be
        possible = torch.where(split, (count >= 1) & (count < self.steps), count >= 2)
        slot = (torch.rand(rows, device=device) * last.clamp(min=1)).long()
        last = last.clamp(0, self.steps - 1)
        rest = self.rest(state.values, count, slot, last)
        sides = divided(rest, 2 * math.pi * torch.rand(rows, device=device))
        old = [self.at(state.values, slot), self.at(state.values, last)]
        whole = self.first(rest, old[0], redrawn=~split)
        a, b = (
            self.first(side, part, redrawn=split) for side, part in zip(sides, old, strict=True)
        )
        log_ratio = whole.log_q - a.log_q - b.log_q
        log_ratio = torch.where(split, log_ratio, -log_ratio)
        values = self.placed(state.values, a.values, slot, split)
        values = self.placed(values, whole.values, slot, ~split)
        values = self.placed(values, b.values, last, split)
        for t, name in enumerate(self.chains.presences):
            values[name] = torch.where((last == t) & possible, split.to(rest), values[name])
        log_ratio = log_ratio.masked_fill(~possible, -torch.inf)
        none = torch.zeros_like(state.log_q, dtype=torch.bool)
        return self.chains.redraw(state, none, values, log_ratio)

    def rest(
        self,
        values: Mapping[str, Tensor],
        count: Int64[Tensor, " rows"],
        slot: Int64[Tensor, " rows"],
        last: Int64[Tensor, " rows"],
    ) -> Float[Tensor, "rows c h w"]:
        """The images less the canvas of all objects but those in two slots; at least 0."""
        steps = torch.arange(self.steps, device=count.device)
        others = (steps < count[:, None]) & (steps != slot[:, None]) & (steps != last[:, None])
        order = (~others).int().argsort(dim=-1, stable=True)
        packed = {
            name: (steps[t] < others.sum(-1)).to(self.images)
            for t, name in enumerate(self.chains.presences)
        }
        for t in range(self.steps):
            packed |= {f"{part}{t}": v for part, v in self.at(values, order[:, t]).items()}
        with fixed(packed):
            scene = poutine.trace(self.chains.model).get_trace(size=len(count))
        return (self.images - scene.nodes["canvas"]["value"]).clamp(min=0)

    def first(
        self, images: Tensor, values: Mapping[str, Tensor], redrawn: Bool[Tensor, " rows"]
    ) -> Draw:
        """The guide's first object of images, at given values, or drawn in some rows."""
        given: dict[str, Tensor] = {f"{part}0": value for part, value in values.items()}
        rows = dict.fromkeys(given, redrawn)
        given["z_pres_0"] = torch.ones_like(images[:, 0, 0, 0])
        with fixed(given, rows):
            trace = poutine.trace(self.chains.guide).get_trace(images)
        trace.compute_log_prob()
        sites: dict[str, Any] = {part: trace.nodes[f"{part}0"] for part in self.parts}
        log_q = torch.stack([site["log_prob"] for site in sites.values()]).sum(0)
        return Draw({part: rows_first(site) for part, site in sites.items()}, log_q)

    def at(self, values: Mapping[str, Tensor], slot: Int64[Tensor, " rows"]) -> Values:
        """The object in a slot of each row."""
        rows, each = torch.arange(len(slot), device=slot.device), range(self.steps)
        stacked = {
            part: torch.stack([values[f"{part}{t}"] for t in each], 1) for part in self.parts
        }
        return {part: stack[rows, slot] for part, stack in stacked.items()}

    def placed(
        self,
        values: Mapping[str, Tensor],
        part_values: Mapping[str, Tensor],
        slot: Int64[Tensor, " rows"],
        where: Bool[Tensor, " rows"],
    ) -> Values:
        """Values with another object in a slot of some rows."""
        changed = dict(values)
        for part, new in part_values.items():
            for t in range(self.steps):
                here = ((slot == t) & where).reshape(-1, *[1] * (new.dim() - 1))
                changed[f"{part}{t}"] = torch.where(here, new, changed[f"{part}{t}"])
        return changed


def _draws_canvas(model: Any) -> bool:
    try:
        return "canvas" in poutine.trace(model).get_trace(size=1)
    except TypeError:  # a model that takes no size
        return False


def divided(
    images: Float[Tensor, "n c h w"], angle: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Both sides of a line through each image's centre of mass, black elsewhere; NaN stays NaN."""
    height, width = images.shape[-2:]
    mass = images.nan_to_num(0.0).sum(1) + 1e-6
    y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None]
    x = torch.arange(width, device=images.device, dtype=images.dtype)
    total = mass.sum((1, 2))
    middle = [((mass * place).sum((1, 2)) / total)[:, None, None] for place in (x, y)]
    across, down = angle.cos()[:, None, None], angle.sin()[:, None, None]
    side = (((x - middle[0]) * across + (y - middle[1]) * down) > 0)[:, None]
    return images.where(side | images.isnan(), 0.0), images.where(~side | images.isnan(), 0.0)
