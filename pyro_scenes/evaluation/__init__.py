"""Numbers on held-out images: bounds, counts, layers, segments, depth, experts, codes, samples; and floors.

Everything here reads named sites of traces or tensors, and imports no model. Images are float (n, C, H, W)
in [0, 1]; use ``torch.no_grad()`` to save memory. ``floors`` has what trivial answers reach.
"""

from . import floors
from .agreement import Agreement, agreement, count_layers
from .alignment import Alignment, alignment
from .bounds import Bounds, estimate, importance_bound, log_weights
from .canvases import Canvases, canvas_error, reconstruct
from .codes import CodeAccuracy, Probe, code_accuracy, codes, probe
from .counts import (
    Counting,
    Interpretation,
    count_accuracy,
    count_accuracy_floor,
    count_probabilities,
    counting,
    interpret,
    likeliest_counts,
    sample_counts,
)
from .decomposition import (
    Decomposition,
    Reconstruction,
    decompose,
    extra_share,
    reconstruction,
    repaint,
    softmax_masks,
)
from .depth import (
    Amodal,
    DepthOrder,
    amodal_iou,
    background_first,
    depth_order,
    object_counts,
    solved,
)
from .inpainting import Inpainting, inpaint, unseen_error
from .layer_metrics import LayerMetrics, layer_metrics, r_squared
from .layers import Layers, doubt, explanations, see_layers
from .matching import Match, best_match, iou, layer_iou, match_layers, overlap
from .reading import CountReader, ShapeReader, train_reader, train_shape_reader
from .samples import (
    Request,
    Requested,
    Roles,
    Sample,
    as_request,
    mostly_visible,
    paint,
    paint_alone,
    paint_request,
    requested,
    roles,
)
from .segments import adjusted_rand, mean_iou, segments, visible_parts
from .shapes import ShapeFit, SingleShapes, shape_fit, single_shapes
from .specialisation import Specialisation, count_classes, describe_wins, specialisation
from .steps import Steps, see_steps

__all__ = [
    "Agreement",
    "Alignment",
    "Amodal",
    "Bounds",
    "Canvases",
    "CodeAccuracy",
    "CountReader",
    "Counting",
    "Decomposition",
    "DepthOrder",
    "Inpainting",
    "Interpretation",
    "LayerMetrics",
    "Layers",
    "Match",
    "Request",
    "Probe",
    "Reconstruction",
    "Requested",
    "Roles",
    "Sample",
    "ShapeFit",
    "ShapeReader",
    "SingleShapes",
    "Specialisation",
    "Steps",
    "adjusted_rand",
    "agreement",
    "alignment",
    "amodal_iou",
    "as_request",
    "background_first",
    "best_match",
    "canvas_error",
    "code_accuracy",
    "codes",
    "count_accuracy",
    "count_accuracy_floor",
    "count_classes",
    "count_layers",
    "count_probabilities",
    "counting",
    "decompose",
    "depth_order",
    "describe_wins",
    "doubt",
    "estimate",
    "explanations",
    "extra_share",
    "floors",
    "importance_bound",
    "inpaint",
    "interpret",
    "iou",
    "layer_iou",
    "layer_metrics",
    "likeliest_counts",
    "log_weights",
    "match_layers",
    "mean_iou",
    "mostly_visible",
    "object_counts",
    "overlap",
    "paint",
    "paint_alone",
    "paint_request",
    "probe",
    "r_squared",
    "reconstruct",
    "reconstruction",
    "repaint",
    "requested",
    "roles",
    "sample_counts",
    "see_layers",
    "see_steps",
    "segments",
    "shape_fit",
    "single_shapes",
    "softmax_masks",
    "solved",
    "specialisation",
    "train_reader",
    "train_shape_reader",
    "unseen_error",
    "visible_parts",
]
