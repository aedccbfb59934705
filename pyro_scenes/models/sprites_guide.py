"""The guide of sprite scenes: seeds give candidates for a layer, and sprites compete for them.

It is ECON's guide (:mod:`~pyro_scenes.models.econ`) with other lines (f) and (g)::

    seed_i_c    ~ pixels in proportion to the background's loss, for each candidate c       (f1)
    alpha_c     = attention (image, scope_i, seed_i_c)                                      (f2)
    candidate_i ~ exp -(least loss of a sprite, less its gain over the background)          (g1)
    P(k)        = softmax of -(lambda L_x(k) + L_r(k) - gain(k)), or empty                  (g2)

A layer is empty if every sprite would lower the bound. The chosen sprite overrules alpha where its opacity is
certain (``networks.settle``). Seeds and candidates are auxiliary draws: the guide is a proposal for each of
their values, so the mean ELBO is a bound.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..base import Guide
from ..checks import check_sizes
from ..conditionals import Posterior, SpriteProposal, normal
from ..handlers import point_estimate
from ..networks import CERTAIN, SeededAttention, fill, is_seen, settle, subsample
from ..networks.experts import apply_each, apply_selected, certain_logits, select
from .competition import Candidates, Competition
from .econ import ECON, Scene
from .painted import draw_regions
from .sprites import count_sprites

__all__ = ["SpritesGuide"]

#: The largest weight of a pixel in the draw of a seed, which is the background's loss in nats.
MAX_SALIENCY = 20.0
#: Sites that no ELBO sums over; of these, seeds and candidates are not latents.
DRAWN: dict[str, Any] = {"enumerate": None}
AUXILIARY: dict[str, Any] = {"enumerate": None, "is_auxiliary": True}


class Context(NamedTuple):
    """What the proposal of a layer depends on."""

    images: Float[Tensor, "n c h w"]  # filled where a pixel is not seen
    seen: Bool[Tensor, "n 1 h w"]
    best: Float[Tensor, "n 1 h w"]  # log p of each pixel, given a canvas of its own colour
    scene: Scene
    log_scope: Float[Tensor, "n 1 h w"]

    @property
    def scope(self) -> Float[Tensor, "n 1 h w"]:
        return self.log_scope.exp() * self.seen

    def where_seen(self, saliency: Float[Tensor, "n pixels"]) -> Float[Tensor, "n pixels"]:
        """Nearly 0 elsewhere; not 0, as there may be no pixel that is seen."""
        return saliency * self.seen.flatten(1) + 1e-14


class SpritesGuide(Guide):
    """The guide of :func:`~pyro_scenes.models.sprites.sprite_scenes`.

    Args:
        model: An ECON of sprites, a flat background and an empty layer.
        attention: From images, scope and seeds to logits. Default: ``SeededAttention``.
        proposals: One for each sprite, then one for the background. Default: ``SpriteProposal``.
        candidates: Seeds for a layer. In evaluation each gives a second candidate, without the U-Net.
        competition, posterior: Its settings; the family of the default proposals, see ``Amortised``.
        stride: In training, sprites are compared on every ``stride``-th pixel, down and across.

    Raises:
        ValueError: The number of proposals is wrong, or images are too small for the default networks.
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
        posterior: Posterior = normal,
    ) -> None:
        super().__init__(model, ECON)
        self.sprites = count_sprites(model)
        check_sizes(candidates=candidates, stride=stride)
        self.candidates, self.competition, self.stride = candidates, competition, stride
        prior, each = model.latents()["z_what_0"], range(self.sprites + 1)
        if proposals is None:
            proposals = [SpriteProposal(model, k, prior, posterior) for k in each]
        if len(proposals) != self.sprites + 1:
            wanted = f"{self.sprites + 1}, one for each sprite and one for the background"
            raise ValueError(f"proposals must be {wanted}, got {len(proposals)}")
        self.proposals = nn.ModuleList(proposals)
        self.attention = SeededAttention(self.image_shape) if attention is None else attention
        self.to(model.blank)

    def forward(self, images: Tensor, *, layers: int | None = None) -> None:
        layers = self.model.layers if layers is None else layers
        check_sizes(layers=layers)
        seen, images = is_seen(self.see(images)), fill(images)
        with pyro.plate("images", len(images), dim=-1):
            scene, log_regions = Scene(0, layers, torch.zeros_like(images)), []
            best = self.model.pixel_log_prob(scene, images, images)
            context = Context(images, seen, best, scene, torch.zeros_like(images[:, :1]))
            for i in range(layers):
                context = context._replace(scene=context.scene._replace(layer=i))
                context, log_region = self.step(context)
                log_regions.append(log_region)
            draw_regions(log_regions)  # (j)

    def step(self, context: Context) -> tuple[Context, Float[Tensor, "n 1 h w"]]:
        """Proposes one more layer. Returns the next context, and the logarithm of the layer's region."""
        scene, log_scope = context.scene, context.log_scope
        draw = self.draw_object if scene.layer < scene.layers - 1 else self.draw_last
        z_expert, alpha_logits = draw(context)  # (f), (g)
        log_region = log_scope + logsigmoid(alpha_logits)
        q_what = self.code_proposal(context, log_region, z_expert.clamp(max=self.sprites))
        q_what = q_what.mask(z_expert <= self.sprites)
        z_what = pyro.sample(f"z_what_{scene.layer}", q_what)  # (h)
        scene = scene._replace(z_expert=z_expert, z_what=z_what)
        log_scope = log_scope + logsigmoid(-alpha_logits)  # (i)
        return context._replace(scene=scene, log_scope=log_scope), log_region

    def draw_last(self, context: Context) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 1 h w"]]:
        """The last layer: the background, and the logits of alpha = 1."""
        background = torch.full((len(context.images),), self.sprites, device=context.images.device)
        q_expert = dist.Categorical(logits=certain_logits(background, self.model.experts))
        z_expert = pyro.sample(f"z_expert_{context.scene.layer}", q_expert, infer=DRAWN)
        return z_expert, torch.full_like(context.log_scope, CERTAIN)

    def draw_object(self, context: Context) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 1 h w"]]:
        """Another layer: a sprite or the empty layer, and the logits of its alpha."""
        i, competition = context.scene.layer, self.competition
        with torch.no_grad():
            background_nll = self.background_nll(context)
            candidates = self.find(context, background_nll)
            candidate = self.draw_candidate(candidates, i)  # (g1)
        logits = competition.expert_logits(candidate.sprite_loss, candidate.cost, self.training)
        q_expert = dist.Categorical(logits=logits)
        z_expert = pyro.sample(f"z_expert_{i}", q_expert, infer=DRAWN)  # (g2)
        alpha = self.attention(context.images, context.scope, candidate.seeds)  # (f2)
        with torch.no_grad():
            sprite = z_expert.clamp(max=self.sprites - 1)
            parameters = select(candidate.parameters, sprite, event_dims=1)
            code = point_estimate(self.proposals[0].distribution(parameters))
            colours, opacity_logits = self.model.decode(sprite, code).tensor_split([-1], -3)
            excess_nll = self.excess_nll(context, colours.sigmoid())
        alpha = settle(alpha, opacity_logits, excess_nll, background_nll, competition.margin)
        alpha = alpha.where(context.seen, opacity_logits)
        return z_expert, alpha.where((z_expert <= self.sprites)[:, None, None, None], -CERTAIN)

    def code_proposal(
        self, context: Context, log_region: Float[Tensor, "n 1 h w"], z_expert: Int[Tensor, " n"]
    ) -> dist.Distribution:
        """(h): q(z_what) of the sprite, or the background, chosen for each image."""
        region = log_region.exp() * context.seen
        guesses = [part.guess(context.images, region, context.scope) for part in self.proposals]
        guess = select(torch.stack(guesses, 1), z_expert, event_dims=1)
        corrections = [part.correct for part in self.proposals]
        parameters = apply_selected(corrections, z_expert, context.images, region, guess)
        return self.proposals[0].distribution(parameters)

    def paint_sprites(
        self, parameters: Tensor, stride: int = 1
    ) -> tuple[Float[Tensor, "*batch sprites c h w"], Float[Tensor, "*batch sprites 1 h w"]]:
        """Colours and opacity logits of each sprite, at the median of its proposal."""
        codes = point_estimate(self.proposals[0].distribution(parameters))
        decoders = [partial(d, stride=stride) for d in [*self.model.decoders][: self.sprites]]
        logits = apply_each(decoders, codes, event_dims=1)
        colours, opacity_logits = logits.tensor_split([self.image_shape[0]], -3)
        return colours.sigmoid(), opacity_logits

    def code_divergence(self, scene: Scene, parameters: Tensor) -> Float[Tensor, "*batch sprites"]:
        """L_z: log q - log p of each sprite's code at the median of its proposal."""
        proposal = self.proposals[0].distribution(parameters)
        codes = point_estimate(proposal)
        sprites = torch.arange(self.sprites, device=codes.device).expand(codes.shape[:-1])
        z_what = None if scene.z_what is None else scene.z_what.unsqueeze(-2)
        prior = self.model.z_what(scene._replace(z_expert=sprites, z_what=z_what))
        return proposal.log_prob(codes) - prior.log_prob(codes)

    def excess_nll(self, context: Context, colours: Tensor) -> Float[Tensor, "n 1 h w"]:
        """The loss of these colours, in nats above the loss of each pixel's own colour."""
        return context.best - self.model.pixel_log_prob(context.scene, context.images, colours)

    def background_nll(self, context: Context) -> Float[Tensor, "n 1 h w"]:
        """:meth:`excess_nll` of the background, if it were the next layer."""
        proposal, scope = self.proposals[-1], context.scope
        code = point_estimate(proposal.distribution(proposal(context.images, scope, scope)))
        return self.excess_nll(context, self.model.decoders[self.sprites](code)[:, :-1].sigmoid())

    def find(self, context: Context, background_nll: Float[Tensor, "n 1 h w"]) -> Candidates:
        """(f1), (f2), and the losses of the sprites."""
        images, scope = context.images, context.scope
        seeds, alphas = [], []  # alphas are logits
        saliency = (scope * background_nll.clamp(0, MAX_SALIENCY)).flatten(1) + 1e-4
        for c in range(self.candidates):
            with poutine.mask(mask=False):
                name = f"seed_{context.scene.layer}_{c}"
                q_seed = dist.Categorical(probs=context.where_seen(saliency))
                seed = pyro.sample(name, q_seed, infer=AUXILIARY)  # (f1)
            seeds.append(seed)
            alphas.append(self.attention(images, scope, seed))  # (f2)
            saliency = saliency * torch.sigmoid(-alphas[-1]).flatten(1) + 1e-6
        if not self.training:
            seeds += [seed + saliency.shape[1] for seed in seeds]
            alphas += [self.attention(images, scope, seed) for seed in seeds[len(alphas) :]]
        return self.compare(context, background_nll, torch.stack(seeds), torch.stack(alphas))

    def compare(
        self, context: Context, background_nll: Tensor, seeds: Tensor, alphas: Tensor
    ) -> Candidates:
        """The losses of the sprites on candidates; ``alphas`` are logits (candidates, n, 1, H, W)."""
        stride = self.stride if self.training else 1
        regions = (context.log_scope + logsigmoid(alphas)).exp() * context.seen
        inputs = [x.unsqueeze(-4) for x in (context.images, regions, context.scope)]
        parameters = apply_each(self.proposals[:-1], *inputs, event_dims=3)
        colours, opacity_logits = self.paint_sprites(parameters, stride)
        maps = [context.images, context.best, context.scope, background_nll, alphas]
        maps = [subsample(x, stride).unsqueeze(-4) for x in maps]
        images, best, scope, background_nll, alphas = maps
        excess_nll = best - self.model.pixel_log_prob(context.scene, images, colours)
        code = self.code_divergence(context.scene, parameters)
        losses = self.competition.compare(
            alphas, opacity_logits, scope, excess_nll, background_nll, code, stride**2
        )
        return Candidates(seeds.mT, parameters.movedim(0, 1), *losses)

    def draw_candidate(self, candidates: Candidates, i: int) -> Candidates:
        """(g1): one candidate for each image."""
        loss, cost = candidates.candidate_loss, candidates.cost
        logits = self.competition.candidate_logits(loss, cost, self.training)
        with poutine.mask(mask=False):
            choice = dist.Categorical(logits=logits)
            index = pyro.sample(f"candidate_{i}", choice, infer=AUXILIARY)
        return Candidates(*(select(x, index, event_dims=x.dim() - 2) for x in candidates))
