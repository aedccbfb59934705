"""Attend, Infer, Repeat (Eslami et al., 2016), https://arxiv.org/abs/1603.08575

The generative process (the paper's Eq. 1, and Fig. 2, left), for steps t = 0 .. N-1::

    z_pres[t]  ~ p(z_pres[t] | z_pres[t-1])    is there one more object? n in unary code    (a)
    z_where[t] ~ p(z_where)                    its scale and place                          (b)
    z_what[t]  ~ p(z_what)                     its looks, as a code                         (c)
    canvas     = sum over t of z_pres[t] place(decoder(z_what[t]), z_where[t])              (d)
    image      ~ p(image | canvas)                                                          (e)

and the guide (the paper's Eq. 2, and Fig. 2, middle and right)::

    h[t]       = cell(image, z_where[t-1], z_what[t-1], h[t-1])                             (f)
    z_pres[t]  ~ q(z_pres[t] | h[t], z_pres[t-1])                                           (g)
    z_where[t] ~ q(z_where[t] | h[t])                                                       (h)
    z_what[t]  ~ q(z_what[t] | glance(image, z_where[t]))                                   (i)

**The likelihood is written as increments.** Given images, (e) is log p(image | blank) and then, at
each present step, log p(image | canvas[t]) - log p(image | canvas[t-1]), the canvas as if all steps
so far were present. The terms telescope to (e), whatever n is. So a step depends on the step before
and on nothing earlier: ``pyro.markov`` is right, the sum over counts is exact and linear in N under
``TraceEnum_ELBO``, and under ``TraceGraph_ELBO`` a decision is charged with what follows it alone.
The site ``image`` then holds the blank canvas' share: to draw or to look at images, call the model
without any (``model(size=n)``), replaying a trace if need be; only then is there a site ``canvas``.

Departs from the paper:
    n = 0 is allowed (Eq. 1 starts its sum at 1, its data do not), and n is cut off at N. The rho of the
    geometric count (Fig. 2), which the paper does not give, is 0.01: a cost of 4.6 nats an object. The
    pose's scale is drawn around 3, where Fig. 2 has mean 0. The image enters the recurrent cell as the
    features of a convolutional encoder, with the pose and the code of the step before, where the paper
    writes R(x, h). While training, the guide is never quite sure of presence (``certainty``).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn

from ..base import Guide, Model
from ..checks import check_conditional, check_decoder, check_images, check_sizes
from ..conditionals import Amortised, Conditional, Persist, Pixels, Prior, persist
from ..networks import GlimpseDecoder, GlimpseEncoder, ImageEncoder, mlp
from ..random import fork_rng
from ..render import glance, place

__all__ = ["AIR", "AIRGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before step ``step``; for z_what, ``z_where`` is already that of this step."""

    step: int
    canvas: Float[Tensor, "*batch c h w"]
    z_pres: Float[Tensor, "*batch"]
    z_where: Float[Tensor, "*batch pose"] | None = None  # None before the first object
    z_what: Float[Tensor, "*batch code"] | None = None


class AIR(Model):
    """The generative model. Each keyword is a site's conditional, ``Scene -> distribution``.

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a glimpse, before its pose scales it.
        steps, code: The largest number N of objects, and the size of ``z_what``.
        z_pres: Prior of presence, batch shape (n,); certainly 0 after a 0. Default: ``Persist(0.01)``.
        z_where: Prior of the pose (scale, x, y). Default: Normal, about a third of the image wide.
        z_what: Prior of the code. Default: standard Normal.
        decoder: From a code ``(..., code)`` to a glimpse ``(..., *window)``. Default: ``GlimpseDecoder``.
        image: Likelihood; reads ``scene.canvas`` and nothing else. Default: Normal pixels of scale 0.3.
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
        check_sizes(window=window, steps=steps, code=code)
        if window[0] != self.image_shape[0]:
            raise ValueError(f"window must be ({self.image_shape[0]}, h, w), got {window}")
        self.window, self.steps = tuple(window), steps
        normal = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        pose = Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])
        self.z_pres = Persist(0.01) if z_pres is None else z_pres
        self.z_where = pose if z_where is None else z_where
        self.z_what = normal if z_what is None else z_what
        self.decoder = GlimpseDecoder(code, self.window) if decoder is None else decoder
        self.image = Pixels(dist.Normal, scale=0.3) if image is None else image

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Float[Tensor, "... c h w"]:
        check_sizes(size=size)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene = Scene(0, self.blank.expand(size, *self.image_shape), self.blank.new_ones(size))
            evidence: Tensor | float = 0.0  # log p(images | canvas) so far
            if images is not None:
                blank = self.likelihood(scene.canvas)
                pyro.sample("image", blank, obs=images)  # (e) on the blank canvas
                evidence = blank.log_prob(images)
            # history=1: step t sees z_pres[t-1] and no earlier one; canvas, pose and code are those of
            # the path on which every step is present, and carry no enumerated dimension.
            for t in pyro.markov(range(self.steps), history=1):
                scene, evidence = self.step(t, scene, images, evidence)
            if images is None:
                pyro.deterministic("canvas", scene.canvas, event_dim=3)
                images = pyro.sample("image", self.likelihood(scene.canvas))  # (e)
        return images

    def step(
        self, t: int, scene: Scene, images: Tensor | None = None, evidence: Tensor | float = 0.0
    ) -> tuple[Scene, Tensor | float]:
        """Draws one more object, present or not, and adds it to the canvas."""
        z_pres = pyro.sample(f"z_pres_{t}", self.z_pres(scene))  # (a)
        with poutine.mask(mask=z_pres.bool()):
            z_where = pyro.sample(f"z_where_{t}", self.z_where(scene))  # (b)
            z_what = pyro.sample(f"z_what_{t}", self.z_what(scene._replace(z_where=z_where)))  # (c)
            layer = place(self.decoder(z_what), z_where, self.image_shape)
            if images is None:
                layer = z_pres[..., None, None, None] * layer
            canvas = scene.canvas + layer  # (d)
            if images is not None:
                before, evidence = evidence, self.likelihood(canvas).log_prob(images)
                pyro.factor(f"evidence_{t}", evidence - before)  # (e), its increment
        return Scene(t + 1, canvas, z_pres, z_where, z_what), evidence

    @torch.no_grad()
    def check(self) -> None:
        scene = Scene(0, self.blank[None], self.blank.new_ones(1))
        absent = scene._replace(z_pres=self.blank.new_zeros(1))
        prior, none = (check_conditional("z_pres", self.z_pres, s, ()) for s in (scene, absent))
        if not prior.support.is_discrete:
            raise ValueError("z_pres must be 0 or 1: return a Bernoulli")
        if none.log_prob(self.blank.new_ones(1)).exp().max() > 1e-3:
            raise ValueError("z_pres must be 0 after a 0: multiply its probability by scene.z_pres")
        with fork_rng():
            z_where = check_conditional("z_where", self.z_where, scene, (3,)).sample().reshape(1, 3)
            given = scene._replace(z_where=z_where)
            z_what = check_conditional("z_what", self.z_what, given, 1).sample().reshape(1, -1)
        glimpse = check_decoder("decoder", self.decoder, z_what, self.window)
        canvas = place(glimpse, z_where, self.image_shape)
        check_conditional("image", self.image, scene._replace(canvas=canvas), self.image_shape)

    def likelihood(self, canvas: Float[Tensor, "*batch c h w"]) -> dist.Distribution:
        """(e) reads the canvas alone: what else a scene holds differs between one drawn and one seen."""
        return self.image(Scene(0, canvas, canvas.new_ones(canvas.shape[:-3])))


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
        certainty: In training mode, logits of presence stay within this of 0 (3 is 4.7 %): a young guide
            would soon be sure of leaving everything out, or of explaining each object by two, and learn
            about nothing else. Call ``guide.eval()`` before using it.
        z_where, z_what: Proposals, from features (n, hidden) and (n, 200) to a distribution. Default: by the
            prior's support. A discrete code is drawn, under ``TraceEnum_ELBO`` too.
    """

    def __init__(
        self,
        model: AIR,
        *,
        hidden: int = 256,
        cell: Callable[[int, int], Callable] = nn.LSTMCell,
        presence: float = 1.0,
        certainty: float = 3.0,
        z_where: Callable[[Tensor], dist.Distribution] | None = None,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, AIR)
        check_sizes(hidden=hidden)
        if not 0 < certainty < float("inf"):
            raise ValueError(f"certainty must be a logit above 0, got {certainty}")
        self.window, self.steps = model.window, model.steps
        self.presence, self.certainty = presence, certainty
        _, pose, code, *_ = model.latents().values()
        self.sizes = sizes = pose.event_shape[0], code.event_shape[0]
        self.register_buffer("nothing", torch.zeros(sum(sizes)), persistent=False)
        self.embed = ImageEncoder(model.image_shape, hidden)
        self.cell = cell(hidden + sum(sizes), hidden)
        self.z_pres = mlp(hidden, 200, 1)
        self.z_where = Amortised(hidden, pose, hidden=(200,)) if z_where is None else z_where
        self.encode = GlimpseEncoder(self.window)
        self.z_what = Amortised(200, code, hidden=(100,)) if z_what is None else z_what
        self.baseline = mlp(hidden, 200, 1)
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        size = len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            nothing = self.nothing.expand(size, -1).split(self.sizes, -1)
            seen = Seen(self.embed(images), images.new_ones(size), *nothing)
            for t in pyro.markov(range(self.steps), history=1):  # as in the model
                seen = self.step(t, seen, images)

    def step(self, t: int, seen: Seen, images: Float[Tensor, "n c h w"]) -> Seen:
        """Proposes one more object: whether there is one, then where, then what."""
        state = self.cell(torch.cat([seen.features, seen.z_where, seen.z_what], -1), seen.state)
        h = state[0] if isinstance(state, tuple) else state  # (f)
        logits = self.z_pres(h)[:, 0] + self.presence
        if self.training:
            logits = self.certainty * torch.tanh(logits / self.certainty)
        q_pres = persist(logits, seen.z_pres)
        z_pres = pyro.sample(f"z_pres_{t}", q_pres, infer=self.control(h, seen.z_pres))  # (g)
        with poutine.mask(mask=z_pres.bool()):
            z_where = pyro.sample(f"z_where_{t}", self.z_where(h))  # (h)
            glimpse = glance(images, z_where, self.window)
            q_what = self.z_what(self.encode(glimpse))
            z_what = pyro.sample(f"z_what_{t}", q_what, infer={"enumerate": None})  # (i)
        return Seen(seen.features, z_pres, z_where, z_what, state)

    def control(self, h: Float[Tensor, "n hidden"], z_pres: Float[Tensor, "*n"]) -> dict[str, Any]:
        """The neural baseline of Sec. I-B: what this decision and the later ones are expected to cost.

        A function of the image and of the latents so far, through ``h``; its gradient stops there.
        """
        if len(z_pres) == 1:
            return {}  # Pyro drops a plate of one, and then finds the baseline's shape wrong
        value = 100.0 * self.baseline(h.detach())[:, 0]  # in units of 100 nats
        return {"baseline": {"baseline_value": value * z_pres}}
