"""Scenes painted on request: a tiny model whose experts are known by hand."""

import pytest
import torch
from torch import nn

from pyro_scenes import AIR, ECON
from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import (
    Request,
    as_request,
    extra_share,
    floors,
    mostly_visible,
    paint,
    paint_alone,
    paint_request,
    requested,
    roles,
)

RED, GREEN, BLUE = torch.eye(3)


def colours_of(image):
    """How many pixels (H, W) are red, green, blue and black."""
    return [int((image == ink[:, None, None]).all(0).sum()) for ink in (RED, GREEN, BLUE, 0 * RED)]


def test_the_experts_of_a_sample_are_the_requested_ones(blocks):
    model, _ = blocks
    sample = paint(model, [0, 1, 1, 2], 20)
    assert sample.images.shape == (20, 3, 8, 8) and sample.masks.shape == (20, 4, 1, 8, 8)
    for image, masks in zip(sample.images, sample.masks[:, :, 0] > 0.5, strict=True):
        red, green, blue, black = colours_of(image)
        assert red == 16 and 0 <= green <= 32 and black == 0
        assert green == (masks[1:3].any(0) & ~masks[0]).sum() and red + green + blue == 64
    assert set(sample.masks.unique().tolist()) == {0, 1}
    assert len(sample.images.unique(dim=0)) > 10  # codes are drawn


def test_where_no_layer_is_samples_are_black(blocks):
    model, _ = blocks
    assert colours_of(paint(model, [0, 3]).images[0]) == [16, 0, 0, 48]
    assert colours_of(paint(model, [3]).images[0]) == [0, 0, 0, 64]
    assert colours_of(paint(model, [2, 0]).images[0]) == [0, 0, 64, 0]  # layer 0 is the front


def test_others_paint_nothing(blocks):
    with pytest.raises(ValueError, match="one for each layer: got none"):
        paint(blocks[0], [])

    class Other(nn.Linear):
        def forward(self, *, size, layers):
            return torch.zeros(size)

    with pytest.raises(ValueError, match="this model draws no colours, masks, z_expert_0"):
        paint(Other(1, 1), [0])


def test_single_objects_of_each_maker(blocks):
    masks = paint_alone(blocks[0], roles(torch.zeros(4, 3).long(), (0, 1)), 5)
    assert masks.shape == (2, 5, 8, 8) and (masks.sum((2, 3)) == 16).all()


def test_visible_means_a_quarter_of_each():
    front, back = torch.zeros(2, 2, 8, dtype=torch.bool)
    front[0], back[:, :4] = True, True
    assert mostly_visible(torch.stack([front, back])[None]).tolist() == [True]
    front[1, :2] = True
    assert mostly_visible(torch.stack([front, back])[None]).tolist() == [False]
    assert mostly_visible(torch.stack([back, 0 * back > 0])[None]).tolist() == [True]  # padding
    assert mostly_visible(back[None, None][:, :0]).tolist() == [True]


# roles


def test_object_experts_are_those_the_model_names():
    wins = torch.tensor([[5, 0, 1], [9, 2, 0], [0, 0, 0], [0, 7, 0], [0, 0, 4]])
    found = roles(wins, (0, 1, 3))
    assert found == ((0, 1, 3), (2, 4), (1, 3, -1))  # expert 0 makes class 0, but expert 1 more


def test_if_it_names_none_the_one_with_fewest_wins_makes_the_background():
    assert roles(torch.tensor([[0, 4], [0, 1], [5, 0]])) == ((0, 2), (1,), (2, 0))
    assert roles(torch.tensor([[3, 1]])) == ((0,), (), (0, -1))


# requests


def read(images):
    """Counts of red and green objects of samples in which nothing is hidden, by their area."""
    inks = torch.stack([RED, GREEN])[:, None, :, None, None]
    return ((images == inks).all(2).sum((2, 3)) > 0).long().T


WINS = torch.tensor([[5, 0], [0, 5], [0, 0], [0, 0]])


def test_what_is_painted_is_what_was_requested(blocks):
    model, _ = blocks
    request = paint_request(model, roles(WINS, (0, 1)), objects=1, requests=10, size=4)
    assert request.images.shape == (40, 3, 8, 8) and request.counts.shape == (40, 2)
    assert (request.counts.sum(1) == 1).all() and request.made.all()
    assert request.counts.any(0).all()  # both classes are requested
    assert requested(read(request.images), request) == (1, 1)
    many = paint_request(model, roles(WINS, (0, 1)), objects=3, requests=20, size=4)
    assert 0 < len(many.images) < 80  # some are hidden
    assert {*many.counts.sum(1).tolist()} == {1, 2, 3}


def test_a_class_without_an_expert_is_wrong(blocks):
    """Both experts win the first class alone: nobody makes the second, and nobody asks for it in vain."""
    model, _ = blocks
    both = roles(torch.tensor([[5, 0], [4, 0], [0, 0], [0, 0]]), (0, 1))
    request = paint_request(model, both, objects=1, requests=20, size=2)
    assert request.made.tolist() == [True, False]
    score = requested(read(request.images), request)
    assert score.requested_counts == 0.5 and score.requested_scenes == 0
    assert requested(request.counts, request) == (0.5, 0)  # however well it is read


def test_nothing_is_painted_where_there_is_nobody(blocks):
    model, _ = blocks
    nobody = roles(torch.zeros(4, 2).long(), (0, 1))._replace(background_experts=())
    request = paint_request(model, nobody, requests=3, size=2)
    assert request.images.shape == (6, 3, 8, 8) and not request.images.any()
    assert requested(torch.zeros(6, 2).long(), request) == (0, 0)


def test_floors_of_orders_by_hand():
    counts = torch.tensor([[1, 0, 0], [0, 2, 0], [2, 0, 1]])
    request = Request(torch.zeros(3, 3, 8, 8), counts, torch.tensor([True, False, True]))
    table = floors.requested_floors(request)
    assert table["blank images"] == pytest.approx((5 / 9, 0))
    # All of class 0 would be read as (1, 0, 0), (2, 0, 0), (3, 0, 0).
    assert table["one class for all"] == pytest.approx((3 / 9 + 1 / 9 + 1 / 9, 1 / 3))


def test_true_scenes_are_an_order_that_is_met():
    scenes = coloured_shapes(50, count=(1, 3), canvas=16, classes="any")
    request = as_request(scenes.images, scenes.masks, scenes.labels, 3)
    clear = mostly_visible(scenes.masks)
    assert torch.equal(request.counts.sum(1), scenes.counts[clear]) and 10 < clear.sum() < 50
    assert torch.equal(request.images, scenes.images[clear])
    assert requested(request.counts, request) == (1, 1)


@pytest.mark.parametrize("experts", [[-1, 2], [0, 4], []])
def test_experts_that_there_are_not_are_refused(experts):
    with pytest.raises(ValueError, match="experts must be numbers"):
        paint(ECON((3, 8, 8), experts=4), experts)


def test_a_model_without_experts_is_named():
    with pytest.raises(ValueError, match="AIR takes no layers="):
        paint(AIR(), [0])


def test_what_is_read_of_other_scenes_is_refused():
    counts = torch.ones(4, 2, dtype=torch.long)
    request = Request(torch.rand(4, 3, 8, 8), counts, counts.bool())
    with pytest.raises(ValueError, match="of other scenes"):
        requested(counts[:1], request)


@pytest.mark.parametrize("layers", [0, -1, 4])
def test_spare_layers_are_counted_from_layers_that_there_are(layers):
    with pytest.raises(ValueError, match="layers must be from 1 to 3"):
        extra_share(torch.rand(2, 3, 4, 4), layers)
