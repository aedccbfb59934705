"""Training: ``fit``, and checkpoints. Objectives are Pyro's own ELBO objects."""

from .checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from .fit import Diverged, Record, fit
from .parameters import adam
from .schedule import warm_up
from .surrogate import MaskLoss, Surrogate
from .weighted import Weighted, as_printed

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
    "as_printed",
    "read_checkpoint",
    "save_checkpoint",
    "warm_up",
]
