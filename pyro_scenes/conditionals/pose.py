"""A proposal of an object's pose in a picture."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn

from ..checks import is_whole
from ..handlers import point_estimate
from ..networks import GlimpseEncoder, PoseEncoder
from ..render import inverse, warp
from .amortised import Amortised
from .posteriors import Posterior, normal

__all__ = ["PoseProposal"]

#: A look reads a window this much wider than the expected one.
WIDER = 1.3
#: Number of features of a look.
LOOK_FEATURES = 128


class PoseProposal(nn.Module):
    """q(z_where | picture), from the whole picture and then from looks at the expected window.

    A look estimates the error of the window that it reads, so the features of all looks are added.

    Args:
        picture_shape: (C, H, W) of the picture.
        window: (h, w) of a look.
        prior: The prior of the pose's code, for its shape and support.
        hidden: Width of the two hidden layers that read the picture.
        looks: Number of looks.
        posterior: As of :class:`Amortised`.
    """

    def __init__(
        self,
        picture_shape: tuple[int, ...],
        window: tuple[int, ...],
        prior: Distribution,
        *,
        hidden: int = 64,
        looks: int = 2,
        posterior: Posterior = normal,
    ) -> None:
        super().__init__()
        if not is_whole(looks, 0):
            raise ValueError(f"looks must be a whole number from 0 up, got {looks!r}")
        self.window, self.looks = (picture_shape[0], *window), looks
        self.embed = PoseEncoder(picture_shape, hidden)
        if looks:
            self.look = GlimpseEncoder(self.window, LOOK_FEATURES, hidden=(LOOK_FEATURES,))
        features = hidden + LOOK_FEATURES * (looks > 0)
        self.head = Amortised(features, prior, narrow=0.14, posterior=posterior)

    def forward(
        self, picture: Float[Tensor, "*batch c h w"], pose: Callable[[Tensor], Tensor]
    ) -> Distribution:
        """The proposal. ``pose`` is the model's decoder from a pose's code to T (..., 2, 3)."""
        features = first = self.embed(picture)
        if self.looks:
            offset = first.new_zeros(*first.shape[:-1], LOOK_FEATURES)
            features = torch.cat([first, offset], -1)
        for _ in range(self.looks):
            wider = pose(point_estimate(self.head(features))) / WIDER
            offset = offset + self.look(warp(picture, inverse(wider), self.window))
            features = torch.cat([first, offset], -1)
        return self.head(features)
