"""What a training does between its gradient steps, and the pairs that papers trained."""

from .layered_digits import layered_digits_pair
from .sprites import colour_experts, separate_experts

__all__ = ["colour_experts", "layered_digits_pair", "separate_experts"]
