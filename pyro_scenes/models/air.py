"""Attend, Infer, Repeat (Eslami et al., 2016), https://arxiv.org/abs/1603.08575

The generative process (the paper's Eq. 1, and Fig. 2, left), for steps t = 0 .. N-1::

    z_pres[t]  ~ p(z_pres[t] | z_pres[t-1])    is there one more object? n in unary code    (a)
    z_where[t] ~ p(z_where)                    its pose (scale, x, y)                       (b)
    z_what[t]  ~ p(z_what)                     the code of its appearance                   (c)
    canvas     = sum over t of z_pres[t] place(decoder(z_what[t]), z_where[t])              (d)
    image      ~ p(image | canvas)                                                          (e)

and the guide (the paper's Eq. 2, and Fig. 2, middle and right)::

    h[t]       = cell(image, z_where[t-1], z_what[t-1], h[t-1])                             (f)
    z_pres[t]  ~ q(z_pres[t] | h[t], z_pres[t-1])                                           (g)
    z_where[t] ~ q(z_where[t] | h[t])                                                       (h)
    z_what[t]  ~ q(z_what[t] | glance(image, z_where[t]))                                   (i)

**The likelihood is a sum of increments.** Given images, (e) is log p(image | blank) plus, at each present
step, log p(image | canvas[t]) - log p(image | canvas[t-1]), where canvas[t] has the objects of all steps up
to t, as if present. The terms telescope to (e) for every n, and a step depends only on the step before. So
the sum over counts under ``TraceEnum_ELBO`` is exact and linear in N, and under ``TraceGraph_ELBO`` the
gradient of a presence is weighted only by the terms after it. The site ``image`` then holds
log p(image | blank) alone. To draw images, or to read the site ``canvas``, call the model without images
(``model(size=n)``), and replay a trace if needed.

Departs from the paper:
    n = 0 is allowed (Eq. 1 sums from 1, but the paper's data have 0). The paper gives no rho for the
    geometric count (Fig. 2); 0.01 costs 4.6 nats an object. The mean of the pose's scale is 3, not 0
    (Fig. 2). The cell reads a convolutional encoding of the image and the pose and code of the step before,
    where the paper has R(x, h). In training, logits of presence are bounded (``certainty``).
"""

from collections.abc import Callable
from functools import partial
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
from ..conditionals.posteriors import Posterior, normal
from ..networks import GlimpseDecoder, GlimpseEncoder, ImageEncoder, mlp
from ..render import glance, place

__all__ = ["AIR", "AIRGuide", "Scene"]


class Scene(NamedTuple):
    """What has been drawn before step ``step``. For ``z_what``, ``z_where`` is that of this step."""

    step: int
    canvas: Float[Tensor, "*batch c h w"]
    z_pres: Float[Tensor, "*batch"]
    z_where: Float[Tensor, "*batch pose"] | None = None  # None before the first object
    z_what: Float[Tensor, "*batch code"] | None = None
    past: tuple[tuple[Tensor, Tensor], ...] = ()  # z_where and z_what of each step before


class AIR(Model):
    """The generative model. ``z_pres``, ``z_where``, ``z_what``, ``image``: conditionals of a :class:`Scene`.

    Args:
        image_shape: (C, H, W) of an image.
        window: (C, h, w) of a glimpse.
        steps, code: The largest number N of objects, and the size of ``z_what``.
        z_pres: Prior of presence, batch shape (n,); 0 after a 0. Default: ``Persist(0.01)``.
        z_where: Prior of the pose. Default: Normal, objects about a third of the image wide.
        z_what: Prior of the code. Default: standard Normal.
        decoder: From codes (*batch, code) to glimpses (*batch, C, h, w). Default: ``GlimpseDecoder``.
        image: Likelihood; reads only ``scene.canvas``. Default: Normal pixels of scale 0.3.
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
        standard = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
        pose = Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])
        self.z_pres = Persist(0.01) if z_pres is None else z_pres
        self.z_where = pose if z_where is None else z_where
        self.z_what = standard if z_what is None else z_what
        self.decoder = GlimpseDecoder(code, self.window) if decoder is None else decoder
        self.image = Pixels(dist.Normal, scale=0.3) if image is None else image

    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Float[Tensor, "... c h w"]:
        check_sizes(size=size)
        size = size if images is None else len(check_images(images, self.blank))
        with pyro.plate("images", size, dim=-1):
            scene = Scene(0, self.blank.expand(size, *self.image_shape), self.blank.new_ones(size))
            evidence: Tensor | float = 0.0  # log p(images | canvas) so far
            if images is not None:
                likelihood = self.likelihood(scene.canvas)
                pyro.sample("image", likelihood, obs=images)  # (e) on the blank canvas
                evidence = likelihood.log_prob(images)
            # history=1: step t depends on z_pres[t-1] alone; canvas, pose and code are drawn as if all
            # steps were present, and carry no enumerated dimension.
            for t in pyro.markov(range(self.steps), history=1):
                scene, evidence = self.step(t, scene, images, evidence)
            if images is None:
                pyro.deterministic("canvas", scene.canvas, event_dim=3)
                images = pyro.sample("image", self.likelihood(scene.canvas))  # (e)
        return images

    def step(
        self, t: int, scene: Scene, images: Tensor | None = None, evidence: Tensor | float = 0.0
    ) -> tuple[Scene, Tensor | float]:
        """Draws one more object. Given images, the canvas has it even if it is absent."""
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
        past = (*scene.past, (z_where, z_what))
        return Scene(t + 1, canvas, z_pres, z_where, z_what, past), evidence

    def check_parts(self) -> None:
        scene = Scene(0, self.blank[None], self.blank.new_ones(1))
        after_0 = scene._replace(z_pres=self.blank.new_zeros(1))
        prior, absent = (check_conditional("z_pres", self.z_pres, s, ()) for s in (scene, after_0))
        if not prior.support.is_discrete:
            raise ValueError("z_pres must be 0 or 1: return a Bernoulli")
        if absent.log_prob(self.blank.new_ones(1)).exp().max() > 1e-3:
            raise ValueError("z_pres must be 0 after a 0: multiply its probability by scene.z_pres")
        z_where = check_conditional("z_where", self.z_where, scene, (3,)).sample().reshape(1, 3)
        scene = scene._replace(z_where=z_where)
        z_what = check_conditional("z_what", self.z_what, scene, 1).sample().reshape(1, -1)
        glimpse = check_decoder("decoder", self.decoder, z_what, self.window)
        scene = Scene(0, place(glimpse, z_where, self.image_shape), self.blank.new_ones(1))
        check_conditional("image", self.image, scene, self.image_shape)

    def likelihood(self, canvas: Float[Tensor, "*batch c h w"]) -> dist.Distribution:
        """(e), of the canvas alone: the latents in a scene would depend on whether images are given."""
        return self.image(Scene(0, canvas, canvas.new_ones(canvas.shape[:-3])))


class GuideState(NamedTuple):
    """What the guide carries from step to step, as if all steps were present."""

    features: Float[Tensor, "batch features"]
    z_pres: Float[Tensor, " batch"]  # the only field that may carry an enumerated dimension
    z_where: Float[Tensor, "batch pose"]
    z_what: Float[Tensor, "batch code"]
    cell_state: Any = None


class AIRGuide(Guide):
    """The amortised guide of an :class:`AIR` model, sized by the model's latents.

    Args:
        model: Used for its sizes and the shapes and supports of its latents.
        hidden: Size of the recurrent state and of the image's features.
        cell: Returns the recurrent cell, ``cell(input_size, hidden)``, which is called as
            ``cell(input, state)``, with state None at first. Default: ``nn.LSTMCell``.
        presence: Logit of presence before training. Above 0, so that objects are learned at all.
        certainty: Bound on the logits of presence in training (3: probabilities from 4.7 % up), without which
            a guide soon leaves out all objects, or uses two for each. Call ``guide.eval()`` after it.
        missing: Whether encoders also read which pixels are seen, of a glimpse through its window.
        posterior: The family of the default proposals, such as ``full_covariance``: see ``Amortised``.
        z_where, z_what: Proposals, from features (n, hidden) and (n, 200) to a distribution. Default:
            ``Amortised``. A discrete code is drawn, also under ``TraceEnum_ELBO``.
    """

    def __init__(
        self,
        model: AIR,
        *,
        hidden: int = 256,
        cell: Callable[[int, int], Callable] = nn.LSTMCell,
        presence: float = 1.0,
        certainty: float = 3.0,
        missing: bool = False,
        posterior: Posterior = normal,
        z_where: Callable[[Tensor], dist.Distribution] | None = None,
        z_what: Callable[[Tensor], dist.Distribution] | None = None,
    ) -> None:
        super().__init__(model, AIR, missing=missing)
        check_sizes(hidden=hidden)
        if not 0 < certainty < float("inf"):
            raise ValueError(f"certainty must be a logit above 0, got {certainty}")
        self.window, self.steps = self.see_shape(model.window), model.steps
        self.presence, self.certainty = presence, certainty
        _, pose, code, *_ = model.latents().values()
        self.sizes = sizes = pose.event_shape[0], code.event_shape[0]
        self.embed = ImageEncoder(self.see_shape(model.image_shape), hidden)
        self.cell = cell(hidden + sum(sizes), hidden)
        self.z_pres = mlp(hidden, 200, 1)
        head = partial(Amortised, posterior=posterior)
        self.z_where = head(hidden, pose, hidden=(200,)) if z_where is None else z_where
        self.encode = GlimpseEncoder(self.window)
        self.z_what = head(200, code, hidden=(100,)) if z_what is None else z_what
        self.baseline = mlp(hidden, 200, 1)
        self.to(model.blank)

    def forward(self, images: Tensor) -> None:
        images = self.see(images)
        with pyro.plate("images", size := len(images), dim=-1):
            zeros = (images.new_zeros(size, numbers) for numbers in self.sizes)
            state = GuideState(self.embed(images), images.new_ones(size), *zeros)
            for t in pyro.markov(range(self.steps), history=1):  # as in the model
                state = self.step(t, state, images)

    def step(self, t: int, state: GuideState, images: Float[Tensor, "n d h w"]) -> GuideState:
        """Proposes one more object: its presence, its pose, its code."""
        inputs = torch.cat([state.features, state.z_where, state.z_what], -1)
        cell_state = self.cell(inputs, state.cell_state)
        h = cell_state[0] if isinstance(cell_state, tuple) else cell_state  # (f)
        logits = self.z_pres(h)[:, 0] + self.presence
        if self.training:
            logits = self.certainty * torch.tanh(logits / self.certainty)
        q_pres = persist(logits, state.z_pres)
        z_pres = pyro.sample(f"z_pres_{t}", q_pres, infer=self.control(h, state.z_pres))  # (g)
        with poutine.mask(mask=z_pres.bool()):
            z_where = pyro.sample(f"z_where_{t}", self.z_where(h))  # (h)
            q_what = self.z_what(self.encode(glance(images, z_where, self.window)))
            z_what = pyro.sample(f"z_what_{t}", q_what, infer={"enumerate": None})  # (i)
        return GuideState(state.features, z_pres, z_where, z_what, cell_state)

    def control(self, h: Float[Tensor, "n hidden"], z_pres: Float[Tensor, "*n"]) -> dict[str, Any]:
        """The neural baseline of Sec. I-B: the expected cost of this presence and all later terms.

        It reads the image and the latents so far through ``h``, without a gradient to ``h``.
        """
        if len(z_pres) == 1:
            return {}  # Pyro squeezes a plate of size 1 and then refuses the baseline's shape
        value = 100.0 * self.baseline(h.detach())[:, 0]  # in units of 100 nats
        return {"baseline": {"baseline_value": value * z_pres}}
