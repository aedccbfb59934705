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


def test_draws_stand_in_the_order_of_their_weights():
    draws = [layers_of(grey) for grey in (0.2, 0.6, 0.8)]
    figure = explanations(IMAGE, draws, [[0.2], [0.795], [0.005]], headline="doubt")
    grid = np.array(figure.axes).reshape(3, 4)
    assert [row[0].get_ylabel() for row in grid] == ["together", "layer 1 (front)", "layer 2"]
    titles = [axis.get_title().replace("\n", " ") for axis in grid[0]]
    assert titles == ["image", "weight 80%", "weight 20%", "weight < 1%"]
    greys = [[axis.images[0].get_array().max() for axis in row[1:3]] for row in grid]
    np.testing.assert_allclose(greys, [[0.3, 0.1], [0.6, 0.2], [0.6, 0.2]], rtol=1e-6)
    assert figure.get_suptitle() == "doubt"
    assert len(explanations(IMAGE, draws, [[0.2], [0.7], [0.1]], most=1).axes) == 6


def test_the_image_that_is_asked_for_is_drawn():
    images = torch.stack([IMAGE[0], IMAGE[0] / 5])
    both = Layers(*(torch.cat(parts) for parts in zip(layers_of(0.2), layers_of(0.6), strict=True)))
    figure = explanations(images, [both], [[1.0, 1.0]], index=1)
    greys = [axis.images[0].get_array().max() for axis in figure.axes if axis.images]
    np.testing.assert_allclose(greys, [0.1, 0.3, 0.6, 0.6], rtol=1e-6)


def test_no_rows_are_no_sheet():
    with pytest.raises(ValueError, match="most must be a whole number, from 1 up, got 0"):
        explanations(IMAGE, [layers_of(0.2)], [[1.0]], most=0)


@pytest.mark.parametrize("images", [IMAGE, IMAGE.repeat(2, 1, 1, 1)])
def test_other_numbers_are_named(images):
    with pytest.raises(ValueError, match=rf"draw and image, \(2, {len(images)}\), got \(1, 1\)"):
        explanations(images, [layers_of(0.2)] * 2, [[1.0]])
