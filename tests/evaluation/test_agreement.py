"""Agreement of decompositions with the truth, and its floors: hand-made scenes, and known answers."""

from math import isnan

import pytest
import torch

from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import agreement, decompose, floors, reconstruction, visible_parts

SCENES = coloured_shapes(60, colours="random", seed=3)
TRUTH = SCENES.images, SCENES.masks


@pytest.fixture(scope="module")
def table():
    return floors.agreement_floors(*TRUTH, SCENES.labels)


SHARES = ("ari_fg", "ari", "mean_iou", "amodal_iou", "invisible_iou", "depth_order")
SHARES += ("depth_order_pairs", "depth_order_seen", "purity", "nmi")


def test_the_truth_reaches_the_ceiling(table):
    ideal = table["ideal"]
    assert [getattr(ideal, name) for name in SHARES] == pytest.approx([1] * len(SHARES))
    assert ideal.wins == [[60, 0, 0], [0, 60, 0], [0, 0, 60]]
    assert ideal.background_first == 0
    visible = visible_parts(SCENES.masks).sum((2, 3)) > 0.01 * 32 * 32
    assert ideal.count_accuracy == pytest.approx(visible.all(1).float().mean().item())


def test_colours_alone_segment_but_complete_nothing(table):
    fill = table["flood fill"]
    assert (fill.ari_fg, fill.ari, fill.mean_iou) == pytest.approx((1, 1, 1), abs=2e-3)
    assert fill.count_accuracy == table["ideal"].count_accuracy
    assert fill.invisible_iou == 0 and fill.amodal_iou < 0.7
    assert fill.purity == pytest.approx(1 / 3, abs=0.01) and fill.nmi == 0
    assert fill[:8] == pytest.approx(table["true regions, largest first"][:8], abs=0.02)
    assert (
        table["flood fill, connected"].count_accuracy < fill.count_accuracy
    )  # what is split counts twice


def test_the_largest_first_is_mostly_in_order(table):
    order = table["true regions, largest first"]
    assert 0.5 < order.depth_order_pairs < order.depth_order < 1


def test_objects_as_one_look_like_a_segmentation_with_the_background(table):
    one = table["objects as one"]
    assert one.ari > 0.8 and one.ari_fg == pytest.approx(0, abs=1e-6)
    assert one.count_accuracy == one.depth_order == 0 and one.mean_iou < 0.5


def test_one_expert_for_all_is_not_pure(table):
    one = table["ideal, one expert for all"]
    assert one.purity == pytest.approx(1 / 3) and one.nmi == 0 and one.wins == [[60, 60, 60]]
    assert one[:10] == table["ideal"][:10]


def test_floors_copy_the_image():
    images = SCENES.images / 255
    for answer in (floors.flood_fill(SCENES.images), floors.flood_fill(images)):
        assert reconstruction(answer, images) == (0, 0)
        torch.testing.assert_close(answer.regions.sum(1), torch.ones(60, 32, 32))


def test_flood_fill_by_hand():
    picture = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [2, 0, 0, 0, 0]])
    images = (picture[None, None] / 2).expand(2, 3, 3, 5)
    seen = floors.flood_fill(images, layers=4)
    assert torch.equal(
        seen.regions.argmax(1)[0], torch.tensor([[3] * 5, [3, 0, 3, 0, 0], [1, 3, 3, 3, 3]])
    )
    assert seen.experts.tolist() == [[0, 0, -1, -1]] * 2
    apart = floors.flood_fill(images, layers=4, connected=True)
    assert apart.regions.argmax(1)[0, 1, 3] == 0  # the largest of the objects is in front
    assert apart.experts.tolist() == [[0, 0, 0, -1]] * 2
    assert apart.regions[:, :3].sum((2, 3)).tolist() == [[2, 1, 1]] * 2
    few = floors.flood_fill(images, layers=2, connected=True)
    assert few.regions[:, 0].sum((1, 2)).tolist() == [2, 2]  # the rest is background


def test_connected_segments_are_found_along_winding_ways():
    rows = ["#####", "....#", "#####", "#....", "#####"]
    picture = torch.tensor([[float(mark == "#") for mark in row] for row in rows])
    seen = floors.flood_fill(picture[None, None], connected=True)
    assert sorted(seen.regions[0].sum((1, 2)).tolist())[-3:] == [4, 4, 17]


def test_known_experts_give_the_background_away(blocks, stacked):
    model, guide = blocks
    images, truth = torch.rand(3, 3, 8, 8), stacked.expand(3, -1, -1, -1)
    labels = torch.tensor([[0, 1]] * 3)
    known = agreement(decompose(model, guide, images), truth, labels, experts=4, classes=3)
    assert known.count_accuracy == known.amodal_iou == known.depth_order == known.purity == 1
    assert known.wins == [[3, 0, 0], [0, 3, 0], [0, 0, 0], [0, 0, 0]]
    model.object_experts = None
    unknown = agreement(decompose(model, guide, images), truth, labels, experts=4, classes=3)
    assert unknown == known  # one layer in use is taken for the background


def test_without_labels_nothing_is_said_of_experts():
    score = agreement(floors.ideal(*TRUTH), SCENES.masks)
    assert isnan(score.purity) and isnan(score.nmi) and score.wins is None
    assert score.depth_order == 1
