"""A proposal for what a region of an image shows."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import biject_to

from ..networks import FlatDecoder, RegionEncoder, glorot
from .amortised import Amortised, carried

__all__ = ["RegionProposal", "region_proposal"]

FEATURES = 64
#: A guess is much surer than the prior.
NARROW = 0.05


class RegionProposal(nn.Module):
    """Proposes a code for a region: features of it, and a first guess that they correct.

    Args:
        image_shape: (C, H, W).
        like: The prior of the code.
        encoder: From images (n, C, H, W) and regions (n, 1, H, W) to features. None: the guess alone.
        features: How many it makes.
        guess: From images, regions, and what was left (n, 1, H, W) when they were taken, to codes (n, code),
            such as a decoder's own ``guess``; in place of the prior's median.
        narrow: As of :class:`Amortised`.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        like: Distribution,
        *,
        encoder: nn.Module | None = None,
        features: int = 0,
        guess: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        narrow: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.guess = encoder, guess
        inputs = features + (0 if guess is None else like.event_shape[0])
        self.head = Amortised(inputs, like, hidden=(64,), narrow=narrow)
        if guess is not None:
            glorot(self.head, last=0.1)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scope: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n parameters"]:
        """Locations and scales of the proposal, on the unconstrained line, for :meth:`read`."""
        seen = [] if self.encoder is None else [self.encoder(images, regions)]
        if self.guess is None:
            return self.head.scaled(self.head.head(torch.cat(seen, 1)), self.head.start)
        guess = biject_to(self.head.support).inv(self.guess(images, regions, scope))
        made = self.head.head(torch.cat([*seen, guess.detach()], 1))
        return self.head.scaled(made, guess)

    def read(self, parameters: Tensor) -> Distribution:
        """The proposal: of other proposals for the same latent too."""
        return carried(parameters, self.head.support)

    def median(self, parameters: Tensor) -> Tensor:
        """Its median, without drawing."""
        return biject_to(self.head.support)(parameters.chunk(2, -1)[0])


def region_proposal(
    image_shape: tuple[int, ...], like: Distribution, decoder: nn.Module
) -> RegionProposal:
    """A proposal for a decoder: it corrects the guess of one that has it. A background's needs no more.

    A guess may be any number: it is left out where the prior has bounds.
    """
    bounded = getattr(like.support, "base_constraint", None) is not constraints.real
    guess = None if bounded else getattr(decoder, "guess", None)
    if isinstance(decoder, FlatDecoder) and guess:
        return RegionProposal(image_shape, like, guess=guess, narrow=NARROW)
    encoder = RegionEncoder(image_shape, FEATURES, channels=24, blocks=2, fold=2)
    return RegionProposal(
        image_shape, like, encoder=encoder, features=FEATURES, guess=guess, narrow=NARROW
    )
