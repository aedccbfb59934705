"""ECON (von Kuegelgen et al., 2020), https://arxiv.org/abs/2004.12906: layers painted by competing experts.

The generative process (the paper's Sec. 2 and 4.1, and Fig. 2; layer i is its t = ``layers`` - i)::

    for i in 0 .. layers-1:                    from the front to the back
        z_expert_i ~ p(z_expert)               the expert of layer i, k_t in the paper          (a)
        z_what_i   ~ p(z_what)                 its code, z_t                                    (b)
        x_i, m_i   = decoder of z_expert_i (z_what_i)           Eq. 4 and 5                     (c)
    z_region ~ Cat(m_i prod_{j<i} (1 - m_j))   the layer a pixel shows, or none, Eq. 1 and 7    (d)
    image    ~ p(image | x of z_region)        Eq. 6                                            (e)

and the guide (the paper's Sec. 4.2 and 5)::

    scope_0 = 1
    for i in 0 .. layers-1:
        alpha_k  = attention of expert k (image, scope_i), region_k = scope_i alpha_k           (f)
        P(k)     = softmax of -(lambda L_x(k) + L_r(k))         the competition, Sec. 5.2       (g)
        z_expert_i ~ P
        z_what_i ~ q(z_what | image, region of z_expert_i)                                      (h)
        scope_i+1 = scope_i (1 - alpha of z_expert_i)           Eq. 14                          (i)
    z_region ~ Cat(region)                                      Eq. 9                           (j)

In the last layer alpha = 1 (footnote 7). The paper's r_1, ..., r_T are one categorical for each pixel,
``z_region``, which ``TraceEnum_ELBO(max_plate_nesting=2)`` sums out (:mod:`~pyro_scenes.models.painted`).

Departs from the paper:
    Attention gives a share of the scope; by Eq. 9 and 14 a pixel's regions sum to more than 1. L_r is the
    ELBO's; Eq. 12 gives no bound (``inference.Surrogate`` is Eq. 13 as printed). The bound includes the
    expert's divergence. A pixel without a layer is black. Experts compete at their codes' medians.
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
from ..conditionals import Conditional, Pixels, Posterior, Prior, RegionProposal, normal
from ..handlers import point_estimate
from ..networks import CERTAIN, BroadcastDecoder, RegionEncoder, UNet, fill, is_seen
from ..networks.experts import apply_each, apply_selected, certain_logits, select
from ..render import mask_divergence
from .painted import Painted, draw_regions

__all__ = ["ECON", "ECONGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn so far: the argument of all conditionals."""

    layer: int
    layers: int  # the number of layers
    canvas: Float[Tensor, "*batch c h w"]  # blank, except for the likelihood
    z_expert: Int[Tensor, "*batch"] | None = None  # of the latest layer drawn
    z_what: Float[Tensor, "*batch code"] | None = None


class ECON(Painted):
    """The generative model. ``z_expert``, ``z_what`` and ``image`` are conditionals of a :class:`Scene`.

    Args:
        image_shape, experts, layers, code: (C, H, W) of an image, K, T, and the size of ``z_what``.
        z_expert: Prior of the expert, a categorical over K. Default: uniform.
        z_what: Prior of the code. Default: standard Normal.
        decoders: One for each expert, from codes (n, code) to logits (n, C + 1, H, W) of the colours and,
            last, the opacity. Default: ``BroadcastDecoder``.
        image: Likelihood of independent pixels; see :class:`Painted`. Default: Normal of scale 0.1.
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
        standard = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        self.z_expert = uniform if z_expert is None else z_expert
        self.z_what = standard if z_what is None else z_what
        if decoders is None:
            decoders = [BroadcastDecoder(code, image_shape) for _ in range(experts)]
        self.decoders = nn.ModuleList(check_experts("decoders", decoders, experts))
        self.image = Pixels(dist.Normal, scale=0.1) if image is None else image

    def forward(
        self,
        images: Tensor | None = None,
        regions: Tensor | None = None,  # only the guide reads them
        *,
        size: int = 1,
        layers: int | None = None,
    ) -> Float[Tensor, "... c h w"]:
        layers = self.layers if layers is None else layers
        check_sizes(size=size, layers=layers)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, logits = Scene(0, layers, self.blank.expand(size, *self.image_shape)), []
            for i in range(layers):  # not pyro.markov: a pixel depends on all layers
                scene = scene._replace(layer=i)
                z_expert = pyro.sample(f"z_expert_{i}", self.z_expert(scene))  # (a)
                scene = scene._replace(z_expert=z_expert)
                z_what = pyro.sample(f"z_what_{i}", self.z_what(scene))  # (b)
                scene = scene._replace(z_what=z_what)
                logits.append(self.decode(z_expert, z_what))  # (c)
            return self.paint(scene, logits, images)  # (d), (e)

    def decode(self, z_expert: Tensor, z_what: Tensor) -> Float[Tensor, "*batch d h w"]:
        """(c): logits of the colours, and last of the opacity."""
        batch = torch.broadcast_shapes(z_expert.shape, z_what.shape[:-1])
        codes, experts = z_what.expand(*batch, -1).flatten(0, -2), z_expert.expand(batch).flatten()
        return apply_selected(self.decoders, experts, codes).unflatten(0, batch)

    def check_parts(self) -> None:
        scene = Scene(0, self.layers, self.blank[None])
        prior = check_conditional("z_expert", self.z_expert, scene, 0)
        if not prior.has_enumerate_support or len(prior.enumerate_support(False)) != self.experts:
            raise ValueError(f"z_expert must be a categorical over {self.experts} experts")
        scene = scene._replace(z_expert=prior.sample((1,)).flatten())
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        shape = self.image_shape[0] + 1, *self.image_shape[1:]
        for k, decoder in enumerate(self.decoders):
            check_decoder(f"decoder {k}", decoder, z_what, shape)
        self.check_image(scene)


class ECONGuide(Guide):
    """An :class:`ECON`'s guide. Given ``regions``, it uses them, no attention. No scope has unseen pixels.

    In training the expert is drawn from P, in evaluation it is the best; (g) passes no gradient.

    Args:
        model: Used for its decoders and likelihood.
        attention, proposals: One for each expert: from image and scope (n, C + 1, H, W) to logits
            (n, 1, H, W), by default ``UNet``; and like ``RegionProposal``, with one ``distribution`` for all.
        appearance, temperature: lambda in (g), and the divisor of its exponent, in nats.
        choice: ``compete``, or ``enumerate``: ``TraceEnum_ELBO`` sums over all K^T sequences of experts.
        posterior: The family of the default proposals, such as ``full_covariance``: see ``Amortised``.
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
        posterior: Posterior = normal,
    ) -> None:
        super().__init__(model, ECON)
        if not (appearance >= 0 and temperature > 0 and choice in ("compete", "enumerate")):
            wanted = "appearance from 0 up, temperature above 0, choice compete or enumerate"
            raise ValueError(f"needs {wanted}, got {appearance=}, {temperature=}, {choice=}")
        self.appearance, self.temperature = appearance, temperature
        self.enumerates = choice == "enumerate"
        shape, prior, each = model.image_shape, model.latents()["z_what_0"], range(model.experts)
        if proposals is None:
            size = 4 * prior.event_shape[0]  # the paper's App. C.2.1
            encoders = [RegionEncoder(shape, size) for _ in each]
            proposals = [RegionProposal(encoder, size, prior, posterior) for encoder in encoders]
        if attention is None:
            attention = unets = [UNet(shape[0] + 1) for _ in each]
            unets[0].check_size(shape[1:])
        self.proposals = nn.ModuleList(check_experts("proposals", proposals, model.experts))
        self.attention = nn.ModuleList(check_experts("attention", attention, model.experts))
        self.to(model.blank)

    def forward(
        self, images: Tensor, regions: Tensor | None = None, *, layers: int | None = None
    ) -> None:
        layers = self.model.layers if layers is None else layers
        check_sizes(layers=layers)
        check_regions(regions, check_images(images, self.blank), layers)
        seen, images = is_seen(images), fill(images)
        infer: dict[str, Any] = {"enumerate": "parallel" if self.enumerates else None}
        with pyro.plate("images", len(images), dim=-1):
            log_scope, log_regions = torch.zeros_like(images[:, :1]), []
            for i in range(layers):
                free = log_scope + torch.where(seen, 0.0, -torch.inf)  # of an unseen pixel, none
                if regions is not None:
                    alpha_logits = CERTAIN * (2 * regions[:, i, None, None].to(images) - 1)
                elif i == layers - 1:
                    alpha_logits = torch.full_like(log_scope.unsqueeze(-4), CERTAIN)
                else:
                    alpha_logits = self.attend(images, free)  # (f)
                scopes = free.unsqueeze(-4)
                maps = (scopes + logsigmoid(alpha_logits)).exp(), scopes.exp()
                parameters = apply_each(self.proposals, images.unsqueeze(-4), *maps, event_dims=3)
                scene = Scene(i, layers, self.blank)
                winner, masks = self.compete(scene, images, free, alpha_logits, parameters)  # (g)
                z_expert = pyro.sample(f"z_expert_{i}", winner, infer=infer)
                index = z_expert % alpha_logits.shape[-4]  # 0 if one alpha serves all experts
                alpha_logits = select(alpha_logits, index, event_dims=3)
                if regions is None:
                    alpha_logits = alpha_logits.where(seen, select(masks, z_expert, event_dims=3))
                code = self.proposals[0].distribution(select(parameters, z_expert, event_dims=1))
                pyro.sample(f"z_what_{i}", code)  # (h)
                log_regions.append(log_scope + logsigmoid(alpha_logits))
                log_scope = log_scope + logsigmoid(-alpha_logits)  # (i)
            draw_regions(log_regions)  # (j)

    def attend(self, images: Tensor, log_scope: Tensor) -> Float[Tensor, "*batch experts 1 h w"]:
        """(f): logits of each expert's share of the scope."""
        images = images.expand(*log_scope.shape[:-3], *images.shape[1:])
        inputs = torch.cat([images, log_scope.exp()], -3)
        return apply_each(self.attention, inputs.unsqueeze(-4), event_dims=3)

    def compete(
        self, scene: Scene, images: Tensor, log_scope: Tensor, alphas: Tensor, parameters: Tensor
    ) -> tuple[dist.Distribution, Tensor]:
        """(g): P in training; in evaluation certainly the best expert. And logits of masks."""
        with torch.set_grad_enabled(self.enumerates and torch.is_grad_enabled()):
            codes = point_estimate(self.proposals[0].distribution(parameters))
            logits = apply_each(self.model.decoders, codes, event_dims=1)
            colours, mask_logits = logits.tensor_split([-1], -3)
            images, scope = images.unsqueeze(-4), log_scope.exp().unsqueeze(-4)
            pixels = images, colours.sigmoid()
            best, own = (self.model.pixel_log_prob(scene, images, x) for x in pixels)
            appearance = (scope * alphas.sigmoid() * (best - own)).sum((-3, -2, -1))
            shape = mask_divergence(alphas, mask_logits, scope).sum((-3, -2, -1))
            logits = -(self.appearance * appearance + shape) / self.temperature
        if not (self.training or self.enumerates):
            logits = certain_logits(logits.argmax(-1), self.model.experts).to(logits)
        return dist.Categorical(logits=logits), mask_logits
