"""What a training does between its gradient steps, and pairs and objectives of papers."""

from .air import air_pair, as_trained, noise_at
from .completion import completion_pair, train_guess
from .econ import BETA_GAMMA, given_regions_econ, objective, paper_econ
from .layered_digits import layered_digits_pair
from .schedule import apart_at, set_experts_apart
from .sprites import colour_experts, separate_experts

__all__ = [
    "BETA_GAMMA",
    "air_pair",
    "apart_at",
    "as_trained",
    "colour_experts",
    "completion_pair",
    "given_regions_econ",
    "layered_digits_pair",
    "noise_at",
    "objective",
    "paper_econ",
    "separate_experts",
    "set_experts_apart",
    "train_guess",
]
