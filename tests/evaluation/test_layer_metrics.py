"""How true layers are: the truth, and trivial answers that each metric must tell from it."""

from math import isnan

import pytest
import torch

from pyro_scenes.data import layered_digits
from pyro_scenes.evaluation import (
    ShapeReader,
    alignment,
    floors,
    layer_metrics,
    r_squared,
    train_shape_reader,
)
from pyro_scenes.evaluation.layers import Layers
from pyro_scenes.render import centre


def bars(n, seed=0):
    """Scenes of two bars, the one upright, the other lying, that often cross."""
    pictures = torch.zeros(2, 12, 12, dtype=torch.uint8)
    pictures[0, 1:11, 4:8], pictures[1, 4:8, 1:11] = 255, 255
    return layered_digits((pictures, torch.arange(2)), n, count=2, canvas=24, seed=seed)


@pytest.fixture(scope="module")
def scenes():
    return bars(200)


@pytest.fixture(scope="module")
def table(scenes):
    train = bars(400, seed=1)
    reader = train_shape_reader(train.masks, train.labels, epochs=15)
    known = {"labels": scenes.labels, "centres": scenes.centres, "reader": reader}
    return floors.layer_floors(scenes.images, scenes.masks, **known)


def test_true_layers_reach_the_ceiling(table):
    assert table["true layers"] == pytest.approx((1,) * 7, abs=0.01)


@pytest.mark.parametrize(
    "answer", ["image cut in two", "image copied whole", "another scene's objects"]
)
def test_no_trivial_answer_passes_all(table, answer):
    floor = table[answer]
    assert floor.overlap_iou < 0.5 and floor.layer_iou_overlapping < 0.7
    assert min(floor.attribution, floor.centre_r2, floor.scenes_read) < 0.9


def test_what_is_copied_is_attributed_to_none_and_shared_by_all(table, scenes):
    assert table["image copied whole"].attribution == 0
    assert table["image cut in two"].overlap_iou == 0
    both, either = scenes.masks.all(1).sum((1, 2)), scenes.masks.any(1).sum((1, 2))
    smaller = scenes.masks.sum((2, 3)).amin(1)
    much = both / smaller > 0.25
    expected = (both / either)[much].mean().item()
    assert table["image copied whole"].overlap_iou == pytest.approx(expected)


def test_the_halves_of_a_cut_image_are_the_image(scenes):
    images = scenes.images / 255
    for layers in (floors.cut_in_two(images), floors.cut_in_two(scenes.images)):
        torch.testing.assert_close(layers.complete.sum(1), images)
        torch.testing.assert_close(layers.canvas, images)
        sizes = layers.complete.sum((2, 3, 4))
        assert (sizes.amin(1) > 0.2 * sizes.sum(1)).all()


def test_an_image_is_cut_across_its_long_axis():
    image = torch.zeros(1, 1, 20, 12)
    image[..., 2:18, 3:7] = 1
    layers = floors.cut_in_two(image)
    first = layers.complete[0, :, 0]
    tops, bottoms = first[:, 2:10].sum((1, 2)), first[:, 10:18].sum((1, 2))
    assert sorted(tops.tolist()) == sorted(bottoms.tolist()) == [0, 32]
    places = centre(layers.transforms[0], (1, 20, 12))
    assert places[:, 0].tolist() == pytest.approx([5, 5], abs=1e-4)
    assert sorted(places[:, 1].tolist()) == pytest.approx([6, 14], abs=1e-4)


def layers_of(masks, transforms):
    complete = masks[:, :, None].float()
    return Layers(complete, complete, complete, complete.sum(1).clamp(max=1), transforms)


def transforms_at(places, size):
    """T of windows as large as the canvas with their centres there, in pixels."""
    shift = -(places / size * 2 - 1)[..., None]
    return torch.cat([torch.eye(2).expand(*shift.shape[:2], 2, 2), shift], -1)


def test_constant_errors_and_missed_objects_count(scenes):
    places = transforms_at(scenes.centres, 24)
    score = layer_metrics(layers_of(scenes.masks, places), scenes.masks, centres=scenes.centres)
    assert score.centre_r2 == pytest.approx(1) and isnan(score.shapes_read)
    moved = transforms_at(scenes.centres + torch.tensor([4.0, 0]), 24)
    score = layer_metrics(layers_of(scenes.masks, moved), scenes.masks, centres=scenes.centres)
    variance = scenes.centres[..., 0].var(correction=0).item()
    assert score.centre_r2 == pytest.approx(1 - 16 / variance / 2, abs=1e-4)
    one = layers_of(scenes.masks[:, :1], places[:, :1])
    score = layer_metrics(one, scenes.masks, centres=scenes.centres)
    assert 0 < score.centre_r2 < 0.7 and score.layer_iou == pytest.approx(0.5)


def test_a_missed_object_is_not_read(scenes):
    class Zero(ShapeReader):
        def read(self, shapes):
            return torch.zeros(len(shapes)).long()

    one = layers_of(scenes.masks[:, :1], torch.eye(2, 3).expand(200, 1, 2, 3))
    score = layer_metrics(one, scenes.masks, labels=0 * scenes.labels, reader=Zero((24, 24), 2))
    assert score.shapes_read == 0.5 and score.scenes_read == 0


def test_padding_does_not_count(scenes):
    padded = torch.cat([scenes.masks, torch.zeros_like(scenes.masks[:, :1])], 1)
    centres = torch.nn.functional.pad(scenes.centres, (0, 0, 0, 1), value=torch.nan)
    places = transforms_at(scenes.centres, 24)
    layers = layers_of(scenes.masks, places)
    found = layer_metrics(layers, padded, centres=centres)
    assert found[:5] == pytest.approx(
        layer_metrics(layers, scenes.masks, centres=scenes.centres)[:5]
    )


def test_without_overlap_nothing_is_said_of_it():
    one = layered_digits(
        (torch.full((3, 6, 6), 255, dtype=torch.uint8), torch.arange(3)), 9, count=1
    )
    score = floors.layer_floors(one.images, one.masks, centres=one.centres)["true layers"]
    assert score.layer_iou == 1 and score.centre_r2 == pytest.approx(1)
    assert isnan(score.layer_iou_overlapping) and isnan(score.overlap_iou)
    assert isnan(score.attribution) and isnan(score.scenes_read)


# R^2


def test_r_squared_by_hand():
    truth = torch.randn(50, 2) * torch.tensor([1.0, 30.0])
    assert r_squared(truth, truth) == 1
    shift = truth.std(0, correction=0)
    assert r_squared(truth + shift, truth) == pytest.approx(0, abs=1e-5)  # constant errors count
    assert r_squared(truth.mean(0).expand(50, 2), truth) == pytest.approx(0, abs=1e-6)
    half = torch.stack([truth[:, 0], truth[:, 1].mean().expand(50)], -1)  # each column counts alike
    assert r_squared(half, truth) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "truth"), [((1, 2), (1, 2)), ((3, 2), (4, 2)), ((3, 1), (3, 2))]
)
def test_r_squared_needs_pairs(values, truth, unchecked):
    with pytest.raises(ValueError, match="two or more pairs"):
        r_squared(torch.zeros(values), torch.ones(truth))


def test_r_squared_needs_a_truth_that_varies():
    for truth in (torch.ones(3, 2), torch.full((3, 2), torch.nan)):
        with pytest.raises(ValueError, match="the truth must vary"):
            r_squared(torch.zeros(3, 2), truth)


# alignment


def test_windows_that_follow_their_objects_show_them_alike(scenes):
    follow = layers_of(scenes.masks, transforms_at(scenes.centres, 24))
    still = follow._replace(transforms=torch.eye(2, 3).expand(200, 2, 2, 3))
    known = {"truth": scenes.masks, "labels": scenes.labels, "window": (1, 24, 24), "classes": 3}
    aligned, apart = (alignment(layers, **known) for layers in (follow, still))
    assert aligned.means.shape == (3, 1, 24, 24) and not aligned.means[2].any()
    assert aligned.spread < 0.1 * apart.spread and apart.spread > 1
    for mean, picture in zip(aligned.means, (bar.float() for bar in _bars()), strict=False):
        torch.testing.assert_close(mean[0, 6:18, 6:18], picture, atol=0.02, rtol=0)


def _bars():
    pictures = torch.zeros(2, 12, 12, dtype=torch.bool)
    pictures[0, 1:11, 4:8], pictures[1, 4:8, 1:11] = True, True
    return pictures
