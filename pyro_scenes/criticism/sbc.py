"""Simulation-based calibration: is a scene as likely as the guide's draws at every rank?

Talts et al. (2018, https://arxiv.org/abs/1804.06788): a scene is drawn from the model, then an image of it,
then L scenes from the guide, given the image. Were the guide the posterior, the true scene and the L draws
would be exchangeable, and the rank of any quantity of the true scene among those of the draws uniform on
0 .. L. Of quantities log p(image, scene) matters most (Modrak et al., 2023,
https://arxiv.org/abs/2211.02383): it sees a guide that ignores the image, and one that loses correlations.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from pyro import poutine
from torch import Tensor

from ..checks import check_sizes
from ..pairs import check_guide, unchanged, warn_caller, warn_training_mode
from ..particles import image_log_probs
from ..random import fork_rng
from ..sites import check_sites, latents
from .draws import check_seed, value_of
from .quantities import order_free

__all__ = ["Calibration", "calibration", "sbc"]

#: With more scenes than this of one count, ranks say little.
_RARE = 0.9


def sbc(
    model: Callable,
    guide: Callable,
    *,
    simulations: int = 500,
    draws: int = 99,
    batch: int = 100,
    seed: int | None = None,
    quantities: Callable[[dict[str, np.ndarray]], Mapping[str, Any]] = order_free,
) -> xr.Dataset:
    """Ranks of scenes that the model draws among the guide's draws, given their images.

    It runs the guide and the model ``draws`` times on each of the ``simulations`` images. Ties are broken
    at random, so that ranks of a count, or of what an absent object lacks, are uniform too.

    Args:
        model: A Pyro model, called as ``model(images)`` and ``model(None, size=n)``, with a plate
            ``"images"`` and a site ``"image"``.
        guide: Its guide, called as ``guide(images)``.
        simulations: Number of scenes drawn from the model.
        draws: L, the number of draws of the guide for each.
        batch: Images at a time.
        seed: Makes the ranks reproducible, and leaves torch's random state as it was.
        quantities: From a draw of n scenes, the arrays (n, ...) of the latents by site, of the ``image`` and
            of ``log_p`` = log p(image, scene) in nats, to an array (n,) for each quantity's name. Latents
            of absent objects are NaN. All NaN are one value, the least.

    Returns:
        ``rank`` in 0 .. L, ``pit`` in [0, 1] (the rank, uniform within its bin of width 1 / (L + 1)), and
        ``truth``, the quantity of the true scene: each (quantity, simulation).

    Raises:
        ValueError: Arguments not as above; no site ``image``; a latent that all images share; log p is NaN;
            or model and guide do not agree in sites, shapes, supports, plates and masks.

    Warns:
        TrainingModeWarning: Model or guide is in training mode.
        UserWarning: More than nine in ten scenes have the same number of objects.
    """
    check_sizes(simulations=simulations, draws=draws, batch=batch)
    check_seed(seed)
    warn_training_mode(model, guide)
    sizes = [min(batch, simulations - start) for start in range(0, simulations, batch)]
    with torch.no_grad(), nullcontext() if seed is None else fork_rng(seed):
        with unchanged(model, guide):
            check_guide(model, guide, _image(_draw(model, min(2, batch))))
        parts = [_simulate(model, guide, size, draws, quantities) for size in sizes]
    found = xr.concat(parts, "simulation").assign_attrs(draws=draws)
    _warn_rare(found)
    return found.assign_coords(simulation=np.arange(simulations))


def _draw(model: Callable, size: int) -> poutine.Trace:
    return poutine.trace(model).get_trace(None, size=size)


def _image(drawn: poutine.Trace) -> Tensor:
    if "image" not in drawn.stochastic_nodes:
        raise ValueError(
            f"model(None, size=n) must draw 'image', it drew {sorted(drawn.stochastic_nodes)}"
        )
    return drawn.nodes["image"]["value"]


def _simulate(
    model: Callable, guide: Callable, size: int, draws: int, quantities: Callable
) -> xr.Dataset:
    """The ranks of one batch."""
    drawn = _draw(model, size)
    images = _image(drawn)
    found = _evaluate(model, drawn, images, quantities)
    truth = _stack(found, found, size)
    below, ties = np.zeros(truth.shape, int), np.zeros(truth.shape, int)
    for _ in range(draws):
        proposed = poutine.trace(guide).get_trace(images)
        other = _stack(_evaluate(model, proposed, images, quantities), found, size)
        below += other < truth
        ties += other == truth
    rank = below + np.floor(_uniform(truth.shape) * (ties + 1)).astype(int)
    values = {"rank": rank, "pit": (rank + _uniform(rank.shape)) / (draws + 1), "truth": truth}
    dims = ("quantity", "simulation")
    return xr.Dataset({k: (dims, v) for k, v in values.items()}, {"quantity": [*found]})


def _evaluate(
    model: Callable, proposed: poutine.Trace, images: Tensor, quantities: Callable
) -> Mapping[str, Any]:
    """The quantities of a draw, scored by the model as an explanation of the images."""
    size = len(images)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    if not latents(joint).keys() <= proposed.nodes.keys():
        check_sites(joint, proposed)  # a draw of the prior is no proposal
    draw = {name: value_of(name, site, size) for name, site in latents(joint).items()}
    draw |= {"image": images.cpu().numpy(), "log_p": image_log_probs(joint, size).cpu().numpy()}
    if np.isnan(draw["log_p"]).any():
        raise ValueError("log p(image, scene) is NaN: a parameter of the pair is not finite")
    return quantities(draw)


def _stack(found: Mapping[str, Any], names: Iterable[str], size: int) -> np.ndarray:
    """(quantity, size): "no object", NaN, is a value, too, and the least."""
    for name in names:
        shape = np.shape(found[name]) if name in found else "none"
        if shape != (size,):
            wanted = f"a number {name} for each of {size} scenes, in every draw"
            raise ValueError(f"quantities must return {wanted}, got shape {shape}")
    values = np.stack([np.asarray(found[name], dtype=float) for name in names])
    return np.where(np.isnan(values), -np.inf, values)


def _uniform(shape: tuple[int, ...]) -> np.ndarray:
    return torch.rand(shape, dtype=torch.float64, device="cpu").numpy()


def _warn_rare(found: xr.Dataset) -> None:
    if "count" in found["quantity"]:
        counts, numbers = np.unique(found["truth"].sel(quantity="count"), return_counts=True)
        if numbers.max() > _RARE * numbers.sum():
            warn_caller(
                f"{numbers.max()} of {numbers.sum()} scenes that this model draws have "
                f"{counts[numbers.argmax()]:g} objects, so ranks say little of others: give it a prior of "
                "counts that it believes, such as a learned Persist, or Persist([0.7, 0.5, 0.3])"
            )


class Calibration(NamedTuple):
    """How far the ranks of a quantity are from uniform. Of many quantities, the least p is small by chance."""

    p: float  # of ranks so far from uniform under the posterior: Kolmogorov-Smirnov tests of place and width
    coverage: dict[float, float]  # by level: share of scenes inside the draws' central interval
    standard_error: dict[float, float]  # by level: of that share under the posterior
    mean: float  # of pit: 0.5 under the posterior; below it draws are too large, above it too small
    simulations: int


def calibration(found: xr.Dataset, levels: Sequence[float] = (0.5, 0.9)) -> dict[str, Calibration]:
    """For each quantity, the p-value of uniform ranks, and the coverage of central intervals.

    With enough simulations every amortised guide has a small p: the coverage says how wrong it is. Below its
    level draws are too narrow or beside the truth, above it too wide.

    Args:
        found: What :func:`sbc` returns.
        levels: Of intervals, each in (0, 1).

    Raises:
        ValueError: No such ranks, or a level out of range.
    """
    if not isinstance(found, xr.Dataset) or "pit" not in found:
        raise ValueError("found must be what sbc(model, guide) returns")
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be between 0 and 1, got {levels}")
    pits = found["pit"].transpose("quantity", "simulation")
    return {str(pit["quantity"].item()): _calibration(pit.values, levels) for pit in pits}


def _calibration(pit: np.ndarray, levels: Sequence[float]) -> Calibration:
    from scipy.stats import kstest  # here, as it takes a second

    distance = 2 * np.abs(pit - 0.5)  # uniform if pit is; it sees a wrong width twice as well
    p = 2 * min(float(kstest(u, "uniform").pvalue) for u in (pit, distance))
    coverage = {level: float((distance <= level).mean()) for level in levels}
    errors = {level: float(np.sqrt(level * (1 - level) / pit.size)) for level in levels}
    return Calibration(min(1.0, p), coverage, errors, float(pit.mean()), pit.size)
