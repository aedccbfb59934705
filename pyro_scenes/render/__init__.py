"""From poses and pictures to canvases. Torch only: nothing here knows about probability."""

from .affine import centre, centroid, inverse, warp
from .compose import under
from .regions import behind, mask_divergence, opacities, to_pixels, visibility
from .transform import box, glance, place

__all__ = [
    "behind",
    "box",
    "centre",
    "centroid",
    "glance",
    "inverse",
    "mask_divergence",
    "opacities",
    "place",
    "to_pixels",
    "under",
    "visibility",
    "warp",
]
