"""What a run writes, in the form in which files hold it."""

import math
from typing import Any

__all__ = ["as_netcdf", "flat_numbers"]


def flat_numbers(*metrics: Any) -> dict[str, Any]:
    """One flat dictionary for JSON of dictionaries and NamedTuples of numbers; NaN and infinities are None.

    Raises:
        ValueError: Two of them have a number of the same name.
    """
    flat: dict[str, Any] = {}
    for part in metrics:
        values = part._asdict() if hasattr(part, "_asdict") else part
        twice = flat.keys() & values.keys()
        if twice:
            raise ValueError(f"two metrics have the same name: {', '.join(sorted(twice))}")
        flat |= {name: _plain_number(value) for name, value in values.items()}
    return flat


def as_netcdf(data: Any) -> bytes:
    """ArviZ data, an ``InferenceData`` or a ``DataTree``, compressed."""
    tree = data.to_datatree() if hasattr(data, "to_datatree") else data
    compress = {
        node.path: {k: {"zlib": True} for k, v in node.data_vars.items() if v.dtype.kind in "biufc"}
        for node in tree.subtree
    }
    # In memory: where a disk is full, HDF5 crashes at exit.
    return tree.to_netcdf(engine="h5netcdf", encoding=compress)


def _plain_number(value: Any) -> Any:
    """A number or a text for JSON."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
