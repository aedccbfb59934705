"""Proposals of the code of the object in a region of an image."""

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn

from ..networks import FlatDecoder, RegionEncoder, glorot
from .amortised import Amortised
from .posteriors import Posterior, normal
from .product import each_number

__all__ = ["RegionProposal", "SpriteProposal"]

#: Number of features of a sprite's encoder.
FEATURES = 64
#: Scale of a sprite's proposal before training, relative to the prior's.
NARROW = 0.05


class RegionProposal(nn.Module):
    """An encoder of images and regions, and an :class:`Amortised` head.

    A call returns the parameters of a distribution, not the distribution, so that one expert's can be
    selected from those of several.

    Args:
        encoder: From images (n, C, H, W) and regions (n, 1, H, W) in [0, 1] to features.
        features: Number of features.
        prior: The prior of the code, for its shape and support.
        posterior: As of :class:`Amortised`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        prior: Distribution,
        posterior: Posterior = normal,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Amortised(features, prior, posterior=posterior)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        scopes: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, "n parameters"]:
        """The parameters of :meth:`distribution`. ``scopes`` is not used."""
        return self.head.start + self.head.head(self.encoder(images, regions))

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal with these parameters, on the support of the prior."""
        return self.head.distribution(parameters)


class Correction(nn.Module):
    """From a guess of a code to the parameters of a proposal near the guess.

    Args:
        prior: The prior of the code.
        encoder: From images and regions to ``FEATURES`` features. None: only the guess is read.
        posterior: As of :class:`Amortised`.
    """

    def __init__(
        self, prior: Distribution, encoder: nn.Module | None, posterior: Posterior = normal
    ) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = prior.event_shape[0] + (FEATURES if encoder else 0)
        self.head = Amortised(inputs, prior, hidden=(64,), narrow=NARROW, posterior=posterior)
        glorot(self.head, last=0.1)

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        regions: Float[Tensor, "n 1 h w"],
        guesses: Float[Tensor, "n code"],
    ) -> Float[Tensor, "n parameters"]:
        features = [] if self.encoder is None else [self.encoder(images, regions)]
        others = self.head.start[guesses.shape[1] :].expand(len(guesses), -1)  # than locations
        corrections = self.head.head(torch.cat([*features, guesses.detach()], 1))
        return torch.cat([guesses, others], 1) + corrections


class SpriteProposal(nn.Module):
    """A proposal that corrects the decoder's guess of its code.

    Args:
        model: Used for its decoder at each call; not a submodule.
        expert: The decoder's number. The decoder has a method ``guess(images, regions, scopes)``.
        prior: The prior of the code, whose support is all real numbers, as a guess may be any.
        posterior: As of :class:`Amortised`.
    """

    model: Any

    def __init__(
        self, model: Any, expert: int, prior: Distribution, posterior: Posterior = normal
    ) -> None:
        super().__init__()
        if not isinstance(each_number(prior.support), type(constraints.real)):
            raise ValueError(
                f"a guess may be any number, but z_what has support {prior.support}: give proposals="
            )
        self.__dict__["model"] = model  # not registered as a submodule
        self.expert = expert
        flat = isinstance(model.decoders[expert], FlatDecoder)
        shape = model.image_shape
        encoder = None if flat else RegionEncoder(shape, FEATURES, channels=24, blocks=2, fold=2)
        self.correct = Correction(prior, encoder, posterior)

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
        """The decoder's guess. Its gradient reaches the decoder alone."""
        return self.model.decoders[self.expert].guess(images, regions, scopes)

    def distribution(self, parameters: Float[Tensor, "*batch parameters"]) -> Distribution:
        """The proposal with these parameters."""
        return self.correct.head.distribution(parameters)
