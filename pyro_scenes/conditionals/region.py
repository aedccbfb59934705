"""A proposal for what a region of an image shows."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn

from ..networks import RegionEncoder
from ..render import centroid
from .amortised import Amortised

__all__ = ["RegionProposal", "typical_colour"]

#: Colours that differ by more than this from a region's own count little for it.
STRAY = 0.1


class RegionProposal(nn.Module):
    """Proposes a code for a region: features of it, and a first guess that they correct.

    Args:
        image_shape: (C, H, W).
        like: The prior of the code.
        encoder: (n, C, H, W) and (n, 1, H, W) to features. None: the centre, colour and size alone.
        features: How many it makes.
        guess: From centres (n, 2), -1 to 1, and colours (n, C) of regions to codes: a decoder's own inverse.
        narrow: As of :class:`Amortised`.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        like: Distribution,
        *,
        encoder: nn.Module | None = None,
        features: int = 0,
        guess: Callable[[Tensor, Tensor], Tensor] | None = None,
        narrow: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.guess = encoder, guess
        inputs = features + (image_shape[0] + 3 if guess is not None else 0)
        self.head = Amortised(inputs, like, hidden=(64,), narrow=narrow)
        if guess is not None:
            self.head.head[-1].weight.data *= 0.1
            nn.init.zeros_(self.head.head[-1].bias)

    def forward(
        self, images: Float[Tensor, "n c h w"], regions: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n parameters"]:
        """The parameters of the proposal, for :meth:`read`."""
        seen = [] if self.encoder is None else [self.encoder(images, regions)]
        if self.guess is None:
            return self.head.head(torch.cat(seen, 1))
        with torch.no_grad():  # else a bright colour's logit pulls hard at the region
            centre, colour = centroid(regions), typical_colour(images, regions)
            size = regions.mean((2, 3))
        found = self.head.head(torch.cat([*seen, centre, colour - 0.5, 10 * size - 1], 1))
        loc, raw = found.chunk(2, -1)
        return torch.cat([loc + self.guess(centre, colour), raw], -1)

    def read(self, parameters: Tensor) -> Distribution:
        """The proposal."""
        return self.head.read(parameters)

    def median(self, parameters: Tensor) -> Tensor:
        """Its median, without drawing."""
        return self.head.median(parameters)


def typical_colour(
    images: Float[Tensor, "n c h w"], regions: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n c"]:
    """The colour that most of a region has: a mean in which stray colours count little (Cauchy weights)."""
    weights = regions
    for _ in range(3):
        colour = _mean(images, weights)
        stray = (images - colour[..., None, None]).square().sum(1, keepdim=True) / STRAY**2
        weights = regions / (1 + stray)
    return _mean(images, weights)


def _mean(images: Tensor, weights: Tensor) -> Tensor:
    return (weights * images).sum((2, 3)) / (weights.sum((2, 3)) + 1e-4)
