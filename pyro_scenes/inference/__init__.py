"""Training: ``fit``, and checkpoints. Objectives are Pyro's own ELBO objects."""

from .checkpoint import (
    CheckpointError,
    describe_pair,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from .count_posterior import count_posterior
from .fit import Diverged, Record, fit
from .importance import Importance
from .known import Known, presences
from .parallel import Parallel
from .parameters import adam
from .pareto import effective_size, pareto_k
from .refine import Draws, refine
from .schedule import falling, plateaus, ramp, scale_lr, warm_up
from .semi_amortised import SemiAmortised, semi_amortise
from .semi_supervised import semi_supervise
from .summed import Summed
from .surrogate import MaskLoss, Surrogate
from .weighted import Weighted, as_printed

__all__ = [
    "CheckpointError",
    "Diverged",
    "Draws",
    "Importance",
    "Known",
    "MaskLoss",
    "Parallel",
    "Record",
    "SemiAmortised",
    "Summed",
    "Surrogate",
    "Weighted",
    "adam",
    "as_printed",
    "count_posterior",
    "describe_pair",
    "effective_size",
    "falling",
    "fit",
    "load_checkpoint",
    "pareto_k",
    "plateaus",
    "presences",
    "ramp",
    "read_checkpoint",
    "refine",
    "save_checkpoint",
    "scale_lr",
    "semi_amortise",
    "semi_supervise",
    "warm_up",
]
