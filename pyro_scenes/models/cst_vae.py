"""CST-VAE (Huang and Murphy, 2016), https://arxiv.org/abs/1511.06362: layers of objects, composited.

The generative process (the paper's Sec. 3, and Fig. 2b), for layers i = 0 .. N-1 from the front to the
back, each drawn as in :mod:`~pyro_scenes.models.st_vae`::

    z_where[i] ~ p(z_where)                    the code of its pose, z^T in the paper       (a)
    z_what[i]  ~ p(z_what)                     the code of its content, z^C                 (b)
    C[i], T[i] = decoder(z_what[i]), pose(z_where[i])                                       (c)
    layer[i]   = warp(C[i], T[i])              STN(C, T)                                    (d)
    canvas     = canvas over layer[i]          black before the first layer                 (e)
    image      ~ p(image | canvas)                                                          (f)

and the guide (the paper's Sec. 3.3, and Fig. 4), which uses the model's decoders::

    residual   = max(0, image - layer[0] - ... - layer[i-1])                                (g)
    z_where[i] ~ q(z_where[i] | residual)                                                   (h)
    z_what[i]  ~ q(z_what[i] | warp(residual, inverse(T[i])))                               (i)
    layer[i]   = as in (c), (d)

**The opacity of a layer.** If the decoder makes one channel more than the image has, the last one is the
opacity (alpha), and (e) is the over operator. This is the default for colour images. Otherwise the opacity is
the picture itself, canvas = 1 - (1 - layer[0]) (1 - layer[1]) ..., and an image says nothing about the order
of its layers. This is the default for grey images.

Departs from the paper:
    As ST-VAE. The guide also reads the explained part of the image (``explained``), and proposes all layers
    twice, the first time as point estimates without a gradient (``sweeps``).
"""

from collections.abc import Callable

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor

from ..checks import check_images, check_sizes
from ..conditionals import Conditional, Posterior, normal
from ..handlers import expected
from .st_vae import Layer, Layered, LayeredGuide, record

__all__ = ["CSTVAE", "CSTVAEGuide"]


class CSTVAE(Layered):
    """The generative model. ``z_where``, ``z_what`` and ``image`` are conditionals of a ``Scene``.

    Deterministic sites: ``canvas``; ``layers`` (n, layers, C, H, W), with their hidden parts; ``masks``
    (n, layers, 1 or C, H, W), their opacities; ``transforms`` (n, layers, 2, 3).

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a canonical image. Default: h = w = 28.
        layers: The number N of layers.
        code: Size of ``z_what``.
        z_where: Prior of the pose's code. Default: standard Normal of size 6.
        z_what: Prior of the content's code. Default: standard Normal.
        pose: From ``z_where`` to T (n, 2, 3), see :mod:`pyro_scenes.render.affine`. Default: ``PoseDecoder``.
        decoder: From ``z_what`` to canonical images (n, C or C + 1, h, w) in [0, 1]. Default: two hidden
            layers of 256, with opacity if C > 1.
        image: Likelihood. Default: Bernoulli pixels, for images of 0 and 1.
        centred: Whether the pose places the canonical image's centre of mass, not its middle. If it does not,
            a shift of the canonical image can undo one of T, and T says little about the object's place.
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
            # history: a layer depends on all layers in front of it, and the image on all layers.
            for i in pyro.markov(range(self.layers), history=self.layers):
                scene, layer = self.draw(scene, f"_{i}")
                layers.append(layer)
                # Not after the loop, which would end the scope of enumerated latents.
                if i == self.layers - 1:
                    record(scene, layers)
                    image = pyro.sample("image", self.image(scene), obs=images)  # (f)
        return image


class CSTVAEGuide(LayeredGuide):
    """The amortised guide of a :class:`CSTVAE`: it proposes each layer, then removes it from the image.

    Args:
        model: Its decoders are used at each call. Its priors of the first layer must have the shapes and
            supports of all layers' priors.
        hidden: Width of the two hidden layers that read a glimpse for its content.
        pose_hidden: Width of the two hidden layers that read a picture for a pose; 32 in the paper.
        looks: Number of looks at the expected window before a pose is drawn; 0 in the paper.
        explained: Whether the guide also reads the explained part of the image, image - residual.
        sweeps: How often all layers are proposed; 1 in the paper. Only the last sweep draws. The others take
            point estimates, without a gradient, so that a residual also lacks the layers behind. It may
            change between steps, and is not in checkpoints; 1 is better at the start of training.
        missing: Whether encoders also read which pixels are seen, of a glimpse through its window.
        posterior: The family of the default proposals, such as ``full_covariance``: see ``Amortised``.
        z_what: Proposal, from features (n, hidden) to a distribution. Default: ``Amortised``.
    """

    def __init__(
        self,
        model: CSTVAE,
        *,
        hidden: int = 256,
        pose_hidden: int = 64,
        looks: int = 2,
        sweeps: int = 2,
        explained: bool = True,
        missing: bool = False,
        posterior: Posterior = normal,
        z_what: Callable[[Tensor], Distribution] | None = None,
    ) -> None:
        super().__init__(model, CSTVAE, missing=missing)
        check_sizes(sweeps=sweeps)
        self.explained = explained and model.layers > 1
        self.layers, self.sweeps = model.layers, sweeps
        channels = (1 + self.explained) * model.image_shape[0]
        self.add_proposals(channels, "_0", posterior, z_what, hidden, pose_hidden, looks)

    def forward(self, images: Tensor) -> None:
        images = self.see(images)
        check_sizes(sweeps=self.sweeps)
        latest: dict[int, Layer] = {}
        with pyro.plate("images", len(images), dim=-1):
            with torch.no_grad(), poutine.block(), expected():
                for _ in range(self.sweeps - 1 if self.layers > 1 else 0):
                    latest[self.layers - 1] = self.model.render(*self.sweep(images, latest))
            self.sweep(images, latest)

    def sweep(
        self, images: Float[Tensor, "n d h w"], latest: dict[int, Layer]
    ) -> tuple[Float[Tensor, "... 2 3"], Float[Tensor, "... code"]]:
        """Proposes all layers. Updates ``latest``, except the last layer, whose T and code it returns."""
        images, mask = images.tensor_split([self.image_shape[0]], -3)
        for i in pyro.markov(range(self.layers), history=self.layers):  # as in the model
            residual = self.residual(images, latest, i)  # (g)
            picture = torch.cat([residual, images - residual], -3) if self.explained else residual
            if self.missing:
                mask = mask.expand(*picture.shape[:-3], *mask.shape[-3:])
                picture = torch.cat([picture, mask], -3)
            transform, z_what = self.propose(picture, f"_{i}")  # (h), (i)
            if i < self.layers - 1:
                latest[i] = self.model.render(transform, z_what)
        return transform, z_what

    def residual(
        self, images: Float[Tensor, "n c h w"], latest: dict[int, Layer], i: int
    ) -> Float[Tensor, "*batch c h w"]:
        """(g): the image without all other layers that have been proposed."""
        residual = images
        for j, layer in latest.items():
            picture = layer.picture
            if j > i and layer.occludes:
                picture = picture * (1 - latest[i].opacity)  # layer i hides it
            if j != i:
                residual = torch.relu(residual - picture)
        return residual
