"""Figures: what is drawn where, without a word to pyplot."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from pyro_scenes.viz import (
    STEP_COLOURS,
    annotated,
    bars,
    completion,
    counted,
    curves,
    in_colours,
    layer_by_layer,
    lines,
    most_hidden,
    objects_found,
    pictures,
    predictive_checks,
    taken_apart,
)

IMAGES = np.random.default_rng(0).random((5, 1, 6, 8))
BOXES = np.tile([1.0, 1.0, 3.0, 3.0], (5, 2, 1))


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


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def two_rows(boxes):
    return pictures({"image": IMAGES, "canvas": IMAGES[:3]}, boxes={"image": boxes})


def rows_of(figure):
    """The pictures of each row by its name, as arrays."""
    rows = {}
    for axis in figure.axes:
        name = axis.get_ylabel().replace("\n", " ") or next(reversed(rows))
        rows.setdefault(name, []).extend(np.asarray(image.get_array()) for image in axis.images)
    return rows


# sheets


@pytest.mark.parametrize(("columns", "panels"), [(1, 5), (2, 6), (5, 5), (8, 5)])
def test_a_sheet_has_every_image_once_in_rows(columns, panels):
    figure = annotated(IMAGES, columns=columns)
    assert isinstance(figure, Figure) and len(figure.axes) == panels
    assert len(shown(figure)) == 5
    for axis, image in zip(shown(figure), IMAGES, strict=True):
        assert np.array_equal(pixels(axis), image[0]) and not axis.patches
    tops = [axis.get_subplotspec().rowspan.start for axis in shown(figure)]
    assert tops == [i // columns for i in range(5)]


def test_grey_is_the_same_grey_in_every_panel():
    for axis in annotated(0.3 + 0.1 * IMAGES).axes[:5]:
        assert axis.images[0].get_clim() == (0, 1)
        assert axis.images[0].get_cmap().name == "gray"


def test_colour_images_keep_their_channels_and_tensors_serve():
    colour = np.random.default_rng(0).random((2, 3, 6, 8))
    for figure in (annotated(torch.tensor(colour)), pictures({"image": colour})):
        for axis, image in zip(shown(figure), colour, strict=True):
            assert np.array_equal(pixels(axis), image.transpose(1, 2, 0))


def test_a_reconstruction_above_full_ink_is_clipped():
    assert pixels(shown(annotated(IMAGES + 0.5))[0]).max() == 1


def test_titles_stand_above_their_images():
    axes = annotated(IMAGES, titles=list("abcde")).axes
    assert [axis.get_title() for axis in axes] == [*"abcde"]


def test_wrong_images_are_marked_and_counted():
    correct = np.array([True, False, True, True, False])
    figure = annotated(IMAGES, titles=list("abcde"), correct=correct)
    assert figure.get_suptitle() == "3 of 5 images right; wrong ones are marked"
    looks = [(axis.title.get_color(), axis.spines["left"].get_edgecolor()) for axis in figure.axes]
    right = {looks[i] for i in correct.nonzero()[0]}
    wrong = {looks[i] for i in (~correct).nonzero()[0]}
    assert len(right) == len(wrong) == 1 and right.isdisjoint(wrong)
    assert annotated(IMAGES, correct=correct, headline="own").get_suptitle() == "own"
    assert annotated(IMAGES).get_suptitle() == ""
    assert annotated(IMAGES, correct=[1] * 5).get_suptitle() == "5 of 5 images right"


def test_wrong_counts_are_named_beside_the_truth():
    boxes = np.full((5, 2, 4), np.nan)
    figure = counted(IMAGES, boxes, torch.tensor([0, 1, 2, 0, 1]), truth=[0, 2, 2, 0, 0])
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ["0 found", "1 found, 2 there", "2 found", "0 found", "1 found, 0 there"]
    assert figure.get_suptitle().startswith("3 of 5 counts right")
    unknown = counted(IMAGES, boxes, [0, 1, 2, 0, 1])
    assert unknown.axes[1].get_title() == "1 found"
    assert unknown.get_suptitle() == "0 to 2 found in a scene"
    with pytest.raises(ValueError, match="truth must be one for each"):
        counted(IMAGES, boxes, [0, 1, 2, 0, 1], truth=[1])


@pytest.mark.parametrize(
    "draw", [lambda boxes: annotated(IMAGES, boxes), two_rows], ids=["sheet", "rows"]
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


def test_the_legend_names_the_steps_that_are_drawn():
    boxes = np.full((5, 4, 4), np.nan)
    boxes[1, 0] = boxes[4, 2] = [0, 0, 2, 2]
    (legend,) = annotated(IMAGES, boxes).legends
    assert labels(legend) == ["1st window", "3rd window"]
    colours = [to_rgba(line.get_color()) for line in legend.get_lines()]
    assert colours == [to_rgba(STEP_COLOURS[i]) for i in (0, 2)]
    assert labels(two_rows(boxes).legends[0]) == ["1st window", "3rd window"]
    assert not annotated(IMAGES, boxes[:, 1:2]).legends


def test_rows_have_names_and_only_the_named_row_has_windows():
    figure = two_rows(BOXES[:, :1])
    assert len(figure.axes) == 10 and len(shown(figure)) == 8
    assert {name: len(row) for name, row in rows_of(figure).items()} == {"image": 5, "canvas": 3}
    assert [len(axis.patches) for axis in figure.axes] == [1] * 5 + [0] * 5


def test_columns_have_names_and_an_image_of_nan_leaves_its_place_empty():
    images = IMAGES.copy()
    images[1] = np.nan
    figure = pictures({"a": images, "b": IMAGES}, columns=list("vwxyz"), headline="all")
    assert [axis.get_title() for axis in figure.axes] == [*"vwxyz", *[""] * 5]
    assert [len(axis.images) for axis in figure.axes] == [1, 0, 1, 1, 1] + [1] * 5
    assert figure.get_suptitle() == "all"


def test_wrong_columns_are_marked_at_the_top():
    figure = pictures({"a": IMAGES, "b": IMAGES}, columns=list("vwxyz"), correct=[1, 1, 0, 1, 1])
    widths = [axis.spines["top"].get_linewidth() for axis in figure.axes]
    assert widths[2] > max(widths[:2] + widths[3:])


class Found(NamedTuple):
    boxes: np.ndarray
    counts: torch.Tensor
    canvas: np.ndarray
    objects: torch.Tensor


def test_each_object_is_drawn_alone_in_its_own_window():
    boxes, counts = np.full((5, 3, 4), np.nan), torch.tensor([1, 2, 0, 1, 1])
    objects = torch.full((5, 3, 1, 6, 8), torch.nan)
    for image, count in enumerate(counts):
        boxes[image, :count] = BOXES[0, 0]
        objects[image, :count] = torch.arange(1, count + 1)[:, None, None, None] / 10
    figure = objects_found(IMAGES, Found(boxes, counts, IMAGES / 2, objects), counts[[0] * 5])
    rows = rows_of(figure)
    names = ["image", "windows found", "reconstruction", "object 1 alone", "object 2 alone"]
    assert list(rows) == names and [len(rows[name]) for name in names] == [5, 5, 5, 4, 1]
    assert (rows["object 2 alone"][0] == pytest.approx(0.2)) and "3 of 5" in figure.get_suptitle()
    colours = [[colour for colour, _ in windows(axis)] for axis in figure.axes]
    first, second = (to_rgba(colour) for colour in STEP_COLOURS[:2])
    assert colours[6] == [first, second] and colours[16] == [first] and colours[21] == [second]
    assert not any(colours[:5]) and not any(colours[10:15])
    assert figure.axes[1].get_title() == "2 found,\n1 there"


# scenes taken apart


class Decomposition(NamedTuple):
    regions: np.ndarray
    masks: np.ndarray
    colours: np.ndarray
    experts: np.ndarray
    canvas: np.ndarray


class Layers(NamedTuple):
    complete: torch.Tensor
    masks: torch.Tensor
    visible: torch.Tensor
    canvas: torch.Tensor
    transforms: None = None


def two_squares():
    """Two scenes of two squares that overlap, before a grey background: masks and visible parts."""
    masks = np.zeros((2, 3, 8, 8))
    masks[0, 0, 1:5, 1:5] = masks[0, 1, 3:7, 3:7] = masks[:, 2] = 1
    masks[1, 0, 0:4, 0:4] = masks[1, 1, 1:5, 0:4] = 1
    before = np.concatenate([np.ones_like(masks[:, :1]), 1 - masks[:, :-1]], 1).cumprod(1)
    return masks, masks * before


@pytest.fixture
def decomposition():
    masks, regions = two_squares()
    colours = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5]])[None, :, :, None, None]
    colours = np.broadcast_to(colours, (2, 3, 3, 8, 8))
    experts = np.array([[1, 0, 2], [1, -1, 2]])
    canvas = (regions[:, :, None] * colours).sum(1)
    return Decomposition(regions, masks, colours, experts, canvas)


@pytest.fixture
def layers():
    masks, regions = (torch.tensor(part[:, :2, None]) for part in two_squares())
    return Layers(masks, masks, regions, regions.sum(1))


def test_regions_are_in_the_colours_of_their_layers_before_a_dark_background(decomposition):
    images, painted = decomposition.canvas, decomposition.canvas / 2
    regions, masks = decomposition.regions, decomposition.masks
    rows = rows_of(taken_apart(images, decomposition, truth=regions[:, :2], painted=painted))
    assert list(rows) == [
        *["image", "reconstruction", "regions found", "true regions"],
        "painted from full shapes",
    ]
    picture, truth = (rows[name][0] for name in ("regions found", "true regions"))
    colours = [np.unique(picture[regions[0, i] == 1], axis=0) for i in range(3)]
    assert [len(colour) for colour in colours] == [1, 1, 1]
    assert colours[2].max() < 0.2 < min(colours[0].max(), colours[1].max())
    objects = regions[0, :2].sum(0) == 1
    assert np.array_equal(truth[objects], picture[objects]) and not truth[~objects].any()
    see_through = decomposition._replace(masks=masks * 0.4)
    bright = rows_of(taken_apart(images, see_through))["regions found"][0]
    assert bright[regions[0, 2] == 1].max() > 0.2


def test_true_regions_have_the_colour_of_their_layer_in_any_order(decomposition):
    turned = decomposition.regions[:, [1, 0]]
    rows = rows_of(taken_apart(decomposition.canvas, decomposition, truth=turned))
    found, true = (rows[name][0] for name in ("regions found", "true regions"))
    objects = turned[0].sum(0) == 1
    assert np.array_equal(found[objects], true[objects])
    none = decomposition._replace(regions=decomposition.regions * [[[0]], [[1]], [[1]]])
    figure = taken_apart(none.canvas, none, truth=turned[:, ::-1], correct=[0, 1])
    missed = rows_of(figure)["true regions (white: missed)"][0]
    assert (missed[decomposition.regions[0, 0] == 1] == 1).all()
    assert figure.get_suptitle().startswith("1 of 2 scenes taken apart right; wrong ones")


def test_layers_are_drawn_complete(layers):
    rows = rows_of(taken_apart(layers.canvas, layers))
    names = ["layer 1 (front), completed", "layer 2, completed"]
    assert list(rows) == ["image", "reconstruction", "regions found", *names]
    for i, name in enumerate(names):
        assert np.array_equal(rows[name], layers.complete[:, i, 0])


def test_more_layers_than_colours_go_round_and_none_is_black():
    shares = np.eye(9)[None, :, :, None]
    picture = in_colours(shares)[0, :, :, 0].T
    assert picture.shape == (9, 3) and (picture.max(1) > 0.8).all()
    assert all((a != b).any() for a, b in zip(picture, picture[1:], strict=False))


@pytest.mark.parametrize("kind", ["decomposition", "layers"])
def test_steps_of_a_scene_begin_with_all_unexplained_and_end_with_the_canvas(kind, request):
    scene = request.getfixturevalue(kind)
    figure = layer_by_layer(scene.canvas, scene, index=1)
    rows = rows_of(figure)
    names = "not yet explained (white)", "taken by this layer"
    unexplained, taken = (rows[name] for name in names)
    masks, regions = two_squares()
    regions = regions[:, masks[1].any((1, 2))]  # a layer that is nowhere has no column
    image, first, *_ = unexplained
    canvas = np.asarray(scene.canvas[1])
    assert np.array_equal(image, np.moveaxis(canvas, 0, -1) if len(canvas) == 3 else canvas[0])
    assert (first == 1).all()
    for i, picture in enumerate(taken):
        grey = picture if picture.ndim == 2 else picture[..., 0]
        assert np.array_equal(grey, regions[1, i])
    final, *so_far = rows["canvas so far"]
    assert np.allclose(so_far[-1], final)
    assert len(rows["complete, with what is hidden"]) == len(taken) == len(so_far)


def test_columns_say_layer_and_expert(decomposition):
    images = decomposition.canvas
    figure = layer_by_layer(images, decomposition, index=1)
    titles = [axis.get_title().split("\n")[1] for axis in figure.axes[1:4]]
    assert titles == ["expert 1", "no object", "expert 2"]
    figure = layer_by_layer(images, decomposition, experts=["discs", "squares", "the rest"])
    titles = [axis.get_title() for axis in figure.axes[1:4]]
    assert titles == ["layer 1 (front)\nsquares", "layer 2\ndiscs", "layer 3\nthe rest"]
    behind = decomposition._replace(experts=np.array([[1, 0, -1]] * 2))
    assert layer_by_layer(images, behind).axes[3].get_title() == "layer 3\nbackground"


def test_an_empty_layer_is_left_out_and_counted(decomposition):
    masks = decomposition.masks * [[[1]], [[0]], [[1]]]
    figure = layer_by_layer(decomposition.canvas, decomposition._replace(masks=masks))
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes[1:3]]
    assert titles == ["layer 1 (front)", "layer 3"] and "1 left out" in figure.get_suptitle()


def test_completion_draws_the_object_that_is_asked_for(decomposition):
    masks, regions = two_squares()
    rows = rows_of(completion(decomposition.canvas, decomposition, layer=[1, 0], truth=masks[:, 1]))
    assert list(rows) == ["image", "object, visible", "object, completed", "object, true shape"]
    assert np.array_equal(rows["object, visible"][0][..., 1], regions[0, 1])
    assert np.array_equal(rows["object, completed"][0][..., 1], masks[0, 1])
    assert np.array_equal(rows["object, completed"][1][..., 0], masks[1, 0])
    assert np.array_equal(rows["object, true shape"], masks[:, 1])


def test_completion_draws_all_layers_with_their_truths(layers):
    masks, regions = two_squares()
    rows = rows_of(completion(layers.canvas, layers, truth=masks[:, :2]))
    assert len(rows) == 1 + 2 * 3
    for i, name in enumerate(("layer 1 (front)", "layer 2")):
        assert np.array_equal(rows[f"{name}, visible"], regions[:, i])
        assert np.array_equal(rows[f"{name}, completed"], masks[:, i])
        assert np.array_equal(rows[f"{name}, true shape"], masks[:, i])


def test_the_most_hidden_object_is_still_seen():
    """Shares seen: .5 and 1; .05, which is too little, and 1; padding and .25."""
    full, seen = np.zeros((2, 3, 2, 1, 20), dtype=bool)
    full[:] = True
    full[2, 0] = False
    for scene, first, second in ((0, 10, 20), (1, 1, 20), (2, 0, 5)):
        seen[scene, 0, :, :first] = seen[scene, 1, :, :second] = True
    scenes, objects = most_hidden(full, seen, size=2)
    assert scenes.tolist() == [2, 0] and objects.tolist() == [1, 0]


class Tails(NamedTuple):
    share: float
    expected: float
    standard_error: float
    low: float
    high: float
    tail: float = 0.05


def checks(share=0.5, p=(0.0, 0.5, 0.6, 1.0)):
    replicates = np.linspace(0, 1, 11)[:, None] + np.arange(4.0)
    observed = np.array([9.0, 1.5, 2.4, -9.0])
    values = {"ink": observed}, {"ink": replicates[None]}, {"ink": np.array(p)}
    return predictive_checks(*values, {"ink": Tails(share, 0.1, 0.15, share, 0.0)})


def test_a_check_says_the_share_outside_beside_what_is_expected():
    left, right = checks().axes
    assert left.get_title() == "ink\nreplicates have too little in 50% of images"
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in (left, right))
    assert right.get_title() == "50% of images have p outside [0.05, 0.95]\ncalibrated: 10% ± 15%"
    assert "no misfit" in checks(0.2).axes[0].get_title()
    assert to_rgba(right.title.get_color()) != to_rgba("black")
    assert to_rgba(checks(0.2).axes[1].title.get_color()) == to_rgba("black")
    assert sum(bar.get_height() for bar in right.patches if hasattr(bar, "get_height")) == 4


def test_a_check_draws_each_image_at_its_own_statistic():
    left, _ = checks().axes
    points = {line.get_label(): line.get_xydata() for line in left.lines}
    assert points["p within"].tolist() == [[1.5, 1.5], [2.4, 2.5]]
    assert points["p in a tail"].tolist() == [[9.0, 0.5], [-9.0, 3.5]]
    assert labels(checks(p=[0.3, 0.5, np.nan, 0.4]).axes[0].get_legend()) == ["p within", "equal"]


# all


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: annotated(IMAGES[:0]), r"\(n, C, H, W\) with n > 0"),
        (lambda: annotated(IMAGES[0]), r"image\[None\]"),
        (lambda: annotated(IMAGES[:, 0, :, :3]), r"images\[:, None\]"),
        (lambda: annotated(np.zeros((2, 4, 4, 3))), "C = 1 or 3"),
        (lambda: annotated(IMAGES, columns=0), "columns must be at least 1, got 0"),
        (lambda: annotated(IMAGES, titles=["a"]), "titles must be one for each of 5"),
        (lambda: annotated(IMAGES, BOXES[:3]), "boxes must be one for each of 5"),
        (lambda: annotated(IMAGES, BOXES[:, 0]), r"boxes must be \(n, steps, 4\)"),
        (lambda: annotated(IMAGES, correct=[True]), "correct must be one for each"),
        (lambda: pictures({}), "at least one row"),
        (lambda: pictures({"a": IMAGES[:0]}), "row 'a'"),
        (lambda: pictures({"a": IMAGES}, columns=["x"]), "columns must be 5 names"),
        (lambda: pictures({"a": IMAGES}, boxes={"b": BOXES}), "of 'b'.*rows are"),
        (lambda: pictures({"a": IMAGES}, boxes={"a": BOXES[:2]}), "one for each of 5"),
        (lambda: in_colours(IMAGES[0]), r"\(n, layers, H, W\)"),
        (lambda: taken_apart(IMAGES, IMAGES), "see_layers.*got ndarray"),
        (lambda: most_hidden(IMAGES, IMAGES[:2]), "alike"),
        (lambda: curves([{"step": 1}], columns=0), "columns must be at least 1"),
        (lambda: curves([{"loss": 1}]), "must have 'step'"),
        (lambda: lines({}), "at least one group"),
        (lambda: lines({"a": [([1], [1, 2])]}), "1 xs and 2 ys"),
        (lambda: bars({}), "none"),
        (lambda: bars({"a": np.ones((2, 2))}), "'a'"),
        (lambda: predictive_checks({}, {}, {}, {}), "there are none"),
        (lambda: checks(p=[0.5, 0.5]), "ink: .*other images"),
    ],
)
def test_wrong_input_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_scenes_of_other_images_and_numbers_are_named(decomposition):
    images = decomposition.canvas
    for draw, message in [
        (lambda: taken_apart(images[:1], decomposition), "images are"),
        (lambda: layer_by_layer(images, decomposition, index=2), "one of 2 scenes, got 2"),
        (lambda: layer_by_layer(images, decomposition, experts=["a"]), "name for each"),
        (lambda: completion(images, decomposition, layer=[0, 3]), "below 3"),
        (lambda: completion(images, decomposition, truth=images[:, 0]), r"truth must be \(2, 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            draw()


PROBE = """
import sys
import matplotlib
import numpy

def settings():
    return str(sorted(dict.items(matplotlib.rcParams)))  # asking rcParams itself loads a backend

before = settings()
from pyro_scenes import viz
images = numpy.zeros((2, 1, 4, 4))
figures = viz.annotated(images), viz.pictures({"image": images}), viz.curves([{"step": 1, "a": 2}])
for figure in figures:
    figure.savefig(sys.argv[1])
assert settings() == before, "settings"
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""


def test_figures_save_and_leave_pyplot_and_its_settings_alone(tmp_path):
    command = [sys.executable, "-c", PROBE, tmp_path / "figure.png"]
    root = Path(__file__).parent.parent
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    picture = imread(tmp_path / "figure.png")
    assert picture.ndim == 3 and picture.std() > 0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: annotated(IMAGES, BOXES, titles=list("abcde"), correct=[1, 1, 0, 1, 1]),
        lambda: two_rows(BOXES),
        lambda: bars({"truth": np.ones(3)}),
        checks,
    ],
    ids=["annotated", "pictures", "bars", "checks"],
)
def test_a_figure_is_drawn_without_a_warning(draw, tmp_path):
    draw().savefig(tmp_path / "figure.png")
    assert imread(tmp_path / "figure.png").std() > 0
