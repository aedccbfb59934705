"""Conditioning on a part of the image: the distribution of the rest, and a prior that depends on it."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Distribution, TorchDistribution
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from .amortised import Amortised

__all__ = ["Completion", "Conditioned"]


class Completion(TorchDistribution):
    """Images of independent pixels of which some are known.

    A draw has the known pixels as they are. log p is that of the other pixels: a known one has probability 1,
    whatever the distribution says of it, and a pixel that is NaN in the image is not scored.

    Args:
        pixels: Of independent numbers, such as ``dist.Bernoulli(canvas).to_event(3)``.
        known: (*batch, C, H, W), NaN where a pixel is not known.

    Raises:
        ValueError: The pixels depend on each other, so that the others' distribution is another one.
    """

    arg_constraints: dict[str, Constraint] = {}

    def __init__(self, pixels: Any, known: Float[Tensor, "*#batch c h w"]) -> None:
        inner = pixels.base_dist if isinstance(pixels, torch.distributions.Independent) else None
        if inner is None or inner.event_shape:
            raise ValueError(
                "image must return a distribution of independent pixels, such as "
                f"dist.Normal(scene.canvas, 0.1).to_event(3), got {pixels!r:.60}"
            )
        self.pixels, self.known = pixels, known
        super().__init__(pixels.batch_shape, pixels.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint:
        return self.pixels.support

    @property
    def mean(self) -> Float[Tensor, "*batch c h w"]:
        return self.complete(self.pixels.mean)

    @property
    def variance(self) -> Float[Tensor, "*batch c h w"]:
        return self.pixels.variance.masked_fill(~self.known.isnan(), 0.0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*shape c h w"]:
        return self.complete(self.pixels.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Float[Tensor, "*shape c h w"]) -> Float[Tensor, "*both"]:
        missing = value.isnan()
        each = self.pixels.base_dist.log_prob(value.masked_fill(missing, 0.0))
        return each.masked_fill(missing | ~self.known.isnan(), 0.0).sum((-3, -2, -1))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Completion":
        return Completion(self.pixels.expand(torch.Size(batch_shape)), self.known)

    def complete(self, images: Float[Tensor, "*shape c h w"]) -> Float[Tensor, "*shape c h w"]:
        """The images with the known pixels put in."""
        return torch.where(self.known.isnan(), images, self.known)


class Conditioned(nn.Module):
    """A prior that depends on what is seen: a Normal whose parameters are linear in ``scene.features``.

    Args:
        features: Size of the features.
        code: Size of the draw.
    """

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        standard = dist.Normal(torch.zeros(code), 1.0).to_event(1)
        self.normal = Amortised(features, standard)

    def forward(self, scene: Any) -> Distribution:
        return self.normal(scene.features)
