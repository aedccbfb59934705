"""Training: ``fit``, and checkpoints. Objectives are Pyro's own ELBO objects."""

from .checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from .fit import Diverged, Record, adam, fit
from .schedule import warming
from .surrogate import MaskLoss, Surrogate
from .weighted import Weighted, printed

__all__ = [
    "CheckpointError",
    "Diverged",
    "MaskLoss",
    "Record",
    "Surrogate",
    "Weighted",
    "adam",
    "fit",
    "load_checkpoint",
    "printed",
    "read_checkpoint",
    "save_checkpoint",
    "warming",
]
