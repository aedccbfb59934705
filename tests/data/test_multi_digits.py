"""Scenes of digits: what the truth says of a scene is what its image shows."""

import sys

import pytest
import torch

from pyro_scenes.data import multi_digits, strokes

KINDS = ["touching", "disjoint"]


def solid(ink, size=4):
    """Digits that are full squares of one ink."""
    return torch.full((size, 28, 28), ink, dtype=torch.uint8), torch.arange(size)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return strokes(60, cache=tmp_path_factory.mktemp("cache"))


def parts(scenes):
    return [scenes.images, scenes.counts, scenes.labels, scenes.boxes.nan_to_num(-1)]


def same(one, other):
    return all(map(torch.equal, parts(one), parts(other)))


def inside(boxes, side):
    """Which pixels (n, objects, side, side) a box covers; none for NaN."""
    pixel = torch.arange(side) + 0.5
    left, top, right, bottom = (edge[..., None] for edge in boxes.unbind(-1))
    rows, columns = (pixel > top) & (pixel < bottom), (pixel > left) & (pixel < right)
    return rows[..., :, None] & columns[..., None, :]


def overlapping(boxes, side, by=0):
    """Which scenes have boxes that share a pixel when each is shrunk by some pixels on every side."""
    shrunk = boxes + by * torch.tensor([1, 1, -1, -1])
    return (inside(shrunk, side).sum(1) > 1).flatten(1).any(1)


@pytest.mark.parametrize("counts", [(0, 1, 2), (1,), (0, 1, 3), (0,)])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_types_and_padding(counts, kind, digits):
    scenes = multi_digits(digits, 30, counts=counts, kind=kind)
    most = max(1, *counts)
    assert scenes.images.shape == (30, 1, 50, 50) and scenes.images.dtype == torch.uint8
    assert scenes.labels.shape == (30, most) and scenes.boxes.shape == (30, most, 4)
    present = torch.arange(most) < scenes.counts[:, None]
    assert torch.equal(scenes.labels >= 0, present)
    assert torch.equal(scenes.boxes.isfinite(), present[..., None].expand(-1, -1, 4))
    assert torch.equal(scenes.images.flatten(1).any(1), scenes.counts > 0)  # no digits: black


@pytest.mark.parametrize("counts", [(0, 1, 2), (0, 1, 3), (2,)])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_equally_frequent(counts, kind, digits):
    """Crowded scenes are drawn again until they fit: that must not make them rarer."""
    found = multi_digits(digits, 600, counts=counts, kind=kind).counts.bincount()
    assert found.nonzero().flatten().tolist() == list(counts)
    assert all(abs(found[count] - 600 / len(counts)) < 50 for count in counts)  # four sigma


def test_the_seed_decides_and_nothing_else(digits):
    torch.manual_seed(1)
    state, one = torch.get_rng_state(), multi_digits(digits, 20, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(one, multi_digits(digits, 20, seed=3))
    assert not torch.equal(one.images, multi_digits(digits, 20, seed=4).images)


def test_the_default_dtype_does_not_decide(digits):
    one = multi_digits(digits, 20)
    torch.set_default_dtype(torch.float64)
    try:
        other = multi_digits(digits, 20)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_all_ink_lies_in_the_boxes(kind, digits):
    scenes = multi_digits(digits, 200, kind=kind, canvas=60)
    covered = inside(scenes.boxes, 60).any(1, keepdim=True)
    assert not scenes.images[~covered].any()
    boxes = scenes.boxes[scenes.labels >= 0]
    assert (boxes >= 0).all() and (boxes <= 60).all() and (boxes == boxes.round()).all()


@pytest.mark.parametrize("counts", [(1,), (1, 2)])
def test_boxes_are_tight(counts, digits):
    scenes = multi_digits(digits, 200, counts=counts, kind="disjoint")
    ink = inside(scenes.boxes, 50) & (scenes.images > 0)
    for axis, first, last in ((2, 0, 2), (3, 1, 3)):  # columns: left, right; rows: top, bottom
        for found, box in zip(ink.any(axis).flatten(0, 1), scenes.boxes.flatten(0, 1), strict=True):
            where = found.nonzero().flatten().tolist()
            if where:
                assert [where[0], where[-1] + 1] == [box[first], box[last]]


def test_labels_stand_in_the_order_of_the_boxes():
    inks = torch.tensor([60, 120, 180, 240], dtype=torch.uint8)
    shades = inks[:, None, None].expand(4, 28, 28)
    scenes = multi_digits((shades, torch.arange(4)), 100, counts=(1, 2), kind="disjoint")
    for image, labels, boxes in zip(scenes.images, scenes.labels, scenes.boxes, strict=True):
        for label, (left, top, right, bottom) in zip(labels[labels >= 0], boxes, strict=False):
            middle = image[0, int(top + bottom) // 2, int(left + right) // 2]
            assert abs(int(middle) - int(inks[label])) <= 1


def test_digits_are_whole_and_about_their_nominal_size():
    boxes = multi_digits(solid(255), 300, counts=(1,), canvas=40).boxes[:, 0]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert ((width - height).abs() <= 1).all()  # a square cut off by the edge is none
    assert width.min() >= 28 / 1.6 and width.max() <= 28 + 2
    assert abs(width.mean() - 28 / 1.3) < 1.5


def test_digits_go_everywhere_a_whole_one_can():
    boxes = multi_digits(solid(255), 300, counts=(1,)).boxes[:, 0]
    assert boxes.amin() <= 1 and boxes.amax() >= 49
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert ((centre.mean(0) - 25).abs() < 2.5).all()


def test_touching_digits_never_exceed_full_ink():
    """Inside the boxes of solid digits, two inks of 127 fit on one another, two of 128 do not."""
    light, dark = (
        multi_digits(solid(ink), 200, counts=(2,), kind="touching") for ink in (127, 128)
    )
    assert overlapping(light.boxes, 50, by=1).any() and light.images.max() == 254
    assert not overlapping(dark.boxes, 50, by=1).any()


@pytest.mark.parametrize("counts", [(2,), (0, 1, 3)])
def test_disjoint_boxes_never_overlap(counts, digits):
    assert not overlapping(
        multi_digits(digits, 200, counts=counts, kind="disjoint").boxes, 50
    ).any()
    assert overlapping(multi_digits(digits, 200, counts=counts, kind="touching").boxes, 50).any()


def test_a_box_is_not_free_where_its_digit_has_a_gap():
    pictures, labels = solid(255)
    pictures[:, 4:24] = 0  # two bars, with room between them
    assert not overlapping(multi_digits((pictures, labels), 200, kind="disjoint").boxes, 50).any()


def test_many_scenes_are_made_in_chunks(digits, monkeypatch):
    monkeypatch.setattr(sys.modules["pyro_scenes.data.multi_digits"], "CHUNK", 8)
    scenes = multi_digits(digits, 20, counts=(1, 2))
    assert [len(part) for part in parts(scenes)] == [20] * 4
    assert len(scenes.images.flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"kind": "overlapping"}, "touching, disjoint, got 'overlapping'"),
        ({"canvas": 31}, "canvas must be a whole number from 32 up"),
        ({"counts": (1, 1.5)}, "counts must be a whole number from 0 up, got 1.5"),
        ({"counts": ()}, "counts must be a list of one number or more"),
        ({"counts": 2}, "counts must be a list of one number or more, got 2"),
        ({"counts": (1, -1)}, "counts must be a whole number from 0 up, got -1"),
        ({"counts": (6,), "canvas": 32}, "6 digits do not fit a canvas of 32 pixels"),
        ({"counts": (4,), "canvas": 32, "kind": "disjoint"}, "4 digits do not fit"),
    ],
)
def test_bad_arguments_are_refused(bad, error, digits, unchecked):
    with pytest.raises(ValueError, match=error):
        multi_digits(digits, **{"size": 2, **bad})


@pytest.mark.parametrize("counts", [(9,), (0, 9), (8, 9)])
def test_hopeless_counts_are_given_up_after_few_trials(counts, digits, monkeypatch):
    drawn = 0

    def poses(size, *args):
        nonlocal drawn
        drawn += size
        return original(size, *args)

    module = sys.modules["pyro_scenes.data.multi_digits"]
    original = module._poses
    monkeypatch.setattr(module, "_poses", poses)
    with pytest.raises(ValueError, match="9 digits do not fit .*fewer than one arrangement in 300"):
        multi_digits(digits, 200, counts=counts)
    assert drawn < 3 * module.TRIALS
