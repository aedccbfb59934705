"""Networks: tensors in, tensors out. Torch only: nothing here knows about probability."""

from .attention import Attention, ExpertAttention, GivenAttention, SeededAttention
from .dispatch import dispatch
from .glimpse import GlimpseDecoder, GlimpseEncoder
from .image import ImageEncoder
from .layers import OPAQUE, BroadcastDecoder, FlatDecoder, SpriteDecoder, some, typical_colour
from .mlp import CERTAIN, glorot, mlp
from .pose import FreePoseDecoder, PoseDecoder, PoseEncoder
from .region import RegionEncoder
from .unet import UNet

__all__ = [
    "CERTAIN",
    "OPAQUE",
    "Attention",
    "BroadcastDecoder",
    "ExpertAttention",
    "FlatDecoder",
    "FreePoseDecoder",
    "GivenAttention",
    "GlimpseDecoder",
    "GlimpseEncoder",
    "ImageEncoder",
    "PoseDecoder",
    "PoseEncoder",
    "RegionEncoder",
    "SeededAttention",
    "SpriteDecoder",
    "UNet",
    "dispatch",
    "glorot",
    "mlp",
    "some",
    "typical_colour",
]
