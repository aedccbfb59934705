"""CST-VAE (Huang and Murphy, 2016), https://arxiv.org/abs/1511.06362: layers, composited.

The generative process (the paper's Sec. 3, and Fig. 2b), for layers i = 0 .. N-1 from the front to the
back, each drawn as in :mod:`~pyro_scenes.models.st_vae`::

    z_where[i] ~ p(z_where)                    its pose, z^T in the paper                   (a)
    z_what[i]  ~ p(z_what)                     its content, z^C                             (b)
    C[i], T[i] = decoder(z_what[i]), pose(z_where[i])                                       (c)
    layer[i]   = warp(C[i], T[i])              STN(C, T), on a canvas of its own            (d)
    canvas     = canvas over layer[i]          black at first                               (e)
    image      ~ p(image | canvas)                                                          (f)

and the guide (the paper's Sec. 3.3, and Fig. 4), which draws with the model's decoder as it goes::

    residual   = max(0, image - layer[0] - ... - layer[i-1])                                (g)
    z_where[i] ~ q(z_where[i] | residual)                                                   (h)
    z_what[i]  ~ q(z_what[i] | warp(residual, inverse(T[i])))                               (i)
    layer[i]   = as in (c), (d)

**The opacity of a layer.** A decoder that makes one channel more than the image has decodes opacity
(alpha) in the last one, and (e) is the over operator. With no such channel, a layer is as opaque as it is
bright: canvas = 1 - (1 - layer[0]) (1 - layer[1]) ..., and no order can be told from an image. That is
the default for grey images; colour images have the other.

Departs from the paper:
    As ST-VAE. And the guide sees, beside the residual, what it has explained already (``explained``), and
    goes over all layers once more when it has seen them all (``sweeps``), without a gradient before that.
"""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor

from ..base import Guide
from ..checks import check_images, check_sizes
from ..conditionals import Amortised, Conditional, PoseProposal
from ..handlers import expected
from ..networks import GlimpseEncoder, glorot
from ..render import inverse, warp
from .st_vae import Layer, Layered, record

__all__ = ["CSTVAE", "CSTVAEGuide"]


class CSTVAE(Layered):
    """Layers, each a content in a pose, composited from front to back.

    Each of ``z_where``, ``z_what``, ``image`` is a site's conditional, ``Scene -> distribution``. Beside
    ``canvas`` there are the sites ``layers`` (n, layers, C, H, W), complete, hidden parts included;
    ``masks`` (n, layers, 1 or C, H, W), their opacity; and ``transforms`` (n, layers, 2, 3), each T.

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a canonical image C. Default: h and w are 28.
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
        window: tuple[int, ...] | None = None,
        layers: int = 2,
        code: int = 20,
        *,
        z_where: Conditional | None = None,
        z_what: Conditional | None = None,
        pose: Callable[[Tensor], Tensor] | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
        centred: bool = False,
    ) -> None:
        check_sizes(layers=layers)
        super().__init__(
            image_shape,
            window,
            code,
            z_where=z_where,
            z_what=z_what,
            pose=pose,
            decoder=decoder,
            image=image,
            centred=centred,
        )
        self.layers = layers

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Float[Tensor, "... c h w"]:
        check_sizes(size=size)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene, layers = self.empty_scene(size), []
            # history: a layer is seen through all in front of it, and the image shows them all.
            for i in pyro.markov(range(self.layers), history=self.layers):
                scene, layer = self.draw(scene, f"_{i}")
                layers.append(layer)
                # not after the loop, where layers that are enumerated are out of scope
                if i == self.layers - 1:
                    record(scene, layers)
                    drawn = pyro.sample("image", self.image(scene), obs=images)  # (f)
        return drawn


class CSTVAEGuide(Guide):
    """The amortised guide of a :class:`CSTVAE`: it recognises, draws and takes away a layer after another.

    Args:
        model: Its decoder and pose are used as they are at each call; they stay the model's alone. Its
            priors are read for the first layer: their shapes and supports must be those of all. Copy both
            in one go, ``deepcopy((model, guide))``: a guide copied alone draws with a copy of its own.
        hidden: Widths of the two hidden layers that read a glimpse for its content.
        pose_hidden: Widths of the two hidden layers that read a picture for a pose; the paper's are 32.
        looks: How often it looks where it expects a layer before it decides on a pose; the paper's has 0.
        explained: Whether beside the residual it sees the image without it, what it has explained already.
        sweeps: How often it goes over the layers. In all sweeps but the last it draws nothing, and takes
            its best guesses: then the residual of a layer lacks the later layers as well. The bound is
            exact, but no gradient flows through those guesses. An attribute that may change between steps,
            and that no checkpoint keeps; a young guide is better off with 1.
        z_what: Proposal, from features (n, hidden) to a distribution. Default: by the prior's support.
    """

    model: CSTVAE
    z_what: Any

    def __init__(
        self,
        model: CSTVAE,
        *,
        hidden: int = 256,
        pose_hidden: int = 64,
        looks: int = 2,
        sweeps: int = 2,
        explained: bool = True,
        z_what: Callable[[Tensor], Distribution] | None = None,
    ) -> None:
        super().__init__(model, CSTVAE)
        check_sizes(hidden=hidden, pose_hidden=pose_hidden, sweeps=sweeps)
        self.explained = explained and model.layers > 1
        self.layers, self.sweeps = model.layers, sweeps
        channels, *size = model.image_shape
        picture_shape = ((1 + self.explained) * channels, *size)
        self.window = (picture_shape[0], *model.window[1:])
        latents = model.latents()
        self.z_where = PoseProposal(
            picture_shape,
            self.window[1:],
            latents["z_where_0"],
            hidden=pose_hidden,
            looks=looks,
        )
        self.encode = GlimpseEncoder(self.window, hidden, hidden=(hidden,))
        self.z_what = Amortised(hidden, latents["z_what_0"]) if z_what is None else z_what
        for part in (self.z_where, self.encode, *([self.z_what] if z_what is None else [])):
            glorot(part)
        glorot(self.z_where.head, last=0.1)
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        check_images(images, self.blank)
        check_sizes(sweeps=self.sweeps)
        known: dict[int, Layer] = {}
        with pyro.plate("images", len(images), dim=-1):
            with torch.no_grad(), poutine.block(), expected():
                for _ in range(self.sweeps - 1 if self.layers > 1 else 0):
                    known[self.layers - 1] = self.model.render(*self.sweep(images, known))
            self.sweep(images, known)

    def sweep(
        self, images: Float[Tensor, "n c h w"], known: dict[int, Layer]
    ) -> tuple[Float[Tensor, "... 2 3"], Float[Tensor, "... code"]]:
        """Proposes each layer; puts all but the last into ``known``, returns the last one's T and code."""
        for i in pyro.markov(range(self.layers), history=self.layers):  # as in the model
            residual = self.residual(images, known, i)  # (g)
            parts = [residual, images - residual] if self.explained else [residual]
            picture = torch.cat(parts, -3)
            z_where = pyro.sample(f"z_where_{i}", self.z_where(picture, self.model.pose))  # (h)
            transform = self.model.pose(z_where)
            glimpse = warp(picture, inverse(transform), self.window)
            z_what = pyro.sample(f"z_what_{i}", self.z_what(self.encode(glimpse)))  # (i)
            if i < self.layers - 1:
                known[i] = self.model.render(transform, z_what)
        return transform, z_what

    def residual(
        self, images: Float[Tensor, "n c h w"], known: dict[int, Layer], i: int
    ) -> Float[Tensor, "*batch c h w"]:
        """(g): what the other known layers do not explain."""
        residual = images
        for j, layer in known.items():
            picture = layer.picture
            if j > i and layer.occludes:
                picture = picture * (1 - known[i].opacity)  # layer i hides it
            if j != i:
                residual = torch.relu(residual - picture)
        return residual
