"""ST-VAE (Huang and Murphy, 2016), https://arxiv.org/abs/1511.06362: one object, its content and its pose.

The generative process (the paper's Sec. 3, and Fig. 3a)::

    z_where ~ p(z_where)                       the code of its pose, z^T in the paper       (a)
    z_what  ~ p(z_what)                        the code of its content, z^C                 (b)
    C, T    = decoder(z_what), pose(z_where)                                                (c)
    layer   = warp(C, T)                       STN(C, T)                                    (d)
    image   ~ p(image | layer)                                                              (e)

and the guide (the paper's Sec. 3.2, and Fig. 3b)::

    z_where ~ q(z_where | image)                                                            (f)
    z_what  ~ q(z_what | warp(image, inverse(T)))                                           (g)

Departs from the paper:
    Eq. 3.1 as printed lacks log p(z) (``as_printed`` is that objective); the ELBO has it. A layer is a
    probability; with the paper's Ber(sigmoid(layer)) a black canvas would give grey images. C is smaller than
    the image, T always has an inverse, and before training C has its own size, where the paper starts at the
    identity (``pose=FreePoseDecoder(), window=image_shape``). The pose's code is added to the output of f_T.
    The guide looks at the expected window before it draws a pose (``looks``), reads the image for it by
    layers of width 64 (the paper's: ``pose_hidden=32``), and starts narrower than the prior.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_sizes
from ..conditionals import Amortised, Conditional, Pixels, PoseProposal, Posterior, Prior, normal
from ..networks import GlimpseDecoder, GlimpseEncoder, PoseDecoder, glorot
from ..render import centroid, inverse, under, warp

__all__ = ["STVAE", "Layer", "Layered", "LayeredGuide", "STVAEGuide", "Scene", "record"]


class Scene(NamedTuple):
    """What has been drawn before layer ``layer``: the argument of all conditionals."""

    layer: int
    canvas: Float[Tensor, "batch c h w"]
    scope: Float[Tensor, "batch #c h w"]  # the share of each pixel that the layers leave uncovered
    z_where: Float[Tensor, "batch pose"] | None = None  # None before the first layer
    z_what: Float[Tensor, "batch code"] | None = None


class Layer(NamedTuple):
    """One layer of a scene."""

    picture: Float[Tensor, "batch c h w"]  # premultiplied: colour times opacity
    opacity: Float[Tensor, "batch #c h w"]
    transform: Float[Tensor, "batch 2 3"]  # T
    occludes: bool  # whether its opacity is decoded; else it equals the picture


class Layered(Model):
    """The parts and the drawing of a layer: the abstract base of :class:`STVAE` and ``CSTVAE``."""

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 36, 36),
        window: tuple[int, ...] | None = None,
        code: int = 20,
        *,
        z_where: Conditional | None = None,
        z_what: Conditional | None = None,
        pose: Callable[[Tensor], Tensor] | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
        centred: bool = False,
    ) -> None:
        super().__init__(image_shape)
        window = (self.image_shape[0], 28, 28) if window is None else window
        check_sizes(window=window, code=code)
        if window[0] != self.image_shape[0]:
            raise ValueError(f"window must be ({self.image_shape[0]}, h, w), got {window}")
        self.window = tuple(window)
        self.z_where = _normal(6) if z_where is None else z_where
        self.z_what = _normal(code) if z_what is None else z_what
        self.pose = _pose(self.image_shape, self.window) if pose is None else pose
        self.decoder = _decoder(code, self.window) if decoder is None else decoder
        self.image = Pixels(dist.Bernoulli) if image is None else image
        self.centred = bool(centred)

    def render(
        self, transform: Float[Tensor, "... 2 3"], z_what: Float[Tensor, "... code"]
    ) -> Layer:
        """(c) and (d): the layer of a content in a pose."""
        content = self.decoder(z_what)  # (c)
        channels, *size = self.window
        if [*content.shape[-2:]] != size or content.shape[-3] - channels not in (0, 1):
            raise ValueError(
                f"decoder must make (n, {channels} or {channels + 1}, {size[0]}, {size[1]}) of n codes, got "
                f"{tuple(content.shape)}"
            )
        colour, opacity = content.tensor_split([channels], -3)
        occludes, shifted = opacity.numel() > 0, transform
        if self.centred:
            mass = centroid(opacity if occludes else colour)
            shifted = torch.cat([transform[..., :2], transform[..., 2:] + mass[..., None]], -1)
        if occludes:
            content = torch.cat([colour * opacity, opacity], -3)
        layer = warp(content, shifted, self.image_shape)  # (d)
        picture, opacity = layer.tensor_split([channels], -3)
        return Layer(picture, opacity if occludes else picture, transform, occludes)

    def draw(self, scene: Scene, suffix: str) -> tuple[Scene, Layer]:
        """Draws one more layer, behind all layers of the scene."""
        z_where = pyro.sample(f"z_where{suffix}", self.z_where(scene))  # (a)
        z_what = pyro.sample(f"z_what{suffix}", self.z_what(scene))  # (b)
        layer = self.render(self.pose(z_where), z_what)
        canvas, scope = under(scene.canvas, scene.scope, layer.picture, layer.opacity)
        return Scene(scene.layer + 1, canvas, scope, z_where, z_what), layer

    def empty_scene(self, size: int) -> Scene:
        """The scene before the first layer."""
        blank = self.blank.expand(size, *self.image_shape)
        return Scene(0, blank, torch.ones_like(blank[:, :1]))

    def check_parts(self) -> None:
        scene = self.empty_scene(1)
        z_where = check_conditional("z_where", self.z_where, scene, 1).sample().reshape(1, -1)
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        channels, *size = self.window
        shapes = self.window, (channels + 1, *size)
        picture = check_decoder("decoder", self.decoder, z_what, *shapes)
        if not (0 <= picture.min() and picture.max() <= 1):  # it may be an opacity
            raise ValueError("decoder must make pictures in [0, 1], not NaN: end it in a sigmoid")
        transform = check_decoder("pose", self.pose, z_where, (2, 3))
        layer = self.render(transform, z_what)
        scene = Scene(1, layer.picture, 1 - layer.opacity, z_where, z_what)
        check_conditional("image", self.image, scene, self.image_shape)


def record(scene: Scene, layers: list[Layer]) -> None:
    """Adds the deterministic sites of a scene to the trace."""
    pictures, masks, transforms, _ = zip(*layers, strict=True)
    pyro.deterministic("layers", _stack(pictures, -4), event_dim=4)
    pyro.deterministic("masks", _stack(masks, -4), event_dim=4)
    pyro.deterministic("transforms", _stack(transforms, -3), event_dim=3)
    pyro.deterministic("canvas", scene.canvas, event_dim=3)


def _stack(tensors: Iterable[Tensor], dim: int) -> Tensor:
    """Broadcasts first: with enumerated codes, the layers' batch shapes differ."""
    return torch.stack(torch.broadcast_tensors(*tensors), dim)


def _normal(size: int) -> Prior:
    return Prior(dist.Normal, loc=[0.0] * size, scale=[1.0] * size)


def _pose(image_shape: tuple[int, ...], window: tuple[int, ...]) -> PoseDecoder:
    """Before training, windows have their own size, and most lie on the canvas."""
    sides = zip(image_shape[:0:-1], window[:0:-1], strict=True)
    zoom = [image / glimpse for image, glimpse in sides]
    return PoseDecoder(zoom=zoom, spread=[max(0.1, 0.9 * (1 - 1 / z)) for z in zoom])


def _decoder(code: int, window: tuple[int, ...]) -> GlimpseDecoder:
    """With opacity for colours, whose brightness says little about what they hide."""
    channels, *size = window
    return glorot(GlimpseDecoder(code, (channels + (channels > 1), *size), hidden=(256, 256)))


class STVAE(Layered):
    """The generative model: one layer on black.

    Args:
        image_shape, window, code, z_where, z_what, pose, decoder, image, centred: As in
            :class:`~pyro_scenes.models.cst_vae.CSTVAE`.
    """

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Float[Tensor, "... c h w"]:
        check_sizes(size=size)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, layer = self.draw(self.empty_scene(size), "")
            record(scene, [layer])
            return pyro.sample("image", self.image(scene), obs=images)  # (e)


class LayeredGuide(Guide):
    """The proposal of a layer: the abstract base of :class:`STVAEGuide` and ``CSTVAEGuide``."""

    model: Any
    z_what: Any

    def add_proposals(
        self, channels: int, suffix: str, posterior: Posterior, z_what: Any, *sizes: int
    ) -> None:
        """Builds proposals of the latents with this suffix, from pictures with this many channels."""
        hidden, pose_hidden, looks = sizes
        check_sizes(hidden=hidden, pose_hidden=pose_hidden)
        latents, size = self.model.latents(), self.model.window[1:]
        shape = self.see_shape((channels, *self.image_shape[1:]))
        self.window = (shape[0], *size)
        where, what = (latents[f"{name}{suffix}"] for name in ("z_where", "z_what"))
        settings: Any = {"hidden": pose_hidden, "looks": looks, "posterior": posterior}
        self.z_where = PoseProposal(shape, size, where, **settings)
        self.encode = GlimpseEncoder(self.window, hidden, hidden=(hidden,))
        self.z_what = Amortised(hidden, what, posterior=posterior) if z_what is None else z_what
        for part in (self.z_where, self.encode, *([self.z_what] if z_what is None else [])):
            glorot(part)
        glorot(self.z_where.head, last=0.1)
        self.to(self.model.blank)

    def propose(
        self, picture: Float[Tensor, "*batch c h w"], suffix: str
    ) -> tuple[Float[Tensor, "... 2 3"], Float[Tensor, "... code"]]:
        """Draws a layer's pose, then its content from the glimpse at that pose. Returns T and the code."""
        z_where = pyro.sample(f"z_where{suffix}", self.z_where(picture, self.model.pose))  # (f)
        transform = self.model.pose(z_where)
        glimpse = warp(picture, inverse(transform), self.window)
        z_what = pyro.sample(f"z_what{suffix}", self.z_what(self.encode(glimpse)))  # (g)
        return transform, z_what


class STVAEGuide(LayeredGuide):
    """The amortised guide of an :class:`STVAE`.

    Args:
        model, hidden, pose_hidden, looks, missing, posterior, z_what: As in
            :class:`~pyro_scenes.models.cst_vae.CSTVAEGuide`.
    """

    def __init__(
        self,
        model: STVAE,
        *,
        hidden: int = 256,
        pose_hidden: int = 64,
        looks: int = 2,
        missing: bool = False,
        posterior: Posterior = normal,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, STVAE, missing=missing)
        channels = model.image_shape[0]
        self.add_proposals(channels, "", posterior, z_what, hidden, pose_hidden, looks)

    def forward(self, images: Tensor) -> None:
        images = self.see(images)
        with pyro.plate("images", len(images), dim=-1):
            self.propose(images, "")  # (f), (g)
