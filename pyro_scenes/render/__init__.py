"""From poses and pictures to canvases. Torch only: nothing here knows about probability."""

from .transform import box, glance, place

__all__ = ["box", "glance", "place"]
