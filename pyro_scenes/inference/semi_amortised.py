"""A guide of a few images: what the networks propose for each is fitted further, by a few numbers each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..checks import check_sizes
from ..pairs import check_same_model, modules_of, warn_training_mode
from ..particles import count_images, log_mean_exp, repeat
from ..sites import latents
from ..supports import unwrapped
from .chains import Chains, bijection
from .importance import Importance, check_runs_alone
from .pareto import effective_size

__all__ = ["SemiAmortised", "semi_amortise"]

#: Draws by which the two proposals of an image are compared, and so many at a time.
TRIALS, DRAWS = 200, 40
#: Nats by which what was fitted must be worth more, about the noise of the comparison.
MARGIN = 1.0


class Shift(NamedTuple):
    """What is fitted of a site, a row for each image: zeros change nothing."""

    events: int  # dimensions after that of the images, where a distribution has them
    loc: Float[
        Tensor, "n *rest"
    ]  # on the unconstrained line; of a discrete site, added to its logits
    log_scale: Float[Tensor, "n *rest"] | None = None

    def of(self, copies: int) -> tuple[Tensor, Tensor | None]:
        """Both for so many copies of the images, the images' dimension in its place."""
        parts = (
            part.repeat(copies, *[1] * (part.dim() - 1)).movedim(0, -1 - self.events)
            for part in (self.loc, self.log_scale)
            if part is not None
        )
        return next(parts), next(parts, None)

    def numbers(self) -> list[Tensor]:
        return [part for part in (self.loc, self.log_scale) if part is not None]


class SemiAmortised(nn.Module):
    """A guide for these images, or for these several times over: see :func:`semi_amortise`.

    Attributes:
        guide: The one it was made from.
        size: n, how many images it is for.
        fitted: Bool (n,): those whose proposals were changed, as that was better.
    """

    def __init__(self, guide: Callable, size: int, shifts: dict[str, Shift]) -> None:
        super().__init__()
        self.guide, self.size, self.shifts = guide, size, shifts
        self.training = any(module.training for module in modules_of(guide))
        self.register_buffer("fitted", torch.ones(size, dtype=torch.bool), persistent=False)

    def forward(self, *batch: Any) -> None:
        rows = count_images(batch)
        if rows % self.size:
            raise ValueError(
                f"this guide is of {self.size} images, or of these several times over, got {rows}: make "
                "one for others by semi_amortise"
            )
        with _Shifted(self.shifts, rows // self.size):
            self.guide(*batch)


def semi_amortise(
    model: Callable,
    guide: Callable,
    *batch: Any,
    steps: int = 50,
    lr: float = 0.05,
    elbo: ELBO | None = None,
) -> SemiAmortised:
    """A guide for these images, nearer to their posteriors (Kim et al., 2018, semi-amortised inference).

    Each continuous latent of each image gets an affine map on the unconstrained line, each categorical or
    Bernoulli one an offset of its logits. They are fitted by Adam; model and guide stay as they are. Then
    200 draws of either are compared: an image keeps what was fitted for it only if the importance-weighted
    bound plus the logarithm of the effective sample size is higher by more than 1 than with the guide itself.

    Args:
        model: A model and its guide, any pair, in evaluation mode.
        guide: Sites of other families than the above, and points, stay as they are.
        batch: What both are called with: the images, at least; the other parts have a row for each.
        steps: Of Adam.
        lr: Its rate, in units of the unconstrained line and of logits.
        elbo: What is maximised. Default: ``Importance(4)``. ``Importance(8, gradient="wake")`` covers more
            of the posterior's mass.

    Raises:
        TypeError: A part of the batch cannot be repeated, or the guide runs inside the model.
        ValueError: An argument is outside its range, or nothing of the guide can be fitted.

    Warns:
        TrainingModeWarning: The model or the guide is in training mode.
    """
    check_sizes(steps=steps)
    if not (isinstance(lr, Real) and lr > 0 and isfinite(lr)):
        raise ValueError(f"lr must be a number above 0, got {lr!r:.60}")
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    check_runs_alone(guide)
    elbo = Importance(4) if elbo is None else elbo
    size = count_images(batch)
    with torch.no_grad():
        trace = poutine.trace(guide).get_trace(*batch)
    shifts = {name: shift for name, site in latents(trace).items() if (shift := _zeros(site))}
    if not shifts:
        raise ValueError(f"nothing of this guide can be fitted: it draws {[*latents(trace)]}")
    fitted = SemiAmortised(guide, size, shifts).to(batch[0].device)
    numbers = [number for shift in shifts.values() for number in shift.numbers()]
    optim = torch.optim.Adam(numbers, lr=lr)
    with _frozen(model, guide):
        for _ in range(steps):
            optim.zero_grad()
            elbo.loss_and_grads(model, fitted, *batch)
            optim.step()
    fitted.fitted = worth(model, fitted, batch) > worth(model, guide, batch) + MARGIN  # not if NaN
    for number in numbers:
        worse = ~fitted.fitted.reshape(-1, *[1] * (number.dim() - 1))
        number.requires_grad_(False).masked_fill_(worse, 0.0)
    return fitted


@torch.no_grad()
def worth(model: Callable, guide: Callable, batch: tuple) -> Float[Tensor, " n"]:
    """What a guide's draws are worth, in nats: an estimate of log p, and the logarithm of their ESS.

    A proposal that misses much of the posterior lacks in the first, one that is too broad in the second.
    """
    chains = Chains(model, guide, repeat(DRAWS, batch)[0])
    log_weights = torch.cat(
        [chains.draw().log_weight.reshape(DRAWS, -1) for _ in range(TRIALS // DRAWS)]
    )
    return log_mean_exp(log_weights) + effective_size(log_weights).log()


class _Shifted(Messenger):
    """Inside, a guide's distributions are shifted, of each copy of the images alike."""

    def __init__(self, shifts: Mapping[str, Shift], copies: int) -> None:
        super().__init__()
        self.shifts, self.copies = shifts, copies

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.shifts and not msg["is_observed"]:
            msg["fn"] = _shifted(msg["fn"], *self.shifts[msg["name"]].of(self.copies))


def _zeros(site: Any) -> Shift | None:
    """A shift that changes nothing; None if the distribution is of no such family."""
    inner, batch = unwrapped(site["fn"]), site["fn"].batch_shape
    if isinstance(inner, dist.Bernoulli | dist.Categorical | dist.OneHotCategorical):
        shapes, like = [inner.logits.shape], inner.logits
    else:
        transform = bijection(site["fn"])
        if transform is None or not site["fn"].has_rsample:
            return None
        shapes = [batch + transform.inverse_shape(site["fn"].event_shape)] * 2
        like = site["value"]
    events = len(shapes[0]) - len(batch)
    zeros = (like.new_zeros(shape).movedim(-1 - events, 0) for shape in shapes)
    return Shift(events, *(number.contiguous().requires_grad_() for number in zeros))


def _shifted(distribution: Any, loc: Tensor, log_scale: Tensor | None) -> Any:
    if isinstance(distribution, dist.MaskedDistribution):
        return _shifted(distribution.base_dist, loc, log_scale).mask(distribution._mask)
    if log_scale is None:
        inner = unwrapped(distribution)
        return type(inner)(logits=inner.logits + loc).to_event(
            distribution.event_dim - inner.event_dim
        )
    transform = bijection(distribution)
    assert transform is not None
    # The cache keeps draws of flows that have no inverse.
    affine = dist.transforms.AffineTransform(
        loc, log_scale.exp(), event_dim=transform.domain.event_dim, cache_size=1
    )
    return dist.TransformedDistribution(distribution, [transform.inv, affine, transform])


@contextmanager
def _frozen(*programs: Callable) -> Iterator[None]:
    """Inside, no parameter of these asks for a gradient."""
    owners = [module for program in programs for module in modules_of(program)]
    parameters = {id(p): p for owner in owners for p in owner.parameters() if p.requires_grad}
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
