"""A proposal for where something is in a picture."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn

from ..handlers import point_estimate
from ..networks import GlimpseEncoder, PoseEncoder
from ..render import inverse, warp
from .amortised import Amortised

__all__ = ["PoseProposal"]

#: A closer look is at a window this much wider than the one that is expected.
WIDER = 1.3
#: How many features a closer look adds.
LOOK = 128


class PoseProposal(nn.Module):
    """q(z_where | picture): a first look at the picture, then closer looks at the window that is expected.

    A look says how far off the window is that it looks at, so what looks find adds up.

    Args:
        picture_shape: (C, H, W) of the picture.
        window: (h, w) of a closer look.
        prior: The prior of the pose's code, read for its shape and support.
        hidden: Widths of the two hidden layers of the first look.
        looks: The number of closer looks.
    """

    def __init__(
        self,
        picture_shape: tuple[int, ...],
        window: tuple[int, ...],
        prior: Distribution,
        *,
        hidden: int = 64,
        looks: int = 2,
    ) -> None:
        super().__init__()
        if type(looks) is not int or looks < 0:
            raise ValueError(f"looks must be a whole number from 0 up, got {looks!r}")
        self.window, self.looks = (picture_shape[0], *window), looks
        self.embed = PoseEncoder(picture_shape, hidden)
        if looks:
            self.look = GlimpseEncoder(self.window, LOOK, hidden=(LOOK,))
        self.head = Amortised(hidden + LOOK * (looks > 0), prior, narrow=0.14)

    def forward(
        self, picture: Float[Tensor, "*batch c h w"], pose: Callable[[Tensor], Tensor]
    ) -> Distribution:
        """The proposal, given how the model makes T (..., 2, 3) of a pose's code."""
        features = first = self.embed(picture)
        if self.looks:
            offset = first.new_zeros(*first.shape[:-1], LOOK)
            features = torch.cat([first, offset], -1)
        for _ in range(self.looks):
            wider = pose(point_estimate(self.head(features))) / WIDER
            offset = offset + self.look(warp(picture, inverse(wider), self.window))
            features = torch.cat([first, offset], -1)
        return self.head(features)
