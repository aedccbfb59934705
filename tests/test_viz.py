"""Figures: what is drawn where, without a word to pyplot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from pyro_scenes.viz import STEP_COLOURS, bars, curves, lines, pictures, scenes

IMAGES = np.random.default_rng(0).random((5, 1, 6, 8))


def shown(figure):
    return [axis for axis in figure.axes if axis.images]


def pixels(axis):
    return axis.images[0].get_array()


def windows(axis):
    """Each window drawn: colour, and left, top, right, bottom where the first pixel begins at 0."""
    for patch in axis.patches:
        assert not patch.get_fill()
        x, y = patch.get_x() + 0.5, patch.get_y() + 0.5
        yield patch.get_edgecolor(), [x, y, x + patch.get_width(), y + patch.get_height()]


def two_rows(boxes):
    return pictures({"image": IMAGES, "canvas": IMAGES[:3]}, boxes={"image": boxes})


@pytest.mark.parametrize(("columns", "panels"), [(1, 5), (2, 6), (5, 5), (8, 8)])
def test_a_sheet_has_every_image_once_in_rows(columns, panels):
    figure = scenes(IMAGES, columns=columns)
    assert isinstance(figure, Figure) and len(figure.axes) == panels
    assert len(shown(figure)) == 5 and not any(axis.axison for axis in figure.axes)
    for axis, image in zip(shown(figure), IMAGES, strict=True):
        assert np.array_equal(pixels(axis), image[0]) and not axis.patches
    tops = [axis.get_subplotspec().rowspan.start for axis in shown(figure)]
    assert tops == [i // columns for i in range(5)]


def test_grey_is_the_same_grey_in_every_panel():
    for axis in scenes(0.3 + 0.1 * IMAGES).axes[:5]:
        assert axis.images[0].get_clim() == (0, 1)
        assert axis.images[0].get_cmap().name == "gray"


def test_colour_images_keep_their_channels():
    colour = np.random.default_rng(0).random((2, 3, 6, 8))
    for figure in (scenes(colour), pictures({"image": colour})):
        for axis, image in zip(shown(figure), colour, strict=True):
            assert np.array_equal(pixels(axis), image.transpose(1, 2, 0))


def test_a_reconstruction_above_full_ink_is_clipped():
    assert pixels(shown(scenes(IMAGES + 0.5))[0]).max() == 1


def test_titles_stand_above_their_images():
    axes = scenes(IMAGES, titles=list("abcde")).axes
    assert [axis.get_title() for axis in axes] == [*"abcde", "", "", ""]


@pytest.mark.parametrize(
    "draw", [lambda boxes: scenes(IMAGES, boxes), two_rows], ids=["sheet", "rows"]
)
def test_windows_are_drawn_where_they_are_in_the_colour_of_their_step(draw):
    boxes = np.full((5, 8, 4), np.nan)
    boxes[1, 0] = [0, 0, 8, 6]
    boxes[1, 2] = [1.5, 2, 4, 5.5]  # the colour is that of the step, not of the rank
    boxes[2, 7] = [-1, 2, 4, 9]
    boxes[3, 0], boxes[4, 1] = [0, 0, np.inf, 3], [np.nan, 0, 1, 1]
    found = [list(windows(axis)) for axis in shown(draw(boxes))[:5]]
    assert [len(some) for some in found] == [0, 2, 1, 0, 0]
    for (colour, window), step in zip(found[1] + found[2], (0, 2, 7), strict=True):
        assert colour == to_rgba(STEP_COLOURS[step % len(STEP_COLOURS)])
        assert window == pytest.approx(boxes[2 if step == 7 else 1, step].tolist())


def test_rows_have_names_and_only_the_named_row_has_windows():
    figure = two_rows(np.tile([1.0, 1.0, 3.0, 3.0], (5, 1, 1)))
    assert len(figure.axes) == 10 and len(shown(figure)) == 8
    assert [axis.get_title("left") for axis in figure.axes] == [
        "image",
        *[""] * 4,
        "canvas",
        *[""] * 4,
    ]
    assert [len(axis.patches) for axis in figure.axes] == [1] * 5 + [0] * 5


def test_neighbouring_steps_have_different_colours():
    assert len(set(map(to_rgba, STEP_COLOURS))) == len(STEP_COLOURS) >= 3


def test_each_quantity_has_its_curve_with_gaps_where_it_is_missing():
    history = [{"step": 1.0, "elbo": 2.0}, {"step": 3.0, "elbo": 4.0, "count_accuracy": 0.5}]
    figure = curves(history)
    assert [axis.get_title() for axis in figure.axes] == ["elbo", "count accuracy"]
    elbo, accuracy = (axis.lines[0] for axis in figure.axes)
    assert list(elbo.get_xdata()) == list(accuracy.get_xdata()) == [1, 3]
    assert list(elbo.get_ydata()) == [2, 4]
    np.testing.assert_equal(list(accuracy.get_ydata()), [np.nan, 0.5])
    assert {axis.get_xlabel() for axis in figure.axes} == {"step"}


def test_curves_run_over_what_they_are_told():
    (axis,) = curves([{"hour": 1.0, "elbo": 2.0}, {"hour": 2.0, "elbo": 3.0}], x="hour").axes
    assert axis.get_xlabel() == "hour" and list(axis.lines[0].get_xdata()) == [1, 2]


def test_steps_are_whole_numbers():
    (axis,) = curves([{"step": 1, "elbo": 2.0}, {"step": 2, "elbo": 3.0}]).axes
    assert list(axis.lines[0].get_xdata()) == [1, 2]


def test_bars_stand_side_by_side_over_their_number():
    rows = {"truth": np.array([0.2, 0.5, 0.3]), "model": np.array([0.6, 0.4])}
    (axis,) = bars(rows, x="count").axes
    assert axis.get_xlabel() == "count" and list(axis.get_xticks()) == [0, 1, 2]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(rows)
    drawn = sorted((bar.get_x(), bar.get_width(), bar.get_height()) for bar in axis.patches)
    assert [height for _, _, height in drawn] == [0.2, 0.6, 0.5, 0.4, 0.3]
    for (x, width, _), (after, _, _) in zip(drawn, drawn[1:], strict=False):
        assert x + width <= after + 1e-9  # no bar hides another
    assert [round(x + width / 2) for x, width, _ in drawn] == [0, 0, 1, 1, 2]


def test_a_history_of_nothing_is_an_empty_panel():
    assert len(curves([]).axes) == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda: scenes(IMAGES, np.full((5, 1, 4), 2.0) * [0, 0, 1, 1]),
        lambda: pictures({"image": IMAGES}),
        lambda: bars({"truth": np.ones(3)}),
        lambda: curves([{"step": 1.0, "elbo": np.nan}, {"step": 2.0, "elbo": 1.0}]),
    ],
    ids=["scenes", "pictures", "bars", "curves"],
)
def test_a_figure_saves_to_png(draw, tmp_path):
    draw().savefig(tmp_path / "figure.png")
    picture = imread(tmp_path / "figure.png")
    assert picture.ndim == 3 and picture.std() > 0


PROBE = """
import sys
import matplotlib
import numpy

def settings():
    return str(sorted(dict.items(matplotlib.rcParams)))  # asking rcParams itself loads a backend

before = settings()
from pyro_scenes import viz
images = numpy.zeros((2, 1, 4, 4))
for figure in (viz.scenes(images), viz.pictures({"image": images}), viz.curves([{"step": 1, "a": 2}])):
    figure.savefig(sys.argv[1])
assert settings() == before, "settings"
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""


def test_pyplot_and_its_settings_are_left_alone(tmp_path):
    command = [sys.executable, "-c", PROBE, tmp_path / "figure.png"]
    root = Path(__file__).parent.parent
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_groups_of_lines_share_a_panel_a_colour_and_one_entry_of_the_legend():
    groups = {"one": [([0, 1], [2, 3]), ([0, 2], [5, 4])], "other": [([0, 1, 2], [1, 1, 2])]}
    (axis,) = lines(groups, x="seconds", y="nats").axes
    assert [list(map(list, line.get_data())) for line in axis.lines] == [
        [list(xs), list(ys)] for pairs in groups.values() for xs, ys in pairs
    ]
    first, second, third = (to_rgba(line.get_color()) for line in axis.lines)
    assert first == second != third
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["one", "other"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("seconds", "nats")
