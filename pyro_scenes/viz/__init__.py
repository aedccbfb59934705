"""Figures from arrays. Each function returns a matplotlib Figure; save it with ``figure.savefig(path)``.

Images are (n, C, H, W), of one channel or three, uint8 or floats in [0, 1]; brighter is clipped, and what is
NaN, unseen, has violet stripes. Tensors serve as arrays do.
A ``scene`` is what ``evaluation.decompose`` or ``evaluation.see_layers`` returns, and is read by the names of
its fields. Truth, guide and prior have the same colour in every figure (:data:`SOURCE_COLOURS`), and so have
the steps of a guide (:data:`STEP_COLOURS`) and the layers of a scene (:data:`LAYER_COLOURS`). Figures are at
most :data:`PAGE` inches wide, to be read on a page.
"""

from .charts import bars, curves, lines
from .checks import predictive_checks
from .completion import completion, hidden_objects, most_hidden
from .panels import LAYER_COLOURS, PAGE, SOURCE_COLOURS, STEP_COLOURS
from .parts import in_colours
from .samples import painted_layers
from .scenes import explanations, layer_by_layer, taken_apart
from .sheets import annotated, counted, objects_found, pictures

__all__ = [
    "LAYER_COLOURS",
    "PAGE",
    "SOURCE_COLOURS",
    "STEP_COLOURS",
    "annotated",
    "bars",
    "completion",
    "counted",
    "curves",
    "explanations",
    "hidden_objects",
    "in_colours",
    "layer_by_layer",
    "lines",
    "most_hidden",
    "objects_found",
    "painted_layers",
    "pictures",
    "predictive_checks",
    "taken_apart",
]
