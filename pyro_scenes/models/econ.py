"""ECON (von Kuegelgen et al., 2020), https://arxiv.org/abs/2004.12906: layers painted by competing experts.

The generative process (the paper's Sec. 2 and 4.1, and Fig. 2; its t is ``layers`` - i)::

    for i in 0 .. layers-1:                    from the front to the back
        z_expert_i ~ p(z_expert)               which expert makes layer i, k_t in the paper     (a)
        z_what_i   ~ p(z_what)                 its code, z_t                                    (b)
        x_i, m_i   = decoder of z_expert_i (z_what_i)           Eq. 4 and 5                     (c)
    z_region ~ Cat(m_i prod_{j<i} (1 - m_j))   the layer each pixel shows, or none, Eq. 7       (d)
    image    ~ p(image | x of z_region)        Eq. 6                                            (e)

and the guide (the paper's Sec. 4.2 and 5)::

    scope_0 = 1
    for i in 0 .. layers-1:
        alpha_k  = attention of expert k (image, scope_i), region_k = scope_i alpha_k           (f)
        P(k)     ~ exp -(lambda L_x(k) + L_r(k))                the competition, Sec. 5.2       (g)
        z_expert_i ~ P
        z_what_i ~ q(z_what | image, region of z_expert_i)                                      (h)
        scope_i+1 = scope_i (1 - alpha of z_expert_i)           Eq. 14                          (i)
    z_region ~ Cat(region)                                      Eq. 9                           (j)

The last layer takes what is left (footnote 7). The paper's r_1, ..., r_T are one categorical a pixel,
``z_region``, which ``TraceEnum_ELBO(max_plate_nesting=2)`` sums out (:mod:`~pyro_scenes.models.painted`).

Departs from the paper:
    Eq. 12 and 14 as printed give no bound (``inference.Surrogate`` is Eq. 13 as printed). The expert has a
    prior, and its divergence counts. A pixel that shows no layer is black. Experts compete at the medians
    of their codes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..base import Guide
from ..checks import (
    check_conditional,
    check_decoder,
    check_experts,
    check_images,
    check_regions,
    check_sizes,
)
from ..conditionals import Conditional, Pixels, Prior, RegionProposal
from ..handlers import point_estimate
from ..networks import CERTAIN, BroadcastDecoder, RegionEncoder, UNet
from ..networks.experts import apply_each, apply_selected, certain_logits, select
from ..random import fork_rng
from ..render import mask_divergence
from .painted import Painted, draw_regions

__all__ = ["ECON", "ECONGuide", "Scene"]


class Scene(NamedTuple):
    """What every conditional is given: which layer is drawn, and what has been drawn before."""

    layer: int
    layers: int  # how many the scene has
    canvas: Float[Tensor, "*batch c h w"]  # blank, until the likelihood is asked
    z_expert: Int[Tensor, "*batch"] | None = None  # of this layer, once drawn; else of the last
    z_what: Float[Tensor, "*batch code"] | None = None


class ECON(Painted):
    """The generative model. Each of ``z_expert``, ``z_what``, ``image`` is a conditional, of a ``Scene``.

    Args:
        image_shape, experts, layers, code: (C, H, W) of an image, K, T, and the size of ``z_what``.
        z_expert: Prior of the expert, a categorical over K. Default: uniform.
        z_what: Prior of the code. Default: standard Normal.
        decoders: One for each expert, from codes (n, code) to logits (n, C + 1, H, W), of colours and last
            of opacity. Default: ``BroadcastDecoder``.
        image: Likelihood of independent pixels; reads ``scene.canvas``, where H = W = 1 for one pixel.
            Default: Normal of scale 0.1.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (3, 32, 32),
        experts: int = 4,
        layers: int = 4,
        code: int = 5,
        *,
        z_expert: Conditional | None = None,
        z_what: Conditional | None = None,
        decoders: Sequence[nn.Module] | None = None,
        image: Conditional | None = None,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(experts=experts, layers=layers, code=code)
        self.experts, self.layers = experts, layers
        uniform = Prior(dist.Categorical, probs=[1 / experts] * experts)
        normal = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        self.z_expert = uniform if z_expert is None else z_expert
        self.z_what = normal if z_what is None else z_what
        if decoders is None:
            decoders = [BroadcastDecoder(code, image_shape) for _ in range(experts)]
        self.decoders = nn.ModuleList(check_experts("decoders", decoders, experts))
        self.image = Pixels(dist.Normal, scale=0.1) if image is None else image

    def forward(
        self,
        images: Tensor | None = None,
        regions: Tensor | None = None,  # for the guide alone
        *,
        size: int = 1,
        layers: int | None = None,
    ) -> Float[Tensor, "... c h w"]:
        layers = self.layers if layers is None else layers
        check_sizes(size=size, layers=layers)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, drawn = Scene(0, layers, self.blank.expand(size, *self.image_shape)), []
            for i in range(layers):  # no pyro.markov: what a pixel shows depends on all of them
                scene = scene._replace(layer=i)
                z_expert = pyro.sample(f"z_expert_{i}", self.z_expert(scene))  # (a)
                scene = scene._replace(z_expert=z_expert)
                z_what = pyro.sample(f"z_what_{i}", self.z_what(scene))  # (b)
                scene = scene._replace(z_what=z_what)
                drawn.append(self.decode(z_expert, z_what))  # (c)
            return self.paint(scene, drawn, images)  # (d), (e)

    def decode(self, z_expert: Tensor, z_what: Tensor) -> Float[Tensor, "*batch d h w"]:
        """Logits of colours, and last of the opacity, that the experts make of their codes."""
        batch = torch.broadcast_shapes(z_expert.shape, z_what.shape[:-1])
        codes = z_what.expand(*batch, -1).reshape(-1, z_what.shape[-1])
        logits = apply_selected(self.decoders, z_expert.expand(batch).flatten(), codes)
        return logits.unflatten(0, batch)

    @torch.no_grad()
    def check(self) -> None:
        scene = Scene(0, self.layers, self.blank[None])
        with fork_rng():
            prior = check_conditional("z_expert", self.z_expert, scene, 0)
            discrete = prior.has_enumerate_support
            if not discrete or len(prior.enumerate_support(expand=False)) != self.experts:
                raise ValueError(f"z_expert must be a categorical over {self.experts} experts")
            scene = scene._replace(z_expert=prior.sample((1,)).flatten())
            z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        logits = self.image_shape[0] + 1, *self.image_shape[1:]
        for k, decoder in enumerate(self.decoders):
            check_decoder(f"decoder {k}", decoder, z_what, logits)
        self.check_image(scene)


class ECONGuide(Guide):
    """The guide of an :class:`ECON`. Given ``regions``, bool (n, layers, H, W), there is no attention.

    In training the winner of (g) is drawn, in evaluation it is the best; no gradient goes through (g), as in
    the paper. With ``choice="enumerate"`` nothing is chosen: ``TraceEnum_ELBO`` sums over all K^T sequences.

    Args:
        model: Experts compete with its decoders.
        attention, proposals: One for each expert: from (n, C + 1, H, W) to logits (n, 1, H, W), by default
            ``UNet``; and ``RegionProposal`` or the like, which all share one ``distribution``.
        appearance, temperature: lambda in (g), and what its exponent is divided by, in nats.
        choice: ``compete`` or ``enumerate``.
    """

    model: ECON
    proposals: Any

    def __init__(
        self,
        model: ECON,
        *,
        attention: Sequence[nn.Module] | None = None,
        proposals: Sequence[nn.Module] | None = None,
        appearance: float = 1.0,
        temperature: float = 1.0,
        choice: str = "compete",
    ) -> None:
        super().__init__(model, ECON)
        if not (appearance >= 0 and temperature > 0 and choice in ("compete", "enumerate")):
            given = f"{appearance=}, {temperature=}, {choice=}"
            raise ValueError(f"needs numbers from 0 up, choice compete or enumerate, got {given}")
        self.appearance, self.temperature = appearance, temperature
        self.summed = choice == "enumerate"
        shape, prior, each = model.image_shape, model.latents()["z_what_0"], range(model.experts)
        size = 4 * prior.event_shape[0]  # the paper's App. C.2.1
        encoders = (RegionEncoder(shape, size) for _ in each)
        if proposals is None:
            proposals = [RegionProposal(part, size, prior) for part in encoders]
        attention = [UNet(shape[0] + 1) for _ in each] if attention is None else attention
        self.proposals = nn.ModuleList(check_experts("proposals", proposals, model.experts))
        self.attention = nn.ModuleList(check_experts("attention", attention, model.experts))
        self.to(model.blank)

    def forward(
        self, images: Tensor, regions: Tensor | None = None, *, layers: int | None = None
    ) -> None:
        layers = self.model.layers if layers is None else layers
        check_sizes(layers=layers)
        check_regions(regions, check_images(images, self.blank), layers)
        infer: dict[str, Any] = {"enumerate": "parallel" if self.summed else None}
        with pyro.plate("images", len(images), dim=-1):
            log_scope, log_regions = torch.zeros_like(images[:, :1]), []
            for i in range(layers):
                if regions is not None:
                    alphas = CERTAIN * (2 * regions[:, i, None, None].to(images) - 1)
                elif i == layers - 1:
                    alphas = torch.full_like(log_scope.unsqueeze(-4), CERTAIN)
                else:
                    alphas = self.attend(images, log_scope)  # (f)
                scope = log_scope.unsqueeze(-4)
                maps = images.unsqueeze(-4), (scope + logsigmoid(alphas)).exp(), scope.exp()
                parameters = apply_each(self.proposals, *maps, event_dims=3)
                scene = Scene(i, layers, self.blank)
                winner = self.compete(scene, images, log_scope, alphas, parameters)  # (g)
                z_expert = pyro.sample(f"z_expert_{i}", winner, infer=infer)
                alpha = select(alphas, z_expert % alphas.shape[-4], event_dims=3)
                code = self.proposals[0].distribution(select(parameters, z_expert, event_dims=1))
                pyro.sample(f"z_what_{i}", code)  # (h)
                log_regions.append(log_scope + logsigmoid(alpha))
                log_scope = log_scope + logsigmoid(-alpha)  # (i)
            draw_regions(log_regions)  # (j)

    def attend(self, images: Tensor, log_scope: Tensor) -> Float[Tensor, "*batch experts 1 h w"]:
        """(f): logits of each expert's share of what the scope leaves."""
        images = images.expand(*log_scope.shape[:-3], *images.shape[1:])
        seen = torch.cat([images, log_scope.exp()], -3)
        return apply_each(self.attention, seen.unsqueeze(-4), event_dims=3)

    def compete(
        self, scene: Scene, images: Tensor, log_scope: Tensor, alphas: Tensor, parameters: Tensor
    ) -> dist.Distribution:
        """(g): P in training; in evaluation, the best expert for sure."""
        model = self.model
        with torch.set_grad_enabled(self.summed and torch.is_grad_enabled()):
            codes = point_estimate(self.proposals[0].distribution(parameters))
            made = apply_each(model.decoders, codes, event_dims=1)
            colours, mask_logits = made.tensor_split([-1], -3)
            images, scope = images.unsqueeze(-4), log_scope.exp().unsqueeze(-4)
            best = model.pixel_log_prob(scene, images, images)
            excess_nll = best - model.pixel_log_prob(scene, images, colours.sigmoid())
            appearance = (scope * alphas.sigmoid() * excess_nll).sum((-3, -2, -1))
            shape = mask_divergence(alphas, mask_logits, scope).sum((-3, -2, -1))
            logits = -(self.appearance * appearance + shape) / self.temperature
        if not (self.training or self.summed):
            logits = certain_logits(logits.argmax(-1), model.experts).to(logits)
        return dist.Categorical(logits=logits)
