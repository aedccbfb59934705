"""The conditional variational auto-encoder (Sohn, Lee and Yan, 2015): an image, given a part of it.

K. Sohn, H. Lee, X. Yan, *Learning structured output representation using deep conditional generative models*,
NIPS 2015. The generative process (the paper's Sec. 4; what is seen is its x, the rest of the image its y)::

    guess  = baseline(seen)                         a deterministic network's answer            (a)
    z_what ~ p(z_what | seen, guess)                the prior network                           (b)
    canvas = decoder(z_what, seen, guess)           the generation network                      (c)
    image  ~ p(image | canvas) where it is not seen; what is seen stays                         (d)

and the guide, the recognition network, which sees the whole image::

    z_what ~ q(z_what | seen, rest)                                                             (e)

Departs from the paper:
    (a) The first guess, with what is seen in it, is the picture that the prior network and the generation
    network see; the paper gives it to the prior network. Unless it is frozen, the bound trains it too.
    (b), (c), (e) Hidden layers of 500 units and 50 latents, not 1,000 and 200. Glorot's initial weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_seen, check_sizes
from ..conditionals import Amortised, Completion, Conditional, Conditioned, Pixels
from ..networks import GlimpseDecoder, GlimpseEncoder, glorot

__all__ = ["CVAE", "CVAEGuide", "FirstGuess", "Scene"]

#: What the baseline network sees where nothing is seen: no intensity.
UNSEEN = -1.0


class Scene(NamedTuple):
    """What is known so far: the argument of a CVAE's conditionals."""

    known: Float[Tensor, "batch c h w"]  # the pixels that are seen, NaN elsewhere
    guess: Float[Tensor, "batch c h w"]  # the baseline's picture, with what is seen
    canvas: Float[
        Tensor, "*batch c h w"
    ]  # what the code decodes to, with what is seen; at first the guess
    features: Float[Tensor, "batch features"] | None = None  # of the guess
    z_what: Float[Tensor, "*batch code"] | None = None


class CVAE(Model):
    """The generative model. ``z_what`` and ``image`` are conditionals of a :class:`Scene`.

    It is called as ``model(images, seen)``. ``seen`` is a bool mask (n, 1 or C, H, W) of the images, True
    where a pixel is seen; or a picture (n, C, H, W) that is NaN where nothing is seen, for
    ``model(None, picture)``, which draws completions of it. None: nothing is seen.

    Args:
        image_shape: (C, H, W) of an image.
        code: Size of ``z_what``.
        hidden: Width of the hidden layers, two in each network.
        guess: The baseline, from what is seen (n, C, H, W), -1 elsewhere, to canvases in [0, 1].
        z_what: Prior of the code. Default: Normal, of the picture's features.
        decoder: From codes and pictures in one vector (n, code + C * H * W) to canvases in [0, 1].
        image: Likelihood, of independent pixels. Default: Bernoulli, for images of 0 and 1.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        code: int = 50,
        *,
        hidden: int = 500,
        guess: Callable[[Tensor], Tensor] | None = None,
        z_what: Conditional | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
    ) -> None:
        super().__init__(image_shape)
        check_sizes(code=code, hidden=hidden)
        shape, widths = self.image_shape, (hidden, hidden)
        self.encode = glorot(GlimpseEncoder(shape, hidden, hidden=(hidden,)))
        self.z_what = glorot(Conditioned(hidden, code)) if z_what is None else z_what
        if guess is None:
            layers = GlimpseEncoder(shape, hidden), GlimpseDecoder(hidden, shape, hidden=(hidden,))
            guess = glorot(nn.Sequential(*layers))
        if decoder is None:
            inputs = code + self.blank.numel()
            decoder = glorot(GlimpseDecoder(inputs, shape, hidden=widths))
        self.guess: Any = guess
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
        """(a): what is seen, completed by the baseline network, and its features."""
        scene = _completed(self.guess, known)
        return scene._replace(features=self.encode(scene.guess))

    def draw(
        self, z_what: Float[Tensor, "*batch code"], scene: Scene
    ) -> Float[Tensor, "*batch c h w"]:
        """(c): what the code decodes to, with what is seen put in."""
        picture = scene.guess.flatten(1).expand(*z_what.shape[:-1], -1)
        canvas = self.decoder(torch.cat([z_what, picture], -1))
        return torch.where(scene.known.isnan(), canvas, scene.known)

    def check_parts(self) -> None:
        FirstGuess(self).check_parts()
        known = torch.full_like(self.blank[None], torch.nan)
        scene = self.look(known)
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        inputs = torch.cat([z_what, scene.guess.flatten(1)], -1)
        canvas = check_decoder("decoder", self.decoder, inputs, self.image_shape)
        scene = scene._replace(canvas=canvas, z_what=z_what)
        Completion(check_conditional("image", self.image, scene, self.image_shape), known)


class FirstGuess(Model):
    """The baseline network of a CVAE alone: a model without latents, ``image ~ p(image | guess)``.

    To train it before the rest: ``fit(FirstGuess(model), lambda images, seen: None, batches)``.

    Args:
        model: Whose network and likelihood it uses.
    """

    def __init__(self, model: CVAE) -> None:
        super().__init__(model.image_shape)
        self.guess, self.image = model.guess, model.image
        self.to(model.blank)

    def forward(
        self, images: Tensor | None = None, seen: Tensor | None = None, *, size: int = 1
    ) -> Float[Tensor, "... c h w"]:
        known = check_seen(images, seen, self.blank, size)
        with pyro.plate("images", len(known), dim=-1):
            pixels = self.image(_completed(self.guess, known))
            return pyro.sample("image", Completion(pixels, known), obs=images)

    def check_parts(self) -> None:
        known = torch.full_like(self.blank[None], torch.nan)
        check_decoder("guess", self.guess, torch.full_like(known, UNSEEN), self.image_shape)
        scene = _completed(self.guess, known)
        Completion(check_conditional("image", self.image, scene, self.image_shape), known)


def _completed(guess: Callable[[Tensor], Tensor], known: Float[Tensor, "n c h w"]) -> Scene:
    """What is seen, with the baseline's picture elsewhere."""
    hidden = known.isnan()
    picture = torch.where(hidden, guess(known.masked_fill(hidden, UNSEEN)), known)
    return Scene(known, picture, picture)


class CVAEGuide(Guide):
    """The amortised guide of a :class:`CVAE`, called as ``guide(images, seen)`` with complete images.

    Args:
        model: Used for its image shape and the shape and support of its latent.
        hidden: Width of the two hidden layers.
        z_what: Proposal, from features (n, hidden) to a distribution. Default: ``Amortised``.
    """

    model: CVAE
    z_what: Any

    def __init__(
        self,
        model: CVAE,
        *,
        hidden: int = 500,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, CVAE)
        check_sizes(hidden=hidden)
        self.encode = glorot(GlimpseEncoder(model.image_shape, hidden, hidden=(hidden,)))
        own = glorot(Amortised(hidden, model.latents()["z_what"])) if z_what is None else z_what
        self.z_what = own
        self.to(model.blank)

    def forward(self, images: Tensor, seen: Tensor | None = None) -> None:
        check_images(images, self.blank)
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z_what", self.z_what(self.encode(images)))  # (e)
