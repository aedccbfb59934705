"""Quantities of a scene that do not depend on the order of its objects."""

from collections.abc import Mapping

import numpy as np

from .groups import families

__all__ = ["order_free"]

#: Latents with more numbers, such as a value for each pixel, are left to log p.
_MOST = 64
_POSE = ("scale", "x", "y")


def order_free(draw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The default quantities of :func:`~pyro_scenes.criticism.sbc`: functions of the scene, never of a step.

    * ``count``: the number of objects, if there are ``z_pres_0``, ``z_pres_1``, ...
    * Of each number of latents ``z_where_0``, ``z_where_1``, ...: its sum, least and most over the objects
      that are present. Of ``z_what``, if there is a ``z_where``, its numbers at the object whose last
      coordinate of the pose is the least, which pairs the two.
    * Of other latents each number.
    * ``log_p``: log p(image, scene).

    A quantity that an empty scene does not have is infinite or NaN. Latents of more than 64 numbers are left
    to ``log_p``.

    Args:
        draw: Arrays (n, ...) by site, NaN where an object is absent, and ``log_p``.
    """
    sites = {name: value for name, value in draw.items() if name not in ("image", "log_p")}
    stacks = {name: np.stack([*family.values()]) for name, family in families(sites).items()}
    where = stacks.get("z_where")
    found: dict[str, np.ndarray] = {}
    for name, values in stacks.items():
        if name == "z_pres" and "z_pres_0" in draw:
            found["count"] = values.sum(0)
        elif len(values) == 1:
            found |= _each(name, values[0])
        elif name == "z_what" and where is not None and where.ndim == 3:
            found |= _beside(values, where)
        else:
            found |= _ends(name, values)
    return found | {"log_p": draw["log_p"]}


def _each(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Each number of values (n, ...), by its name; none of many."""
    indices = [*np.ndindex(values.shape[1:])]
    if len(indices) > _MOST:
        return {}
    labels = _POSE if values.shape[1:] == (3,) and "z_where" in name else map(_label, indices)
    return {
        f"{name}[{label}]" if index else name: values[(slice(None), *index)]
        for index, label in zip(indices, labels, strict=True)
    }


def _label(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))


def _ends(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Sum, least and most over the first dimension, of values that are there."""
    absent = np.isnan(values)
    found = {
        "sum": np.where(absent, 0, values).sum(0),
        "least": np.where(absent, np.inf, values).min(0),
        "most": np.where(absent, -np.inf, values).max(0),
    }
    return {k: v for word, each in found.items() for k, v in _each(f"{word} {name}", each).items()}


def _beside(what: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    """The codes (n, ...) of the objects whose last coordinate of the pose is the least."""
    last = where[..., -1]
    step = np.where(np.isnan(last), np.inf, last).argmin(0)
    label = "y" if where.shape[-1] == 3 else where.shape[-1] - 1
    found = _each("z_what", what[step, np.arange(len(step))])
    return {f"{name} at least z_where[{label}]": value for name, value in found.items()}
