"""Numbers on held-out images: bounds, counts, layers, codes.

Everything here reads named sites of traces, and imports no model. Images are float (n, C, H, W) in
[0, 1]; use ``torch.no_grad()`` to save memory.
"""

from .bounds import importance_bound, log_weights
from .codes import Probe, codes, probe
from .counts import (
    Interpretation,
    count_accuracy,
    count_confusion,
    count_probabilities,
    interpret,
    sample_counts,
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

__all__ = [
    "Interpretation",
    "Layers",
    "Match",
    "Probe",
    "best_match",
    "codes",
    "count_accuracy",
    "count_confusion",
    "count_probabilities",
    "explanations",
    "importance_bound",
    "interpret",
    "iou",
    "layer_iou",
    "log_weights",
    "match_layers",
    "overlap",
    "probe",
    "r_squared",
    "sample_counts",
    "see_layers",
]
