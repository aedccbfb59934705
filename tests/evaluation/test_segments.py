"""Segments: hand-made scenes, brute force, and what must not matter."""

from itertools import combinations, permutations

import pytest
import torch
from piles import LEFT, NONE, PILE, RIGHT, discs, regions_of
from torch.nn.functional import one_hot

from pyro_scenes.evaluation import adjusted_rand, iou, mean_iou, segments, visible_parts


def parts(*pictures):
    """Partitions int (n, h, w) of pictures: rows of digits with / in between."""
    return torch.tensor([[[int(d) for d in row] for row in p.split("/")] for p in pictures])


# segments


def test_segments_by_hand():
    assert torch.equal(segments(PILE), parts("1111223/1111223/0000000"))
    assert torch.equal(segments(PILE.flip(1)), parts("3322111/3322111/0000000"))
    assert segments(PILE.mT).shape == (1, 7, 3)


def test_padding_has_no_segment():
    padded = torch.stack([NONE, LEFT, NONE, RIGHT])[None]
    assert torch.equal(segments(padded), parts("2222444/2222444/0000000"))
    for empty in (NONE[None, None], PILE[:, :0]):
        assert torch.equal(segments(empty), parts("0000000/0000000/0000000"))


def test_segments_part_each_scene():
    truth = discs()
    visible, found = visible_parts(truth), segments(truth)
    assert torch.equal(visible.sum(1).bool(), truth.any(1)) and visible.sum(1).max() == 1
    assert not (visible & ~truth).any() and torch.equal(visible[:, 0], truth[:, 0])
    for i in range(3):
        assert torch.equal(found == i + 1, visible[:, i])
        assert torch.equal(visible[:, i], truth[:, i] & ~truth[:, :i].any(1))


# the adjusted Rand index


def rand_by_pairs(found, truth):
    """It from all pairs of pixels: (agreements - expected) / (most - expected)."""
    pairs = list(combinations(range(len(truth)), 2))
    one = [found[i] == found[j] for i, j in pairs]
    other = [truth[i] == truth[j] for i, j in pairs]
    both = sum(a and b for a, b in zip(one, other, strict=True))
    expected = sum(one) * sum(other) / len(pairs)
    most = (sum(one) + sum(other)) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


@pytest.mark.parametrize(("found_parts", "true_parts"), [(1, 1), (1, 3), (2, 2), (5, 3), (9, 9)])
@pytest.mark.parametrize("foreground", [False, True])
def test_adjusted_rand_is_that_of_all_pairs(found_parts, true_parts, foreground):
    found, truth = (torch.randint(k, (8, 3, 4)) for k in (found_parts, true_parts))
    found[:4] = found[:4].where(torch.rand(4, 3, 4) < 0.4, truth[:4])  # some of them agree a bit
    scores = adjusted_rand(found, truth, foreground=foreground)
    for score, one, other in zip(scores, found, truth, strict=True):
        counted = other != 0 if foreground else other >= 0
        if counted.any():
            expected = rand_by_pairs(one[counted].tolist(), other[counted].tolist())
            assert score.item() == pytest.approx(expected, abs=1e-6)
        else:
            assert score.isnan()


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ("0011", "1100", 1.0),
        ("0012", "0011", 4 / 7),  # together 1, expected 1 * 2 / 6, most 1.5
        ("0011", "0012", 4 / 7),
        ("0101", "0011", -0.5),
        ("0000", "0011", 0.0),
        ("0123", "0011", 0.0),
        ("0000", "1111", 1.0),
        ("0123", "3210", 1.0),
        ("0000", "0123", 0.0),
    ],
)
def test_adjusted_rand_by_hand(found, truth, expected):
    score = adjusted_rand(parts(found), parts(truth))
    assert score.item() == pytest.approx(expected, abs=1e-6)


def test_the_background_can_be_left_out():
    truth, found = parts("00112", "00000", "00001"), parts("12334", "01234", "00000")
    assert adjusted_rand(found, truth)[0] < 1
    foreground = adjusted_rand(found, truth, foreground=True)
    assert foreground[0] == 1 and foreground[1].isnan()
    assert foreground[2] == 1  # one pixel: whatever is found agrees


def test_numbers_and_places_do_not_matter():
    truth, found = torch.randint(4, (5, 6, 9)), torch.randint(5, (5, 6, 9))
    found[:, :4] = truth[:, :4]
    names = torch.tensor([7, -3, 10**12, 0, 5])
    place = torch.randperm(54)
    for score in (adjusted_rand, mean_iou):
        expected = score(found, truth)
        assert ((expected > 0.1) & (expected < 1)).all()
        torch.testing.assert_close(score(names[found], truth), expected)
        moved = (part.flatten(1)[:, place].view(5, 6, 9) for part in (found, truth))
        torch.testing.assert_close(score(*moved), expected)
        torch.testing.assert_close(score(found.mT, truth.mT), expected)
        torch.testing.assert_close(score(found[2:3], truth[2:3]), expected[2:3])  # each on its own
        torch.testing.assert_close(score(found.int(), truth), expected)
    torch.testing.assert_close(adjusted_rand(truth, found), adjusted_rand(found, truth))


def test_unrelated_partitions_score_about_zero():
    found, truth = torch.randint(4, (50, 20, 30)), torch.randint(4, (50, 20, 30))
    assert adjusted_rand(found, truth).mean().abs() < 3e-3  # 10 sigma


def test_large_images_do_not_overflow():
    truth = torch.zeros(1, 400, 500, dtype=torch.int64)
    assert adjusted_rand(truth, truth) == 1
    one_off = truth.clone()
    one_off[0, 0, 0] = 1
    assert adjusted_rand(truth, one_off).abs() < 1e-6 and adjusted_rand(one_off, one_off) == 1


# mean IoU


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ("2001", "0112", 1.0),
        ("0000", "0112", (2 / 4 + 0 + 0) / 3),
        ("0111", "0012", (1 / 2 + 1 / 3 + 0) / 3),
        ("0123", "0000", 1 / 4),
        ("0000", "1111", 1.0),
    ],
)
def test_mean_iou_by_hand(found, truth, expected):
    assert mean_iou(parts(found), parts(truth)).item() == pytest.approx(expected)


def test_only_an_image_s_own_segments_count():
    found, truth = parts("0000", "0123"), parts("0000", "0012")
    torch.testing.assert_close(mean_iou(found, truth), torch.tensor([1, (1 / 2 + 1 + 1) / 3]))


def test_mean_iou_is_the_best_of_all_matches():
    found, truth = torch.randint(3, (10, 3, 5)), torch.randint(3, (10, 3, 5))
    found[:, 0, :3] = truth[:, 0, :3] = torch.arange(3)  # no part is empty
    one, other = (one_hot(part, 3).movedim(-1, 1).bool() for part in (found, truth))
    every = torch.stack([iou(one[:, list(p)], other).mean(1) for p in permutations(range(3))])
    torch.testing.assert_close(mean_iou(found, truth), every.amax(0))


@pytest.mark.parametrize("score", [adjusted_rand, mean_iou])
def test_a_perfect_partition_has_one(score):
    truth = discs()
    regions = regions_of(truth)
    layers = torch.cat([regions, 1 - regions.sum(1, keepdim=True)], 1)
    for order in permutations(range(4)):
        found = layers[:, list(order)].argmax(1)
        torch.testing.assert_close(score(found, segments(truth)), torch.ones(6))


# where they enter


def test_no_images_are_fine():
    truth = PILE[:0]
    for score in (adjusted_rand, mean_iou):
        assert score(segments(truth), segments(truth)).shape == (0,)


def test_scenes_without_objects_are_one_segment():
    for truth in (PILE[:, :0], NONE[None, None]):
        empty = segments(truth)
        assert adjusted_rand(empty, empty) == mean_iou(empty, empty) == 1
        assert adjusted_rand(empty, empty, foreground=True).isnan()


@pytest.mark.parametrize("read", [segments, visible_parts])
@pytest.mark.parametrize("truth", [PILE.float(), PILE[0], PILE.long()])
def test_shapes_must_be_bool(read, truth, unchecked):
    with pytest.raises(ValueError, match=r"truth must be a tensor \(n, objects, h, w\) of bool"):
        read(truth)


PARTS = torch.zeros(2, 3, 7, dtype=torch.int64)


@pytest.mark.parametrize("score", [adjusted_rand, mean_iou])
@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (PARTS, PARTS[:1]),
        (PARTS.float(), PARTS),
        (PARTS, PARTS.bool()),
        (PARTS[0], PARTS[0]),
        (PARTS, PARTS.mT),
        (PARTS[:, :0], PARTS[:, :0]),
    ],
)
def test_partitions_must_be_alike(score, found, truth, unchecked):
    with pytest.raises(
        ValueError, match="of signed integers|needs a partition and the true one, both .n, H, W."
    ):
        score(found, truth)
