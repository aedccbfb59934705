"""Scenes by hand for tests of segments, depth and experts: three shapes in a pile, and discs at random."""

import torch

from pyro_scenes.evaluation import visible_parts


def shapes(*pictures):
    """Shapes bool (n, h, w) of pictures: rows of . and # with / in between."""
    return torch.stack(
        [
            torch.tensor([[mark == "#" for mark in row] for row in picture.split("/")])
            for picture in pictures
        ]
    )


LEFT, MIDDLE, RIGHT, NONE = shapes(
    "####.../####.../.......",
    "..####./..####./.......",
    "....###/....###/.......",
    "......./......./.......",
)
PILE = torch.stack([LEFT, MIDDLE, RIGHT])[None]  # 2 x 2 pixels of each are behind the one before


def discs(n=6, objects=3, height=18, width=23):
    """Scenes of discs that often overlap, bool (n, objects, height, width); none is wholly hidden."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    y = torch.rand(n, objects, 1, 1) * 8 + 5
    x = torch.rand(n, objects, 1, 1) * 3 + torch.arange(objects)[:, None, None] * 6 + 4
    return (rows - y) ** 2 + (columns - x) ** 2 < 16


def regions_of(truth):
    """What a perfect model gives to front layers, float."""
    return visible_parts(truth).float()
