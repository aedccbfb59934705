"""Matching: hand-made shapes, and the best of all matches by brute force."""

from itertools import permutations

import pytest
import torch

from pyro_scenes.evaluation import best_match, iou, layer_iou, match_layers, overlap


def shapes(*pictures):
    """Shapes bool (n, h, w) of pictures: rows of . and # with / in between."""
    return torch.stack(
        [
            torch.tensor([[mark == "#" for mark in row] for row in picture.split("/")])
            for picture in pictures
        ]
    )


LEFT, RIGHT, ALL, NONE = shapes("##../##..", "..##/..##", "####/####", "..../....")
CORNER, MOST = shapes("#.../....", "###./###.")


# shapes


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (LEFT, RIGHT, 0.0),
        (LEFT, LEFT, 1.0),
        (LEFT, ALL, 4 / 8),
        (LEFT, MOST, 4 / 6),
        (RIGHT, MOST, 2 / 8),
        (CORNER, ALL, 1 / 8),
        (NONE, LEFT, 0.0),
        (NONE, NONE, 1.0),
    ],
)
def test_iou_by_hand(one, other, expected):
    assert iou(one, other).item() == iou(other, one).item() == pytest.approx(expected)
    assert iou(one.T, other.T).item() == pytest.approx(expected)  # no rows for columns


def test_iou_broadcasts_over_pairs():
    found = iou(torch.stack([LEFT, RIGHT])[:, None], torch.stack([LEFT, RIGHT, ALL])[None])
    torch.testing.assert_close(found, torch.tensor([[1, 0, 0.5], [0, 1, 0.5]]))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([LEFT, RIGHT], 0.0),
        ([LEFT, LEFT], 1.0),
        ([CORNER, ALL], 1.0),  # contained
        ([RIGHT, MOST], 2 / 4),
        ([LEFT], 0.0),
        ([LEFT, NONE], 0.0),
        ([RIGHT, NONE, MOST, CORNER], 1.0),
        ([LEFT, RIGHT, RIGHT & MOST], 1.0),
        ([RIGHT, MOST, LEFT & ~CORNER & ~MOST], 2 / 4),
    ],
)
def test_overlap_is_the_most_over_pairs(objects, expected):
    for order in permutations(objects):
        assert overlap(torch.stack(order)[None]).item() == pytest.approx(expected)


def test_overlap_is_that_of_each_scene():
    scenes = torch.stack(
        [torch.stack(pair) for pair in ((LEFT, RIGHT), (LEFT, MOST), (RIGHT, MOST))]
    )
    torch.testing.assert_close(overlap(scenes), torch.tensor([0.0, 1.0, 0.5]))


# matches


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 4), (4, 2), (1, 3), (3, 1)])
def test_best_match_is_the_best_of_all(rows, columns):
    scores = torch.rand(6, rows, columns)
    for table, found in zip(scores, best_match(scores), strict=True):
        used = found[found >= 0]
        assert len(used) == len(used.unique()) == min(rows, columns)
        total = sum(table[row, column] for row, column in enumerate(found) if column >= 0)
        wide = table if rows <= columns else table.T
        every = permutations(range(wide.shape[1]), wide.shape[0])
        best = max(sum(wide[i, j] for i, j in enumerate(choice)) for choice in every)
        torch.testing.assert_close(total, best)


def test_a_greedy_match_would_be_worse():
    assert best_match(torch.tensor([[[0.9, 0.8], [0.8, 0.1]]])).tolist() == [[1, 0]]


@pytest.fixture
def scene():
    """Opacities (4, 3, 8, 8) of layers, and three true objects (4, 3, 8, 8) that look a bit like them."""
    masks = torch.rand(4, 3, 8, 8)
    return masks, (masks[:, [2, 0, 1]] > 0.5) ^ (torch.rand(4, 3, 8, 8) < 0.1)


def test_the_order_of_layers_does_not_matter(scene):
    masks, truth = scene
    found = match_layers(masks, truth)
    assert found.layer.tolist() == [[2, 0, 1]] * 4
    for order in map(list, permutations(range(3))):
        again = match_layers(masks[:, order], truth)
        assert torch.equal(again.iou, found.iou)
        assert torch.equal(torch.tensor(order)[again.layer], found.layer)
        torch.testing.assert_close(layer_iou(masks[:, order], truth), layer_iou(masks, truth))
        torch.testing.assert_close(layer_iou(masks, truth[:, order]), layer_iou(masks, truth))


def test_matched_ious_are_those_of_the_pairs(scene):
    masks, truth = scene
    found = match_layers(masks, truth)
    chosen = masks[torch.arange(4)[:, None], found.layer] > 0.5
    assert torch.equal(found.iou, iou(chosen, truth)) and (found.iou > 0.5).all()
    torch.testing.assert_close(layer_iou(masks, truth), found.iou.mean(1))


def test_padding_is_not_looked_at(scene):
    masks, truth = scene
    padded = torch.cat([torch.zeros_like(truth[:, :2]), truth], 1)  # more objects than layers, too
    found = match_layers(masks, padded)
    assert found.iou[:, :2].isnan().all()
    assert torch.equal(found.iou[:, 2:], match_layers(masks, truth).iou)
    torch.testing.assert_close(layer_iou(masks, padded), layer_iou(masks, truth))


def test_an_object_without_a_layer_counts_zero():
    assert iou(MOST, LEFT) > 0.5  # it looks like the one layer, which shows the other
    masks = LEFT[None, None].float()
    found = match_layers(masks, torch.stack([MOST, LEFT])[None])
    assert found.layer.tolist() == [[-1, 0]] and found.iou.tolist() == [[0.0, 1.0]]
    assert layer_iou(masks, torch.stack([MOST, LEFT])[None]).tolist() == [0.5]


def test_a_scene_without_objects_has_no_score():
    masks = torch.ones(2, 2, 2, 4)
    truth = torch.stack([torch.stack([NONE, NONE]), torch.stack([ALL, NONE])])
    score = layer_iou(masks, truth)
    assert score[0].isnan() and score[1] == 1


def test_opacity_counts_above_one_half():
    truth = ALL[None, None]
    for opacity, expected in ((0.49, 0.0), (0.5, 0.0), (0.51, 1.0), (1.0, 1.0)):
        assert layer_iou(torch.full((1, 1, 2, 4), opacity), truth).item() == expected
