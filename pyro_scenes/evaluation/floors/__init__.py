"""Floors: what trivial answers reach in the metrics, and ceilings. Nothing here is learned.

Each answer is what a model would give (a ``Decomposition``, ``Layers``, samples), and is scored by the same
functions, so that a floor stands beside a figure in one table.
"""

from .canvases import canvas_floors
from .decompositions import (
    agreement_floors,
    flood_fill,
    foreground_only,
    ideal,
    largest_first,
    one_expert,
)
from .layers import copy_whole, cut_in_two, layer_floors, other_scene, true_layers
from .samples import requested_floors, single_shape_floors
from .table import beside

__all__ = [
    "agreement_floors",
    "beside",
    "canvas_floors",
    "copy_whole",
    "cut_in_two",
    "flood_fill",
    "foreground_only",
    "ideal",
    "largest_first",
    "layer_floors",
    "one_expert",
    "other_scene",
    "requested_floors",
    "single_shape_floors",
    "true_layers",
]
