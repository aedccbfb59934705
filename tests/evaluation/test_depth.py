"""Hidden parts and depth order: hand-made scenes, and what must not matter."""

from itertools import permutations
from math import isnan

import pytest
import torch
from piles import LEFT, MIDDLE, NONE, PILE, RIGHT, discs, regions_of

from pyro_scenes.evaluation import (
    amodal_iou,
    background_first,
    depth_order,
    object_counts,
    solved,
    specialisation,
    visible_parts,
)

# what is hidden


def test_perfect_shapes_are_perfect():
    found = amodal_iou(PILE.float(), PILE)
    assert found.iou.tolist() == [[1, 1, 1]]
    assert found.visible[0].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert found.occluded.tolist() == [[False, True, True]]
    assert found.invisible_iou[0, 0].isnan() and found.invisible_iou[0, 1:].tolist() == [1, 1]


def test_a_scene_is_solved_if_each_visible_object_has_a_layer_of_its_own():
    masks = PILE.float()
    one_less = masks * torch.tensor([1, 0, 1])[:, None, None]
    twice = masks[:, [0, 0, 2]]
    scenes = torch.cat([masks, one_less, twice])
    assert solved(scenes, PILE.expand(3, -1, -1, -1)).tolist() == [True, False, False]
    assert not solved(masks, PILE, least=1.0).any()
    hidden = torch.cat([PILE.any(1, keepdim=True), PILE], 1)  # the front hides all others
    assert solved(hidden[:, :1].float(), hidden).all()
    assert solved(masks, torch.zeros_like(PILE)).all()  # padding


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


def test_object_counts():
    regions = torch.zeros(3, 4, 10, 20)
    regions[1, [0, 2]] = 0.4
    regions[2, 1, 0, :2] = 1  # just 1 %
    regions[2, 2, 0, :3] = 1
    assert object_counts(regions).tolist() == [0, 2, 1]
    assert object_counts(regions_of(PILE)).tolist() == [3]


# where they enter


def test_no_images_are_fine():
    truth, regions = PILE[:0], torch.zeros(0, 2, 3, 7)
    assert amodal_iou(regions, truth).iou.shape == (0, 3)
    assert background_first(regions, truth).shape == object_counts(regions).shape == (0,)


def test_scenes_without_objects_have_nothing_hidden():
    for truth in (PILE[:, :0], NONE[None, None]):
        found = amodal_iou(torch.rand(1, 2, 3, 7), truth)
        assert found.iou.shape == truth.shape[:2] and found.iou.isnan().all()
        assert found.invisible_iou.isnan().all() and not found.occluded.any()


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
    with pytest.raises(
        ValueError, match=r"\(n, (layers|objects), h, w\)|shares in \[0, 1\] .* and truth"
    ):
        read(regions, truth)


def test_found_objects_need_shares(unchecked):
    for regions in (REGIONS[0], REGIONS * torch.nan, REGIONS.long(), REGIONS[:, :0]):
        with pytest.raises(ValueError, match=r"shares in \[0, 1\]|\(n, layers, h, w\) of floats"):
            object_counts(regions)
