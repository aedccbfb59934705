"""Scenes with their truth, seeded; digits to make them of; minibatches."""

from .layered_digits import layered_digits
from .mnist import mnist
from .multi_digits import multi_digits
from .scenes import Scenes, as_images, batches, load_scenes
from .strokes import strokes

__all__ = [
    "Scenes",
    "as_images",
    "batches",
    "layered_digits",
    "load_scenes",
    "mnist",
    "multi_digits",
    "strokes",
]
