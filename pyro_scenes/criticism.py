"""Model criticism in ArviZ: draws under the model's names, predictive statistics, p-values.

:func:`to_arviz` gives an ``InferenceData`` (ArviZ 0.23) or a ``DataTree`` (ArviZ 1.x) of the groups

* ``posterior``: the guide's draws for the images, and what the model makes of them (``canvas``);
* ``posterior_predictive``: ``image`` drawn from the likelihood (``observed_data``: as observed);
* ``prior``, ``prior_predictive``: the same for scenes from the prior, which no image enters.

Sites ``z_what_0, z_what_1, ...`` are one variable ``z_what`` with a dimension ``step`` (unless
their shapes differ). Where ``z_pres`` says that there is no object, the other ``z_*`` are NaN;
``count`` is the number of objects. Dimensions are ``chain`` (of length 1), ``draw``, ``image_id``,
``step``, then ``layer``, ``channel, row, column``, ``pose``, ``code``, ... or ``{variable}_dim_{i}``.

A guide's draws are independent: r_hat means nothing, use ``arviz.summary(data, kind="stats")``. Nor
does ``arviz.loo``, as a scene without its image is back at its prior. Example::

    checks = statistics(to_arviz(model, guide, images, seed=0))
    bayes_p(checks)                                  # roughness 1.0, say: too much pixel noise
    arviz.plot_ppc(checks, var_names=["roughness"])  # ArviZ 1.x: plot_ppc_dist, plot_ppc_tstat
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

__all__ = ["STATISTICS", "bayes_p", "roughness", "statistics", "to_arviz", "total_ink"]

_PICTURE = ("channel", "row", "column")
_EVENTS = {"image": _PICTURE, "canvas": _PICTURE, "z_where": ("pose",), "z_what": ("code",)}
_EVENTS |= {"layers": ("layer", *_PICTURE), "masks": ("layer", "opacity", "row", "column")}
_EVENTS |= {"transforms": ("layer", "axis", "term"), "z_region": ("pixel",)}
_EVENTS |= {"colours": ("layer", *_PICTURE)}


def to_arviz(
    model: Callable,
    guide: Callable,
    images: Tensor,
    *,
    draws: int = 100,
    seed: int | None = None,
    image_ids: Collection | None = None,
) -> Any:
    """Draws from guide, model and prior, as the ArviZ object described above.

    Canvas and replicate, of posterior and prior, are 16 * draws * n * C * H * W bytes of float32 (256 MB
    for 100 draws of 64 images of 1 x 50 x 50), and so are a layer and its mask. See :func:`statistics`.

    Args:
        model: A Pyro model, called as ``model(None, size=n)``, with a plate ``"images"`` and a site
            ``"image"``; sites outside the plate get no ``image_id``.
        guide: Its guide, called as ``guide(images)``: draws every latent of the model.
        images: (n, C, H, W), n > 0, on the device of the model; the result is on the CPU.
        draws: Number of draws for each image, at least 1.
        seed: Makes the draws reproducible, and leaves torch's random state as it was.
        image_ids: n labels. Default: 0 .. n-1.

    Raises:
        ValueError: Arguments not as above, no site ``image``, a latent that the guide lacks.
    """
    labels = _check(images, draws, image_ids)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.no_grad(), torch.random.fork_rng(devices, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        # The prior comes first: not even through the seed do its draws then depend on the images.
        prior = _complete(model, (poutine.Trace() for _ in range(draws)), len(images))
        proposals = (poutine.trace(guide).get_trace(images) for _ in range(draws))
        posterior = _complete(model, proposals, len(images))
    return _assemble(posterior, prior, images.detach().cpu().numpy(), labels)


def statistics(data: Mapping | Iterable[Mapping], **functions: Callable) -> Any:
    """Statistics of the observed and of the predicted images, for predictive checks on scalars.

    Args:
        data: What :func:`to_arviz` returns. Or many of these, one for each batch of images; from a
            generator, ``(to_arviz(model, guide, images[i], image_ids=i) for i in batches)``, only
            two batches' pictures are in memory at a time.
        functions: By the name of the statistic: a function of an array (..., C, H, W) to an array
            (...), given one draw at a time. Default: :data:`STATISTICS`.

    Returns:
        An object of the same kind: a variable (chain, draw, image_id) for each statistic in
        ``posterior_predictive``, ``prior_predictive`` and ``observed_data``.

    Raises ValueError: no ``image`` in the data, or a result that is not (...).
    """
    parts: dict[str, list[xr.Dataset]] = defaultdict(list)
    for batch in [data] if isinstance(data, Mapping) else data:
        for group in ("posterior_predictive", "prior_predictive", "observed_data"):
            if group in batch and "image" in batch[group].data_vars:
                image = batch[group]["image"].compute()  # a file read lazily is slow by slices
                found = {name: _apply(f, image) for name, f in (functions or STATISTICS).items()}
                parts[group].append(xr.Dataset(found))
    if not parts:
        raise ValueError("there is no 'image' here: statistics takes what to_arviz returns")
    return _to_groups({group: xr.concat(part, "image_id") for group, part in parts.items()})


def bayes_p(data: Mapping) -> dict[str, float]:
    """For each statistic, P(T(replicate) >= T(observed)), in [0, 1], over all images and draws.

    Ties count half: a statistic that is always met exactly scores 0.5. Near 0 or 1, the model's
    images have too little or too much of it. NaN where the statistic is NaN anywhere.

    Args:
        data: What :func:`statistics` returns; a ValueError if it is images.
    """
    if "image" in data["observed_data"].data_vars:
        raise ValueError("these are images, not statistics: call bayes_p(statistics(data))")
    groups = (data[group].data_vars for group in ("posterior_predictive", "observed_data"))
    replicate, observed = (xr.Dataset(group).astype(float) for group in groups)
    p = (xr.apply_ufunc(np.sign, replicate - observed) / 2 + 0.5).mean(skipna=False)
    return {str(name): float(value) for name, value in p.data_vars.items()}


def total_ink(images: Float[np.ndarray, "*batch c h w"]) -> np.ndarray | np.floating:
    """Sum of an image's intensities (...): many, large or bright objects make it large."""
    return images.sum(axis=(-3, -2, -1))


def roughness(images: Float[np.ndarray, "*batch c h w"]) -> np.ndarray | np.floating:
    """Mean squared difference of pixels that are neighbours in a row or a column (...).

    Noise of variance v, independent from pixel to pixel, adds 2 v: a model that takes blur for such
    noise makes images that are too rough. An image needs two pixels.
    """
    across, down = (np.square(np.diff(images, axis=axis)) for axis in (-1, -2))
    pairs = float(np.prod(across.shape[-3:]) + np.prod(down.shape[-3:]))
    return (total_ink(across) + total_ink(down)) / pairs


#: The built-in statistics.
STATISTICS: dict[str, Callable] = {"total_ink": total_ink, "roughness": roughness}


def _check(images: Tensor, draws: int, image_ids: Collection | None) -> np.ndarray:
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must be (n, C, H, W) with n > 0, got {tuple(images.shape)}: give one image as "
            "image[None], grey images as images[:, None]"
        )
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    labels = np.arange(len(images)) if image_ids is None else np.asarray(image_ids)
    if labels.shape != (len(images),):
        raise ValueError(f"image_ids must be {len(images)} labels, got shape {labels.shape}")
    return labels


def _complete(model: Callable, proposals: Iterable, size: int) -> dict[str, np.ndarray]:
    """The model's sites (draw, size, ...) on top of proposals; size 1 if outside the plate."""
    values = defaultdict(list)
    for proposal in proposals:  # one by one: a recurrent guide takes no further dimension
        trace = poutine.trace(poutine.replay(model, trace=proposal)).get_trace(None, size=size)
        trace = poutine.util.prune_subsample_sites(trace)
        fresh = set(trace.stochastic_nodes) - set(proposal)
        if "image" not in fresh:
            raise ValueError(f"model(None, size=n) must draw 'image', it drew {sorted(fresh)}")
        if len(proposal) and fresh != {"image"}:
            hint = "draw them in it, or hide them by pyro.poutine.block(model, hide=[...])"
            raise ValueError(f"the guide leaves {sorted(fresh - {'image'})} to the prior: {hint}")
        for name in trace.stochastic_nodes + trace.observation_nodes:
            site = trace.nodes[name]
            if site["is_observed"] and not site["infer"].get("_deterministic"):
                continue  # a factor
            whole = name != "image" and not site["is_observed"] and site["fn"].support.is_discrete
            value = site["value"].long() if whole else site["value"]  # a Bernoulli draws floats
            plates = {frame.name: frame.dim for frame in site["cond_indep_stack"]}
            if {"images"} < plates.keys() and not site["is_observed"]:  # of pixels: they come first
                value = value.movedim(plates["images"] + value.dim() - site["fn"].event_dim, 0)
            plated = "images" in plates and value.shape[:1] == (size,)
            values[name].append((value if plated else value[None]).cpu().numpy())
    return {name: np.stack(values.pop(name)) for name in list(values)}


def _assemble(posterior: dict, prior: dict, images: np.ndarray, image_ids: np.ndarray) -> Any:
    """From sites to groups: all that needs neither Pyro nor torch."""
    observed = _dataset({"image": images[None]}, image_ids)
    groups = {"observed_data": observed.isel(chain=0, draw=0, drop=True)}
    for name, sites in {"posterior": posterior, "prior": prior}.items():
        dataset = _dataset(sites, image_ids)
        groups[name] = dataset[[variable for variable in dataset.data_vars if variable != "image"]]
        groups[f"{name}_predictive"] = dataset[["image"]]
    return _to_groups(groups)


def _dataset(sites: dict[str, np.ndarray], image_ids: np.ndarray) -> xr.Dataset:
    variables = {}
    for name, family in _families(sites).items():
        values = [family[step] for step in sorted(family)]
        stack = np.stack(values, 2) if values[1:] else values[0][:, :, None]  # a view: may be large
        events = _EVENTS.get(name, ())
        if len(events) != stack.ndim - 3:
            events = tuple(f"{name}_dim_{i}" for i in range(stack.ndim - 3))
        dims = ("chain", "draw", "image_id", "step", *events)
        variable = xr.DataArray(stack[None], dims=dims, coords={"step": sorted(family)})
        lacking = {"image_id": stack.shape[1] != len(image_ids), "step": None in family}
        variables[name] = variable.isel({dim: 0 for dim in lacking if lacking[dim]}, drop=True)
    if "z_pres" in variables and "step" in variables["z_pres"].dims:
        variables["count"] = variables["z_pres"].sum("step")
    dataset = xr.Dataset(variables)
    coords: dict[Any, Any] = {
        dim: np.arange(n) for dim, n in dataset.sizes.items() if dim not in dataset.coords
    }
    if dataset.sizes.get("pose") == 3:
        coords["pose"] = ["scale", "x", "y"]
    return dataset.assign_coords(coords | {"image_id": image_ids})


def _families(sites: dict[str, np.ndarray]) -> dict[str, dict[Any, np.ndarray]]:
    """Sites by name and step, with NaN where there is no object: what is drawn there is noise."""
    families: dict[str, dict] = defaultdict(dict)
    for name, site in sites.items():
        match = re.fullmatch(r"(.+)_(\d+)", name)
        base, step = (match[1], int(match[2])) if match else (name, None)
        absent = sites.get(f"z_pres_{step}", np.ones(1)) == 0
        if base.startswith("z_") and base != "z_pres" and absent.any():
            site = np.where(absent.T, np.nan, site.T).T
        families[base][step] = site
    for base, family in list(families.items()):
        if len({(step is None, site.shape) for step, site in family.items()}) > 1:
            del families[base]
            for step, site in family.items():
                families[base if step is None else f"{base}_{step}"] = {None: site}
    return families


def _apply(function: Callable, image: xr.DataArray) -> xr.DataArray:
    f = partial(xr.apply_ufunc, function, input_core_dims=[_PICTURE])
    return image.groupby("draw").map(f) if "draw" in image.dims else f(image)


def _to_groups(groups: dict[str, Any]) -> Any:
    with warnings.catch_warnings(action="ignore"):  # 0.23 announces its own rewrite
        import arviz  # here, as it takes seconds

    old = arviz.__version__.startswith("0.")
    return arviz.InferenceData(**groups) if old else xr.DataTree.from_dict(groups)
