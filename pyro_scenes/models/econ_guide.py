"""The guide of ECON: see :mod:`pyro_scenes.models.econ`, lines (f) to (i)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..conditionals import Bids, Competition, RegionProposal, region_proposal
from ..networks import CERTAIN, Attention, SeededAttention, dispatch, some
from ..render import pixels
from ..scene import Guide, check_images
from .econ import ECON, Scene

__all__ = ["ECONGuide", "median"]


class Part(NamedTuple):
    """What the guide makes of one layer."""

    z_expert: Int[Tensor, " n"]
    z_what: Float[Tensor, "n code"]
    region: Float[Tensor, "n 1 h w"]  # logarithm of the share of each pixel
    surprise: Float[Tensor, " n"]  # log q - log p of z_what, in nats


class ECONGuide(Guide):
    """Explains an image from the front to the back: a competition of the experts for each layer.

    Args:
        model: Whose latents it proposes, and with whose decoders experts bid.
        attention: Proposes parts of an image (``networks.SeededAttention``, ``ExpertAttention``, ...).
        competition: Chooses one of them, and the expert.
        proposals: One for each expert: images (n, C, H, W) and regions (n, 1, H, W) to ``z_what``.
        choice: ``compete``, or ``enumerate``: of all sequences of experts the one that costs least by
            :meth:`cost`, each from seeds of its own. It takes as much longer as there are sequences.

    Raises:
        ValueError: Another choice, or another number of proposals.
    """

    def __init__(
        self,
        model: ECON,
        *,
        attention: Attention | None = None,
        competition: Competition | None = None,
        proposals: Sequence[RegionProposal] | None = None,
        choice: str = "compete",
    ) -> None:
        super().__init__(model, ECON)
        if choice not in ("compete", "enumerate"):
            raise ValueError(f"choice must be 'compete' or 'enumerate', got {choice!r}")
        self.choice = choice
        self.experts, self.steps, self.background = model.experts, model.steps, model.background
        like = model.latents()["z_what_0"]
        if proposals is None:
            proposals = [
                region_proposal(self.image_shape, like, decoder) for decoder in model.decoders
            ]
        if len(proposals) != model.experts:
            raise ValueError(
                f"proposals must be {model.experts}, one for each expert, got {len(proposals)}"
            )
        self.proposals = nn.ModuleList(proposals)
        self.read, self.median = proposals[0].read, proposals[0].median  # the same of all
        self.attention = SeededAttention(self.image_shape) if attention is None else attention
        self.competition = Competition() if competition is None else competition
        self.decode, self.shown, self.fits = model.decode, model.shown, model.fits  # methods
        self.there, self.prior = model.there, model.prior
        self.is_collapsed = partial(getattr, model, "collapsed")
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        check_images(images, self.blank)
        path = self.search(images) if self.choice == "enumerate" else None
        with pyro.plate("images", len(images), dim=-1):
            parts = self.explain(images, _sampled, path)
            if self.is_collapsed():
                return
            regions = [part.region[:, 0] for part in parts]
            if not self.background:
                regions.append(torch.full_like(regions[0], -CERTAIN))  # no pixel shows none
            logits = pixels(torch.stack(regions, 1), 1)
            with pyro.plate("pixels", len(logits), dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=logits))  # (i)

    def explain(self, images: Tensor, take: Callable, path: Tensor | None = None) -> list[Part]:
        """Takes the images apart, front first, by the experts of a path (n, steps) or by competition."""
        scope, parts = torch.zeros_like(images[:, :1]), []
        for i in range(self.steps):
            z_expert, attention = self.attend(images, scope, i, take, path)  # (f)
            region = scope + logsigmoid(attention)
            proposal = self.read(
                dispatch(z_expert, self.proposals, images, region.exp(), scope.exp())
            )
            there = self.there(z_expert, i)
            with poutine.mask(mask=there):
                z_what = take(f"z_what_{i}", proposal)  # (g)
            prior = self.prior(Scene(i, images, z_expert))
            surprise = (proposal.log_prob(z_what) - prior.log_prob(z_what)).where(there, 0.0)
            parts.append(Part(z_expert, z_what, region, surprise))
            scope = scope + logsigmoid(-attention)  # (h)
        return parts

    def attend(
        self, images: Tensor, scope: Tensor, i: int, take: Callable, path: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The expert (n,) of layer i, and the logits (n, 1, H, W) of its share of what the scope leaves."""
        rest = torch.full_like(scope, CERTAIN)
        last = i == self.steps - 1
        if last and self.background:
            return _all(images, self.experts - 1), rest
        with torch.no_grad():
            seeds, bids = self.compete(images, scope, i, rest if last else None)
            proposal, logits, idle = self.competition(bids)
            if self.background:  # whose number, before the last layer, says that there is no object
                logits = nn.functional.pad(logits, (0, 1), value=-torch.inf)
                logits = torch.where(
                    idle[:, None], self.certain(_all(images, self.experts - 1)), logits
                )
            if path is not None:
                logits = self.certain(path[:, i])
        z_expert = take(f"z_expert_{i}", dist.Categorical(logits=logits))
        if last:
            return z_expert, rest
        there = self.there(z_expert, i)
        own = z_expert.where(there, 0)  # there is no attention to nothing
        seed = own if self.attention.own else seeds.gather(0, proposal[None])[0]
        attention = self.attention(images, scope.exp(), seed)
        return z_expert, attention.where(there[:, None, None, None], -CERTAIN)

    def certain(self, z_expert: Tensor) -> Tensor:
        """Logits (n, experts) of these experts, beyond doubt."""
        others = torch.arange(self.experts, device=z_expert.device) != z_expert[:, None]
        return torch.zeros_like(others, dtype=self.blank.dtype).masked_fill(others, -torch.inf)

    def compete(
        self, images: Tensor, scope: Tensor, i: int, rest: Tensor | None
    ) -> tuple[Tensor, Bids]:
        """Seeds (proposals, n), and the bids of all experts."""
        best, ground = self.fits(images, images), torch.zeros_like(scope)
        if self.background:
            z_what = self.median(self.proposals[-1](images, scope.exp(), scope.exp()))
            flat, _ = self.decode(_all(images, self.experts - 1), z_what, self.steps - 1)
            ground = best - self.fits(images, flat)
        if rest is None:
            seeds, logits = self.attention.propose(images, scope.exp(), ground, i)
        else:
            seeds, logits = _all(images, 0)[None], rest[None]
        own = self.attention.own and rest is None
        bids = [
            self.bid(k, images, scope.exp(), best, ground, logits[k : k + 1] if own else logits, i)
            for k in range(self.experts - self.background)
        ]
        return seeds, Bids(*(torch.stack(parts, -1) for parts in zip(*bids, strict=True)))

    def bid(
        self,
        k: int,
        images: Tensor,
        scope: Tensor,
        best: Tensor,
        ground: Tensor,
        logits: Tensor,
        i: int,
    ) -> Bids:
        """What expert k would make of some proposals (proposals, n, 1, H, W)."""
        each, rows = logits.shape[:2], logits.flatten(0, 1)
        maps = (part.repeat(each[0], 1, 1, 1) for part in (images, scope, best, ground))
        images, scope, best, ground = maps
        parameters = self.proposals[k](images, scope * rows.sigmoid(), scope)
        z_what, proposal = self.median(parameters), self.read(parameters)
        z_expert, every = _all(images, k), self.competition.every if self.training else 1
        colours, opacity = self.decode(z_expert, z_what, i, every)
        images, scope, best, ground, rows = (
            some(part, every) for part in (images, scope, best, ground, rows)
        )
        share = scope * rows.sigmoid()
        inside, outside = logsigmoid(rows) - logsigmoid(opacity), logsigmoid(-rows) - logsigmoid(
            -opacity
        )
        lacks, enough = best - self.fits(images, colours), self.competition.enough
        shape = every**2 * _total(share * inside + (scope - share) * outside)
        code = proposal.log_prob(z_what) - self.prior(Scene(i, images, z_expert)).log_prob(z_what)
        found = Bids(
            shape,
            code,
            every**2 * _total(share * lacks.clamp(max=enough)),
            every**2 * _total(share * ground.clamp(max=enough)),
            shape + code + every**2 * _total(share * (lacks - ground)),
        )
        return Bids(*(part.unflatten(0, each) for part in found))

    @torch.no_grad()
    def search(self, images: Tensor) -> Tensor:
        """Of all sequences of experts, those (n, steps) that cost least at the codes' medians."""
        choosing = self.steps - self.background
        paths = product(range(self.experts), repeat=choosing)
        tried = [
            torch.tensor([*path, self.experts - 1][: self.steps], device=images.device).expand(
                len(images), -1
            )
            for path in paths
        ]
        costs = torch.stack(
            [self.cost(images, self.explain(images, median, path)) for path in tried]
        )
        best = costs.argmin(0)
        return torch.stack(tried)[best, torch.arange(len(best), device=best.device)]

    def cost(self, images: Tensor, parts: list[Part]) -> Tensor:
        """Minus the bound (n,) on log p(image | experts), if codes were drawn; at medians, a score."""
        made = [self.decode(part.z_expert, part.z_what, i) for i, part in enumerate(parts)]
        shown = self.shown(torch.stack([logits for _, logits in made], 1))
        total = torch.stack([part.surprise for part in parts]).sum(0)
        for i, (part, (colours, _)) in enumerate(zip(parts, made, strict=True)):
            lacks = part.region - shown[:, i : i + 1] - self.fits(images, colours)
            total = total + _total(part.region.exp() * lacks)
        return total


def _sampled(name: str, proposal: Distribution) -> Tensor:
    infer = (
        {"enumerate": None} if name.startswith("z_expert") else {}
    )  # choices are made, not summed over
    return pyro.sample(name, proposal, infer=infer)


def median(name: str, proposal: Distribution) -> Tensor:
    if proposal.support.is_discrete:
        return proposal.logits.argmax(-1)
    base = proposal.base_dist
    return base.icdf(torch.full_like(base.mean, 0.5))


def _all(images: Tensor, number: int) -> Tensor:
    return torch.full(images.shape[:1], number, device=images.device)


def _total(maps: Tensor) -> Tensor:
    return maps.sum((1, 2, 3))
