"""What examples share: their flags, an output folder, and a training that survives being killed."""

from .flags import flags, launch, natural, path, positive, rate, up_to
from .own import own_sets
from .run import Run
from .scoring import Scorer
from .shapes import ShapesJudge, ShapesTask
from .sheets import expert_roles, explained, scene_figures
from .training import Training

__all__ = [
    "Run",
    "Scorer",
    "ShapesJudge",
    "ShapesTask",
    "Training",
    "expert_roles",
    "explained",
    "flags",
    "launch",
    "natural",
    "own_sets",
    "path",
    "positive",
    "rate",
    "scene_figures",
    "up_to",
]
