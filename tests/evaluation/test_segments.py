"""Segments, depth and specialisation: hand-made scenes, brute force, and what must not matter."""

from itertools import combinations, permutations
from math import isnan, log

import pytest
import torch
from torch.nn.functional import one_hot

from pyro_scenes.evaluation import (
    adjusted_rand,
    amodal_iou,
    background_first,
    depth_order,
    iou,
    mean_iou,
    objects_found,
    segments,
    specialisation,
    visible_parts,
)


def shapes(*pictures):
    """Shapes bool (n, h, w) of pictures: rows of . and # with / in between."""
    return torch.stack(
        [
            torch.tensor([[mark == "#" for mark in row] for row in picture.split("/")])
            for picture in pictures
        ]
    )


def parts(*pictures):
    """Partitions int (n, h, w) of pictures: rows of digits with / in between."""
    return torch.tensor([[[int(d) for d in row] for row in p.split("/")] for p in pictures])


LEFT, MIDDLE, RIGHT, NONE = shapes(
    "####.../####.../.......",
    "..####./..####./.......",
    "....###/....###/.......",
    "......./......./.......",
)
PILE = torch.stack([LEFT, MIDDLE, RIGHT])[None]  # 2 x 2 pixels of each are behind the one before


def discs(n=6, objects=3, height=18, width=23):
    """Scenes of discs that often overlap, bool (n, objects, height, width); none is wholly hidden."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    y = torch.rand(n, objects, 1, 1) * 8 + 5
    x = torch.rand(n, objects, 1, 1) * 3 + torch.arange(objects)[:, None, None] * 6 + 4
    return (rows - y) ** 2 + (columns - x) ** 2 < 16


def regions_of(truth):
    """What a perfect model gives to front layers, float."""
    return visible_parts(truth).float()


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


# what is hidden


def test_perfect_shapes_are_perfect():
    found = amodal_iou(PILE.float(), PILE)
    assert found.iou.tolist() == [[1, 1, 1]]
    assert found.visible[0].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert found.occluded.tolist() == [[False, True, True]]
    assert found.invisible_iou[0, 0].isnan() and found.invisible_iou[0, 1:].tolist() == [1, 1]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_layers_does_not_matter(order):
    truth = discs()
    masks = (truth ^ (torch.rand(truth.shape) < 0.1)).float()
    expected, found = amodal_iou(masks, truth), amodal_iou(masks[:, list(order)], truth)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_copying_what_is_visible_is_the_floor():
    truth = discs(n=40)
    found = amodal_iou(visible_parts(truth).float(), truth)
    assert torch.equal(found.iou, found.visible) and found.occluded.sum() > 20
    hidden = found.visible < 1
    assert (found.invisible_iou[hidden] == 0).all() and found.invisible_iou[~hidden].isnan().all()
    assert (amodal_iou(truth.float(), truth).iou == 1).all()


def test_spill_over_the_background_is_not_in_the_invisible_part():
    masks = PILE.float()
    masks[0, 1, 2] = 1  # 7 pixels of background
    found = amodal_iou(masks, PILE)
    assert found.iou[0, 1] == pytest.approx(8 / 15) and found.invisible_iou[0, 1] == 1
    masks[0, 1, :, :4] = 1  # 4 of cover that are not the object's
    assert amodal_iou(masks, PILE).invisible_iou[0, 1] == 4 / 8


def test_objects_without_a_layer_have_no_shape():
    found = amodal_iou(PILE[:, :1].float(), PILE)
    assert found.iou.tolist() == [[1, 0, 0]] and found.invisible_iou[0, 1:].tolist() == [0, 0]
    nothing = amodal_iou(torch.full((1, 4, 3, 7), 0.5), PILE)  # at one half none is there
    assert nothing.iou.tolist() == [[0, 0, 0]] and nothing.invisible_iou[0, 1:].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("covered", "expected"), [(0, False), (1, True), (19, True), (20, False), (10, True)]
)
def test_occluded_is_from_5_to_95_percent(covered, expected):
    truth = torch.zeros(1, 2, 4, 5, dtype=torch.bool)
    truth[0, 1] = True
    truth[0, 0].view(-1)[:covered] = True
    found = amodal_iou(truth.float(), truth)
    assert found.occluded[0].tolist() == [False, expected]
    assert found.visible[0, 1] == pytest.approx(1 - covered / 20)


def test_padding_is_not_looked_at():
    padded = torch.stack([NONE, LEFT, MIDDLE, NONE, RIGHT])[None]
    masks = PILE.flip(1).float()
    found, expected = amodal_iou(masks, padded), amodal_iou(masks, PILE)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[:, [1, 2, 4]], other, equal_nan=True)
    for part in (found.iou, found.visible, found.invisible_iou):
        assert part[:, [0, 3]].isnan().all()
    assert not found.occluded[:, [0, 3]].any()
    assert depth_order(regions_of(PILE), padded) == depth_order(regions_of(PILE), PILE) == (1, 1, 1)
    assert background_first(masks, padded).tolist() == [False]


# depth


def test_swapped_layers_are_in_the_wrong_order():
    truth = discs()
    regions = regions_of(truth)
    assert depth_order(regions, truth) == (1, 1, 1)
    assert depth_order(regions.flip(1), truth) == (0, 0, 0)
    later = torch.cat([torch.zeros_like(regions), regions], 1)  # unused steps do not matter
    assert depth_order(later, truth) == (1, 1, 1)


def test_pairs_weigh_by_their_overlap():
    front, back = torch.stack([LEFT, MIDDLE, NONE]), torch.stack([NONE, MIDDLE, RIGHT])
    truth = torch.stack([front, back])
    truth[1, 2, :, 3] = True  # pairs share 4 pixels, and 6
    regions = regions_of(truth)
    regions[0] = regions[0].flip(0)
    found = depth_order(regions, truth)
    assert found.pairs == 0.5 and found.weighted == pytest.approx(6 / 10)


def test_what_has_no_layer_is_in_no_order():
    everything = PILE.any(1, keepdim=True).float()
    assert depth_order(everything, PILE) == (0, 0, 0)  # one layer cannot show two
    for i, expected in ((0, 0.5), (1, 0.0), (2, 0.5)):  # pairs are 0 and 1, and 1 and 2
        missed = regions_of(PILE)
        missed[0, i] = 0
        assert depth_order(missed, PILE) == (expected,) * 3
    assert depth_order(torch.full((1, 3, 3, 7), 0.5), PILE) == (0, 0, 0)
    buried = torch.stack([LEFT, LEFT])[None]
    found = depth_order(regions_of(buried), buried)
    assert found[:2] == (0, 0) and isnan(found.seen)  # of what is wholly hidden nothing is known


def test_only_overlaps_that_are_seen_can_be_told():
    """The front disc covers most of where the others overlap, and later all of it."""
    front, middle, back = torch.zeros(3, 1, 12, dtype=torch.bool)
    front[:, 3:7], middle[:, :8], back[:, 4:] = True, True, True
    truth = torch.stack([front, middle, back])[None]
    swapped = regions_of(truth)[:, [0, 2, 1]]  # of 4, 4 and 3 shared pixels only 1 of the 4 is seen
    assert depth_order(swapped, truth).weighted == pytest.approx(7 / 11)
    assert depth_order(swapped, truth).seen == pytest.approx(7 / 8)
    truth[0, 0, :, 7] = True
    swapped = regions_of(truth)[:, [0, 2, 1]]
    assert depth_order(swapped, truth).weighted == pytest.approx(9 / 13)
    assert depth_order(swapped, truth).seen == 1


def test_without_overlap_there_is_no_order():
    for truth in (PILE[:, ::2], PILE[:, :1], PILE[:, :0], NONE[None, None], PILE[:0]):
        found = depth_order(torch.zeros(len(truth), 2, 3, 7), truth)
        assert all(isnan(share) for share in found)


def test_background_first():
    background = (~PILE.any(1, keepdim=True)).float()
    first = torch.cat([background, regions_of(PILE)], 1)
    assert background_first(first, PILE).tolist() == [True]
    assert background_first(first.flip(1), PILE).tolist() == [False]  # as it should be: it is last
    assert background_first(first * 0.02, PILE).tolist() == [False]  # 0.7 % of the pixels
    assert background_first(first * 0.04, PILE).tolist() == [True]
    for share, expected in ((0.79, False), (0.81, True)):  # 14 pixels of objects, 7 without
        mixed = 0.4 * (1 - background) + share * background
        assert background_first(mixed, PILE).tolist() == [expected]
    nothing = torch.zeros(1, 1, 3, 7)
    assert background_first(nothing, PILE).tolist() == [False]
    assert background_first(nothing + 1, PILE[:, :0]).tolist() == [True]


def test_objects_found():
    regions = torch.zeros(3, 4, 10, 20)
    regions[1, [0, 2]] = 0.4
    regions[2, 1, 0, :2] = 1  # just 1 %
    regions[2, 2, 0, :3] = 1
    assert objects_found(regions).tolist() == [0, 2, 1]
    assert objects_found(regions_of(PILE)).tolist() == [3]


# experts


def experts_of(winners, labels, truth=None, regions=None, experts=3, classes=3):
    """Its figures for scenes of a pile each, unless told otherwise."""
    winners, labels = torch.tensor(winners), torch.tensor(labels)
    truth = PILE.expand(len(labels), -1, -1, -1) if truth is None else truth
    regions = regions_of(truth) if regions is None else regions
    return specialisation(winners, regions, truth, labels, experts=experts, classes=classes)


def test_experts_with_a_class_each():
    found = experts_of([[0, 1, 2], [1, 1, 0]], [[2, 0, 1], [0, 0, 2]])
    assert found.wins.tolist() == [[0, 0, 2], [3, 0, 0], [0, 1, 0]]
    assert (found.unmatched, found.purity) == (0, 1)
    assert found.mutual_information == pytest.approx(1)


def test_specialisation_by_hand():
    found = experts_of([[0, 0, 1], [0, 1, -1]], [[0, 0, 1], [1, 1, 1]], experts=2, classes=2)
    assert found.wins.tolist() == [[2, 1], [0, 2]] and found.unmatched == 1
    assert found.purity == pytest.approx(4 / 6)
    each = -0.6 * log(0.6) - 0.4 * log(0.4)  # of expert and of class
    joint = -0.8 * log(0.4) - 0.2 * log(0.2)
    assert found.mutual_information == pytest.approx(2 - joint / each)


def test_winners_go_with_their_layers():
    order = [2, 0, 1]
    winners, labels = [[0, 1, 2]] * 2, [[0, 1, 2], [2, 1, 0]]
    expected = experts_of(winners, labels)
    regions = regions_of(PILE)[:, order].expand(2, -1, -1, -1)
    found = experts_of([[row[i] for i in order] for row in winners], labels, regions=regions)
    assert found.wins.tolist() == expected.wins.tolist() and found[1:] == expected[1:]


def test_names_of_experts_and_classes_do_not_matter():
    winners, labels = torch.randint(-1, 4, (30, 3)), torch.randint(3, (30, 3))
    truth = PILE.expand(30, -1, -1, -1)
    known = {"experts": 4, "classes": 3}
    expected = specialisation(winners, regions_of(truth), truth, labels, **known)
    assert 0 < expected.mutual_information < 0.5 and expected.unmatched == (winners < 0).sum()
    for order in permutations(range(4)):
        renamed = torch.tensor([*order, -1])[winners]
        found = specialisation(renamed, regions_of(truth), truth, labels, **known)
        assert torch.equal(found.wins[list(order)], expected.wins)
        assert found[1:3] == expected[1:3]
        assert found.mutual_information == pytest.approx(expected.mutual_information)
    swapped = specialisation(winners, regions_of(truth), truth, 2 - labels, **known)
    assert torch.equal(swapped.wins, expected.wins.flip(1)) and swapped[1:3] == expected[1:3]
    assert swapped.mutual_information == pytest.approx(expected.mutual_information)


def test_one_expert_or_one_class_tells_nothing():
    one_expert = experts_of([[1, 1, 1]], [[0, 1, 2]])
    assert one_expert.purity == pytest.approx(1 / 3) and one_expert.mutual_information == 0
    one_class = experts_of([[0, 1, 2]], [[1, 1, 1]])
    assert (one_class.purity, one_class.mutual_information) == (1, 0)
    both = experts_of([[0, 0, 0]], [[1, 1, 1]], experts=1)
    assert (both.purity, both.mutual_information) == (1, 1)


def test_missed_objects_are_impure_and_hidden_ones_left_out():
    everything = PILE.any(1, keepdim=True).float()
    found = experts_of([[2]], [[0, 1, 2]], regions=everything)
    assert found.wins.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert found.unmatched == 2 and found.purity == pytest.approx(1 / 3)
    buried = torch.stack([LEFT, LEFT, NONE])[None]
    found = experts_of([[0, 1, 2]], [[1, 2, -1]], truth=buried)
    assert found.wins.sum() == 1 and (found.unmatched, found.purity) == (0, 1)


def test_without_objects_there_is_no_specialisation():
    for truth in (NONE[None, None], PILE[:, :0]):
        labels = torch.full(truth.shape[:2], -1)
        winners, regions = torch.zeros(1, 2).long(), torch.rand(1, 2, 3, 7)
        found = specialisation(winners, regions, truth, labels, experts=2, classes=3)
        assert found.wins.tolist() == [[0] * 3] * 2 and found.unmatched == 0
        assert isnan(found.purity) and isnan(found.mutual_information)
    unmatched = experts_of([[-1, -1, -1]], [[0, 1, 2]])
    assert (unmatched.unmatched, unmatched.purity) == (3, 0)
    assert isnan(unmatched.mutual_information)


# at the door


def test_no_images_are_fine():
    truth, regions = PILE[:0], torch.zeros(0, 2, 3, 7)
    for score in (adjusted_rand, mean_iou):
        assert score(segments(truth), segments(truth)).shape == (0,)
    assert amodal_iou(regions, truth).iou.shape == (0, 3)
    assert background_first(regions, truth).shape == objects_found(regions).shape == (0,)


def test_empty_scenes_and_scenes_without_objects():
    for truth in (PILE[:, :0], NONE[None, None]):
        regions = torch.rand(1, 2, 3, 7)
        found = amodal_iou(regions, truth)
        assert found.iou.shape == truth.shape[:2] and found.iou.isnan().all()
        assert found.invisible_iou.isnan().all() and not found.occluded.any()
        empty = segments(truth)
        assert adjusted_rand(empty, empty) == mean_iou(empty, empty) == 1
        assert adjusted_rand(empty, empty, foreground=True).isnan()


@pytest.mark.parametrize("read", [segments, visible_parts])
@pytest.mark.parametrize("truth", [PILE.float(), PILE[0], PILE.long()])
def test_shapes_must_be_bool(read, truth, unchecked):
    with pytest.raises(ValueError, match="needs bool truth"):
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
    with pytest.raises(ValueError, match="needs integers found and true"):
        score(found, truth)


def no_specialisation(regions, truth):
    winners, labels = (torch.zeros(part.shape[:2]).long() for part in (regions, truth))
    return specialisation(winners, regions, truth, labels, experts=1, classes=1)


REGIONS = regions_of(PILE)


@pytest.mark.parametrize("read", [amodal_iou, depth_order, background_first, no_specialisation])
@pytest.mark.parametrize(
    ("regions", "truth"),
    [
        (REGIONS, PILE.float()),
        (REGIONS, PILE[0]),
        (REGIONS[0], PILE),
        (REGIONS, PILE.mT),
        (REGIONS.expand(2, -1, -1, -1), PILE),
        (REGIONS[:, :0], PILE),
        (REGIONS.long(), PILE),
        (REGIONS * torch.nan, PILE),
        (REGIONS - torch.inf, PILE),
        (REGIONS - 1, PILE),
        (REGIONS * 2, PILE),
    ],
)
def test_regions_must_be_shares_like_the_truth(read, regions, truth, unchecked):
    with pytest.raises(ValueError, match=r"needs floats in \[0, 1\] .* and bool truth"):
        read(regions, truth)


def test_found_objects_need_shares(unchecked):
    for regions in (REGIONS[0], REGIONS * torch.nan, REGIONS.long(), REGIONS[:, :0]):
        with pytest.raises(ValueError, match=r"needs floats in \[0, 1\]"):
            objects_found(regions)


@pytest.mark.parametrize(
    ("winners", "labels", "sizes", "message"),
    [
        ([[0, 1]], [[0, 1, 2]], {}, "integer winners"),
        ([[0.0, 1, 2]], [[0, 1, 2]], {}, "integer winners"),
        ([[0, 1, 2]], [[0, 1]], {}, "integer labels"),
        ([[0, 1, 2]], [[0.0, 1, 2]], {}, "integer labels"),
        ([[0, 1, 3]], [[0, 1, 2]], {}, r"winners must be from -1 to below 3, got \[3\]"),
        ([[0, 1, -2]], [[0, 1, 2]], {}, r"winners .* got \[-2\]"),
        ([[0, 1, 2]], [[0, 1, 3]], {}, r"labels must be from 0 to below 3, got \[3\]"),
        ([[0, 1, 2]], [[0, 1, -1]], {}, r"labels .* got \[-1\]"),
        ([[-1, -1, -1]], [[0, 1, 2]], {"experts": 0}, "winners must be from -1 to below 0"),
    ],
)
def test_winners_and_labels_must_fit(winners, labels, sizes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        experts_of(winners, labels, **sizes)
