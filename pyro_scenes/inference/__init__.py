"""Training: ``fit``, and checkpoints. Objectives are Pyro's own ELBO objects."""

from .checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from .fit import Diverged, Record, adam, fit
from .schedule import warming

__all__ = [
    "CheckpointError",
    "Diverged",
    "Record",
    "adam",
    "fit",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "warming",
]
