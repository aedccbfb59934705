"""What a training does between its gradient steps."""

from .sprites import colour_experts, separate_experts

__all__ = ["colour_experts", "separate_experts"]
