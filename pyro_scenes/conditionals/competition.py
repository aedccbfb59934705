"""Competition: which expert explains the next part of a scene, and which part that is."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Bids", "Competition"]


class Bids(NamedTuple):
    """What each expert would make of each candidate, in nats: (candidates, n, experts)."""

    shape: Float[Tensor, "candidates n experts"]  # L_r: of its opacity against the attention
    code: Float[Tensor, "candidates n experts"]  # L_z
    appearance: Float[
        Tensor, "candidates n experts"
    ]  # L_x, no pixel counted for more than `enough`
    gain: Float[Tensor, "candidates n experts"]  # what the background would lack there, likewise
    worth: Float[Tensor, "candidates n experts"]  # of the bound, if the rest went to the background


class Competition(nn.Module):
    """Chooses a candidate, and proposes an expert for it; by chance in training, the best otherwise.

    A candidate is worth what its best expert lacks: an object that another one hides needs a shape that no
    expert has, so those in front come first. But what explains little lacks little: the nats by which a
    candidate is better than the background count up to ``plenty``. In evaluation one that is not worth what
    it costs is taken only where none is. The expert is chosen by its shape, less what the background
    would lack in its part, and by its appearance times ``appearance`` (lambda in the paper's objective).

    Args:
        appearance: 0 if experts shall not differ by colour.
        temperature: Of the choice of experts, in nats. Large is by chance.
        enough: A pixel counts for no more nats than this: beyond, some other expert will explain it.
        plenty: So does a candidate.
        every: In training, bids are made for every so many-th pixel only, down and across.

    Raises:
        ValueError: One of them is out of range.
    """

    def __init__(
        self,
        *,
        appearance: float = 0.0,
        temperature: float = 1.0,
        enough: float = 3.0,
        plenty: float = 100.0,
        every: int = 2,
    ) -> None:
        super().__init__()
        if not temperature > 0 or not all(nats >= 0 for nats in (appearance, enough, plenty)):
            found = f"{appearance=}, {temperature=}, {enough=}, {plenty=}"
            raise ValueError(f"temperature must be above 0, and all others from 0 up, got {found}")
        if type(every) is not int or every < 1:
            raise ValueError(f"every must be a whole number from 1 up, got {every!r}")
        self.appearance, self.temperature = appearance, temperature
        self.enough, self.plenty, self.every = enough, plenty, every

    def forward(self, bids: Bids) -> tuple[Tensor, Tensor, Tensor]:
        """Chooses for each of n images.

        Returns:
            Numbers of candidates (n,); the logits (n, experts) of the choice of an expert for each; and
            whether (n,) no expert is worth what it costs there.
        """
        gain = bids.gain.clamp(max=self.plenty)
        lacks = (bids.shape + bids.code + bids.appearance - gain).amin(2)  # (candidates, n)
        dear = bids.worth.amin(2) > 0
        candidate = lacks.masked_fill(dear & ~dear.all(0), torch.inf).argmin(0)
        if self.training:
            candidate = torch.multinomial((-lacks).softmax(0).mT, 1)[:, 0]
        images = torch.arange(lacks.shape[1], device=lacks.device)
        scores = (bids.shape - bids.gain + self.appearance * bids.appearance)[candidate, images]
        idle = dear[candidate, images]
        if not self.training:
            worse = nn.functional.one_hot(scores.argmin(1), scores.shape[1]) == 0
            return candidate, torch.zeros_like(scores).masked_fill(worse, -torch.inf), idle
        return candidate, -scores / self.temperature, idle
