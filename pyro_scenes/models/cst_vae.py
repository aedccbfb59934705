"""ST-VAE and CST-VAE (Huang and Murphy, 2016), https://arxiv.org/abs/1511.06362

The generative process of CST-VAE (the paper's Sec. 3, and Fig. 2b), for layers i = 0 .. N-1 from the
front to the back::

    z_where[i] ~ p(z_where)                    its pose, z^T in the paper                   (a)
    z_what[i]  ~ p(z_what)                     its content, z^C                             (b)
    C[i], T[i] = decoder(z_what[i]), pose(z_where[i])                                       (c)
    layer[i]   = warp(C[i], T[i])              STN(C, T), on a canvas of its own            (d)
    canvas     = canvas over layer[i]          black at first                               (e)
    image      ~ p(image | canvas)                                                          (f)

and the guide (the paper's Sec. 3.2 and 3.3), which draws with the model's decoder as it goes::

    residual   = max(0, image - layer[0] - ... - layer[i-1])                                (g)
    z_where[i] ~ q(z_where[i] | residual)                                                   (h)
    z_what[i]  ~ q(z_what[i] | warp(residual, inverse(T[i])))                               (i)
    layer[i]   = as in (c), (d)

ST-VAE is one such layer: (a) to (d) and (f), then (h) and (i) of the image itself.

**The opacity of a layer.** A decoder that makes one channel more than the image has decodes opacity
(alpha) in the last one, and (e) is the over operator. With no such channel, a layer is as opaque as it is
bright: canvas = 1 - (1 - layer[0]) (1 - layer[1]) ..., and no order can be told from an image. That is
the default for grey images; colour images have the other.

Departs from the paper:
    Eq. 3.1 lacks log p(z) as printed; any ELBO of Pyro has it. The canvas is a probability, where the paper
    has Ber(sigmoid(canvas)), by which a black canvas would be grey. The canonical image C is smaller than
    the image, T always has an inverse, and starts not at the identity but with C at its own size
    (``FreePoseDecoder`` and ``window=image_shape`` are the paper's). The guide takes a second look before
    it decides on a pose, sees beside the residual what it has explained already, and goes over all layers
    once more when it has seen them all (``sweeps``).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from ..conditionals import Amortised, Conditional, Pixels, Prior, Recognition
from ..networks import GlimpseDecoder, PoseDecoder
from ..render import centroid, under, warp
from ..scene import Guide, Model, ask, check_decoder, check_images, check_sizes

__all__ = ["CSTVAE", "CSTVAEGuide", "STVAE", "STVAEGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before layer ``layer``: what every conditional is given."""

    layer: int
    canvas: Float[Tensor, "batch c h w"]
    scope: Float[Tensor, "batch #c h w"]  # what the layers so far leave uncovered
    z_where: Float[Tensor, "batch pose"] | None = None  # None before the first layer
    z_what: Float[Tensor, "batch code"] | None = None


class _Layered(Model):
    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 36, 36),
        window: tuple[int, ...] = (1, 28, 28),
        code: int = 20,
        *,
        z_where: Conditional | None = None,
        z_what: Conditional | None = None,
        pose: Callable[[Tensor], Tensor] | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
        centred: bool = True,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(window=window, code=code)
        if window[0] != self.image_shape[0]:
            raise ValueError(f"window must be ({self.image_shape[0]}, h, w), got {window}")
        self.window = tuple(window)
        self.z_where = _normal(6) if z_where is None else z_where
        self.z_what = _normal(code) if z_what is None else z_what
        self.pose = _pose(self.image_shape, self.window) if pose is None else pose
        self.decoder = _decoder(code, self.window) if decoder is None else decoder
        self.image = Pixels(dist.Bernoulli) if image is None else image
        self.centred = centred

    def transform(self, z_where: Tensor) -> Tensor:
        """T (n, 2, 3) of a pose's code."""
        return self.pose(z_where)

    def layer(self, transform: Tensor, z_what: Tensor) -> tuple[Tensor, Tensor]:
        """A layer (n, C, H, W), premultiplied, and its opacity (n, 1 or C, H, W)."""
        picture = self.decoder(z_what)  # (c)
        colour, opacity = picture.tensor_split([self.image_shape[0]], -3)
        if self.centred:
            size = transform.new_tensor([picture.shape[-1], picture.shape[-2]])
            mass = 2 * centroid(opacity if opacity.numel() else colour) / size - 1
            transform = torch.cat([transform[..., :2], transform[..., 2:] + mass[..., None]], -1)
        if not opacity.numel():
            layer = warp(picture, transform, self.image_shape)  # (d)
            return layer, layer
        drawn = warp(torch.cat([colour * opacity, opacity], -3), transform, self.image_shape)  # (d)
        layer, mask = drawn.tensor_split([self.image_shape[0]], -3)
        return layer, mask

    def draw(self, scene: Scene, suffix: str) -> tuple[Scene, tuple[Tensor, Tensor, Tensor]]:
        """Draws one more layer, behind those of the scene: the layer, its opacity, and its T."""
        z_where = pyro.sample(f"z_where{suffix}", self.z_where(scene))  # (a)
        z_what = pyro.sample(f"z_what{suffix}", self.z_what(scene))  # (b)
        transform = self.transform(z_where)  # (c)
        layer, mask = self.layer(transform, z_what)
        canvas, scope = under(scene.canvas, scene.scope, layer, mask)  # (e)
        return Scene(scene.layer + 1, canvas, scope, z_where, z_what), (layer, mask, transform)

    def scene(self, size: int) -> Scene:
        """Nothing drawn yet."""
        blank = self.blank.expand(size, *self.image_shape)
        return Scene(0, blank, torch.ones_like(blank[:, :1]))

    @torch.no_grad()
    def check(self) -> None:
        scene = self.scene(1)
        with torch.random.fork_rng(()):
            z_where = ask("z_where", self.z_where, scene, 1).sample().reshape(1, -1)
            z_what = ask("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        channels, *size = self.window
        check_decoder("decoder", self.decoder, z_what, self.window, (channels + 1, *size))
        transform = check_decoder("pose", self.pose, z_where, (2, 3))
        canvas, mask = self.layer(transform, z_what)
        scene = Scene(1, canvas, 1 - mask, z_where, z_what)
        ask("image", self.image, scene, self.image_shape)


def _record(scene: Scene, layers: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """What was drawn, for those who read traces."""
    pictures, masks, transforms = zip(*layers, strict=True)
    pyro.deterministic("layers", torch.stack(pictures, -4), event_dim=4)
    pyro.deterministic("masks", torch.stack(masks, -4), event_dim=4)
    pyro.deterministic("transforms", torch.stack(transforms, -3), event_dim=3)
    pyro.deterministic("canvas", scene.canvas, event_dim=3)


def _normal(size: int) -> Prior:
    return Prior(dist.Normal, loc=[0.0] * size, scale=[1.0] * size)


def _pose(image_shape: tuple[int, ...], window: tuple[int, ...]) -> PoseDecoder:
    """Starts with windows at their own size, and centres that keep them about on the canvas."""
    zoom = [image / own for image, own in zip(image_shape[:0:-1], window[:0:-1], strict=True)]
    return PoseDecoder(zoom=zoom, spread=[max(0.1, 0.9 * (1 - 1 / z)) for z in zoom])


def _decoder(code: int, window: tuple[int, ...]) -> GlimpseDecoder:
    """With opacity where there are colours: the brightness of a colour says little about what it hides."""
    channels, *size = window
    return GlimpseDecoder(code, (channels + (channels > 1), *size), hidden=(256, 256))


class STVAE(_Layered):
    """One content in one pose, on black: a single layer of :class:`CSTVAE`, with the same arguments."""

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, layer = self.draw(self.scene(size), "")
            _record(scene, [layer])
            return pyro.sample("image", self.image(scene), obs=images)  # (f)


def _draw(name: str, head: Amortised, features: Tensor, *, suffix: str = "") -> Tensor:
    return pyro.sample(name + suffix, head(features))


def _guess(name: str, head: Amortised, features: Tensor) -> Tensor:
    return head.guess(features)


class STVAEGuide(Guide):
    """The amortised guide of an :class:`STVAE`, (h) and (i) once (the paper's Fig. 3b)."""

    def __init__(self, model: STVAE, *, hidden: int = 256, looks: int = 2) -> None:
        super().__init__(model)
        self.transform = model.transform  # a method: nothing is registered
        latents = [model.latents()[name] for name in ("z_where", "z_what")]
        picture, window = model.image_shape, model.window[1:]
        self.recognise = Recognition(picture, window, *latents, hidden=hidden, looks=looks)
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        check_images(images, self.blank)
        with pyro.plate("images", len(images), dim=-1):
            self.recognise(images, self.transform, _draw)  # (h), (i)


class CSTVAE(_Layered):
    """Layers, each a content in a pose, composited from front to back.

    Each of ``z_where``, ``z_what``, ``image`` is a site's conditional, ``Scene -> distribution``. Beside
    ``canvas`` there are the sites ``layers`` (n, layers, C, H, W), complete, hidden parts included;
    ``masks`` (n, layers, 1 or C, H, W), their opacity; and ``transforms`` (n, layers, 2, 3), each T.

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a canonical image C.
        layers: The number N of layers.
        code: Size of ``z_what``.
        z_where: Prior of the pose's code. Default: standard Normal, of size 6.
        z_what: Prior of the content's code. Default: standard Normal.
        pose: From ``z_where`` to T (n, 2, 3), see :mod:`pyro_scenes.render.affine`. Default: ``PoseDecoder``.
        decoder: From ``z_what`` to C (n, C or C + 1, h, w) in [0, 1]. Default: two hidden layers of 256,
            with opacity if the image has colours.
        image: Likelihood; reads ``scene.canvas``. Default: Bernoulli pixels, for images of 0 and 1.
        centred: Whether the pose places C's centre of mass, rather than its middle. Otherwise a shift of C
            makes up for one of T, and where a window lies says little about where the object is.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 50, 50),
        window: tuple[int, ...] = (1, 28, 28),
        layers: int = 2,
        code: int = 20,
        *,
        z_where: Conditional | None = None,
        z_what: Conditional | None = None,
        pose: Callable[[Tensor], Tensor] | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
        centred: bool = True,
    ) -> None:
        check_sizes(layers=layers)
        sites = {"z_where": z_where, "z_what": z_what, "image": image}
        super().__init__(
            image_shape, window, code, pose=pose, decoder=decoder, centred=centred, **sites
        )
        self.layers = layers

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, layers = self.scene(size), []
            # No pyro.markov: the image depends on every layer, and what a layer explains on all others.
            for i in range(self.layers):
                scene, layer = self.draw(scene, f"_{i}")
                layers.append(layer)
            _record(scene, layers)
            return pyro.sample("image", self.image(scene), obs=images)  # (f)


class CSTVAEGuide(Guide):
    """The amortised guide of a :class:`CSTVAE`: it recognises, draws and takes away a layer after another.

    Args:
        model: Its decoder and pose are used as they are at each call; they stay the model's alone.
        hidden: Widths of the two hidden layers that read a glimpse for its content.
        looks: How often it looks where it expects a layer before it decides on a pose; the paper's has 0.
        explained: Whether beside the residual it sees the image without it, what it has explained already.
        sweeps: How often it goes over the layers. In all sweeps but the last it draws nothing, and takes
            its best guesses: then the residual of a layer lacks the later layers as well. An attribute
            that may change between steps; a young guide is better off with 1.
    """

    def __init__(
        self,
        model: CSTVAE,
        *,
        hidden: int = 256,
        looks: int = 2,
        sweeps: int = 2,
        explained: bool = True,
    ) -> None:
        super().__init__(model)
        check_sizes(sweeps=sweeps)
        self.explained = explained and model.layers > 1
        self.layers, self.sweeps = model.layers, sweeps
        self.transform, self.layer = model.transform, model.layer  # methods: nothing is registered
        channels, *size = model.image_shape
        picture = ((1 + self.explained) * channels, *size)
        latents = [model.latents()[name] for name in ("z_where_0", "z_what_0")]
        self.recognise = Recognition(
            picture, model.window[1:], *latents, hidden=hidden, looks=looks
        )
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        check_images(images, self.blank)
        layers: dict[int, Tensor] = {}
        with pyro.plate("images", len(images), dim=-1):
            with torch.no_grad():
                for i in [*range(self.layers)] * (self.sweeps - 1):
                    layers[i] = self.see(images, layers, i, _guess)
            for i in range(self.layers):
                layers[i] = self.see(images, layers, i, partial(_draw, suffix=f"_{i}"))

    def see(self, images: Tensor, layers: dict[int, Tensor], i: int, take: Callable) -> Tensor:
        """One layer, from what the others known so far do not explain."""
        residual = images
        for j in layers.keys() - {i}:
            residual = torch.relu(residual - layers[j])  # (g)
        seen = torch.cat([residual, images - residual], 1) if self.explained else residual
        return self.layer(*self.recognise(seen, self.transform, take))[0]
