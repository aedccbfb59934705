"""A proposal for what a region of an image shows."""

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn

from ..networks import FlatDecoder, RegionEncoder, glorot
from .amortised import Amortised

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
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n parameters"]:
        """The parameters of :meth:`distribution`; what was left for the regions is not used."""
        return self.head.start + self.head.head(self.encoder(images, regions))

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal of these parameters, on the support of the prior."""
        return self.head.distribution(parameters)


class Correction(nn.Module):
    """Corrects a guess of a code: locations about the guess, and scales, on the unconstrained line.

    Args:
        prior: The prior of the code.
        encoder: From images and regions to ``FEATURES`` features; None: the guess alone is read.
    """

    def __init__(self, prior: Distribution, encoder: nn.Module | None) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = prior.event_shape[0] + (FEATURES if encoder else 0)
        self.head = Amortised(inputs, prior, hidden=(64,), narrow=NARROW)
        glorot(self.head, last=0.1)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        guesses: Float[Tensor, "n code"],
    ) -> Float[Tensor, "n parameters"]:
        features = [] if self.encoder is None else [self.encoder(images, regions)]
        spread = self.head.start.chunk(2)[1].expand_as(guesses)
        corrections = self.head.head(torch.cat([*features, guesses.detach()], 1))
        return torch.cat([guesses, spread], 1) + corrections


class SpriteProposal(nn.Module):
    """A proposal that corrects a decoder's guess of its code, which matches what it paints with the region.

    Args:
        model: Its decoder is asked at each call, and is no part of this module.
        expert: The number of the decoder, which has a method ``guess(images, regions, scopes)``.
        prior: The prior of the code, over all real numbers, as a guess may be any.
    """

    model: Any

    def __init__(self, model: Any, expert: int, prior: Distribution) -> None:
        super().__init__()
        if getattr(prior.support, "base_constraint", None) is not constraints.real:
            raise ValueError(
                f"a guess may be any number, and z_what has the support {prior.support}: give proposals="
            )
        self.__dict__["model"] = model  # past nn.Module, which would register it
        self.expert = expert
        flat = isinstance(model.decoders[expert], FlatDecoder)
        shape = model.image_shape
        encoder = None if flat else RegionEncoder(shape, FEATURES, channels=24, blocks=2, fold=2)
        self.correct = Correction(prior, encoder)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n parameters"]:
        """The parameters of :meth:`distribution`."""
        return self.correct(images, regions, self.guess(images, regions, scopes))

    def guess(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n code"]:
        """What the decoder takes for the code; its gradient reaches the decoder alone."""
        return self.model.decoders[self.expert].guess(images, regions, scopes)

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal of these parameters."""
        return self.correct.head.distribution(parameters)
