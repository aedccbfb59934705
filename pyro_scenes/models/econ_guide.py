"""The guide of ECON: see :mod:`pyro_scenes.models.econ`, lines (f) to (i)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..base import Guide
from ..checks import check_images, check_sizes
from ..conditionals import Bids, Competition, RegionProposal, region_proposal
from ..networks import CERTAIN, Attention, ExpertAttention, SeededAttention, dispatch, some
from ..random import fork_rng
from ..render import pixels
from .econ import ECON, Scene
from .econ_search import Part, Plan, Search, search

__all__ = ["ECONGuide", "median"]


class ECONGuide(Guide):
    """Explains an image from the front to the back: a competition of the experts for each layer.

    Args:
        model: Whose latents it proposes, and with whose decoders experts bid.
        attention: Finds candidates for the next part (``networks.SeededAttention``, ...).
        competition: Chooses one of them, and the expert.
        proposals: One for each expert: images (n, C, H, W) and regions (n, 1, H, W) to ``z_what``.
        choice: ``compete``, or ``enumerate``: the best of all sequences of experts (:meth:`search`), which
            takes as much longer as there are sequences.

    Raises:
        ValueError: Another choice, or another number of proposals, or of networks of attention.
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
        asked = model.experts - model.background
        if isinstance(attention, ExpertAttention) and len(attention.networks) != asked:
            found = len(attention.networks)
            raise ValueError(f"attention must have {asked} networks, one an expert, got {found}")
        self.competition = Competition() if competition is None else competition
        self._model = (model,)  # in a tuple: asked, and no part of the guide
        self.to(model.blank)

    @property
    def model(self) -> ECON:
        return self._model[0]

    def forward(self, images: Tensor) -> None:
        check_images(images, self.blank)
        plan = self.search(images).plan if self.choice == "enumerate" else None
        with pyro.plate("images", len(images), dim=-1):
            parts = self.explain(images, _sampled, plan)
            if self.model.collapsed:
                return
            regions = [part.log_region[:, 0] for part in parts]
            if not self.model.background:
                regions.append(torch.full_like(regions[0], -CERTAIN))  # no pixel shows none
            logits = pixels(torch.stack(regions, 1), 1)
            with pyro.plate("pixels", len(logits), dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=logits))  # (i)

    def search(self, images: Tensor) -> Search:
        """The best of all sequences of experts, for the candidates that competition chooses of one seed."""
        check_images(images, self.blank)
        return search(self.model, images, lambda plan: self.explain(images, median, plan))

    def explain(self, images: Tensor, take: Callable, plan: Plan | None = None) -> list[Part]:
        """Takes the images apart, front first: by a plan's experts, or by competition.

        Args:
            take: ``take(name, proposal, best)`` returns a value: a draw of the proposal, or its best guess.
        """
        check_sizes(steps=self.model.steps, front_steps=self.model.steps - self.model.background)
        scene, parts = Scene(0, torch.zeros_like(images)), []
        log_scope = torch.zeros_like(images[:, :1])
        for i in range(self.model.steps):
            scene = scene._replace(layer=i)
            z_expert, attention = self.attend(images, log_scope, scene, take, plan)  # (f)
            log_region = log_scope + logsigmoid(attention)
            parameters = self.propose(z_expert, images, log_region, log_scope)
            proposal = self.read(parameters)
            with poutine.mask(mask=self.model.there(z_expert, i)):
                z_what = take(f"z_what_{i}", proposal, self.median(parameters))  # (g)
            parts.append(Part(z_expert, z_what, log_region, proposal))
            scene = scene._replace(z_expert=z_expert, z_what=z_what)
            log_scope = log_scope + logsigmoid(-attention)  # (h)
        return parts

    def propose(
        self, z_expert: Tensor, images: Tensor, log_region: Tensor, log_scope: Tensor
    ) -> Tensor:
        """The parameters of the experts' proposals for ``z_what``."""
        return dispatch(z_expert, self.proposals, images, log_region.exp(), log_scope.exp())

    def attend(
        self, images: Tensor, log_scope: Tensor, scene: Scene, take: Callable, plan: Plan | None
    ) -> tuple[Tensor, Tensor]:
        """The expert (n,) of a layer, and the logits (n, 1, H, W) of its share of what the scope leaves."""
        i, none = scene.layer, _all(images, self.model.experts - 1)
        last, rest = i == self.model.steps - 1, torch.full_like(log_scope, CERTAIN)
        if last and self.model.background:
            return none, rest
        with torch.no_grad(), fork_rng(plan.seed + i) if plan else nullcontext():
            ground = self.unexplained(images, log_scope)
            seeds, found = _all(images, 0)[None], rest[None]
            if not last:
                calls = ground if self.model.background else torch.ones_like(ground)
                seeds, found = self.attention.propose(images, log_scope.exp(), calls, i)
            candidate, logits = self.choose(images, log_scope, scene, ground, found)
            if plan and plan.path is not None:
                logits = self.certain(plan.path[:, i])
        z_expert = take(f"z_expert_{i}", dist.Categorical(logits=logits), logits.argmax(1))
        if last:
            return z_expert, rest
        there = self.model.there(z_expert, i)
        own = z_expert.where(there, 0)  # there is no attention to nothing
        chosen = own if self.attention.own else seeds.gather(0, candidate[None])[0]
        attention = self.attention(images, log_scope.exp(), chosen)
        if self.attention.margin < torch.inf:
            with torch.no_grad():
                log_region = log_scope + logsigmoid(attention)
                z_what = self.median(self.propose(own, images, log_region, log_scope))
                colours, opacity = self.model.decode(own, z_what, i)
                lacks = self.lacks(images, colours)
            attention = self.attention.settle(attention, opacity, lacks, ground)
        return z_expert, attention.where(there[:, None, None, None], -CERTAIN)

    def lacks(self, images: Tensor, colours: Tensor) -> Tensor:
        """By how many nats (n, 1, H, W) these colours (n, C, H, W) are less likely than the best are."""
        return self.model.fits(images, images) - self.model.fits(images, colours)

    def unexplained(self, images: Tensor, log_scope: Tensor) -> Tensor:
        """What the background lacks (n, 1, H, W), if it takes all that is left; 0 if there is none."""
        if not self.model.background:
            return torch.zeros_like(log_scope)
        none, last = _all(images, self.model.experts - 1), self.model.steps - 1
        z_what = self.median(self.propose(none, images, log_scope, log_scope))
        return self.lacks(images, self.model.decode(none, z_what, last)[0])

    def certain(self, z_expert: Tensor) -> Tensor:
        """Logits (n, experts) of these experts, beyond doubt."""
        others = torch.arange(self.model.experts, device=z_expert.device) != z_expert[:, None]
        return torch.zeros_like(others, dtype=self.blank.dtype).masked_fill(others, -torch.inf)

    def choose(
        self, images: Tensor, log_scope: Tensor, scene: Scene, ground: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One (n,) of the candidates, and the logits (n, experts) of the choice of an expert for it."""
        model, last = self.model, scene.layer == self.model.steps - 1
        if model.experts == len(found) == 1:
            return _all(images, 0), torch.zeros_like(images[:, 0, 0, :1])
        own, scope = self.attention.own and not last, log_scope.exp()
        bids = [
            self.bid(k, scene, images, scope, ground, found[k : k + 1] if own else found)
            for k in range(model.experts - model.background)
        ]
        stacked = Bids(*(torch.stack(parts, -1) for parts in zip(*bids, strict=True)))
        candidate, logits, idle = self.competition(stacked)
        if model.background:  # whose number, before the last layer, says that there is no object
            none = self.certain(_all(images, model.experts - 1))
            logits = nn.functional.pad(logits, (0, 1), value=-torch.inf)
            logits = torch.where(idle[:, None], none, logits)
        return candidate, logits

    def bid(
        self,
        k: int,
        scene: Scene,
        images: Tensor,
        scope: Tensor,
        ground: Tensor,
        logits: Tensor,
    ) -> Bids:
        """What expert k would make of some candidates (candidates, n, 1, H, W)."""
        each, attention = logits.shape[:2], logits.flatten(0, 1)
        images, scope, ground = (part.repeat(each[0], 1, 1, 1) for part in (images, scope, ground))
        before = None if scene.z_what is None else scene.z_what.repeat(each[0], 1)
        asked = Scene(scene.layer, torch.zeros_like(images), _all(images, k), before)
        parameters = self.proposals[k](images, scope * attention.sigmoid(), scope)
        z_what, z_expert = self.median(parameters), _all(images, k)
        every = self.competition.every if self.training else 1
        colours, opacity = self.model.decode(z_expert, z_what, scene.layer, every)
        images, scope, ground, attention = (
            some(part, every) for part in (images, scope, ground, attention)
        )
        lacks, enough = self.lacks(images, colours), self.competition.enough
        if scene.layer < self.model.steps - 1:  # the last takes what is left
            attention = self.attention.settle(attention, opacity, lacks, ground)
        share = scope * attention.sigmoid()
        inside = logsigmoid(attention) - logsigmoid(opacity)
        outside = logsigmoid(-attention) - logsigmoid(-opacity)
        shape = every**2 * _total(share * inside + (scope - share) * outside)
        code = self.read(parameters).log_prob(z_what) - self.model.z_what(asked).log_prob(z_what)
        found = Bids(
            shape,
            code,
            every**2 * _total(share * lacks.clamp(max=enough)),
            every**2 * _total(share * ground.clamp(max=enough)),
            shape + code + every**2 * _total(share * (lacks - ground)),
        )
        return Bids(*(part.unflatten(0, each) for part in found))


def _sampled(name: str, proposal: Distribution, best: Tensor) -> Tensor:
    infer = (
        {"enumerate": None} if name.startswith("z_expert") else {}
    )  # choices are made, not summed over
    return pyro.sample(name, proposal, infer=infer)


def median(name: str, proposal: Distribution, best: Tensor) -> Tensor:
    """What :meth:`ECONGuide.explain` takes to draw nothing: the likeliest expert, the median code."""
    return best


def _all(images: Tensor, number: int) -> Tensor:
    return torch.full(images.shape[:1], number, device=images.device)


def _total(maps: Tensor) -> Tensor:
    return maps.sum((1, 2, 3))
