"""Priors with weights: mixtures, of components of their own or of a guide's proposals; of objects in turn."""

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn

from ..checks import check_sizes
from ..networks import mlp

__all__ = ["Autoregressive", "Mixture", "Vamp"]

#: Pseudo-inputs begin this far from black and white, where a sigmoid still has a gradient.
MARGIN = 0.05


class Mixture(nn.Module):
    """A trained mixture of independent normal distributions, such as a prior of ``z_what``.

    Before training its components have scale 1 about locations drawn from a standard normal distribution. It
    is an ordinary prior: set it before the training, and build the guide from the model that has it.

    Args:
        code: Size of the vector.
        components: How many.
    """

    def __init__(self, code: int, components: int) -> None:
        super().__init__()
        check_sizes(code=code, components=components)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, code))
        self.log_scale = nn.Parameter(torch.zeros(components, code))

    def forward(self, scene: Any) -> Distribution:
        parts = dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), parts)


class Vamp(nn.Module):
    """The VampPrior (Tomczak and Welling, 2018, Eq. 9): the mean of a guide's proposals for pseudo-inputs.

    The pseudo-inputs are pictures, trained with the rest. The guide is built from the model, and this prior
    from the guide: ``model.z_what = Vamp(images[:50], guide)``. In AIR pictures are glimpses.

    Args:
        pictures: Pseudo-inputs (k, C, h, w) to begin with, in [0, 1].
        guide: Its ``guide.z_what(guide.encode(pictures))`` are the proposals of their codes: a guide of AIR,
            VAE, ST-VAE or CST-VAE. It is not a submodule: its weights are its own.

    Raises:
        TypeError: The guide has no ``encode`` or no ``z_what``.
        ValueError: The pictures have no such shape, or are not in [0, 1].
    """

    guide: Any

    def __init__(self, pictures: Float[Tensor, "k c h w"], guide: Any) -> None:
        super().__init__()
        if not (hasattr(guide, "encode") and hasattr(guide, "z_what")):
            raise TypeError(
                f"needs a guide with encode and z_what, such as AIRGuide, got {type(guide).__name__}"
            )
        if pictures.dim() != 4 or not ((pictures >= 0) & (pictures <= 1)).all():
            raise ValueError(
                f"pictures must be (k, C, h, w) in [0, 1], got shape {tuple(pictures.shape)}"
            )
        logits = pictures.detach().clone().clamp(MARGIN, 1 - MARGIN).logit()
        self.picture_logits = nn.Parameter(logits)
        self.__dict__["guide"] = guide  # not registered as a submodule

    def forward(self, scene: Any) -> Distribution:
        pictures = self.picture_logits.sigmoid()
        proposals = self.guide.z_what(self.guide.encode(pictures))
        alike = torch.zeros_like(self.picture_logits[:, 0, 0, 0])
        return dist.MixtureSameFamily(dist.Categorical(logits=alike), proposals)


class Autoregressive(nn.Module):
    """A prior of an object's pose that sees the poses of all earlier objects, ``scene.past``.

    p(z_where_t | z_where_0 .. z_where_t-1) is normal. A network moves its location and the logarithm of its
    scale, given the sum of features of the earlier poses; so it can learn that objects keep their distance,
    say. Before training it moves nothing.

    Args:
        loc: The location without earlier objects, before training.
        scale: The scale.
        hidden: Width of the network's layers.

    Example:
        ``AIR(z_where=Autoregressive(loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0]))``
    """

    start: Tensor

    def __init__(self, loc: list[float], scale: list[float], *, hidden: int = 64) -> None:
        super().__init__()
        check_sizes(hidden=hidden)
        self.hidden = hidden
        start = torch.tensor([loc, scale])
        if not (start[1] > 0).all():
            raise ValueError(f"scale must be above 0, got {scale}")
        self.register_buffer("start", torch.stack([start[0], start[1].log()]))
        self.read = mlp(len(loc), hidden, hidden)
        self.move = mlp(hidden, hidden, 2 * len(loc))
        for parameter in [*self.move.parameters()][-2:]:
            nn.init.zeros_(parameter)

    def forward(self, scene: Any) -> Distribution:
        features = self.start.new_zeros(self.hidden)
        for z_where, _ in scene.past:
            features = features + self.read((z_where - self.start[0]) / self.start[1].exp())
        moves = self.move(features).unflatten(-1, (2, -1))
        loc, log_scale = (self.start + moves).unbind(-2)
        return dist.Normal(loc, log_scale.exp()).to_event(1)
