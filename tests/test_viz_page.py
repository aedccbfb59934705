"""Every figure fits a page, and its text can be read and is not cut."""

import numpy as np
import pytest
from matplotlib.text import Text

from pyro_scenes import evaluation, viz
from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import floors

RNG = np.random.default_rng(0)
IMAGES = RNG.random((24, 1, 10, 10))
BOXES = np.tile([1.0, 1.0, 6.0, 6.0], (24, 3, 1))
SCENES = coloured_shapes(6, seed=1)
IDEAL = floors.ideal(SCENES.images, SCENES.masks)
HISTORY = [{"step": step} | {f"quantity_{i}": step for i in range(7)} for step in range(9)]


def taken_apart():
    right = evaluation.solved(IDEAL.masks, SCENES.masks)
    parts = {"truth": SCENES.visible(), "painted": evaluation.repaint(IDEAL), "correct": right}
    return viz.taken_apart(SCENES.floats(), IDEAL, **parts, headline="Six scenes. " * 10)


FIGURES = {
    "counted": lambda: viz.counted(IMAGES, BOXES, [3] * 24, [2] * 24),
    "taken apart": taken_apart,
    "layer by layer": lambda: viz.layer_by_layer(SCENES.floats(), IDEAL),
    "hidden objects": lambda: viz.hidden_objects(
        SCENES.floats(), IDEAL, SCENES.masks, SCENES.visible(), headline="hidden"
    ),
    "long names": lambda: viz.pictures(
        {"a row with a name of many words": IMAGES[:10]}, columns=["expert 3: triangles"] * 10
    ),
    "curves": lambda: viz.curves(HISTORY, marks={"warm-up ends": 3, "experts set apart": 5}),
    "bars": lambda: viz.bars({"truth": [0.5, 0.5], "prior": [1.0]}, x="objects", headline="two"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fits_a_page_and_its_text_can_be_read(name):
    figure = FIGURES[name]()
    wide, high = figure.get_size_inches()
    assert wide <= viz.PAGE + 1e-9 and high <= 11.5
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert texts and min(text.get_fontsize() for text in texts) >= 8
    ticks = {
        text for axis in figure.axes for text in axis.get_xticklabels() + axis.get_yticklabels()
    }
    for text in {*texts} - ticks:  # a tick beyond the limits is not drawn
        box, frame = text.get_window_extent(), figure.bbox.padded(2)
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text.get_text()


@pytest.mark.parametrize("name", ["counted", "taken apart", "layer by layer", "hidden objects"])
def test_images_fill_their_panels_and_do_not_overlap(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    boxes = [axis.get_window_extent() for axis in figure.axes if axis.images]
    for axis, box in zip([a for a in figure.axes if a.images], boxes, strict=True):
        high, wide = axis.images[0].get_array().shape[:2]
        assert box.width * high == pytest.approx(box.height * wide, rel=0.02)
    gaps = [after.x0 - box.x1 for box, after in zip(boxes, boxes[1:], strict=False)]
    in_a_row = [gap for gap in gaps if gap > -boxes[0].width]
    assert in_a_row and min(in_a_row) > 0 and max(in_a_row) < 0.1 * figure.dpi
