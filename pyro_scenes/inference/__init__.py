"""Training: ``fit``, and checkpoints. Objectives are Pyro's own ELBO objects."""

from .checkpoint import (
    CheckpointError,
    describe_pair,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from .fit import Diverged, Record, fit
from .importance import Importance
from .parallel import Parallel
from .parameters import adam
from .schedule import falling, plateaus, ramp, scale_lr, warm_up
from .summed import Summed
from .surrogate import MaskLoss, Surrogate
from .weighted import Weighted, as_printed

__all__ = [
    "CheckpointError",
    "Diverged",
    "Importance",
    "MaskLoss",
    "Parallel",
    "Record",
    "Summed",
    "Surrogate",
    "Weighted",
    "adam",
    "as_printed",
    "describe_pair",
    "falling",
    "fit",
    "load_checkpoint",
    "plateaus",
    "ramp",
    "read_checkpoint",
    "save_checkpoint",
    "scale_lr",
    "warm_up",
]
