"""A proposal for what a region of an image shows."""

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import biject_to

from ..networks import FlatDecoder, RegionEncoder, glorot
from .amortised import Amortised, carried

__all__ = ["RegionProposal", "SpriteProposal"]

#: How many features an encoder makes for a sprite's proposal.
FEATURES = 64
#: A guess is much surer than the prior: this times its scale.
NARROW = 0.05


class RegionProposal(nn.Module):
    """An encoder of images and regions, and an :class:`Amortised` head.

    It makes the parameters of a distribution rather than the distribution, so that those of several
    experts can be selected from before one is made of them.

    Args:
        encoder: From images (n, C, H, W) and regions (n, 1, H, W) in [0, 1] to features.
        features: How many it makes.
        prior: The prior of the code, read for its shape and support.
    """

    def __init__(self, encoder: nn.Module, features: int, prior: Distribution) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Amortised(features, prior)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],  # what was left when the regions were taken: not used here
    ) -> Float[Tensor, "n parameters"]:
        """Locations and scales on the unconstrained line, side by side."""
        return self.head.scaled(self.head.head(self.encoder(images, regions)), self.head.start)

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal of these parameters, on the support of the prior."""
        return carried(parameters, self.head.support)


class SpriteProposal(nn.Module):
    """A proposal that corrects the guess of a model's decoder, which matches what it paints with the region.

    For a flat background the guess alone is corrected; for other decoders the features of an encoder help. A
    prior with bounds is proposed without a guess, as a guess may be any number.

    Args:
        model: Whose decoder it is: it is asked at each call, and is no part of this module.
        expert: The number of the decoder, which has a method ``guess(images, regions, scopes)``.
        prior: The prior of the code, read for its shape and support.
    """

    def __init__(self, model: nn.Module, expert: int, prior: Distribution) -> None:
        super().__init__()
        self.__dict__["model"] = model  # past nn.Module, which would register it
        self.expert = expert
        self.guesses = getattr(prior.support, "base_constraint", None) is constraints.real
        flat = isinstance(model.decoders[expert], FlatDecoder) and self.guesses
        shape = model.image_shape
        self.encoder = None if flat else RegionEncoder(shape, FEATURES, channels=24, blocks=2, fold=2)
        inputs = (not flat) * FEATURES + self.guesses * prior.event_shape[0]
        self.head = Amortised(inputs, prior, hidden=(64,), narrow=NARROW)
        if self.guesses:
            glorot(self.head, last=0.1)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n parameters"]:
        """Locations and scales on the unconstrained line, side by side."""
        features = [] if self.encoder is None else [self.encoder(images, regions)]
        if not self.guesses:
            return self.head.scaled(self.head.head(torch.cat(features, 1)), self.head.start)
        decoder = self.model.decoders[self.expert]
        guess = biject_to(self.head.support).inv(decoder.guess(images, regions, scopes)).detach()
        return self.head.scaled(self.head.head(torch.cat([*features, guess], 1)), guess)

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal of these parameters, on the support of the prior."""
        return carried(parameters, self.head.support)
