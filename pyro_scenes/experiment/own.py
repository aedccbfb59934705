"""Scenes of one's own, ``--images``: how they are read and divided."""

from dataclasses import replace

import torch

from ..data import Scenes, Split, load_scenes
from .held_out import unseen
from .run import Run

__all__ = ["IMAGES", "divide", "is_binary", "own_scenes"]

#: The help of ``--images``.
IMAGES = "your scenes: a folder of PNG or JPEG files, an .npz or an .npy"
#: Sides beyond this are told to be large.
LARGE = 256
#: A brighter median pixel is told to be no black background.
DARK = 0.4


def own_scenes(run: Run, *, most: int | None = None, on_black: bool = False) -> Scenes | None:
    """The scenes of ``--images``, and prints what they are; None without that flag.

    Grey images become colour images where the checkpoint that is evaluated or resumed is of these.

    Args:
        run: The run, whose flags are read.
        most: The largest count that is allowed.
        on_black: Whether the model paints objects on black, so that another background is worth a word.

    Raises:
        ValueError, OSError: As of :func:`~pyro_scenes.data.load_scenes`.
    """
    path = run.args.images
    if path is None:
        return None
    scenes = load_scenes(path, most=most)
    size, channels, height, width = scenes.images.shape
    kind = "colour" if channels == 3 else "grey"
    print(f"{size:,} {kind} images of {height} x {width} pixels (height x width) from {path}")
    if max(height, width) > LARGE:
        print("they are large, so training is slow: objects 10 to 30 pixels wide are enough")
    median = float(scenes[:1000].floats().median())
    if on_black and median > DARK:
        print(
            f"their median pixel has {median:.2f} of 1: this model paints bright objects on black,"
        )
        print("so give inverted images where objects are dark")
    if channels == 1 and run.settings.get("image_shape", [1])[0] == 3:
        scenes = replace(scenes, images=scenes.images.repeat(1, 3, 1, 1))
    return scenes


def divide(run: Run, scenes: Scenes) -> Split:
    """Three sets, as of ``Scenes.split``; where a checkpoint is evaluated, what it has not used, thrice."""
    return Split(*[unseen(run, scenes)] * 3) if run.evaluate else scenes.split()


def is_binary(run: Run, scenes: Scenes) -> bool:
    """Whether all pixels are 0 or 1.

    Raises:
        ValueError: They are not, but those of the checkpoint that is evaluated or resumed were.
    """
    images = scenes.images
    binary = bool(((images == 0) | (images == (255 if images.dtype == torch.uint8 else 1))).all())
    if run.kept and run.settings.get("binary", True) and not binary:
        raise ValueError(
            f"the checkpoint is of images of 0 and 1 alone, and those of {run.args.images} have levels "
            "between: give images > 127, as bool in an .npy"
        )
    return binary
