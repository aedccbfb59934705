"""Layered digits: images, masks, boxes, centres and labels of a scene tell one story."""

import sys

import pytest
import torch

from pyro_scenes.data import layered_digits, multi_digits, strokes


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return strokes(60, cache=tmp_path_factory.mktemp("cache"))


def solid(height=28, width=28):
    """Digits that are full rectangles, as many as there are classes."""
    return torch.full((10, height, width), 255, dtype=torch.uint8), torch.arange(10)


def same(one, other):
    return all(map(torch.equal, vars(one).values(), vars(other).values()))


def corners(scenes, frame=(28, 28)):
    """Left and top (n, objects, 2) of the frames (h, w), from their centres."""
    height, width = frame
    found = scenes.centres - torch.tensor([width / 2, height / 2])
    assert torch.equal(found, found.round())
    return found.long()


def overlapping(scenes):
    return (scenes.masks.sum(1) > 1).flatten(1).any(1)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("count", "canvas"), [(1, 36), (2, 50), (3, 28)])
def test_shapes_and_types(count, canvas, colour, digits):
    scenes = layered_digits(digits, 5, count=count, canvas=canvas, colour=colour)
    assert scenes.images.shape == (5, 3 if colour else 1, canvas, canvas)
    assert scenes.masks.shape == (5, count, canvas, canvas)
    assert scenes.labels.shape == (5, count) and scenes.boxes.shape == (5, count, 4)
    assert scenes.centres.shape == (5, count, 2) and scenes.counts.tolist() == [count] * 5
    kinds = {name: part.dtype for name, part in vars(scenes).items()}
    assert kinds.pop("images") == torch.uint8 and kinds.pop("masks") == torch.bool
    assert kinds.pop("counts") == kinds.pop("labels") == torch.int64
    assert set(kinds.values()) == {torch.float32}


def test_the_defaults_are_superimposed_pairs(digits):
    assert same(layered_digits(digits, 9), layered_digits(digits, 9, count=2, canvas=50))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_grey_image_is_the_union_of_the_masks(count, digits):
    scenes = layered_digits(digits, 100, count=count)
    assert torch.equal(scenes.images, 255 * scenes.masks.any(1, keepdim=True).to(torch.uint8))


def test_a_colour_image_shows_the_front_most_digit_of_each_pixel(digits):
    scenes = layered_digits(digits, 50, count=3, colour=True)
    assert torch.equal(scenes.images.any(1), scenes.masks.any(1))  # black is no digit's colour
    for image, masks in zip(scenes.images, scenes.masks, strict=True):
        scope = torch.ones(50, 50, dtype=torch.bool)
        for mask in masks:
            assert len(image[:, mask & scope].unique(dim=1).T) <= 1  # 0: hidden altogether
            scope &= ~mask


def test_the_front_covers_what_is_behind(digits):
    scenes = layered_digits(digits, 100, colour=True)
    for image, (front, back) in zip(scenes.images, scenes.masks, strict=True):
        (colour,) = image[:, front].unique(dim=1).T
        assert not (image[:, back & ~front] == colour[:, None]).all(0).any()


def test_colours_are_bright_far_apart_and_tell_no_depth():
    scenes = layered_digits(solid(4, 4), 3000, canvas=40, colour=True)
    apart = scenes[~overlapping(scenes)]
    x, y = (corners(apart, (4, 4)) + 2).unbind(-1)
    colours = apart.images[torch.arange(len(apart))[:, None], :, y, x].float()
    assert (colours.amax(-1) == 255).all() and (colours.amin(-1) == 0).all()
    # Two hues that face each other: what one has of a channel, the other lacks.
    assert ((colours.sum(1) - 255).abs() <= 1).all()
    assert ((colours.mean(0) - 127.5).abs() < 10).all()  # five sigma


def test_three_colours_come_in_either_order_round_the_circle():
    """Always red, green, blue from front to back would give the depth away."""
    images = layered_digits(solid(1, 1), 400, count=3, canvas=20, colour=True)
    apart = images[~overlapping(images)]
    x, y = corners(apart, (1, 1)).unbind(-1)
    colours = apart.images[torch.arange(len(apart))[:, None], :, y, x].float()
    turning = torch.linalg.det(colours).sign()  # positive: red, green, blue
    assert abs(turning.mean()) < 0.3 and (turning != 0).all()


def test_colour_changes_colours_alone(digits):
    grey, colour = (layered_digits(digits, 20, colour=colour) for colour in (False, True))
    assert torch.equal(grey.masks, colour.masks) and torch.equal(grey.labels, colour.labels)


@pytest.mark.parametrize(("count", "canvas"), [(1, 36), (2, 50), (3, 28)])
def test_a_mask_cut_at_its_centre_is_a_digit_of_its_label(count, canvas, digits):
    scenes = layered_digits(digits, 40, count=count, canvas=canvas)
    shapes, classes = digits[0] > 127, digits[1]
    places = corners(scenes).flatten(0, 1).tolist()
    labels, masks = scenes.labels.flatten(), scenes.masks.flatten(0, 1)
    for (left, top), label, mask in zip(places, labels, masks, strict=True):
        cut = mask[top : top + 28, left : left + 28]
        assert (shapes[classes == label] == cut).flatten(1).all(1).any()
        assert cut.sum() == mask.sum()


def test_ink_starts_above_the_threshold():
    pictures = torch.tensor([[[0, 127], [128, 255]]], dtype=torch.uint8)
    scenes = layered_digits((pictures, torch.tensor([7])), 3, count=1, canvas=2)
    assert scenes.masks.tolist() == [[[[False, False], [True, True]]]] * 3
    assert scenes.labels.tolist() == [[7]] * 3


def test_boxes_are_tight(digits):
    scenes = layered_digits(digits, 60)
    for mask, box in zip(scenes.masks.flatten(0, 1), scenes.boxes.flatten(0, 1), strict=True):
        rows, columns = mask.nonzero().unbind(1)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("count", "canvas", "frame"), [(1, 36, (28, 28)), (2, 50, (28, 28)), (2, 20, (9, 14))]
)
def test_places_are_uniform_over_all_that_fit(count, canvas, frame):
    places = corners(layered_digits(solid(*frame), 4000, count=count, canvas=canvas), frame)
    for axis, side in ((0, frame[1]), (1, frame[0])):
        found = places[..., axis].flatten().bincount()
        expected = places[..., axis].numel() / (canvas - side + 1)
        assert len(found) == canvas - side + 1
        assert ((found - expected).abs() < 5 * expected**0.5).all()  # five sigma


def test_places_and_digits_are_independent_of_each_other():
    scenes = layered_digits(solid(), 4000)
    drawn = torch.cat([corners(scenes).flatten(1), scenes.labels], 1).float()
    assert ((drawn.T.corrcoef() - torch.eye(6)).abs() < 5 / 4000**0.5).all()
    found = scenes.labels.flatten().bincount()
    assert ((found - 800).abs() < 5 * 800**0.5).all()


def test_a_canvas_of_the_digits_size_leaves_one_place():
    scenes = layered_digits(solid(), 10, canvas=28)
    assert (scenes.masks.all()) and (scenes.centres == 14).all()


def test_a_good_share_of_pairs_overlap(digits):
    assert 0.3 < overlapping(layered_digits(digits, 1000)).float().mean() < 0.95


def test_the_seed_decides_and_nothing_else(digits):
    torch.manual_seed(1)
    state, one = torch.get_rng_state(), layered_digits(digits, 20, colour=True, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(one, layered_digits(digits, 20, colour=True, seed=3))
    other = layered_digits(digits, 20, colour=True, seed=4)
    for name in ("images", "labels", "boxes", "masks", "centres"):
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_the_default_dtype_does_not_decide(digits):
    one = layered_digits(digits, 20, colour=True)
    torch.set_default_dtype(torch.float64)
    try:
        other = layered_digits(digits, 20, colour=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(one, other)


def test_chunks_do_not_show(digits, monkeypatch):
    whole = layered_digits(digits, 20, colour=True)
    monkeypatch.setattr(sys.modules["pyro_scenes.data.layered_digits"], "CHUNK", 8)
    assert same(whole, layered_digits(digits, 20, colour=True))


@pytest.mark.parametrize(
    "index", [slice(1, 4), torch.tensor([4, 0, 4]), torch.arange(6) > 2], ids=str
)
def test_an_index_keeps_masks_and_centres(index, digits):
    scenes = layered_digits(digits, 6)
    part = scenes[index]
    assert torch.equal(part.masks, scenes.masks[index])
    assert torch.equal(part.centres, scenes.centres[index])


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"canvas": 27}, "28 x 28 pixels do not fit a canvas of 27 pixels"),
        ({"count": 0}, "count must be a whole number from 1 up, got 0"),
        ({"count": 1.5}, "count must be a whole number from 1 up, got 1.5"),
    ],
)
def test_bad_arguments_are_refused(bad, error, digits, unchecked):
    with pytest.raises(ValueError, match=error):
        layered_digits(digits, **{"size": 2, **bad})


@pytest.mark.parametrize("make", [layered_digits, multi_digits])
def test_digits_are_checked(make, digits, unchecked):
    images, labels = digits
    with pytest.raises(ValueError, match="uint8 .*got torch.float32"):
        make((images.float(), labels), 2)


def test_digits_without_ink_are_refused(digits):
    pictures = digits[0].clone()
    pictures[3:5] = pictures[3:5].clamp(max=127)
    with pytest.raises(ValueError, match="2 of 60 digits have no pixel above 127"):
        layered_digits((pictures, digits[1]), 2)
    pictures[3] = 0
    with pytest.raises(ValueError, match="1 of 60 digits have no pixel above 0"):
        multi_digits((pictures, digits[1]), 2)
