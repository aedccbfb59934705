"""The sheet of what a guide says of one image."""

import numpy as np
import pytest
import torch

from pyro_scenes.evaluation import Layers
from pyro_scenes.viz import explanations

IMAGE = torch.full((1, 1, 4, 5), 0.5)


def layers_of(grey):
    complete = torch.full((1, 2, 1, 4, 5), grey)
    transforms = torch.eye(2, 3).expand(1, 2, 2, 3)
    return Layers(complete, complete, complete, torch.full((1, 1, 4, 5), grey / 2), transforms)


def test_rows_stand_in_the_order_of_their_weights():
    draws = [layers_of(grey) for grey in (0.2, 0.6, 0.8)]
    figure = explanations(IMAGE, draws, [[0.2], [0.7], [0.1]], most=2)
    grid = np.array(figure.axes).reshape(3, 3)
    assert [row[0].get_ylabel() for row in grid] == ["image", "1. weight 0.70", "2. weight 0.20"]
    assert [axis.get_title() for axis in grid[0]] == ["together", "layer 1 (front)", "layer 2"]
    greys = [[axis.images[0].get_array().max() for axis in row] for row in grid[1:]]
    np.testing.assert_allclose(greys, [[0.3, 0.6, 0.6], [0.1, 0.2, 0.2]], rtol=1e-6)


def test_no_rows_are_no_sheet():
    with pytest.raises(ValueError, match="most from 1 up, got .* most=0"):
        explanations(IMAGE, [layers_of(0.2)], [[1.0]], most=0)


@pytest.mark.parametrize("images", [IMAGE, IMAGE.repeat(2, 1, 1, 1)])
def test_other_numbers_are_named(images):
    with pytest.raises(ValueError, match=f"got {len(images)} images, 1 weights and 2 draws"):
        explanations(images, [layers_of(0.2)] * 2, [[1.0]])
