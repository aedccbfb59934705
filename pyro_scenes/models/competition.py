"""The competition of sprites: lines (g1) and (g2) of their guide."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from ..networks import certain_logits, settle
from ..render import mask_divergence

__all__ = ["Candidates", "Competition", "Losses"]


class Losses(NamedTuple):
    """Losses of candidates and of sprites on them, in nats."""

    candidate_loss: Float[Tensor, "n candidates"]  # (g1): the least of a sprite, less its gain
    sprite_loss: Float[Tensor, "n candidates sprites"]  # (g2): lambda L_x + L_r - gain
    cost: Float[Tensor, "n candidates"]  # by which the layer would lower the bound


class Candidates(NamedTuple):
    """Parts of each image that may be the next layer."""

    seeds: Int[Tensor, "n candidates"]
    parameters: Float[Tensor, "n candidates sprites parameters"]  # of the sprites' proposals
    candidate_loss: Float[Tensor, "n candidates"]  # these three as in :class:`Losses`
    sprite_loss: Float[Tensor, "n candidates sprites"]
    cost: Float[Tensor, "n candidates"]


@dataclass(frozen=True)
class Competition:
    """The settings of the competition.

    Attributes:
        appearance: The weight lambda of L_x in (g2). With 0, sprites are compared by shape alone.
        temperature: Divisor of the exponent in (g2), in nats.
        pixel_cap: The largest loss of a pixel in L_x and in the gain, in nats; a worse pixel belongs to
            another object.
        gain_cap: The largest gain over the background in (g1), in nats.
        margin: Opacity logits further than this from 0 overrule attention; with infinity, none do.
    """

    appearance: float = 0.0
    temperature: float = 1.0
    pixel_cap: float = 3.0
    gain_cap: float = 100.0
    margin: float = 5.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and all(number >= 0 for number in vars(self).values())):
            raise ValueError(f"temperature must be above 0, all others from 0 up, got {self}")

    def compare(
        self,
        alpha_logits: Float[Tensor, "candidates n #sprites 1 h w"],
        opacity_logits: Float[Tensor, "candidates n sprites 1 h w"],
        scope: Float[Tensor, "n 1 1 h w"],
        excess_nll: Float[Tensor, "candidates n sprites 1 h w"],
        background_nll: Float[Tensor, "n 1 1 h w"],
        code: Float[Tensor, "candidates n sprites"],
        pixels: int,
    ) -> Losses:
        """The losses of all sprites on all candidates.

        Args:
            alpha_logits, opacity_logits: Of attention, and of the sprites' masks.
            scope: The share of each pixel that the layers in front leave uncovered.
            excess_nll, background_nll: Losses of the sprites and of the background, in nats above the loss
                of the pixel's own colour.
            code: L_z, log q - log p of the sprites' codes.
            pixels: The number of image pixels that each of these pixels stands for.
        """

        def total(maps: Float[Tensor, "candidates n sprites 1 h w"]) -> Tensor:
            return pixels * maps.sum((-3, -2, -1)).movedim(0, 1)

        alpha_logits = settle(alpha_logits, opacity_logits, excess_nll, background_nll, self.margin)
        region, code = scope * alpha_logits.sigmoid(), code.movedim(0, 1)
        shape = total(mask_divergence(alpha_logits, opacity_logits, scope))
        appearance = total(region * excess_nll.clamp(max=self.pixel_cap))
        gain = total(region * background_nll.clamp(max=self.pixel_cap))
        loss = (shape + code + appearance - gain.clamp(max=self.gain_cap)).amin(-1)
        cost = (shape + code + total(region * (excess_nll - background_nll))).amin(-1)
        return Losses(loss, shape - gain + self.appearance * appearance, cost)

    def candidate_logits(
        self,
        candidate_loss: Float[Tensor, "n candidates"],
        cost: Float[Tensor, "n candidates"],
        training: bool,
    ) -> Float[Tensor, "n candidates"]:
        """(g1). In evaluation certainly the best; one that lowers the bound only if all do."""
        logits = -candidate_loss
        if training:
            return logits
        too_costly = cost > 0
        logits = logits.masked_fill(too_costly & ~too_costly.all(1, keepdim=True), -torch.inf)
        return certain_logits(logits.argmax(1), logits.shape[1])

    def expert_logits(
        self, sprite_loss: Float[Tensor, "n sprites"], cost: Float[Tensor, " n"], training: bool
    ) -> Float[Tensor, "n experts"]:
        """(g2), of sprites, background and empty layer; in evaluation certainly the best sprite."""
        logits, sprites = -sprite_loss / self.temperature, sprite_loss.shape[1]
        if not training:
            logits = certain_logits(logits.argmax(1), sprites)
        logits = pad(logits, (0, 2), value=-torch.inf)
        empty = certain_logits(torch.full_like(cost, sprites + 1, dtype=torch.long), sprites + 2)
        return torch.where((cost > 0)[:, None], empty, logits)
