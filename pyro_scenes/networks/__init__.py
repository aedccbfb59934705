"""Networks: tensors in, tensors out. Torch only: nothing here knows about probability."""

from .glimpse import GlimpseDecoder, GlimpseEncoder
from .image import ImageEncoder
from .mlp import glorot, mlp
from .pose import FreePoseDecoder, PoseDecoder, PoseEncoder

__all__ = [
    "FreePoseDecoder",
    "GlimpseDecoder",
    "GlimpseEncoder",
    "ImageEncoder",
    "PoseDecoder",
    "PoseEncoder",
    "glorot",
    "mlp",
]
