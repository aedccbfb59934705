"""Statistics of observed and of predicted images, and how far apart the two are, image by image."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from .groups import PICTURE, to_groups

__all__ = [
    "STATISTICS",
    "TailShare",
    "p_values",
    "roughness",
    "statistics",
    "tail_shares",
    "total_ink",
]


def statistics(data: Mapping | Iterable[Mapping], **functions: Callable) -> Any:
    """Statistics of the observed and of the predicted images, for predictive checks on scalars.

    Args:
        data: What :func:`to_arviz` returns. Or many of these, one for each batch of images; from a
            generator, ``(to_arviz(model, guide, images[i], image_ids=i) for i in batches)``, only
            two batches' pictures are in memory at a time.
        functions: By the name of the statistic, a function that is given one draw at a time, either

            * T(images): of an array (..., C, H, W) to an array (...), or
            * T(images, draw): of images (n, C, H, W) and a dictionary of the arrays (n, ...) that were
              drawn with them, ``draw["z_what"]``, ``draw["canvas"]``, to an array (n,). This is a
              discrepancy (Gelman, Meng and Stern, 1996): of the observed images it has a value for
              each draw of the posterior.

            A function of two parameters without a default is of the second kind. Default: :data:`STATISTICS`.
            A pixel that was not observed (NaN) is 0 in observed and predicted images, so that only what was
            seen is compared.

    Returns:
        An object of the same kind: a variable (chain, draw, image_id) for each statistic in
        ``posterior_predictive`` and ``prior_predictive``; (image_id) in ``observed_data``, or, of a
        discrepancy, (chain, draw, image_id).

    Raises:
        ValueError: No ``image`` in the data, no draws for a discrepancy, or a result of another shape.
    """
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be a function of images, got {function!r:.60}")
    parts: dict[str, list[xr.Dataset]] = defaultdict(list)
    for batch in _batches(data):
        for group, latents in _LATENTS.items():
            if group in batch and "image" in batch[group].data_vars:
                # A file that is read lazily is slow by slices.
                image = _where_seen(batch[group]["image"].compute(), batch)
                draws = _latents(batch, latents, functions)
                values = {f: _apply(T, image, draws) for f, T in (functions or STATISTICS).items()}
                parts[group].append(xr.Dataset(values))
    if not parts:
        raise ValueError("there is no 'image' here: statistics takes what to_arviz returns")
    return to_groups({group: xr.concat(part, "image_id") for group, part in parts.items()})


_LATENTS = {
    "posterior_predictive": "posterior",
    "prior_predictive": "prior",
    "observed_data": "posterior",
}


def _batches(data: Any) -> Iterator[Mapping]:
    wanted = "data must be what to_arviz returns, or an iterable of these"
    if not isinstance(data, Iterable):
        raise TypeError(f"{wanted}, got {type(data).__name__}")
    for batch in [data] if isinstance(data, Mapping) else data:
        if not isinstance(batch, Mapping):
            raise TypeError(f"{wanted}, got {type(batch).__name__} in it")
        yield batch


def _where_seen(image: xr.DataArray, batch: Mapping) -> xr.DataArray:
    """0 where the observed image is not seen (NaN), whichever image it is."""
    if "observed_data" not in batch:
        return image
    seen = batch["observed_data"]["image"].notnull().compute()
    return image if seen.all() else image.where(seen, 0)


def _takes_draw(function: Callable) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function of C that does not say
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def _latents(batch: Mapping, group: str, functions: Mapping[str, Callable]) -> xr.Dataset:
    """Latents and pictures of all draws; empty if no function asks for them."""
    if not any(map(_takes_draw, functions.values())):
        return xr.Dataset()
    groups = (batch[name].data_vars for name in (group, f"{group}_pictures") if name in batch)
    return xr.Dataset({name: v for group in groups for name, v in group.items()}).compute()


def _apply(function: Callable, image: xr.DataArray, latents: xr.Dataset) -> xr.DataArray:
    if _takes_draw(function):
        return _discrepancy(function, image, latents)
    f = partial(xr.apply_ufunc, partial(_of_images, function), input_core_dims=[PICTURE])
    return image.groupby("draw").map(f) if "draw" in image.dims else f(image)


def _of_images(function: Callable, images: np.ndarray) -> np.ndarray:
    result = np.asarray(function(images))
    if result.shape != images.shape[:-3]:
        wanted = f"{images.shape[:-3]} of images {images.shape}"
        raise ValueError(f"T(images) must return an array {wanted}, got shape {result.shape}")
    return result


def _discrepancy(function: Callable, image: xr.DataArray, latents: xr.Dataset) -> xr.DataArray:
    if "draw" not in latents.dims:
        raise ValueError("T(images, draw) needs the draws: give what to_arviz returns, whole")
    labels = {name: latents[name] for name in ("chain", "draw")} | {"image_id": image["image_id"]}
    values = np.empty([len(label) for label in labels.values()])
    for chain, draw in np.ndindex(*values.shape[:2]):
        at = {"chain": chain, "draw": draw}
        images = image.isel(at, missing_dims="ignore").values
        arrays = {str(name): v.values for name, v in latents.isel(at).data_vars.items()}
        result = np.asarray(function(images, arrays))
        if result.shape != (len(images),):
            wanted = f"one number for each of {len(images)} images"
            raise ValueError(f"T(images, draw) must return {wanted}, got shape {result.shape}")
        values[chain, draw] = result
    return xr.DataArray(values, dims=tuple(labels), coords=labels)


def p_values(checks: Mapping) -> xr.Dataset:
    """For each statistic and image, the share of draws with T(replicate) >= T(observed), in [0, 1].

    Ties count half: a statistic that is always met exactly has p = 0.5. Near 0 or 1, the replicates of
    this image have too little or too much of it. NaN where the statistic is NaN in any draw. Means over
    images say nothing: images with too much and images with too little cancel. See :func:`tail_shares`.

    Args:
        checks: What :func:`statistics` returns.

    Returns:
        A variable (image_id) for each statistic; the attribute ``draws`` is their number.

    Raises:
        ValueError: These are images, not statistics, or there are no replicates.
    """
    if not isinstance(checks, Mapping):
        kind = type(checks).__name__
        raise TypeError(f"checks must be what statistics(to_arviz(...)) returns, got {kind}")
    for group in ("posterior_predictive", "observed_data"):
        if group not in checks:
            raise ValueError(f"there is no group '{group}': give statistics(to_arviz(...))")
        if "image" in checks[group].data_vars:
            raise ValueError("these are images, not statistics: call p_values(statistics(data))")
    groups = (checks[group].data_vars for group in ("posterior_predictive", "observed_data"))
    replicate, observed = (xr.Dataset(group).astype(float) for group in groups)
    above = xr.apply_ufunc(np.sign, replicate - observed) / 2 + 0.5
    p = above.mean(("chain", "draw"), skipna=False)
    return p.assign_attrs(draws=replicate.sizes["chain"] * replicate.sizes["draw"])


class TailShare(NamedTuple):
    """How many images have an extreme p-value, beside how many a calibrated model leads one to expect."""

    share: float  # of images with p in either tail, in [0, 1]
    expected: float  # of that share, if the image is as likely as its replicates at every rank
    standard_error: float  # of the share about that expectation, over images
    low: float  # share of images with p below the tail: replicates have too little
    high: float  # share of images with p above: replicates have too much
    images: int  # how many have a p-value
    tail: float  # the tails are below this, and above 1 minus this


def tail_shares(p: xr.Dataset, *, tail: float = 0.05) -> dict[str, TailShare]:
    """For each statistic, the share of images with p outside [tail, 1 - tail].

    The expectation is about ``2 * tail``; exactly, the share of the draws + 1 equally likely ranks of an
    image among its replicates, which is more if draws are few. It holds for replicates that are exchangeable
    with the image. Replicates drawn given the image are nearer to it, and statistics with ties have fewer
    extreme values: a share above the expectation is a finding, a share below it is none.

    Args:
        p: What :func:`p_values` returns.
        tail: In (0, 0.5).

    Raises:
        ValueError: No such p-values, or a tail out of range.
    """
    if not isinstance(p, xr.Dataset) or "draws" not in p.attrs:
        raise ValueError("p must be what p_values(statistics(data)) returns")
    if not (isinstance(tail, Real) and 0 < tail < 0.5):
        raise ValueError(f"tail must be a number between 0 and 0.5, got {tail!r:.60}")
    ranks = np.arange(p.attrs["draws"] + 1) / p.attrs["draws"]
    expected = float(np.mean((ranks < tail) | (ranks > 1 - tail)))
    return {str(name): _tail_share(v.values, tail, expected) for name, v in p.data_vars.items()}


def _tail_share(p: np.ndarray, tail: float, expected: float) -> TailShare:
    p = p[~np.isnan(p)]
    if p.size == 0:
        return TailShare(np.nan, expected, np.nan, np.nan, np.nan, 0, tail)
    low, high = float(np.mean(p < tail)), float(np.mean(p > 1 - tail))
    error = float(np.sqrt(expected * (1 - expected) / p.size))
    return TailShare(low + high, expected, error, low, high, p.size, tail)


def total_ink(images: Float[np.ndarray, "*batch c h w"]) -> np.ndarray | np.floating:
    """Sum of an image's intensities (...): many, large or bright objects make it large."""
    return _pictures(images).sum(axis=(-3, -2, -1))


def roughness(images: Float[np.ndarray, "*batch c h w"]) -> np.ndarray | np.floating:
    """Mean squared difference of pixels that are neighbours in a row or a column (...).

    Noise of variance v, independent from pixel to pixel, adds 2 v: a model that takes blur for such
    noise makes images that are too rough. An image needs two pixels.
    """
    images = _pictures(images)
    across, down = (np.square(np.diff(images, axis=axis)) for axis in (-1, -2))
    pairs = float(np.prod(across.shape[-3:]) + np.prod(down.shape[-3:]))
    return (total_ink(across) + total_ink(down)) / pairs


def _pictures(images: Any) -> np.ndarray:
    pictures = np.asarray(images)
    if pictures.ndim < 3 or pictures.dtype.kind not in "fiub":
        raise ValueError(f"images must be an array (..., C, H, W), got {images!r:.60}")
    return pictures


#: The built-in statistics.
STATISTICS: dict[str, Callable] = {"total_ink": total_ink, "roughness": roughness}
