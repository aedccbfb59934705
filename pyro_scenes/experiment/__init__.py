"""What examples share: their flags, an output folder, a training that survives being killed, and tasks."""

from .flags import flags, launch, natural, path, positive, rate, up_to
from .held_out import remember, unseen
from .layered import LAYERED, LayeredScorer, layered_split
from .run import Run
from .scoring import Scorer
from .shapes import ShapesJudge, ShapesTask
from .sheets import expert_roles, explained, scene_figures
from .shown import Shown, show_air, show_cst_vae, show_econ
from .training import Training

__all__ = [
    "LAYERED",
    "LayeredScorer",
    "Run",
    "Scorer",
    "ShapesJudge",
    "ShapesTask",
    "Shown",
    "Training",
    "expert_roles",
    "explained",
    "flags",
    "launch",
    "layered_split",
    "natural",
    "path",
    "positive",
    "rate",
    "remember",
    "scene_figures",
    "show_air",
    "show_cst_vae",
    "show_econ",
    "unseen",
    "up_to",
]
