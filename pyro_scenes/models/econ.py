"""ECON (von Kuegelgen et al., 2020), https://arxiv.org/abs/2004.12906: layers painted by competing experts.

The generative process (the paper's Sec. 2 and 4.1, and Fig. 2; its t is ``steps`` - i)::

    for i in 0 .. steps-1:                     from the front to the back
        z_expert_i ~ p(z_expert)               which expert makes layer i, k_t in the paper     (a)
        z_what_i   ~ p(z_what)                 its code, z_t                                    (b)
        x_i, m_i   = decoder of z_expert_i (z_what_i)           Eq. 4 and 5                     (c)
    z_region ~ Cat(m_i prod_{j<i} (1 - m_j))   for each pixel, the layer it shows, Eq. 7        (d)
    image    ~ p(image | x of z_region)        Eq. 6                                            (e)

and the guide (the paper's Sec. 4.2 and 5)::

    scope_0 = 1
    for i in 0 .. steps-1:
        attention alpha_i of image and scope_i, and an expert for it: by competition            (f)
        z_what_i  ~ q(z_what | image, region_i),    region_i = scope_i alpha_i                  (g)
        scope_i+1 = scope_i (1 - alpha_i)                       Eq. 14                          (h)
    z_region ~ Cat(region)                                      Eq. 9                           (i)

The last layer takes what is left. A pixel's regions sum to one: the paper's r_1, ..., r_T are one
categorical, ``z_region``, which ``TraceEnum_ELBO(max_plate_nesting=2)`` sums out: the bound is exact.

Departs from the paper (docs/models/econ.rst says why, and how to undo each):
    Eq. 12 and 14 as printed are no bound and lose mass (``Surrogate``). The last layer is opaque, of an
    expert of its own, whose number before says that there is no object. One attention finds parts
    where the background fails; a sure shape overrules it. Experts are sprites, whose codes are guessed
    by matching, set apart by :func:`separate_experts`, then by colour. Pixels have heavy tails.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro import poutine
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from ..base import Model
from ..checks import check_conditional, check_decoder, check_images, check_sizes
from ..conditionals import Conditional, Pixels, Prior
from ..networks import CERTAIN, OPAQUE, FlatDecoder, SpriteDecoder, dispatch
from ..random import fork_rng
from ..render import pixels, under, visibility

__all__ = ["ECON", "Sample", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before layer ``layer``: what every conditional is given."""

    layer: int
    canvas: Float[Tensor, "*batch c h w"]  # blank, until the likelihood is asked
    z_expert: Int[Tensor, " batch"] | None = None  # None before the first layer
    z_what: Float[Tensor, "batch code"] | None = None


class Sample(NamedTuple):
    """Scenes painted by given experts."""

    images: Float[Tensor, "n c h w"]  # without noise
    layers: Float[Tensor, "n layers c h w"]  # premultiplied, hidden parts included, front first
    masks: Float[Tensor, "n layers 1 h w"]  # opacities, 0 or 1


class ECON(Model):
    """Layers of one expert each: ``ECON()`` is a prior over scenes, ``ECON()(images)`` scores them.

    Args:
        image_shape: (C, H, W).
        experts: How many, K, the background's among them.
        steps: How many layers, T, the background among them. One to spare helps training.
        code: Size of ``z_what``.
        z_expert: p(z_expert | scene), over the numbers of experts.
        z_what: p(z_what | scene), one dimension.
        decoders: One for each expert, from codes to logits of colours and opacity (``networks.layers``).
        image: p(image | scene), around ``scene.canvas``, of independent pixels.
        background: Whether the last expert makes the last layer, and no other; that layer hides all behind.

    Set ``collapsed`` to sum the regions out: then there is no ``z_region``, in the guide either.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (3, 32, 32),
        experts: int = 4,
        steps: int = 5,
        code: int = 5,
        *,
        z_expert: Conditional | None = None,
        z_what: Conditional | None = None,
        decoders: Sequence[nn.Module] | None = None,
        image: Conditional | None = None,
        background: bool = True,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(experts=experts, steps=steps, code=code)
        if background and min(experts, steps) < 2:
            least = "2 at least, as one of each is the background's: or give background=False"
            raise ValueError(f"experts and steps must be {least}, got {experts} and {steps}")
        self.experts, self.steps = experts, steps
        self.background, self.collapsed = background, False
        even = [1 / experts] * experts
        self.z_expert = Prior(dist.Categorical, probs=even) if z_expert is None else z_expert
        plain = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        self.z_what = plain if z_what is None else z_what
        if decoders is None:
            sprites = experts - background
            decoders = [SpriteDecoder(code, self.image_shape) for _ in range(sprites)]
            decoders += [FlatDecoder(code, self.image_shape)] * background
        if (found := len(decoders)) != experts:
            raise ValueError(f"decoders must be {experts}, one for each expert, got {found}")
        self.decoders = nn.ModuleList(decoders)
        self.image = Pixels(dist.Cauchy, scale=0.05) if image is None else image

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        check_sizes(size=size, steps=self.steps, front_steps=self.steps - self.background)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, layers = Scene(0, self.blank.expand(size, *self.image_shape)), []
            for i in range(self.steps):  # no pyro.markov: what a pixel shows depends on all of them
                scene, layer = self.draw(scene, i)
                layers.append(layer)
            colours, logits = (torch.stack(parts, -4) for parts in zip(*layers, strict=True))
            pyro.deterministic("colours", colours)
            pyro.deterministic("masks", logits.sigmoid())
            if images is None:
                return self.paint(scene, colours, logits)
            self.score(scene, colours, logits, images)
        return images

    def draw(self, scene: Scene, i: int) -> tuple[Scene, tuple[Tensor, Tensor]]:
        """Draws layer i: colours (..., C, H, W), and logits of the opacity (..., 1, H, W)."""
        if self.background and i == self.steps - 1:
            size = scene.canvas.shape[:-3]
            z_expert = torch.full(size, self.experts - 1, device=self.blank.device)
        else:
            z_expert = pyro.sample(f"z_expert_{i}", self.z_expert(scene))  # (a)
        scene, there = scene._replace(layer=i, z_expert=z_expert), self.there(z_expert, i)
        if self.background and i < self.steps - 1:
            pyro.deterministic(f"z_pres_{i}", there.to(self.blank))
        with poutine.mask(mask=there):
            z_what = pyro.sample(f"z_what_{i}", self.z_what(scene))  # (b)
        return scene._replace(z_what=z_what), self.decode(z_expert, z_what, i)

    def there(self, z_expert: Tensor, i: int) -> Tensor:
        """Whether layer i is an object, or the background in its place, and not the lack of one."""
        ahead = self.background and i < self.steps - 1
        return z_expert < self.experts - 1 if ahead else torch.ones_like(z_expert, dtype=torch.bool)

    def decode(
        self, z_expert: Tensor, z_what: Tensor, i: int, every: int = 1
    ) -> tuple[Tensor, Tensor]:
        """What an expert makes of a code as layer i, as :meth:`draw`; of every so many-th pixel."""
        batch = torch.broadcast_shapes(z_expert.shape, z_what.shape[:-1])
        choice, codes = z_expert.expand(batch), z_what.expand(*batch, z_what.shape[-1])
        made = dispatch(choice.flatten(), self.decoders, codes.flatten(0, -2), every=every)  # (c)
        made = made.unflatten(0, batch)
        colours, logits = made.tensor_split([self.image_shape[0]], -3)
        there = self.there(choice, i)[..., None, None, None]
        return colours.sigmoid(), logits.where(there, -CERTAIN)

    def shown(self, logits: Tensor) -> Tensor:
        """log p that a pixel shows each layer: :func:`pyro_scenes.render.visibility`."""
        return visibility(logits, opaque=self.background)

    def score(self, scene: Scene, colours: Tensor, logits: Tensor, images: Tensor) -> None:
        """The likelihood, of one pixel at a time."""
        seen, shown = pixels(images, 1)[..., None, None], pixels(self.shown(logits), 1)
        colours = self.palette(colours)
        with pyro.plate("pixels", seen.shape[0], dim=-2):
            if self.collapsed:
                each = self.image(scene._replace(canvas=colours[..., None, None]))
                found = dist.MixtureSameFamily(dist.Categorical(logits=shown), each)
            else:
                region = pyro.sample("z_region", dist.Categorical(logits=shown))  # (d)
                canvas = Vindex(colours)[..., region, :]
                found = self.image(scene._replace(canvas=canvas[..., None, None]))
            pyro.sample("image", found, obs=seen)  # (e)

    def paint(self, scene: Scene, colours: Tensor, logits: Tensor) -> Tensor:
        """Draws the regions, and an image of them."""
        shown, colours = pixels(self.shown(logits), 1), self.palette(colours)
        with poutine.block(hide=["z_region"] * self.collapsed), pyro.plate(
            "pixels", shown.shape[-3], dim=-2
        ):
            region = pyro.sample("z_region", dist.Categorical(logits=shown))  # (d)
        canvas = Vindex(colours)[..., region, :].movedim(-3, -1).unflatten(-1, self.image_shape[1:])
        canvas = canvas.unsqueeze(-5) if canvas.dim() > 4 else canvas
        scene = scene._replace(canvas=pyro.deterministic("canvas", canvas))
        return pyro.sample("image", self.image(scene))  # (e)

    def palette(self, colours: Tensor) -> Tensor:
        """The colours (..., pixels, n, layers, C); last black, of none, unless the last layer is opaque."""
        if not self.background:
            colours = torch.cat([colours, torch.zeros_like(colours[..., :1, :, :, :])], -4)
        return pixels(colours, 2)

    def fits(self, images: Tensor, colours: Tensor) -> Tensor:
        """log p (n, 1, H, W) of each pixel, were these its colours (n, C, H, W)."""
        seen, canvas = (pixels(maps, 1)[..., None, None] for maps in (images, colours))
        found = self.image(Scene(0, canvas)).log_prob(seen)
        return found.mT.unflatten(1, (1, *images.shape[2:]))

    @torch.no_grad()
    def sample(self, experts: Sequence[int], *, size: int = 1) -> Sample:
        """Draws scenes of these experts' objects, front first, as many as there are, and a background.

        Opacities are rounded: each pixel shows one layer (Fig. 1C and 7), or none, and is black. A
        ValueError names experts that there are not, or that make no objects.
        """
        makers = range(self.experts - self.background)
        if any(k not in makers for k in experts) or not (len(experts) or self.background):
            raise ValueError(f"experts must be numbers below {len(makers)}, got {[*experts]}")
        check_sizes(size=size)
        canvas, scope = self.blank.expand(size, *self.image_shape), torch.ones_like(self.blank[:1])
        scene, layers = Scene(0, canvas), []
        for i, expert in enumerate([*experts, *[self.experts - 1] * self.background]):
            z_expert = torch.full((size,), expert, device=self.blank.device)
            scene = scene._replace(layer=i, z_expert=z_expert)
            z_what = self.z_what(scene).expand([size]).sample()
            scene = scene._replace(z_what=z_what)
            last = self.steps - 1 if expert not in makers else 0
            colours, logits = self.decode(z_expert, z_what, last)
            mask = (logits > 0).to(colours)
            layers.append((colours * mask, mask))
            canvas, scope = under(canvas, scope, *layers[-1])
        return Sample(canvas, *(torch.stack(parts, 1) for parts in zip(*layers, strict=True)))

    @torch.no_grad()
    def check(self) -> None:
        scene = Scene(0, self.blank.expand(1, *self.image_shape))
        channels, *size = self.image_shape
        with fork_rng():
            choice = check_conditional("z_expert", self.z_expert, scene, 0)
            numbers = choice.enumerate_support(expand=False).flatten().tolist()
            if numbers != [*range(self.experts)]:
                raise ValueError(f"z_expert must be of {self.experts} experts, got {numbers}")
            drawn = scene._replace(z_expert=choice.sample((1,)).flatten())
            z_what = check_conditional("z_what", self.z_what, drawn, 1).sample().reshape(1, -1)
        for k, decoder in enumerate(self.decoders):
            check_decoder(f"decoder {k}", decoder, z_what, (channels + 1, *size))
            half = channels + 1, *(side // 2 for side in size)
            made = check_decoder(f"decoder {k}, every=2,", partial(decoder, every=2), z_what, half)
        if self.background and made[:, -1].min() < OPAQUE:
            raise ValueError(f"the last decoder's logits of opacity must be {OPAQUE:g} at least")
        check_conditional("image", self.image, scene, self.image_shape)
        check_conditional(
            "image", self.image, scene._replace(canvas=pixels(scene.canvas, 1)[..., None, None]), 3
        )
