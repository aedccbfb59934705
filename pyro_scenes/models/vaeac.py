"""The variational auto-encoder with arbitrary conditioning (Ivanov, Figurnov and Vetrov, 2019).

O. Ivanov, M. Figurnov, D. Vetrov, *Variational autoencoder with arbitrary conditioning*, ICLR 2019,
https://arxiv.org/abs/1806.02382. One model completes images whatever part of them is seen. The generative
process (the paper's Sec. 4; b is 1 where a pixel is not seen)::

    features = encoder(seen, b)                     the prior network                           (a)
    z_what   ~ p(z_what | features)                                                             (b)
    canvas   = decoder(z_what, features)            the generative network                      (c)
    image    ~ p(image | canvas) where b is 1; what is seen stays                               (d)

and the guide, the proposal network, which sees the whole image::

    z_what   ~ q(z_what | image, b)                                                             (e)

Departs from the paper:
    (a), (c) Perceptrons of two hidden layers; the paper has deeper ones, and convolutions for images, whose
    generative network reads all layers of the prior network. Here it reads the last one.
    (b) Without the weak prior of its loc and scale, at the paper's strength too weak to matter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_seen, check_sizes
from ..conditionals import Amortised, Completion, Conditional, Conditioned, Pixels
from ..networks import GlimpseDecoder, GlimpseEncoder, glorot

__all__ = ["VAEAC", "Scene", "VAEACGuide"]


class Scene(NamedTuple):
    """What is known so far: the argument of a VAEAC's conditionals."""

    known: Float[Tensor, "batch c h w"]  # the pixels that are seen, NaN elsewhere
    features: Float[Tensor, "batch features"]  # of these, and of where they are
    canvas: Float[Tensor, "*batch c h w"] | None = (
        None  # what the code decodes to, with what is seen
    )
    z_what: Float[Tensor, "*batch code"] | None = None


class VAEAC(Model):
    """The generative model. ``z_what`` and ``image`` are conditionals of a :class:`Scene`.

    It is called as ``model(images, seen)``. ``seen`` is a bool mask (n, 1 or C, H, W) of the images, True
    where a pixel is seen; or a picture (n, C, H, W) that is NaN where nothing is seen, for
    ``model(None, picture)``, which draws completions of it. None: nothing is seen.

    Args:
        image_shape: (C, H, W) of an image.
        code: Size of ``z_what``.
        hidden: Width of the hidden layers, two in each network.
        z_what: Prior of the code. Default: Normal, of the features.
        decoder: From codes and features in one vector (n, code + hidden) to canvases in [0, 1].
        image: Likelihood, of independent pixels. Default: Bernoulli, for images of 0 and 1.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        code: int = 50,
        *,
        hidden: int = 500,
        z_what: Conditional | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(code=code, hidden=hidden)
        self.encode = glorot(GlimpseEncoder(_marked(self.blank).shape, hidden, hidden=(hidden,)))
        self.z_what = glorot(Conditioned(hidden, code)) if z_what is None else z_what
        if decoder is None:
            widths = hidden, hidden
            decoder = glorot(GlimpseDecoder(code + hidden, self.image_shape, hidden=widths))
        self.decoder = decoder
        self.image = Pixels(dist.Bernoulli) if image is None else image

    def forward(
        self, images: Tensor | None = None, seen: Tensor | None = None, *, size: int = 1
    ) -> Float[Tensor, "... c h w"]:
        known = check_seen(images, seen, self.blank, size)
        with pyro.plate("images", len(known), dim=-1):
            scene = self.look(known)  # (a)
            z_what = pyro.sample("z_what", self.z_what(scene))  # (b)
            canvas = pyro.deterministic("canvas", self.draw(z_what, scene), event_dim=3)  # (c)
            pixels = self.image(scene._replace(canvas=canvas, z_what=z_what))
            return pyro.sample("image", Completion(pixels, known), obs=images)  # (d)

    def look(self, known: Float[Tensor, "n c h w"]) -> Scene:
        """(a): the features of what is seen."""
        return Scene(known, self.encode(_marked(known)))

    def draw(
        self, z_what: Float[Tensor, "*batch code"], scene: Scene
    ) -> Float[Tensor, "*batch c h w"]:
        """(c): what the code decodes to, with what is seen put in."""
        features = scene.features.expand(*z_what.shape[:-1], -1)
        canvas = self.decoder(torch.cat([z_what, features], -1))
        return torch.where(scene.known.isnan(), canvas, scene.known)

    def check_parts(self) -> None:
        scene = self.look(torch.full_like(self.blank[None], torch.nan))
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        inputs = torch.cat([z_what, scene.features], -1)
        canvas = check_decoder("decoder", self.decoder, inputs, self.image_shape)
        scene = scene._replace(canvas=canvas, z_what=z_what)
        Completion(check_conditional("image", self.image, scene, self.image_shape), scene.known)


class VAEACGuide(Guide):
    """The amortised guide of a :class:`VAEAC`, called as ``guide(images, seen)`` with complete images.

    Args:
        model: Used for its image shape and the shape and support of its latent.
        hidden: Width of the two hidden layers.
        z_what: Proposal, from features (n, hidden) to a distribution. Default: ``Amortised``.
    """

    model: VAEAC
    z_what: Any

    def __init__(
        self,
        model: VAEAC,
        *,
        hidden: int = 500,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, VAEAC)
        check_sizes(hidden=hidden)
        self.encode = glorot(GlimpseEncoder(_marked(self.blank).shape, hidden, hidden=(hidden,)))
        own = glorot(Amortised(hidden, model.latents()["z_what"])) if z_what is None else z_what
        self.z_what = own
        self.to(model.blank)

    def forward(self, images: Tensor, seen: Tensor | None = None) -> None:
        check_images(images, self.blank)
        hidden = check_seen(images, seen, self.blank, len(images)).isnan()
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z_what", self.z_what(self.encode(_marked(images, hidden))))  # (e)


def _marked(
    images: Float[Tensor, "*batch c h w"], hidden: Bool[Tensor, "*batch c h w"] | None = None
) -> Float[Tensor, "*batch c2 h w"]:
    """Images with 0 where they are NaN, and channels that are 1 where a pixel is not seen."""
    unseen = images.isnan()
    hidden = unseen if hidden is None else hidden
    return torch.cat([images.masked_fill(unseen, 0.0), hidden.to(images)], -3)
