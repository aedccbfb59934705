"""Attend, Infer, Repeat (Eslami et al., 2016), https://arxiv.org/abs/1603.08575

The generative process (Eq. 1 and Fig. 2, left), for steps t = 0 .. N-1::

    z_pres[t]  ~ p(z_pres[t] | z_pres[t-1])    is there one more object? n in unary code    (1)
    z_where[t] ~ p(z_where)                    its scale and place                          (2)
    z_what[t]  ~ p(z_what)                     its looks, as a code                         (3)
    canvas     = sum over t of z_pres[t] place(decoder(z_what[t]), z_where[t])              (4)
    image      ~ p(image | canvas)                                                          (5)

and the guide (Eq. 2 and Fig. 2, middle and right)::

    h[t]       = cell(image, z_where[t-1], z_what[t-1], h[t-1])                             (6)
    z_pres[t]  ~ q(z_pres[t] | h[t], z_pres[t-1])                                           (7)
    z_where[t] ~ q(z_where[t] | h[t])                                                       (8)
    z_what[t]  ~ q(z_what[t] | glance(image, z_where[t]))                                   (9)

**The likelihood is written as increments.** Given images, (5) is log p(image | blank) and then, at
each present step, log p(image | canvas[t]) - log p(image | canvas[t-1]), the canvas as if all steps
so far were present. The terms telescope to (5), whatever n is. So a step depends on the step before
and on nothing earlier: ``pyro.markov`` is right, the sum over counts is exact and linear in N under
``TraceEnum_ELBO``, and under ``TraceGraph_ELBO`` a decision is charged with what follows it alone.

Departs from the paper:
    n = 0 is allowed (Eq. 1 starts its sum at 1, its data do not). The count's prior is geometric with
    rho = 0.01, a cost of 4.6 nats an object, and poses are drawn around scale 3 rather than 0; the paper
    states neither. The image enters the recurrent cell as the features of a convolutional encoder.
    While training, the guide is never quite sure of presence (``certainty``).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn

from ..conditionals import Amortised, Conditional, Persist, Pixels, Prior, persist
from ..networks import GlimpseDecoder, GlimpseEncoder, ImageEncoder, mlp
from ..render import glance, place
from ..scene import Guide, Model, check_images

__all__ = ["AIR", "AIRGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before step ``step``: what every conditional of AIR is given."""

    step: int
    canvas: Float[Tensor, "*batch c h w"]
    z_pres: Float[Tensor, "*batch"]
    z_where: Float[Tensor, "*batch pose"] | None = None  # None before the first object
    z_what: Float[Tensor, "*batch code"] | None = None
    evidence: Float[Tensor, "*batch"] | float = 0.0  # log p(images | canvas), if images are given


class AIR(Model):
    """The generative model. Each keyword is a site's conditional, ``Scene -> distribution``.

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a glimpse, before its pose scales it.
        steps: The largest number N of objects.
        code: Size of ``z_what``.
        z_pres: Prior of presence, batch shape (n,). Default: ``Persist(0.01)``.
        z_where: Prior of the pose (scale, x, y). Default: Normal, about a third of the image wide.
        z_what: Prior of the code. Default: standard Normal.
        decoder: From a code ``(..., code)`` to a glimpse ``(..., *window)``. Default: ``GlimpseDecoder``.
        image: Likelihood around ``scene.canvas``. Default: Normal pixels of scale 0.3.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 50, 50),
        window: tuple[int, ...] = (1, 28, 28),
        steps: int = 3,
        code: int = 50,
        *,
        z_pres: Conditional | None = None,
        z_where: Conditional | None = None,
        z_what: Conditional | None = None,
        decoder: Callable[[Tensor], Tensor] | None = None,
        image: Conditional | None = None,
    ) -> None:
        super().__init__(image_shape)
        if steps < 1 or code < 1:
            raise ValueError(f"steps and code must be at least 1, got {steps} and {code}")
        if len(window) != 3 or window[0] != self.image_shape[0]:
            raise ValueError(f"window must be ({self.image_shape[0]}, h, w), got {window}")
        self.window, self.steps = tuple(window), steps
        normal = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        pose = Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])
        self.z_pres = Persist(0.01) if z_pres is None else z_pres
        self.z_where = pose if z_where is None else z_where
        self.z_what = normal if z_what is None else z_what
        self.decoder = GlimpseDecoder(code, self.window) if decoder is None else decoder
        self.image = Pixels(dist.Normal, scale=0.3) if image is None else image

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        size = size if images is None else len(check_images(images, self.image_shape))
        with pyro.plate("images", size, dim=-1):
            scene = Scene(0, self.blank.expand(size, *self.image_shape), self.blank.new_ones(size))
            if images is not None:
                pyro.sample("image", self.image(scene), obs=images)  # (5) on the blank canvas
                scene = scene._replace(evidence=self.image(scene).log_prob(images))
            # history=1: step t sees z_pres[t-1] and no earlier one; canvas, pose and code are those of
            # the path on which every step is present, and carry no enumerated dimension.
            for t in pyro.markov(range(self.steps), history=1):
                scene = self.step(t, scene, images)
            if images is None:
                pyro.deterministic("canvas", scene.canvas, event_dim=3)
                images = pyro.sample("image", self.image(scene))  # (5)
        return images

    def step(self, t: int, scene: Scene, images: Tensor | None) -> Scene:
        """Draws one more object, present or not, and adds it to the canvas."""
        z_pres = pyro.sample(f"z_pres_{t}", self.z_pres(scene))  # (1)
        with poutine.mask(mask=z_pres.bool()):
            z_where = pyro.sample(f"z_where_{t}", self.z_where(scene))  # (2)
            z_what = pyro.sample(f"z_what_{t}", self.z_what(scene))  # (3)
            layer = place(self.decoder(z_what), z_where, self.image_shape)
            if images is None:
                layer = z_pres[..., None, None, None] * layer
            after = Scene(t + 1, scene.canvas + layer, z_pres, z_where, z_what)  # (4)
            if images is not None:
                after = after._replace(evidence=self.image(after).log_prob(images))
                pyro.factor(f"evidence_{t}", after.evidence - scene.evidence)  # (5), its increment
        return after


class Seen(NamedTuple):
    """What the guide carries from step to step, on the path on which every step is present."""

    features: Float[Tensor, "batch features"]
    z_pres: Float[Tensor, " batch"]  # the one member that may carry an enumerated dimension
    z_where: Float[Tensor, "batch pose"]
    z_what: Float[Tensor, "batch code"]
    state: Any = None


class AIRGuide(Guide):
    """The amortised guide of an :class:`AIR` model, sized by the model's latents.

    Args:
        model: Read for its image shape, window, steps, and the shapes and supports of its latents.
        hidden: Size of the recurrent state and of the image's features.
        cell: Makes the recurrent cell, ``cell(inputs, hidden)``, called as ``cell(input, state)`` with
            ``state`` None at first: ``nn.LSTMCell``, ``nn.GRUCell``, or a function.
        presence: Logit of presence before training; above 0, so that objects get a chance to be learned.
        certainty: In training mode, logits of presence stay within this of 0 (3 is 4.7 %). A decision
            that is never taken is never learned about: a young guide would soon be sure of leaving
            everything out, or of explaining each object by two. Call ``guide.eval()`` before using it:
            then it may be as sure as it likes.
    """

    def __init__(
        self,
        model: AIR,
        *,
        hidden: int = 256,
        cell: Callable[[int, int], Callable] = nn.LSTMCell,
        presence: float = 1.0,
        certainty: float = 3.0,
    ) -> None:
        super().__init__(model)
        self.window, self.steps = model.window, model.steps
        self.presence, self.certainty = presence, certainty
        latents = model.latents()
        z_where, z_what = latents["z_where_0"], latents["z_what_0"]
        sizes = z_where.event_shape[0], z_what.event_shape[0]
        self.register_buffer("nothing", torch.zeros(sum(sizes)), persistent=False)
        self.sizes = sizes
        self.embed = ImageEncoder(model.image_shape, hidden)
        self.cell = cell(hidden + sum(sizes), hidden)
        self.z_pres = mlp(hidden, 200, 1)
        self.z_where = Amortised(hidden, z_where, hidden=(200,))
        self.encode = GlimpseEncoder(self.window)
        self.z_what = Amortised(200, z_what, hidden=(100,))
        self.baseline = mlp(hidden, 200, 1)

    def forward(self, images: Tensor) -> None:
        size = len(check_images(images, self.image_shape))
        with pyro.plate("images", size, dim=-1):
            nothing = self.nothing.expand(size, -1).split(self.sizes, -1)
            seen = Seen(self.embed(images), images.new_ones(size), *nothing)
            for t in pyro.markov(range(self.steps), history=1):  # as in the model
                seen = self.step(t, seen, images)

    def step(self, t: int, seen: Seen, images: Tensor) -> Seen:
        """Proposes one more object: whether there is one, then where, then what."""
        state = self.cell(torch.cat([seen.features, seen.z_where, seen.z_what], -1), seen.state)
        h = state[0] if isinstance(state, tuple) else state  # (6)
        logits = self.z_pres(h)[:, 0] + self.presence
        if self.training:
            logits = self.certainty * torch.tanh(logits / self.certainty)
        q_pres = persist(logits, seen.z_pres)
        z_pres = pyro.sample(f"z_pres_{t}", q_pres, infer=self.control(h, seen.z_pres))  # (7)
        with poutine.mask(mask=z_pres.bool()):
            z_where = pyro.sample(f"z_where_{t}", self.z_where(h))  # (8)
            glimpse = glance(images, z_where, self.window)
            z_what = pyro.sample(f"z_what_{t}", self.z_what(self.encode(glimpse)))  # (9)
        return Seen(seen.features, z_pres, z_where, z_what, state)

    def control(self, h: Tensor, z_pres: Tensor) -> dict[str, Any]:
        """The neural baseline of Sec. I-B: what this decision and the later ones are expected to cost.

        A function of the image and of the latents so far, through ``h``; its gradient stops there.
        """
        value = 100.0 * self.baseline(h.detach())[:, 0]  # in units of 100 nats
        return {"baseline": {"baseline_value": value * z_pres}}
