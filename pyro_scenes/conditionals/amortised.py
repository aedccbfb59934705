"""Proposals: from features, or from a picture, to the latents of an object."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution, constraints
from torch import Tensor, nn
from torch.distributions import biject_to

from ..networks import GlimpseEncoder, PoseEncoder, glorot, mlp
from ..render import inverse, warp

__all__ = ["Amortised", "Recognition", "carried"]

#: The second look is at a window this much wider than the one that is expected.
WIDER = 1.3


class Amortised(nn.Module):
    """A proposal: features to a Normal, carried to the support of a prior.

    Before training it proposes about what the prior draws: its location and scale start at the
    prior's, measured on draws, so that a swapped prior needs no other change.

    Args:
        inputs: Size of the features.
        like: The prior, read for its event shape (one dimension) and support (continuous).
        hidden: Sizes of hidden layers between features and parameters.
        narrow: Its scale starts at this times the prior's.
    """

    start: Tensor
    spread: Tensor

    def __init__(
        self,
        inputs: int,
        like: Distribution,
        *,
        hidden: tuple[int, ...] = (),
        narrow: float = 1.0,
    ) -> None:
        super().__init__()
        if like.support.is_discrete or len(like.event_shape) != 1:
            raise ValueError(
                f"Amortised proposes continuous vectors; this prior has support {like.support} and "
                f"event shape {tuple(like.event_shape)}: write a proposal of your own for it"
            )
        self.support = like.support
        try:
            (size,) = biject_to(like.support).inverse_shape(like.event_shape)  # a simplex: one less
        except NotImplementedError as error:
            raise ValueError(
                f"Amortised has no proposal for the support {like.support}: write one of your own"
            ) from error
        self.head = mlp(inputs, *hidden, 2 * size)
        start, spread = _moments(like, narrow)
        self.register_buffer("start", start)
        self.register_buffer("spread", spread)

    def forward(self, features: Tensor) -> Distribution:
        return self.read(self.head(features))

    def guess(self, features: Tensor) -> Tensor:
        """The proposal's median (of each number on the unconstrained line), without drawing."""
        return self.median(self.head(features))

    def read(self, made: Tensor) -> Distribution:
        """The proposal of what the head makes of features: locations, and scales before softplus."""
        return carried(self.scaled(made, self.start), self.support)

    def median(self, made: Tensor) -> Tensor:
        """As :meth:`guess`, of what the head makes of features."""
        return biject_to(self.support)(self.start + made.chunk(2, -1)[0])

    def scaled(self, made: Tensor, about: Tensor) -> Tensor:
        """From what the head makes to locations about a point, and scales, on the unconstrained line."""
        loc, raw = made.chunk(2, -1)
        return torch.cat([about + loc, nn.functional.softplus(raw + self.spread) + 1e-4], -1)


def carried(parameters: Tensor, support: constraints.Constraint) -> Distribution:
    """A Normal of locations and scales, carried to a support."""
    plain = dist.Normal(*parameters.chunk(2, -1)).to_event(1)
    if getattr(support, "base_constraint", None) is constraints.real:
        return plain
    return dist.TransformedDistribution(plain, biject_to(support))


@torch.no_grad()
def _moments(like: Distribution, narrow: float) -> tuple[Tensor, Tensor]:
    """Median and (before softplus) spread of a prior, on the unconstrained line; robust to heavy tails."""
    draws = biject_to(like.support).inv(like.sample(torch.Size([1000])))
    draws = draws.flatten(0, -2)
    low, middle, high = torch.quantile(draws, draws.new_tensor([0.16, 0.5, 0.84]), dim=0)
    return middle, torch.expm1((narrow * (high - low) / 2).clamp(1e-3, 20.0)).log()


class Recognition(nn.Module):
    """Proposes where something is, at a first look and closer ones, and then what it is.

    Args:
        picture: (C, H, W) of what it is given.
        window: (h, w) of its glimpses of that.
        z_where, z_what: The latents, read for their shapes and supports.
        hidden: Widths of the two hidden layers that read the content.
        pose_hidden: Widths of the two hidden layers that read the picture for a first look.
        looks: How many looks at the expected window, each at what the one before expects.
    """

    looks: Tensor

    def __init__(
        self,
        picture: tuple[int, ...],
        window: tuple[int, ...],
        z_where: Distribution,
        z_what: Distribution,
        *,
        hidden: int = 256,
        pose_hidden: int = 64,
        looks: int = 2,
    ) -> None:
        super().__init__()
        if type(looks) is not int or looks < 0:
            raise ValueError(f"looks must be a whole number from 0 up, got {looks!r}")
        self.window = picture[0], *window
        self.register_buffer("looks", torch.tensor(looks))  # a checkpoint keeps it
        self.embed = PoseEncoder(picture, pose_hidden)
        seen = pose_hidden
        if looks:
            self.look = GlimpseEncoder(self.window, 128, hidden=(128,))
            seen += 128
        self.z_where = Amortised(seen, z_where, narrow=0.14)
        self.encode = GlimpseEncoder(self.window, hidden, hidden=(hidden,))
        self.z_what = Amortised(hidden, z_what)
        glorot(self)
        glorot(self.z_where, last=0.1)

    def forward(
        self, picture: Tensor, transform: Callable[[Tensor], Tensor], take: Callable
    ) -> tuple[Tensor, Tensor]:
        """Returns T (n, 2, 3) and ``z_what``.

        Args:
            picture: (n, C, H, W).
            transform: From ``z_where`` to T, which takes the picture's coordinates to the window's.
            take: ``take(name, head, features)`` returns a value: a draw of ``head(features)``, or a guess.
        """
        seen = first = self.embed(picture)
        if self.looks:
            found = first.new_zeros(*first.shape[:-1], 128)
            seen = torch.cat([first, found], -1)
        for _ in range(self.looks):
            wider = transform(self.z_where.guess(seen)) / WIDER
            # A look says how far off the window is that it looks at: so what looks find adds up.
            found = found + self.look(warp(picture, inverse(wider), self.window))
            seen = torch.cat([first, found], -1)
        where = transform(take("z_where", self.z_where, seen))
        glimpse = warp(picture, inverse(where), self.window)
        return where, take("z_what", self.z_what, self.encode(glimpse))
