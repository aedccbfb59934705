"""Places pictures on canvases and composites layers. Torch only, no distributions."""

from .affine import centre, centroid, inverse, warp
from .compose import scopes, under
from .regions import behind, log_visibility, mask_divergence, opacity_logits, to_pixels
from .transform import box, glance, place

__all__ = [
    "behind",
    "box",
    "centre",
    "centroid",
    "glance",
    "inverse",
    "log_visibility",
    "mask_divergence",
    "opacity_logits",
    "place",
    "scopes",
    "to_pixels",
    "under",
    "warp",
]
