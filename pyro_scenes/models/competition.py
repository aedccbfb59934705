"""The competition of sprites for parts of an image: lines (g1) and (g2) of their guide."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..networks import certain_logits, settle
from ..render import mask_divergence

__all__ = ["Competition", "Scores"]


class Scores(NamedTuple):
    """What the sprites would make of candidates, in nats."""

    loss: Float[Tensor, "n candidates"]  # (g1): the least of a sprite, less its gain
    scores: Float[Tensor, "n candidates sprites"]  # (g2): lambda L_x + L_r - gain
    cost: Float[Tensor, "n candidates"]  # nats by which the layer lowers the bound


@dataclass(frozen=True)
class Competition:
    """How sprites are compared.

    Attributes:
        appearance: The weight lambda of L_x in (g2). With 0, sprites are compared by shape alone.
        temperature: Of (g2), in nats.
        pixel_cap: The most nats that one pixel adds to L_x or to the gain: a worse one is another object's.
        gain_cap: The largest gain over the background, in nats, that counts in (g1).
        margin: Opacity logits further than this from 0 overrule attention; infinite: they never do.
    """

    appearance: float = 0.0
    temperature: float = 1.0
    pixel_cap: float = 3.0
    gain_cap: float = 100.0
    margin: float = 5.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and all(number >= 0 for number in vars(self).values())):
            raise ValueError(f"temperature must be above 0, all others 0 or more, got {self}")

    def settle(
        self, alpha: Tensor, opacity: Tensor, excess_nll: Tensor, background_nll: Tensor
    ) -> Float[Tensor, "*batch 1 h w"]:
        """:func:`pyro_scenes.networks.settle`, with the margin."""
        return settle(alpha, opacity, excess_nll, background_nll, self.margin)

    def compare(
        self,
        alpha: Float[Tensor, "candidates n #sprites 1 h w"],
        opacity: Float[Tensor, "candidates n sprites 1 h w"],
        scope: Float[Tensor, "n 1 1 h w"],
        excess_nll: Float[Tensor, "candidates n sprites 1 h w"],
        background_nll: Float[Tensor, "n 1 1 h w"],
        code: Float[Tensor, "candidates n sprites"],
        pixels: int,
    ) -> Scores:
        """Compares the sprites on each candidate.

        Args:
            alpha, opacity: Logits, of attention and of what a sprite paints.
            scope: The share of a pixel that the layers in front leave.
            excess_nll, background_nll: By how many nats a sprite, or the background, explains a pixel worse
                than its own colour.
            code: L_z, log q - log p of the sprite's code.
            pixels: How many pixels of the image each of these pixels stands for.
        """

        def total(maps: Float[Tensor, "candidates n sprites 1 h w"]) -> Tensor:
            return pixels * maps.sum((-3, -2, -1)).movedim(0, 1)

        alpha = self.settle(alpha, opacity, excess_nll, background_nll)
        region, code = scope * alpha.sigmoid(), code.movedim(0, 1)
        shape = total(mask_divergence(alpha, opacity, scope))
        appearance = total(region * excess_nll.clamp(max=self.pixel_cap))
        gain = total(region * background_nll.clamp(max=self.pixel_cap))
        loss = (shape + code + appearance - gain.clamp(max=self.gain_cap)).amin(-1)
        cost = (shape + code + total(region * (excess_nll - background_nll))).amin(-1)
        return Scores(loss, shape - gain + self.appearance * appearance, cost)

    def candidate_logits(self, compared: Scores, training: bool) -> Float[Tensor, "n candidates"]:
        """(g1); in evaluation the best for sure, of those that are worth their cost."""
        logits = -compared.loss
        if training:
            return logits
        costly = compared.cost > 0
        worth = logits.masked_fill(costly & ~costly.all(1, keepdim=True), -torch.inf)
        return certain_logits(worth.argmax(1), logits.shape[1])

    def expert_logits(
        self,
        scores: Float[Tensor, "n sprites"],
        cost: Float[Tensor, " n"],
        training: bool,
    ) -> Float[Tensor, "n experts"]:
        """(g2), of sprites, background and empty layer; in evaluation the best sprite for sure."""
        logits, sprites = -scores / self.temperature, scores.shape[1]
        if not training:
            logits = certain_logits(logits.argmax(1), sprites)
        logits = pad(logits, (0, 2), value=-torch.inf)
        empty = certain_logits(torch.full_like(cost, sprites + 1, dtype=torch.long), sprites + 2)
        return torch.where((cost > 0)[:, None], empty, logits)
