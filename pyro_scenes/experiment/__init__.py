"""What examples share: their flags, an output folder, and a training that survives being killed."""

from .flags import flags, launch, positive
from .run import Run, own_random

__all__ = ["Run", "flags", "launch", "own_random", "positive"]
