"""What examples share: their flags, an output folder, and a training that survives being killed."""

from .flags import flags, launch, path, positive, rate
from .run import Run, own_random

__all__ = ["Run", "flags", "launch", "own_random", "path", "positive", "rate"]
