"""Batches of images of which some latents are known, such as counts or classes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from pyro.infer.util import is_validation_enabled
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..checks import check_sizes, is_integer
from ..pinned import Pinned

__all__ = ["Given", "Known", "presences"]


class Known:
    """A batch of images, labelled and not: ``Known(images, {"z_expert_0": classes})``.

    It is what the pair of :func:`semi_supervise` is called with. All or none of a site's numbers are known of
    an image. Poses and codes are known of a *step*: where a label does not say which step finds its object,
    only counts (:func:`presences`) are safe. ``len()`` is the number of images.

    Args:
        images: (n, C, H, W), as the model takes them.
        given: By site, values (n, *event) in the site's own units; NaN is not known. Whole numbers without
            NaN may be integers. They are moved to the images' device.

    Attributes:
        labelled: The rows of which something is known.
        copies: How many times over the batch has been repeated.

    Raises:
        TypeError: An argument is not of its type.
        ValueError: A value has not one row for each image, is infinite or a vector known in part.
    """

    def __init__(self, images: Tensor, given: Mapping[str, Tensor]) -> None:
        if not isinstance(images, Tensor) or not images.dim():
            raise TypeError(f"images must be a tensor (n, C, H, W), got {type(images).__name__}")
        if not isinstance(given, Mapping):
            raise TypeError(
                f"given must be a dictionary of values by site, got {type(given).__name__}: write "
                '{"z_pres_0": present}'
            )
        known = torch.zeros(len(images), dtype=torch.bool)
        values = {}
        for name, value in given.items():
            values[name] = value = _checked(name, value, len(images))
            known = known.to(value.device) | _rows(~value.isnan())
        self.images, self.copies = images, 1
        self.given = {name: value.to(images.device) for name, value in values.items()}
        self.labelled: Int64[Tensor, " m"] = known.nonzero().squeeze(1).to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        words = f"{len(self)} images", f"{len(self.labelled)} labelled", *self.given
        return f"Known({', '.join(words)})"

    def repeat(self, times: int) -> "Known":
        """The batch several times over: all rows, then all rows again."""
        check_sizes(times=times)
        starts = len(self) * torch.arange(times, device=self.labelled.device)
        rows = (starts[:, None] + self.labelled).flatten()
        repeated = (_times(part, times) for part in (self.images, *self.given.values()))
        return self._with(repeated, rows, self.copies * times)

    def to(self, *args: Any, **kwargs: Any) -> "Known":
        """The batch on another device, or of another dtype, as of ``Tensor.to``."""
        parts = [part.to(*args, **kwargs) for part in (self.images, *self.given.values())]
        return self._with(parts, self.labelled.to(parts[0].device), self.copies)

    def labelled_once(self) -> "Known":
        """The labelled rows alone, of the first copy."""
        rows = self.labelled[: len(self.labelled) // self.copies]
        parts = (part[rows] for part in (self.images, *self.given.values()))
        return self._with(parts, torch.arange(len(rows), device=rows.device), 1)

    def _with(self, parts: Iterable[Tensor], labelled: Tensor, copies: int) -> "Known":
        new = object.__new__(Known)
        new.images, *values = parts
        new.given = dict(zip(self.given, values, strict=True))
        new.labelled, new.copies = labelled, copies
        return new


def presences(counts: Int64[Tensor, " n"], steps: int) -> dict[str, Float[Tensor, " n"]]:
    """What counts say of ``z_pres_0``, ``z_pres_1``, ...: 1 as often as there are objects, then 0.

    Args:
        counts: From 0 to ``steps``; -1 is not known.
        steps: Of the model, its largest count.

    Raises:
        ValueError: Counts are no integers (n,), or outside their range.
    """
    check_sizes(steps=steps)
    if not isinstance(counts, Tensor) or not is_integer(counts) or counts.dim() != 1:
        got = (
            f"{counts.dtype} {tuple(counts.shape)}"
            if isinstance(counts, Tensor)
            else f"{counts!r:.60}"
        )
        raise ValueError(f"counts must be integers (n,), -1 where a count is not known, got {got}")
    if ((counts < -1) | (counts > steps)).any():
        low, high = (int(end) for end in counts.aminmax())
        raise ValueError(
            f"counts must lie in 0..{steps}, the steps of the model, or be -1, got {low} to {high}"
        )
    unknown = counts < 0
    each = ((counts > t).float().masked_fill(unknown, torch.nan) for t in range(steps))
    return {f"z_pres_{t}": present for t, present in enumerate(each)}


class Given(Messenger):
    """Inside, a guide is certain of what is known: its sites are :class:`~pyro_scenes.pinned.Pinned`.

    To use as ``with Given(batch): guide(batch.images)``. What the guide draws later sees the known values.

    Raises:
        ValueError: At the end of the block, there is no site of a name, or a pose is known where presence is
            not; inside, a value is outside the support, or of another shape.
    """

    def __init__(self, batch: Known) -> None:
        super().__init__()
        self.given, self.sites = batch.given, set[str]()

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        self.sites.add(name)
        if name in self.given and not msg["is_observed"]:
            _check_plates(name, msg["cond_indep_stack"])
            _check_values(name, self.given[name], msg["fn"])
            msg["fn"] = Pinned(msg["fn"], self.given[name])

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        if args[0] is None:
            _check_names(self.given, self.sites)


def _checked(name: str, value: Any, size: int) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be given as a tensor, got {type(value).__name__}")
    if value.dim() == 0 or len(value) != size:
        raise ValueError(
            f"{name} must have a row for each of {size} images, NaN where it is not known, got shape "
            f"{tuple(value.shape)}"
        )
    if not value.is_floating_point():
        value = value.to(torch.get_default_dtype())
    unknown = value.isnan()
    if (_rows(unknown) != ~_rows(~unknown)).any():
        raise ValueError(
            f"{name} is known in part for some image: give all of its numbers, or none"
        )
    if value.isinf().any():
        raise ValueError(f"{name} is infinite for some image: give NaN where it is not known")
    return value


def _check_values(name: str, value: Tensor, fn: Any) -> None:
    shape = (fn.batch_shape[-1], *fn.event_shape)
    if value.shape != shape:
        raise ValueError(
            f"{name} must be given as {shape} for these images, got {tuple(value.shape)}"
        )
    # On a GPU it would wait for the result at each step.
    if value.is_cuda and not is_validation_enabled():
        return
    pinned = Pinned(fn, value)
    try:
        inside = fn.support.check(pinned.value)
    except NotImplementedError:  # a distribution need not say
        return
    if not (inside | ~pinned.known).all():
        raise ValueError(f"{name} is given values outside the support {fn.support} of its site")


def _check_plates(name: str, frames: Iterable[Any]) -> None:
    plates = [frame for frame in frames if frame.vectorized]
    if [frame.dim for frame in plates] != [-1]:
        words = " and ".join(f"{frame.name} (dim={frame.dim})" for frame in plates) or "no plate"
        raise ValueError(
            f"{name} cannot be known: it must be drawn in the plate of the images (dim=-1) alone, but is "
            f"in {words}"
        )


def _check_names(given: Mapping[str, Tensor], sites: set[str]) -> None:
    if unknown := sorted(given.keys() - sites):
        raise ValueError(f"there is no site {', '.join(unknown)}: the guide draws {sorted(sites)}")
    for name, value in given.items():
        presence = "z_pres" + "".join(re.findall(r"_\d+$", name))
        if presence in sites - {name} and (not value.is_cuda or is_validation_enabled()):
            present = given.get(presence, value.new_full(value.shape[:1], torch.nan)) == 1
            if (_rows(~value.isnan()) & ~present).any():
                raise ValueError(
                    f"{name} is known of an image in which {presence} is not known to be 1: give "
                    f"{presence}, too"
                )


def _rows(condition: Tensor) -> Tensor:
    return condition.flatten(1).any(1) if condition.dim() > 1 else condition


def _times(part: Tensor, times: int) -> Tensor:
    return part.repeat(times, *[1] * (part.dim() - 1))
