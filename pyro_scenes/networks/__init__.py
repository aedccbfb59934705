"""Networks: tensors in, tensors out. Torch only, no distributions."""

from .attention import SeededAttention, settle
from .experts import apply_each, apply_selected, certain_logits, select
from .glimpse import GlimpseDecoder, GlimpseEncoder
from .image import ImageEncoder
from .layers import OPAQUE, BroadcastDecoder, EmptyDecoder, FlatDecoder, SpriteDecoder
from .mlp import CERTAIN, glorot, mlp
from .pixels import subsample, typical_colour
from .pose import FreePoseDecoder, PoseDecoder, PoseEncoder
from .region import RegionEncoder
from .unet import UNet
from .unseen import fill, fill_nearest, is_seen, with_mask

__all__ = [
    "CERTAIN",
    "OPAQUE",
    "BroadcastDecoder",
    "EmptyDecoder",
    "FlatDecoder",
    "FreePoseDecoder",
    "GlimpseDecoder",
    "GlimpseEncoder",
    "ImageEncoder",
    "PoseDecoder",
    "PoseEncoder",
    "RegionEncoder",
    "SeededAttention",
    "SpriteDecoder",
    "UNet",
    "apply_each",
    "apply_selected",
    "certain_logits",
    "fill",
    "fill_nearest",
    "glorot",
    "is_seen",
    "mlp",
    "select",
    "settle",
    "subsample",
    "typical_colour",
    "with_mask",
]
