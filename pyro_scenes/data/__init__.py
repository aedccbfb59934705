"""Scenes with their truth, seeded; digits to make them of; minibatches."""

from .batches import batches
from .coloured_shapes import coloured_shapes, shape_masks
from .digits import Digits, digits
from .files import load_scenes, save_scenes
from .images import as_images, fingerprints
from .layered_digits import layered_digits
from .mnist import mnist
from .multi_digits import multi_digits
from .parts import binary, quadrants, random_masks
from .scenes import Scenes, Split
from .strokes import strokes

__all__ = [
    "Digits",
    "Scenes",
    "Split",
    "as_images",
    "batches",
    "binary",
    "coloured_shapes",
    "digits",
    "fingerprints",
    "layered_digits",
    "load_scenes",
    "mnist",
    "multi_digits",
    "quadrants",
    "random_masks",
    "save_scenes",
    "shape_masks",
    "strokes",
]
