"""What examples share: their flags, an output folder, a training that survives being killed, and tasks."""

from .completion import (
    CompletionScorer,
    Parts,
    completion_figure,
    completion_split,
    completion_verdict,
)
from .flags import checkpoint, flags, natural, path, positive, rate, share, sides, up_to
from .held_out import remember, unseen
from .layered import LAYERED, LayeredScorer, layered_split
from .layered_sheets import layered_figures
from .own import IMAGES, divide, is_binary, own_scenes
from .program import launch
from .run import Run
from .scoring import Scorer
from .shapes import ShapesJudge, ShapesTask
from .sheets import expert_roles, explained, scene_figures
from .shown import show_air, show_cst_vae, show_econ
from .training import Training
from .verdict import count_verdict, layer_verdict, region_verdict

__all__ = [
    "CompletionScorer",
    "IMAGES",
    "LAYERED",
    "LayeredScorer",
    "Parts",
    "Run",
    "Scorer",
    "ShapesJudge",
    "ShapesTask",
    "Training",
    "checkpoint",
    "completion_figure",
    "completion_split",
    "completion_verdict",
    "count_verdict",
    "divide",
    "expert_roles",
    "explained",
    "flags",
    "is_binary",
    "launch",
    "layer_verdict",
    "layered_figures",
    "layered_split",
    "natural",
    "own_scenes",
    "path",
    "positive",
    "rate",
    "region_verdict",
    "remember",
    "scene_figures",
    "share",
    "show_air",
    "show_cst_vae",
    "show_econ",
    "sides",
    "unseen",
    "up_to",
]
