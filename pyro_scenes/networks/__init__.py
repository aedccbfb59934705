"""Networks: tensors in, tensors out. Torch only: nothing here knows about probability."""

from .glimpse import GlimpseDecoder, GlimpseEncoder
from .image import ImageEncoder
from .mlp import mlp

__all__ = ["GlimpseDecoder", "GlimpseEncoder", "ImageEncoder", "mlp"]
