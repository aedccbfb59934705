"""ECON (von Kuegelgen et al., 2020), https://arxiv.org/abs/2004.12906: layers painted by competing experts.

The generative process (the paper's Sec. 2 and 4.1, and Fig. 2; its t is ``layers`` - i)::

    for i in 0 .. layers-1:                    from the front to the back
        z_expert_i ~ p(z_expert)               which expert makes layer i, k_t in the paper     (a)
        z_what_i   ~ p(z_what)                 its code, z_t                                    (b)
        x_i, m_i   = decoder of z_expert_i (z_what_i)           Eq. 4 and 5                     (c)
    z_region ~ Cat(m_i prod_{j<i} (1 - m_j))   for each pixel, the layer it shows, Eq. 7        (d)
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

The last layer takes what is left (the paper's footnote 7). A pixel's regions sum to one: the paper's
r_1, ..., r_T are one categorical, ``z_region``, which ``TraceEnum_ELBO(max_plate_nesting=2)`` sums out. Its last
category is "no layer": such a pixel is black.

Departs from the paper:
    Eq. 12 and 14 as printed give no bound (``inference.Surrogate`` is Eq. 13 as printed). The expert is drawn
    with a prior, and its divergence counts. The competition compares experts at the medians of their codes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from pyro.ops.indexing import Vindex
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_regions, check_sizes
from ..conditionals import Conditional, Pixels, Prior, RegionProposal
from ..handlers import point_estimate
from ..networks import (
    CERTAIN,
    BroadcastDecoder,
    EmptyDecoder,
    FlatDecoder,
    RegionEncoder,
    UNet,
    apply_each,
    apply_selected,
    select,
)
from ..random import fork_rng
from ..render import to_pixels, visibility

__all__ = ["ECON", "ECONGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before, and which layer is drawn now: what every conditional is given."""

    layer: int
    layers: int  # how many the scene has
    canvas: Float[Tensor, "*batch c h w"]  # blank, until the likelihood is asked
    z_expert: Int[Tensor, "*batch"] | None = (
        None  # of this layer, once drawn; else of the one in front
    )
    z_what: Float[Tensor, "*batch code"] | None = None


class ECON(Model):
    """The generative model. Each of ``z_expert``, ``z_what``, ``image`` is a conditional, of ``Scene``.

    Beside ``canvas`` there are the sites ``colours`` (n, layers, C, H, W) and ``masks`` (n, layers, 1, H, W),
    each layer's opacity, hidden parts included.

    Args:
        image_shape: (C, H, W) of an image.
        experts: The number K of experts.
        layers: The number T of layers; ``layers=`` of a call overrides it.
        code: Size of ``z_what``.
        z_expert: Prior of the expert, a categorical over K. Default: uniform.
        z_what: Prior of the code. Default: standard Normal.
        decoders: One for each expert, from codes (n, code) to logits (n, C + 1, H, W), of colours and last
            of opacity. Default: ``BroadcastDecoder``.
        image: Likelihood of independent pixels; reads ``scene.canvas``, whose H and W may be 1, for one
            pixel. Default: Normal of scale 0.1.
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
            decoders = [BroadcastDecoder(code, self.image_shape) for _ in range(experts)]
        if len(decoders) != experts:
            raise ValueError(
                f"decoders must be {experts}, one for each expert, got {len(decoders)}"
            )
        self.decoders = nn.ModuleList(decoders)
        self.image = Pixels(dist.Normal, scale=0.1) if image is None else image

    def forward(
        self,
        images: Tensor | None = None,
        regions: Tensor | None = None,  # a batch's second part: the guide's alone
        *,
        size: int = 1,
        layers: int | None = None,
    ) -> Tensor:
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
            logits = torch.stack(torch.broadcast_tensors(*drawn), -4)
            colours, opacity_logits = logits.tensor_split([self.image_shape[0]], -3)
            colours = pyro.deterministic("colours", colours.sigmoid())
            pyro.deterministic("masks", opacity_logits.sigmoid())
            return self.paint(scene, colours, visibility(opacity_logits), images)

    def decode(self, z_expert: Tensor, z_what: Tensor) -> Float[Tensor, "*batch d h w"]:
        """Logits of colours, and last of the opacity, that the experts of a batch make of their codes."""
        batch = torch.broadcast_shapes(z_expert.shape, z_what.shape[:-1])
        rows = z_what.expand(*batch, -1).reshape(-1, z_what.shape[-1])
        logits = apply_selected(self.decoders, z_expert.expand(batch).flatten(), rows)
        return logits.unflatten(0, batch)

    def paint(
        self, scene: Scene, colours: Tensor, log_visible: Tensor, images: Tensor | None
    ) -> Tensor:
        """Draws which layer each pixel shows, and the image; or scores one."""
        black = torch.zeros_like(colours[..., :1, :, :, :])
        palette = to_pixels(torch.cat([colours, black], -4), 2)
        logits = to_pixels(log_visible, 1)
        with pyro.plate("pixels", logits.shape[-3], dim=-2):
            z_region = pyro.sample("z_region", dist.Categorical(logits=logits))  # (d)
            canvas = Vindex(palette)[..., z_region, :]
            if images is not None:
                likelihood = self.image(scene._replace(canvas=canvas[..., None, None]))
                pyro.sample("image", likelihood, obs=to_pixels(images, 1)[..., None, None])  # (e)
                return images
        canvas = canvas.movedim(-3, -1).unflatten(-1, self.image_shape[1:])
        canvas = canvas.unsqueeze(-5) if canvas.dim() > 4 else canvas
        canvas = pyro.deterministic("canvas", canvas)
        return pyro.sample("image", self.image(scene._replace(canvas=canvas)))  # (e)

    def pixel_log_prob(self, images: Tensor, colours: Tensor) -> Float[Tensor, "*batch 1 h w"]:
        """log p of each pixel of images (..., C, H, W), were these its colours (..., C, H, W)."""
        pixels, canvas = (maps.movedim(-3, -1)[..., None, None] for maps in (images, colours))
        return self.image(Scene(0, self.layers, canvas)).log_prob(pixels).unsqueeze(-3)

    @property
    def object_experts(self) -> tuple[int, ...]:
        """The numbers of the experts that may paint objects: all but a flat or an empty one."""
        others = FlatDecoder | EmptyDecoder
        return tuple(k for k, part in enumerate(self.decoders) if not isinstance(part, others))

    @torch.no_grad()
    def check(self) -> None:
        scene = Scene(0, self.layers, self.blank[None])
        channels, *size = self.image_shape
        with fork_rng():
            prior = check_conditional("z_expert", self.z_expert, scene, 0)
            numbers = prior.enumerate_support(expand=False).flatten().tolist()
            if numbers != [*range(self.experts)]:
                raise ValueError(f"z_expert must be of {self.experts} experts, got {numbers}")
            scene = scene._replace(z_expert=prior.sample((1,)).flatten())
            z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        for k, decoder in enumerate(self.decoders):
            check_decoder(f"decoder {k}", decoder, z_what, (channels + 1, *size))
        check_conditional("image", self.image, scene, self.image_shape)
        one = scene._replace(canvas=to_pixels(scene.canvas, 1)[..., None, None])
        check_conditional("image", self.image, one, 3)


class ECONGuide(Guide):
    """The guide of an :class:`ECON`: at each layer its experts compete.

    In training the winner is drawn from (g); in evaluation it is the best. No gradient goes through the
    competition, as in the paper. With ``choice="enumerate"`` there is no greedy choice: ``TraceEnum_ELBO`` sums
    over all K^T sequences of experts, weighted by (g), and (g) gets its gradient.

    Args:
        model: Whose latents it proposes, and with whose decoders the experts compete.
        attention: One network for each expert, from image and scope (n, C + 1, H, W) to logits (n, 1, H, W).
            Default: ``UNet``.
        proposals: One for each expert, see :class:`~pyro_scenes.conditionals.RegionProposal`.
        appearance: The weight lambda of L_x in the competition. 0: experts are chosen by shape alone.
        temperature: The competition's, in nats; the paper's is 1.
        choice: ``compete`` or ``enumerate``.

    Call it with ``regions``, bool (n, layers, H, W), to give the true regions in place of the attention's.
    """

    model: ECON

    def __init__(
        self,
        model: ECON,
        *,
        attention: Sequence[nn.Module] | None = None,
        proposals: Sequence[RegionProposal] | None = None,
        appearance: float = 1.0,
        temperature: float = 1.0,
        choice: str = "compete",
    ) -> None:
        super().__init__(model, ECON)
        if choice not in ("compete", "enumerate"):
            raise ValueError(f"choice must be 'compete' or 'enumerate', got {choice!r}")
        if not (appearance >= 0 and temperature > 0):
            raise ValueError(
                f"appearance must be 0 or more, temperature above 0, got {appearance}, {temperature}"
            )
        self.appearance, self.temperature, self.choice = appearance, temperature, choice
        shape, prior = model.image_shape, model.latents()["z_what_0"]
        if proposals is None:
            features = 4 * prior.event_shape[0]  # App. C.2.1
            encoders = [RegionEncoder(shape, features) for _ in range(model.experts)]
            proposals = [RegionProposal(encoder, features, prior) for encoder in encoders]
        if attention is None:
            attention = [UNet(shape[0] + 1) for _ in range(model.experts)]
        for name, parts in (("proposals", proposals), ("attention", attention)):
            if len(parts) != model.experts:
                raise ValueError(
                    f"{name} must be {model.experts}, one for each expert, got {len(parts)}"
                )
        self.proposals, self.attention = nn.ModuleList(proposals), nn.ModuleList(attention)
        self.to(model.blank)

    def forward(
        self, images: Tensor, regions: Tensor | None = None, *, layers: int | None = None
    ) -> None:
        layers = self.model.layers if layers is None else layers
        check_sizes(layers=layers)
        check_images(images, self.blank)
        check_regions(regions, images, layers)
        infer = {"enumerate": "parallel" if self.choice == "enumerate" else None}
        with pyro.plate("images", len(images), dim=-1):
            log_scope, log_regions = torch.zeros_like(images[:, :1]), []
            for i in range(layers):
                if regions is not None:
                    alpha = CERTAIN * (2 * regions[:, i, None, None].to(images) - 1)
                elif i == layers - 1:  # takes what is left
                    alpha = torch.full_like(log_scope[..., None, :, :, :], CERTAIN)
                else:
                    alpha = self.attend(images, log_scope)  # (f)
                log_region = log_scope.unsqueeze(-4) + logsigmoid(alpha)
                maps = images.unsqueeze(-4), log_region.exp(), log_scope.exp().unsqueeze(-4)
                parameters = apply_each(self.proposals, *maps, event_dims=3)
                logits = self.compete(images, log_scope, alpha, parameters)  # (g)
                z_expert = pyro.sample(
                    f"z_expert_{i}", dist.Categorical(logits=logits), infer=infer
                )
                alpha = alpha.expand(*alpha.shape[:-4], self.model.experts, *alpha.shape[-3:])
                alpha = select(alpha, z_expert, event_dims=3)
                code = select(parameters, z_expert, event_dims=1)
                pyro.sample(f"z_what_{i}", self.proposals[0].distribution(code))  # (h)
                log_regions.append(log_scope + logsigmoid(alpha))
                log_scope = log_scope + logsigmoid(-alpha)  # (i)
            log_regions.append(torch.full_like(log_regions[0], -CERTAIN))  # no pixel shows none
            stacked = torch.stack(torch.broadcast_tensors(*log_regions), -4)[..., 0, :, :]
            logits = to_pixels(stacked, 1)
            with pyro.plate("pixels", logits.shape[-3], dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=logits))  # (j)

    def attend(self, images: Tensor, log_scope: Tensor) -> Float[Tensor, "*batch experts 1 h w"]:
        """Logits of each expert's share of what the scope leaves."""
        batch = log_scope.shape[:-3]
        both = torch.cat([images.expand(*batch, *images.shape[1:]), log_scope.exp()], -3)
        return apply_each(self.attention, both.unsqueeze(-4), event_dims=3)

    def compete(
        self, images: Tensor, log_scope: Tensor, alpha: Tensor, parameters: Tensor
    ) -> Float[Tensor, "*batch experts"]:
        """(g): logits of the choice of an expert, in training; else the best one for sure."""
        model, summed = self.model, self.choice == "enumerate"
        if model.experts == 1:
            return torch.zeros_like(parameters[..., 0])
        with torch.set_grad_enabled(summed and torch.is_grad_enabled()):
            codes = point_estimate(self.proposals[0].distribution(parameters))
            made = apply_each(model.decoders, codes, event_dims=1)
            colours, opacity = made.tensor_split([model.image_shape[0]], -3)
            images, scope = images.unsqueeze(-4), log_scope.exp().unsqueeze(-4)
            region = scope * alpha.sigmoid()
            best = model.pixel_log_prob(images, images)
            appearance = _total(region * (best - model.pixel_log_prob(images, colours.sigmoid())))
            inside = logsigmoid(alpha) - logsigmoid(opacity)
            outside = logsigmoid(-alpha) - logsigmoid(-opacity)
            shape = _total(region * inside + (scope - region) * outside)
            logits = -(self.appearance * appearance + shape) / self.temperature
        if self.training or summed:
            return logits
        others = torch.arange(model.experts, device=logits.device) != logits.argmax(
            -1, keepdim=True
        )
        return torch.zeros_like(logits).masked_fill(others, -torch.inf)


def _total(maps: Tensor) -> Tensor:
    return maps.sum((-3, -2, -1))
