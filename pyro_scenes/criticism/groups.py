"""From arrays by site to the groups of an ArviZ object: neither Pyro nor torch is needed here."""

import re
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["PICTURE", "assemble", "families", "to_groups"]

PICTURE = ("channel", "row", "column")
_SHARED = ("chain", "draw", "image_id", "step")
_EVENTS = {"image": PICTURE, "canvas": PICTURE, "z_where": ("pose",), "z_what": ("code",)}
_EVENTS |= {"layers": ("layer", *PICTURE), "masks": ("layer", "opacity", "row", "column")}
_EVENTS |= {"transforms": ("layer", "axis", "term"), "z_region": ("pixel",)}
_EVENTS |= {"colours": ("layer", *PICTURE)}


def assemble(
    posterior: dict[str, np.ndarray],
    prior: dict[str, np.ndarray],
    images: np.ndarray,
    image_ids: np.ndarray,
) -> Any:
    """Groups of sites.

    Args:
        posterior, prior: Values (draws, n, ...) by site; (draws, 1, ...) of sites that all images share.
        images: As observed, (n, C, H, W).
        image_ids: Their n labels.
    """
    observed = _dataset({"image": images[None]}, image_ids)
    groups = {"observed_data": observed.isel(chain=0, draw=0, drop=True)}
    for name, sites in {"posterior": posterior, "prior": prior}.items():
        dataset = _dataset(sites, image_ids)
        kinds: dict[str, list] = {"": [], "_pictures": [], "_predictive": []}
        for variable in dataset.data_vars:
            pixels = _has_pixels(dataset[variable], images.shape[-2:])
            kind = "_predictive" if variable == "image" else "_pictures" if pixels else ""
            kinds[kind].append(variable)
        groups |= {name + kind: dataset[kinds[kind]] for kind in kinds if kinds[kind] or not kind}
    return to_groups(groups)


def _has_pixels(variable: xr.DataArray, size: tuple[int, ...]) -> bool:
    events = [n for dim, n in variable.sizes.items() if dim not in _SHARED]
    return tuple(events[-2:]) == size or "pixel" in variable.dims


def _dataset(sites: dict[str, np.ndarray], image_ids: np.ndarray) -> xr.Dataset:
    variables = {}
    for name, family in families(sites).items():
        values = [family[step] for step in sorted(family)]
        # Of a single step a view, not a copy: it may be large.
        stack = np.stack(values, 2) if values[1:] else values[0][:, :, None]
        events = _EVENTS.get(name, ())
        if len(events) != stack.ndim - 3:
            events = tuple(f"{name}_dim_{i}" for i in range(stack.ndim - 3))
        variable = xr.DataArray(
            stack[None], dims=(*_SHARED, *events), coords={"step": sorted(family)}
        )
        lacking = {"image_id": stack.shape[1] != len(image_ids), "step": None in family}
        variables[name] = variable.isel({dim: 0 for dim in lacking if lacking[dim]}, drop=True)
    if "z_pres" in variables and "step" in variables["z_pres"].dims:
        variables["count"] = variables["z_pres"].sum("step")
    return _label(xr.Dataset(variables), image_ids)


def _label(dataset: xr.Dataset, image_ids: np.ndarray) -> xr.Dataset:
    coords: dict[Any, Any] = {
        dim: np.arange(n) for dim, n in dataset.sizes.items() if dim not in dataset.coords
    }
    if dataset.sizes.get("pose") == 3:
        coords["pose"] = ["scale", "x", "y"]
    return dataset.assign_coords(coords | {"image_id": image_ids})


def families(sites: dict[str, np.ndarray]) -> dict[str, dict[Any, np.ndarray]]:
    """Sites by name and step."""
    found: dict[str, dict] = defaultdict(dict)
    for name, site in sites.items():
        match = re.fullmatch(r"(.+)_(\d+)", name)
        base, step = (match[1], int(match[2])) if match else (name, None)
        found[base][step] = site
    for base, family in list(found.items()):
        if len({(step is None, site.shape) for step, site in family.items()}) > 1:
            del found[base]
            for step, site in family.items():
                found[base if step is None else f"{base}_{step}"] = {None: site}
    return found


def to_groups(groups: dict[str, Any]) -> Any:
    """An ``InferenceData`` or a ``DataTree``, whichever the installed ArviZ works with."""
    with warnings.catch_warnings(action="ignore"):  # 0.23 announces its own rewrite
        import arviz  # here, as it takes seconds

    old = arviz.__version__.startswith("0.")
    return arviz.InferenceData(**groups) if old else xr.DataTree.from_dict(groups)
