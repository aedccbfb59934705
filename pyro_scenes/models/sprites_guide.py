"""The guide of sprite scenes: candidates from seeds, a competition of the sprites, and matched codes.

It is ECON's guide (:mod:`~pyro_scenes.models.econ`), but for lines (f) and (g)::

    seed_i_c    ~ pixels that the background fails to explain, for each candidate c         (f1)
    alpha_c     = attention (image, scope_i, seed_i_c)                                      (f2)
    candidate_i ~ exp -(least loss of a sprite, less its gain over the background)          (g1)
    P(k)        ~ exp -(lambda L_x(k) + L_r(k) - gain), or empty, if no sprite gains        (g2)

and the chosen sprite, where its shape is sure, overrules alpha (``networks.settle``). Seeds and candidates
are auxiliary draws: given them the guide is a proposal like any other, so the bound is a bound.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..base import Guide
from ..checks import check_images, check_sizes
from ..conditionals import SpriteProposal
from ..handlers import point_estimate
from ..networks import CERTAIN, SeededAttention, subsample
from ..networks.experts import apply_each, apply_selected, certain_logits, select
from .competition import Competition, Scores
from .econ import ECON, Scene
from .painted import draw_regions
from .sprites import count_sprites

__all__ = ["SpritesGuide"]

#: A pixel's weight in the draw of a seed: the nats that the background fails to explain, at most this.
CALL = 20.0
#: The expert is drawn, not summed over; seeds and candidates are no latents besides.
DRAWN: dict[str, Any] = {"enumerate": None}
AUXILIARY: dict[str, Any] = {"enumerate": None, "is_auxiliary": True}


class Seen(NamedTuple):
    """What the guide knows before it draws a layer."""

    images: Float[Tensor, "n c h w"]
    best: Float[Tensor, "n 1 h w"]  # log p of each pixel, were its own colour drawn there
    scene: Scene
    log_scope: Float[Tensor, "n 1 h w"]


class Candidates(NamedTuple):
    """Parts of each image that may be the next layer, and what each sprite would make of them."""

    seeds: Int[Tensor, "n candidates"]
    parameters: Float[Tensor, "n candidates sprites parameters"]  # of the proposals
    loss: Float[Tensor, "n candidates"]  # these three as in :class:`~.competition.Scores`
    scores: Float[Tensor, "n candidates sprites"]
    cost: Float[Tensor, "n candidates"]


class SpritesGuide(Guide):
    """The guide of :func:`~pyro_scenes.models.sprites.sprite_scenes`.

    Args:
        model: An ECON of sprites, a flat background and an empty layer.
        attention: From images, scope and seeds to logits. Default: ``SeededAttention``.
        proposals: One for each sprite, then one for the background. Default: ``SpriteProposal``.
        candidates: How many seeds a layer has. In evaluation each seed has a second candidate, without the
            attention's network.
        competition: How sprites are compared.
        stride: In training, sprites are compared on every ``stride``-th pixel, down and across.
    """

    model: ECON
    proposals: Any

    def __init__(
        self,
        model: ECON,
        *,
        attention: nn.Module | None = None,
        proposals: Sequence[nn.Module] | None = None,
        candidates: int = 3,
        competition: Competition = Competition(),
        stride: int = 2,
    ) -> None:
        super().__init__(model, ECON)
        self.sprites = count_sprites(model)
        check_sizes(candidates=candidates, stride=stride)
        self.candidates, self.competition, self.stride = candidates, competition, stride
        prior = model.latents()["z_what_0"]
        if proposals is None:
            proposals = [SpriteProposal(model, k, prior) for k in range(self.sprites + 1)]
        if len(proposals) != self.sprites + 1:
            wanted = f"{self.sprites + 1}: one for each sprite, and one for the background"
            raise ValueError(f"proposals must be {wanted}, got {len(proposals)}")
        self.proposals = nn.ModuleList(proposals)
        self.attention = SeededAttention(self.image_shape) if attention is None else attention
        self.to(model.blank)

    def forward(self, images: Tensor, *, layers: int | None = None) -> None:
        layers = self.model.layers if layers is None else layers
        check_sizes(layers=layers)
        check_images(images, self.blank)
        with pyro.plate("images", len(images), dim=-1):
            scene, log_regions = Scene(0, layers, torch.zeros_like(images)), []
            best = self.model.pixel_log_prob(scene, images, images)
            seen = Seen(images, best, scene, torch.zeros_like(images[:, :1]))
            for i in range(layers):
                seen = seen._replace(scene=seen.scene._replace(layer=i))
                seen, log_region = self.step(seen)
                log_regions.append(log_region)
            draw_regions(log_regions)  # (j)

    def step(self, seen: Seen) -> tuple[Seen, Float[Tensor, "n 1 h w"]]:
        """Proposes one more layer, and the logarithm of its region."""
        i, scene, log_scope = seen.scene.layer, seen.scene, seen.log_scope
        last = i == scene.layers - 1
        z_expert, alpha = self.background(seen) if last else self.object(seen)  # (f), (g)
        log_region = log_scope + logsigmoid(alpha)
        proposal = self.propose(seen, log_region, z_expert.clamp(max=self.sprites))
        z_what = pyro.sample(f"z_what_{i}", proposal.mask(z_expert <= self.sprites))  # (h)
        scene = scene._replace(z_expert=z_expert, z_what=z_what)
        log_scope = log_scope + logsigmoid(-alpha)  # (i)
        return seen._replace(scene=scene, log_scope=log_scope), log_region

    def background(self, seen: Seen) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 1 h w"]]:
        """The last layer: the background, which takes what is left."""
        background = torch.full((len(seen.images),), self.sprites, device=seen.images.device)
        logits = certain_logits(background, self.model.experts)
        z_expert = pyro.sample(
            f"z_expert_{seen.scene.layer}", dist.Categorical(logits=logits), infer=DRAWN
        )
        return z_expert, torch.full_like(seen.log_scope, CERTAIN)

    def object(self, seen: Seen) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 1 h w"]]:
        """A sprite, or nothing, and the logits of its share of what the scope leaves."""
        i = seen.scene.layer
        with torch.no_grad():
            background_nll = self.background_nll(seen)
            candidates = self.find(seen, background_nll)
            chosen = self.draw(candidates, i)  # (g1)
        logits = self.competition.expert_logits(chosen.scores, chosen.cost, self.training)
        z_expert = pyro.sample(
            f"z_expert_{i}", dist.Categorical(logits=logits), infer=DRAWN
        )  # (g2)
        alpha = self.attention(seen.images, seen.log_scope.exp(), chosen.seeds)  # (f2)
        with torch.no_grad():
            sprite = z_expert.clamp(max=self.sprites - 1)
            parameters = select(chosen.parameters, sprite, event_dims=1)
            code = point_estimate(self.proposals[0].distribution(parameters))
            colours, opacity = self.model.decode(sprite, code).tensor_split([-1], -3)
            excess_nll = seen.best - self.model.pixel_log_prob(
                seen.scene, seen.images, colours.sigmoid()
            )
        alpha = self.competition.settle(alpha, opacity, excess_nll, background_nll)
        return z_expert, alpha.where((z_expert <= self.sprites)[:, None, None, None], -CERTAIN)

    def propose(
        self, seen: Seen, log_region: Float[Tensor, "n 1 h w"], z_expert: Int[Tensor, " n"]
    ) -> dist.Distribution:
        """(h): the proposal of the sprites, or the background, that were chosen."""
        region, scope = log_region.exp(), seen.log_scope.exp()
        guesses = [part.guess(seen.images, region, scope) for part in self.proposals]
        guess = select(torch.stack(guesses, 1), z_expert, event_dims=1)
        corrections = [part.correct for part in self.proposals]
        parameters = apply_selected(corrections, z_expert, seen.images, region, guess)
        return self.proposals[0].distribution(parameters)

    def paint(
        self, parameters: Tensor, stride: int = 1
    ) -> tuple[Float[Tensor, "*batch sprites c h w"], Float[Tensor, "*batch sprites 1 h w"]]:
        """Colours, and logits of opacity, that each sprite makes of the median of its proposal."""
        codes = point_estimate(self.proposals[0].distribution(parameters))
        sprites = [partial(part, stride=stride) for part in [*self.model.decoders][: self.sprites]]
        made = apply_each(sprites, codes, event_dims=1)
        colours, opacity = made.tensor_split([self.image_shape[0]], -3)
        return colours.sigmoid(), opacity

    def code_divergence(self, scene: Scene, parameters: Tensor) -> Float[Tensor, "*batch sprites"]:
        """L_z: log q - log p of each sprite's code, at the median of its proposal."""
        proposal = self.proposals[0].distribution(parameters)
        codes = point_estimate(proposal)
        sprites = torch.arange(self.sprites, device=codes.device).expand(codes.shape[:-1])
        before = None if scene.z_what is None else scene.z_what.unsqueeze(-2)
        prior = self.model.z_what(scene._replace(z_expert=sprites, z_what=before))
        return proposal.log_prob(codes) - prior.log_prob(codes)

    def background_nll(self, seen: Seen) -> Float[Tensor, "n 1 h w"]:
        """By how many nats the background fails to explain a pixel, if it takes all that is left."""
        scope = seen.log_scope.exp()
        proposal = self.proposals[-1]
        code = point_estimate(proposal.distribution(proposal(seen.images, scope, scope)))
        colours = self.model.decoders[self.sprites](code)[:, :-1].sigmoid()
        return seen.best - self.model.pixel_log_prob(seen.scene, seen.images, colours)

    def find(self, seen: Seen, background_nll: Float[Tensor, "n 1 h w"]) -> Candidates:
        """(f1), (f2), and the comparison of the sprites on each candidate."""
        scope, seeds, alphas = seen.log_scope.exp(), [], []
        calls = (scope * background_nll.clamp(0, CALL)).flatten(1) + 1e-4
        for c in range(self.candidates):
            with poutine.mask(mask=False):
                name = f"seed_{seen.scene.layer}_{c}"
                seed = pyro.sample(name, dist.Categorical(probs=calls), infer=AUXILIARY)  # (f1)
            seeds.append(seed)
            alphas.append(self.attention(seen.images, scope, seed))  # (f2)
            calls = calls * torch.sigmoid(-alphas[-1]).flatten(1) + 1e-6
        if not self.training:
            seeds += [seed + calls.shape[1] for seed in seeds]
            alphas += [self.attention(seen.images, scope, seed) for seed in seeds[len(alphas) :]]
        return self.compare(seen, background_nll, torch.stack(seeds), torch.stack(alphas))

    def compare(
        self, seen: Seen, background_nll: Tensor, seeds: Tensor, alpha: Tensor
    ) -> Candidates:
        """What each sprite would make of each candidate (candidates, n, 1, H, W)."""
        stride = self.stride if self.training else 1
        maps = seen.images, (seen.log_scope + logsigmoid(alpha)).exp(), seen.log_scope.exp()
        each = [part.unsqueeze(-4) for part in maps]
        parameters = apply_each(self.proposals[:-1], *each, event_dims=3)
        colours, opacity = self.paint(parameters, stride)
        images, best, scope, background_nll, alpha = (
            subsample(part, stride).unsqueeze(-4)
            for part in (seen.images, seen.best, seen.log_scope.exp(), background_nll, alpha)
        )
        excess_nll = best - self.model.pixel_log_prob(seen.scene, images, colours)
        code = self.code_divergence(seen.scene, parameters)
        scores = self.competition.compare(
            alpha, opacity, scope, excess_nll, background_nll, code, stride**2
        )
        return Candidates(seeds.mT, parameters.movedim(0, 1), *scores)

    def draw(self, candidates: Candidates, i: int) -> Candidates:
        """(g1): one candidate of each image."""
        logits = self.competition.candidate_logits(Scores(*candidates[2:]), self.training)
        with poutine.mask(mask=False):
            choice = dist.Categorical(logits=logits)
            index = pyro.sample(f"candidate_{i}", choice, infer=AUXILIARY)
        return Candidates(*(select(part, index, event_dims=part.dim() - 2) for part in candidates))
