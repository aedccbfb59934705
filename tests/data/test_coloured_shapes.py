"""Coloured shapes: images, masks, classes, colours and depth of a scene tell one story."""

import math
import sys

import pytest
import torch

from pyro_scenes.data import coloured_shapes, shape_masks
from pyro_scenes.data.coloured_shapes import CLASSES

PURE = 255 * torch.eye(3, dtype=torch.uint8)
KINDS = [
    {},
    {"colours": "random"},
    {"count": (0, 4), "classes": "any"},
    {"count": 5, "canvas": 20, "radius": 2.5},
    {"count": (0, 1), "canvas": 12, "colours": "random", "radius": 6},
]


def same(one, other):
    return all(map(torch.equal, vars(one).values(), vars(other).values()))


def present(scenes):
    """Which of the objects (n, objects) are none of the padding."""
    return torch.arange(scenes.labels.shape[1]) < scenes.counts[:, None]


def corners(scenes, side):
    """Left and top (objects, 2) of the frames of all objects that are present."""
    found = scenes.centres[present(scenes)] - side / 2
    assert torch.equal(found, found.round())
    return found.long()


def even(found, expected):
    """Whether counts of a uniform variable are what they should be, to five sigma."""
    return ((found - expected).abs() < 5 * expected**0.5).all()


# shape_masks


def turned(masks):
    return masks.transpose(-2, -1).flip(-1)


@pytest.mark.parametrize("radius", [2, 2.5, 3, 4.25, 6, 7.5, 20])
def test_shapes_fill_their_frames(radius):
    masks = shape_masks(radius)
    side = round(2 * radius)
    assert masks.dtype == torch.bool and masks.shape == (len(CLASSES), side, side)
    circle, square, triangle = masks
    for mask in (circle, triangle):
        assert mask.any(0).all() and mask.any(1).all()
    assert torch.equal(masks, masks.flip(-1))  # left and right
    assert torch.equal(turned(masks[:2]), masks[:2]) and not torch.equal(turned(triangle), triangle)


@pytest.mark.parametrize("radius", [2, 2.5, 3, 4.25, 6, 7.5, 20])
def test_shapes_are_what_they_are_called(radius):
    circle, square, triangle = shape_masks(radius)
    assert not circle[0, 0] and not torch.equal(circle, square)
    rows, columns = square.any(1), square.any(0)
    assert torch.equal(square, rows[:, None] & columns)
    widths = triangle.sum(1)  # apex up
    assert widths[0] <= 2 and widths[-1] == len(triangle) and (widths.diff() >= 0).all()


def test_areas_are_those_of_geometry():
    circle, square, triangle = shape_masks(100).flatten(1).sum(1) / 200**2
    assert abs(circle - math.pi / 4) < 0.01 and abs(square - circle) < 0.02
    assert abs(triangle - 0.5) < 0.01


@pytest.mark.parametrize("radius", [1.9, 0, -3, math.nan, math.inf])
def test_a_radius_that_makes_no_shapes_is_refused(radius):
    with pytest.raises(ValueError, match="cannot be told apart: needs 2 pixels"):
        shape_masks(radius)


# coloured_shapes


@pytest.mark.parametrize(("count", "most"), [(3, 3), (1, 1), ((0, 4), 4), ((2, 2), 2)])
@pytest.mark.parametrize("canvas", [32, 48])
def test_shapes_and_types(canvas, count, most):
    scenes = coloured_shapes(7, count=count, canvas=canvas)
    assert scenes.images.shape == (7, 3, canvas, canvas)
    assert scenes.masks.shape == (7, most, canvas, canvas)
    assert scenes.labels.shape == (7, most) and scenes.boxes.shape == (7, most, 4)
    assert scenes.centres.shape == (7, most, 2) and scenes.counts.shape == (7,)
    kinds = {name: part.dtype for name, part in vars(scenes).items()}
    assert kinds.pop("images") == torch.uint8 and kinds.pop("masks") == torch.bool
    assert kinds.pop("counts") == kinds.pop("labels") == torch.int64
    assert set(kinds.values()) == {torch.float32}


def test_the_defaults_are_those_of_the_paper():
    scenes = coloured_shapes(50)
    assert same(scenes, coloured_shapes(50, count=(3, 3), canvas=32, radius=6, colours="unique"))
    assert (scenes.labels.sort(1).values == torch.arange(3)).all()  # one of each class


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_is_blank_and_comes_last(kind):
    scenes = coloured_shapes(200, **kind)
    there = present(scenes)
    assert torch.equal(scenes.masks.flatten(2).any(-1), there)
    assert torch.equal(scenes.labels >= 0, there) and scenes.labels.max() < len(CLASSES)
    assert (scenes.labels[~there] == -1).all()
    for part in (scenes.boxes, scenes.centres):
        assert torch.equal(part.isnan().any(-1), ~there) and part[~there].isnan().all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_mask_is_the_whole_shape_of_its_label_at_its_place(kind):
    scenes = coloured_shapes(100, **kind)
    stencils = shape_masks(kind.get("radius", 6))
    side, there = stencils.shape[-1], present(scenes)
    places = corners(scenes, side).tolist()
    for (left, top), mask, label in zip(places, scenes.masks[there], scenes.labels[there]):
        assert left >= 0 and top >= 0
        window = mask[top : top + side, left : left + side]
        assert torch.equal(window, stencils[label]) and window.sum() == mask.sum()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_boxes_are_tight(kind):
    scenes = coloured_shapes(60, **kind)
    there = present(scenes)
    for mask, box in zip(scenes.masks[there], scenes.boxes[there], strict=True):
        rows, columns = mask.nonzero().unbind(1)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_pixel_is_of_the_front_most_object_or_the_background(kind):
    scenes = coloured_shapes(80, **kind)
    for image, seen in zip(scenes.images, scenes.visible(), strict=True):
        for region in (*seen, ~seen.any(0)):
            assert len(image[:, region].unique(dim=1).T) <= 1  # flat, or hidden altogether
        assert (image[:, ~seen.any(0)] < 128).all()
        assert (image[:, seen.any(0)].amax(0) >= 128).all()


def test_unique_colours_tell_the_class():
    scenes = coloured_shapes(80, count=(0, 5), classes="any")
    for image, regions, labels in zip(scenes.images, scenes.visible(), scenes.labels):
        for region, label in zip(regions, labels):
            assert (image[:, region] == PURE[label][:, None]).all()


def test_random_colours_are_bright_and_tell_neither_class_nor_depth():
    scenes = coloured_shapes(4000, colours="random", radius=2, seed=1)
    seen = scenes.visible()
    shown = seen.flatten(2).any(-1)
    first = seen.flatten(2).int().argmax(-1)  # a pixel of each
    colours = scenes.images.flatten(2).gather(2, first[:, None].expand(-1, 3, -1)).transpose(1, 2)
    assert colours[shown].min() == 128 and colours[shown].max() == 255
    tolerance = 5 * 37 / 4000**0.5  # five sigma of a mean
    for group in (scenes.labels, torch.arange(3).expand(4000, 3)):
        for which in range(3):
            mean = colours[shown & (group == which)].float().mean(0)
            assert ((mean - 191.5).abs() < 1.1 * tolerance).all()


def test_backgrounds_are_flat_dark_and_uniform():
    scenes = coloured_shapes(6400, count=(0, 1), canvas=16)
    images = scenes.images[scenes.counts == 0]
    plain = images[:, :, 0, 0].long()
    assert (images == plain[..., None, None]).all()
    assert plain.min() == 0 and plain.max() == 127
    for channel in plain.T:
        assert even((channel // 32).bincount(), len(plain) / 4)
    assert ((plain.T.float().corrcoef() - torch.eye(3)).abs() < 5 / len(plain) ** 0.5).all()


@pytest.mark.parametrize(("canvas", "radius"), [(32, 6), (20, 2.5), (12, 6)])
def test_places_are_uniform_over_all_that_fit(canvas, radius):
    side = round(2 * radius)
    places = corners(coloured_shapes(3000, canvas=canvas, radius=radius), side)
    for axis in (0, 1):
        found = places[:, axis].bincount()
        assert len(found) == canvas - side + 1
        assert even(found, len(places) / len(found))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_classes_are_dealt_all_once_before_any_twice(count):
    labels = coloured_shapes(1500, count=count, canvas=16, seed=count).labels
    each = torch.stack([(labels == label).sum(1) for label in range(3)], 1)
    assert (each.amax(1) - each.amin(1) <= 1).all()
    for column in labels.T:  # at every depth each class is as likely
        assert even(column.bincount(minlength=3), 500)


def test_what_is_dealt_twice_is_at_any_depth():
    """Front to back in the order they are dealt, the first three of four would all be different."""
    labels = coloured_shapes(3000, count=4, canvas=16).labels
    pairs = [
        (labels[:, i] == labels[:, j]).sum() for i in range(4) for j in range(i)
    ]  # one of each scene
    assert sum(pairs) == 3000 and even(torch.stack(pairs), 500)


def test_all_orders_of_three_are_as_likely():
    labels = coloured_shapes(3000, canvas=16).labels
    found = (labels @ torch.tensor([9, 3, 1])).unique(return_counts=True)[1]
    assert len(found) == 6 and even(found, 500)


def test_any_classes_are_independent():
    labels = coloured_shapes(4500, count=2, canvas=16, classes="any").labels
    found = (labels @ torch.tensor([3, 1])).bincount(minlength=9)
    assert even(found, 500)


@pytest.mark.parametrize("classes", ["dealt", "any"])
def test_places_depth_and_classes_are_independent(classes):
    scenes = coloured_shapes(4000, classes=classes)
    first, last = scenes.labels[:, 0], scenes.labels[:, 2]
    drawn = [corners(scenes, 12).reshape(4000, 6), (first == 0)[:, None], (last == 2)[:, None]]
    found = torch.cat([part.float() for part in drawn], 1).T.corrcoef()
    found[6:, 6:] = torch.eye(2)  # classes depend on each other where they are dealt
    assert ((found - torch.eye(8)).abs() < 5 / 4000**0.5).all()


def test_counts_are_uniform_from_the_least_to_the_most():
    counts = coloured_shapes(2000, count=(0, 3), canvas=16).counts
    assert even(counts.bincount(minlength=4), 500)
    assert set(coloured_shapes(200, count=(2, 4), canvas=16).counts.tolist()) == {2, 3, 4}


def test_a_dealt_scene_with_fewer_shapes_than_the_most_repeats_none():
    scenes = coloured_shapes(500, count=(0, 7), canvas=16)
    each = torch.stack([(scenes.labels == label).sum(1) for label in range(3)], 1)
    few = scenes.counts <= 3
    assert few.any() and (each[few] <= 1).all()


def test_colours_change_colours_alone():
    one, other = (coloured_shapes(30, count=(0, 4), colours=kind) for kind in ("unique", "random"))
    for name in ("counts", "labels", "masks"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    ground = ~one.masks.any(1, keepdim=True)
    assert torch.equal(one.images * ground, other.images * ground)


def test_the_size_of_shapes_follows_the_canvas():
    for canvas, radius in ((16, 3), (32, 6), (64, 12)):
        assert same(
            coloured_shapes(5, canvas=canvas), coloured_shapes(5, canvas=canvas, radius=radius)
        )


def test_a_good_share_of_scenes_overlap():
    scenes = coloured_shapes(1000)
    overlap = (scenes.masks.sum(1) > 1).flatten(1).any(1).float().mean()
    assert 0.5 < overlap < 0.99


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_seed_decides_and_nothing_else(kind):
    def exact(scenes):  # NaN equals NaN
        return [part.nan_to_num(-1) for part in vars(scenes).values()]

    torch.manual_seed(1)
    state, one = torch.get_rng_state(), exact(coloured_shapes(20, **kind, seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    torch.set_default_dtype(torch.float64)
    try:
        other = exact(coloured_shapes(20, **kind, seed=3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, one, other))
    assert not torch.equal(one[0], coloured_shapes(20, **kind, seed=4).images)


def test_seeds_change_every_part():
    one, other = coloured_shapes(50, count=(0, 4)), coloured_shapes(50, count=(0, 4), seed=1)
    for name, part in vars(one).items():
        assert not torch.equal(part, getattr(other, name)), name


def test_chunks_do_not_show(monkeypatch):
    whole = coloured_shapes(20, colours="random")
    monkeypatch.setattr(sys.modules["pyro_scenes.data.coloured_shapes"], "CHUNK", 8)
    assert same(whole, coloured_shapes(20, colours="random"))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"canvas": 32, "radius": 16.5}, "33 pixels wide do not fit a canvas of 32 pixels"),
        ({"radius": 1.5}, "1.5 pixels cannot be told apart"),
        ({"canvas": 10}, "cannot be told apart"),  # so small are its shapes
        ({"count": 0}, r"count must be 1 or more.* got 0"),
        ({"count": -1}, "count must be a whole number from 0 up, got -1"),
        ({"count": 2.5}, "count must be a whole number from 0 up, got 2.5"),
        ({"count": (0, 1.5)}, "count must be a whole number from 0 up, got 1.5"),
        ({"count": (-1, 2)}, "count must be a whole number from 0 up, got -1"),
        ({"count": (1, 2, 3)}, r"count must be a number or \(least, most\), got \(1, 2, 3\)"),
        ({"count": (3, 2)}, r"with 0 <= least <= most .* got \(3, 2\)"),
        ({"count": (0, 0)}, r"most >= 1, got \(0, 0\)"),
        ({"colours": "red"}, "'unique' or 'random', got 'red'"),
        ({"classes": "unique"}, "'dealt' or 'any', got 'unique'"),
    ],
)
def test_bad_arguments_are_refused(bad, error, unchecked):
    with pytest.raises(ValueError, match=error):
        coloured_shapes(**{"size": 2, **bad})
