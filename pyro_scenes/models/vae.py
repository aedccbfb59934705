"""The variational auto-encoder (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114

The generative process (the paper's Sec. 2.1, and App. C)::

    z_what ~ p(z_what)                         the code of the image                        (a)
    canvas = decoder(z_what)                                                                (b)
    image  ~ p(image | canvas)                                                              (c)

and the guide (the paper's Eq. 9)::

    z_what ~ q(z_what | image)                                                              (d)

Departs from the paper:
    Two hidden layers with ReLU, not one with tanh: the baseline of Huang and Murphy (2016, Sec. 4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_sizes
from ..conditionals import Amortised, Conditional, Pixels, Posterior, Prior, normal
from ..networks import GlimpseDecoder, GlimpseEncoder, glorot

__all__ = ["VAE", "Scene", "VAEGuide"]


class Scene(NamedTuple):
    """What has been drawn so far: the argument of a VAE's conditionals."""

    canvas: Float[Tensor, "batch c h w"]
    z_what: Float[Tensor, "batch code"] | None = None


class VAE(Model):
    """The generative model. ``z_what`` and ``image`` are conditionals of a :class:`Scene`.

    Args:
        image_shape: (C, H, W) of an image.
        code: Size of ``z_what``.
        z_what: Prior of the code. Default: standard Normal.
        decoder: From codes (n, code) to canvases (n, C, H, W) in [0, 1]. Default: two hidden layers of 256.
        image: Likelihood. Default: Bernoulli pixels, for images of 0 and 1.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 36, 36),
        code: int = 20,
        *,
        z_what: Conditional | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(code=code)
        standard = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        self.z_what = standard if z_what is None else z_what
        if decoder is None:
            decoder = glorot(GlimpseDecoder(code, self.image_shape, hidden=(256, 256)))
        self.decoder = decoder
        self.image = Pixels(dist.Bernoulli) if image is None else image

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Float[Tensor, "... c h w"]:
        check_sizes(size=size)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene = Scene(self.blank.expand(size, *self.image_shape))
            z_what = pyro.sample("z_what", self.z_what(scene))  # (a)
            canvas = pyro.deterministic("canvas", self.decoder(z_what), event_dim=3)  # (b)
            return pyro.sample("image", self.image(Scene(canvas, z_what)), obs=images)  # (c)

    def check_parts(self) -> None:
        scene = Scene(self.blank[None])
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        canvas = check_decoder("decoder", self.decoder, z_what, self.image_shape)
        check_conditional("image", self.image, Scene(canvas, z_what), self.image_shape)


class VAEGuide(Guide):
    """The amortised guide of a :class:`VAE`.

    Args:
        model: Used for its image shape and the shape and support of its latent.
        hidden: Width of the two hidden layers.
        missing: Whether the encoder also reads which pixels are seen.
        posterior: The family of the default proposal, such as ``full_covariance``: see ``Amortised``.
        z_what: Proposal, from features (n, hidden) to a distribution. Default: ``Amortised``.
    """

    model: VAE
    z_what: Any

    def __init__(
        self,
        model: VAE,
        *,
        hidden: int = 256,
        missing: bool = False,
        posterior: Posterior = normal,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, VAE, missing=missing)
        check_sizes(hidden=hidden)
        self.encode = GlimpseEncoder(self.see_shape(model.image_shape), hidden, hidden=(hidden,))
        like = model.latents()["z_what"]
        self.z_what = Amortised(hidden, like, posterior=posterior) if z_what is None else z_what
        glorot(self.encode)
        if z_what is None:
            glorot(self.z_what)
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        images = self.see(images)
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z_what", self.z_what(self.encode(images)))  # (d)
