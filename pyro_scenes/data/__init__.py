"""Scenes with their truth, seeded; digits to make them of; minibatches."""

from .coloured_shapes import coloured_shapes, shape_masks
from .files import load_scenes, save_scenes
from .layered_digits import layered_digits
from .mnist import mnist
from .multi_digits import multi_digits
from .scenes import Scenes, as_images, batches
from .strokes import strokes

__all__ = [
    "Scenes",
    "as_images",
    "batches",
    "coloured_shapes",
    "layered_digits",
    "load_scenes",
    "mnist",
    "multi_digits",
    "save_scenes",
    "shape_masks",
    "strokes",
]
