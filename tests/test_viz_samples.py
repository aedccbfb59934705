from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyro_scenes import viz
from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import Decomposition, Layers, floors


def rows(figure):
    return [axis.get_ylabel().replace("\n", " ") for axis in figure.axes if axis.get_ylabel()]


def test_layers_that_paint_nothing_have_no_row():
    masks = torch.ones(2, 3, 1, 4, 4)
    masks[:, 2] = 0
    sample = SimpleNamespace(layers=torch.rand(2, 3, 3, 4, 4) * masks, masks=masks)
    figure = viz.painted_layers(sample)
    assert rows(figure) == ["layer 2 at the back", "layer 1 in front"]
    named = viz.painted_layers(sample, names=["disc", "square", "none"], headline="grown")
    assert rows(named) == ["layer 2 (square) at the back", "layer 1 (disc) in front"]
    assert named.get_suptitle() == "grown"
    with pytest.raises(ValueError, match="names must be one for each of 3 layers, got 1"):
        viz.painted_layers(sample, names=["disc"])
    # The last row is the scene: the front layer is opaque.
    drawn = torch.as_tensor(figure.axes[2].images[0].get_array())
    torch.testing.assert_close(drawn.float(), sample.layers[0, 0].movedim(0, -1))
    sample.masks[:] = 0
    assert rows(viz.painted_layers(sample)) == ["nothing is painted"]


@pytest.mark.parametrize("kind", [Decomposition, Layers])
def test_hidden_objects_show_the_layer_that_takes_most(kind):
    scenes = coloured_shapes(6, seed=2)
    ideal = floors.ideal(scenes.images, scenes.masks)
    if kind is Layers:
        ideal = floors.true_layers(scenes.masks)._replace(canvas=ideal.canvas)
    figure = viz.hidden_objects(scenes.floats(), ideal, scenes.masks, scenes.visible(), size=4)
    panels = [axis.images[0].get_array() for axis in figure.axes]
    completed, true = panels[8:12], panels[12:16]
    for one, other in zip(completed, true, strict=True):
        shapes = [(part.reshape(32, 32, -1) > 0).any(-1) for part in (one, other)]
        assert (shapes[0] == shapes[1]).all()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: viz.pictures(torch.zeros(1, 1, 4, 4)), "rows must be a mapping .*, got Tensor"),
        (lambda: viz.bars([1, 2]), "rows must be a mapping .*, got list"),
        (lambda: viz.lines([([1], [1])]), "groups must be a mapping .*, got list"),
        (lambda: viz.curves([1, 2]), "each record of the history must be a mapping .*, got int"),
        (lambda: viz.painted_layers(None), "sample must be what evaluation.paint .*, got NoneType"),
        (lambda: viz.annotated("picture"), "an array or a tensor of numbers, got str"),
        (lambda: viz.most_hidden(None, None), "an array or a tensor of numbers, got NoneType"),
    ],
)
def test_what_is_no_picture_is_named(draw, message, unchecked):
    with pytest.raises(TypeError, match=message):
        draw()


def test_bytes_and_floats_are_the_same_picture():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    figures = [viz.annotated(each) for each in (images, images / 255)]
    drawn = [np.asarray(each.axes[0].images[0].get_array()) for each in figures]
    assert drawn[0] == pytest.approx(drawn[1], abs=1e-6) and len(np.unique(drawn[0])) == 256
