"""What examples share: their flags, an output folder, and a training that survives being killed."""

from .flags import flags, launch, path, positive, rate
from .run import Run

__all__ = ["Run", "flags", "launch", "path", "positive", "rate"]
