"""Numbers on held-out images: bounds, counts, layers, segments, depth, experts, codes, samples.

Everything here reads named sites of traces or tensors, and imports no model. Images are float (n, C, H, W)
in [0, 1]; use ``torch.no_grad()`` to save memory.
"""

from .bounds import Bounds, estimate, importance_bound, log_weights
from .codes import Probe, codes, probe
from .counts import (
    Counting,
    Interpretation,
    count_accuracy,
    count_confusion,
    count_probabilities,
    counting,
    interpret,
    sample_counts,
)
from .decomposition import (
    Decomposition,
    ShapeFit,
    count_classes,
    decompose,
    repaint,
    shape_fit,
)
from .depth import (
    Amodal,
    DepthOrder,
    amodal_iou,
    background_first,
    depth_order,
    objects_found,
)
from .layers import (
    Layers,
    Match,
    best_match,
    explanations,
    iou,
    layer_iou,
    match_layers,
    overlap,
    r_squared,
    see_layers,
)
from .reading import CountReader, train_reader
from .segments import adjusted_rand, mean_iou, segments, visible_parts
from .specialisation import Specialisation, specialisation

__all__ = [
    "Amodal",
    "Bounds",
    "CountReader",
    "Counting",
    "Decomposition",
    "DepthOrder",
    "Interpretation",
    "Layers",
    "Match",
    "Probe",
    "ShapeFit",
    "Specialisation",
    "adjusted_rand",
    "amodal_iou",
    "background_first",
    "best_match",
    "codes",
    "count_accuracy",
    "count_classes",
    "count_confusion",
    "count_probabilities",
    "counting",
    "decompose",
    "depth_order",
    "estimate",
    "explanations",
    "importance_bound",
    "interpret",
    "iou",
    "layer_iou",
    "log_weights",
    "match_layers",
    "mean_iou",
    "objects_found",
    "overlap",
    "probe",
    "r_squared",
    "repaint",
    "sample_counts",
    "see_layers",
    "segments",
    "shape_fit",
    "specialisation",
    "train_reader",
    "visible_parts",
]
