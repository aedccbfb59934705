"""What examples share: their flags, an output folder, and a training that survives being killed."""

from .flags import flags, launch, natural, path, positive, rate, up_to
from .held_out import remember, unseen
from .run import Run
from .training import Training

__all__ = [
    "Run",
    "Training",
    "flags",
    "launch",
    "natural",
    "path",
    "positive",
    "rate",
    "remember",
    "unseen",
    "up_to",
]
