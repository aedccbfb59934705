"""Attention: candidates for the part of an image that is to be explained next.

Every kind has ``propose(images, scope, unexplained, step)``, which returns a seed for each candidate and
image, int (candidates, n), and the logits of the attention, (candidates, n, 1, H, W); and
``forward(images, scope, seeds)``, which gives the logits (n, 1, H, W) of one seed an image again, with
gradients; ``settle`` lets a sure shape overrule it. What a seed is, is the attention's own affair. Its share
of a pixel is of what the ``scope`` (n, 1, H, W) leaves: where all is explained, it counts for nothing.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from .dispatch import dispatch
from .layers import places
from .mlp import CERTAIN
from .unet import UNet

__all__ = ["Attention", "ExpertAttention", "GivenAttention", "SeededAttention"]

#: An unexplained pixel calls for a candidate by its nats up to this many.
CALL = 20.0
#: What an expert lacks at a pixel counts so many times what the background does, where it would overrule.
STRICT = 4.0
#: Logits of what is near and alike, where no network corrects them.
SURE = 10.0


class Attention(nn.Module, ABC):
    """Proposes parts of images."""

    #: Whether candidate k is that of expert k, and of no other.
    own = False
    #: Where the logits of an expert's opacity are farther than this from 0, they overrule attention.
    margin = torch.inf

    @abstractmethod
    def propose(
        self, images: Tensor, scope: Tensor, unexplained: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Seeds (candidates, n) and logits (candidates, n, 1, H, W); unexplained are nats (n, 1, H, W)."""

    def settle(self, attention: Tensor, opacity: Tensor, lacks: Tensor, ground: Tensor) -> Tensor:
        """Attention (n, 1, H, W), overruled by the opacity of what an expert makes of it.

        A layer leaves what its expert is sure not to cover: of two objects alike, attention may find both.
        It takes what the expert is sure to cover, where that explains the pixel well, and what is behind
        does not.

        Args:
            attention, opacity: Logits.
            lacks, ground: By how many nats the expert's and the background's colours are less likely than
                the best are.
        """
        better = ground - STRICT * lacks
        least = torch.minimum(2 * (opacity - self.margin), better - self.margin)
        return attention.maximum(least).minimum(2 * (opacity + self.margin))


class ExpertAttention(Attention):
    """One network for each expert, that sees image and scope (von Kuegelgen et al., 2020, Eq. 9).

    Args:
        networks: Each maps (n, C + 1, H, W) to (n, 1, H, W).
    """

    own = True

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def propose(
        self, images: Tensor, scope: Tensor, unexplained: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        seen = torch.cat([images, scope], 1)
        seeds = torch.arange(len(self.networks), device=images.device)
        logits = torch.stack([network(seen) for network in self.networks])
        return seeds[:, None].expand(-1, len(images)), logits

    def forward(self, images: Tensor, scope: Tensor, seeds: Tensor) -> Tensor:
        return dispatch(seeds, self.networks, torch.cat([images, scope], 1))


class GivenAttention(Attention):
    """True regions, in place of inferred ones: set ``regions`` (n, layers, H, W) before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: Tensor | None = None

    def propose(
        self, images: Tensor, scope: Tensor, unexplained: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        seeds = torch.full((1, len(images)), step, device=images.device)
        return seeds, self(images, scope, seeds[0])[None]

    def forward(self, images: Tensor, scope: Tensor, seeds: Tensor) -> Tensor:
        regions = self.regions
        if regions is None or (len(regions), *regions.shape[2:]) != (
            len(images),
            *images.shape[2:],
        ):
            found = None if regions is None else tuple(regions.shape)
            raise ValueError(
                f"set regions (n, layers, H, W) for images {tuple(images.shape)}, got {found}"
            )
        if seeds.max() >= regions.shape[1]:
            raise ValueError(
                f"regions must be of each layer, and of layer {int(seeds.max())}, got {tuple(regions.shape)}"
            )
        if not ((regions == 0) | (regions == 1)).all():
            raise ValueError("regions must be bool, or numbers 0 and 1: give regions > 0.5")
        rows = torch.arange(len(images), device=images.device)
        region = regions.to(images)[rows, seeds]
        return CERTAIN * (2 * region - 1)[:, None]


class SeededAttention(Attention):
    """A pixel that nothing explains yet, and what goes with it (after Engelcke et al., 2021).

    A candidate starts at a seed: a pixel drawn in proportion to what is unexplained, where the candidates
    before leave it. The logits start out as pixels of like colour that are near; a U-Net, which sees how
    all pixels differ from the seed, learns the rest. In evaluation each seed has a second candidate (its
    number is above all pixels'), for scenes unlike those of the training: those pixels without the U-Net.

    Args:
        image_shape: (C, H, W).
        candidates: How many seeds at a time. In training each has one, in evaluation two.
        widths, fold: Of the :class:`UNet`.
        near: How far from its middle an object is thought to reach, in half widths: the U-Net learns better.
        alike: How much colours of an object are thought to differ, likewise.
        margin: As of all kinds; infinite leaves attention as it is.

    Raises:
        ValueError: Candidates, near or alike are not above 0.
    """

    grid: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        candidates: int = 3,
        widths: tuple[int, ...] = (16, 24, 32),
        fold: int = 2,
        near: float = 0.4,
        alike: float = 0.08,
        margin: float = 5.0,
    ) -> None:
        super().__init__()
        if type(candidates) is not int or not min(candidates, near, alike) > 0:
            found = f"candidates={candidates!r}, near={near!r}, alike={alike!r}"
            raise ValueError(f"candidates must be a whole number, and all above 0, got {found}")
        self.near, self.alike, self.margin = near, alike, margin
        self.candidates = candidates
        self.network = UNet(2 * image_shape[0] + 2, widths, fold=fold)
        self.network.last.weight.data *= 0.1
        self.network.last.bias.data.zero_()  # type: ignore[union-attr]  # it has one
        self.spread = nn.Parameter(torch.tensor([alike, near]).log())
        self.height = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("grid", places(image_shape), persistent=False)

    @torch.no_grad()
    def propose(
        self, images: Tensor, scope: Tensor, unexplained: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        if images.shape[2:] != self.grid.shape[1:]:
            made, given = tuple(self.grid.shape[1:]), tuple(images.shape[2:])
            raise ValueError(f"this attention is for images of {made} pixels, got {given}")
        calls = (scope * unexplained.clamp(0, CALL)).flatten(1) + 1e-4
        seeds, logits = [], []
        for _ in range(self.candidates):
            seeds.append(torch.multinomial(calls, 1)[:, 0])
            logits.append(self(images, scope, seeds[-1]))
            calls = calls * torch.sigmoid(-logits[-1]).flatten(1) + 1e-6
        if not self.training:
            plain = [seed + self.grid[0].numel() for seed in seeds]
            logits += [self.plain(*self.compare(images, seed)) for seed in plain]
            seeds += plain
        return torch.stack(seeds), torch.stack(logits)

    def forward(self, images: Tensor, scope: Tensor, seeds: Tensor) -> Tensor:
        colour, away = self.compare(images, seeds)
        far = torch.cat([colour.square().sum(1, keepdim=True), away], 1)
        spread = 2 * self.spread.exp().square()[:, None, None]
        like = self.height - (far / spread).sum(1, keepdim=True)
        bump = torch.exp(-away / (2 * 0.15**2))
        found = self.network(torch.cat([images - 0.5, scope, bump, colour], 1))
        found = (
            found + functional.softplus(like + 4) - 4
        )  # not too sure that what differs is not of it
        without = (seeds >= self.grid[0].numel())[:, None, None, None]
        return torch.where(without, self.plain(colour, away), found)

    def compare(self, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """How pixels differ from the seed: in colour (n, C, H, W); in place, squared (n, 1, H, W)."""
        at = seeds % self.grid[0].numel()
        row, column = at // images.shape[-1], at % images.shape[-1]
        rows = torch.arange(len(images), device=images.device)
        colour = images - images[rows, :, row, column][..., None, None]
        away = self.grid - self.grid[:, row, column].mT[..., None, None]
        return colour, away.square().sum(1, keepdim=True)

    def plain(self, colour: Tensor, away: Tensor) -> Tensor:
        """Logits of what is alike in colour, as far as an object reaches, without the network."""
        alike = SURE - (2 * colour / self.alike).square().sum(1, keepdim=True)
        return alike.clamp(min=-SURE).where(away < (2 * self.near) ** 2, -SURE)
