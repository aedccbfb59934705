"""Images with unseen pixels, which are NaN, for guides that were not built for them; and who takes them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from .networks.unseen import fill

__all__ = ["NOT_FINITE", "Blind", "taking_unseen"]

# What torch says of parameters and draws of a distribution that are not finite.
NOT_FINITE = re.compile(
    r"Expected parameter .* to satisfy the constraint"
    r"|Expected value argument (.|\n)* within the support(.|\n)*\bnan\b"
    r"|probability tensor contains either|Expected p_in >= 0|invalid multinomial distribution"
)

_GUIDE = (
    "the images have unseen (NaN) pixels, of which this guide makes NaN{}: give Blind(guide), which fills "
    "them, or build the guide with missing=True and train it"
)
_LIKELIHOOD = (
    "the images have unseen (NaN) pixels, of which the likelihood {} makes NaN: use Pixels, or return "
    "conditionals.Seen(distribution, 3) in place of distribution.to_event(3)"
)


class Blind(nn.Module):
    """A guide that is told nothing of unseen pixels: it gets images in which they are filled.

    Any guide will do. The bound holds, as the model scores seen pixels alone; the proposal is that of a guide
    which takes the filled pixels for real. Mode (``train``, ``eval``) and weights are the guide's own: save
    and load that one.

    Args:
        guide: A module or a function, called as ``guide(images, ...)``.
        value: What unseen pixels become: a number; or a function from images with NaN to images without,
            such as ``networks.fill_nearest``.

    Example:
        ``log_weights(model, Blind(guide), images.masked_fill(hole, torch.nan))``
    """

    def __init__(self, guide: Callable, value: float | Callable[[Tensor], Tensor] = 0.0) -> None:
        super().__init__()
        if not callable(guide):
            raise TypeError(f"guide must be a module or a function, got {guide!r:.60}")
        self.guide, self.value = guide, value

    # Its guide's, whose mode may be changed without this one's knowing.
    @property
    def training(self) -> bool:
        return getattr(self.guide, "training", False)

    @training.setter
    def training(self, mode: bool) -> None:
        pass

    def forward(self, images: Tensor, *rest: Any, **settings: Any) -> Any:
        value = self.value
        filled = value(images) if callable(value) else fill(images, value)
        return self.guide(filled, *rest, **settings)


@contextmanager
def taking_unseen(images: Any) -> Iterator[None]:
    """Inside, a guide or a likelihood that makes NaN of unseen pixels is named, by a ValueError."""
    if not isinstance(images, Tensor) or (~images.isnan()).all():
        yield
        return
    try:
        with _Finite():
            yield
    except (RuntimeError, ValueError) as error:
        if not (match := NOT_FINITE.search(str(error))):
            raise
        scoring = match[0].startswith("Expected value")
        raise ValueError(_LIKELIHOOD.format("image") if scoring else _GUIDE.format("")) from error


class _Finite(Messenger):
    """Inside, no site draws NaN, and none scores what is observed by NaN."""

    def _pyro_post_sample(self, msg: Any) -> None:
        name, value = msg["name"], msg["value"]
        if not msg["is_observed"]:
            if isinstance(value, Tensor) and value.isnan().any():
                raise ValueError(_GUIDE.format(f" at {name}"))
        elif not msg["infer"].get("_deterministic") and msg["fn"].log_prob(value).isnan().any():
            raise ValueError(_LIKELIHOOD.format(name))
