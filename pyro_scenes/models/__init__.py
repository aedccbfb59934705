"""One paper per file: its generative process, and the guide that inverts it."""

from .air import AIR, AIRGuide

__all__ = ["AIR", "AIRGuide"]
