"""Layers: hand-made shapes and matches, and what is seen of scenes against the model's own equations."""

from itertools import permutations

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_scenes import AIR, CSTVAE, STVAE, VAE, AIRGuide, CSTVAEGuide, Prior, STVAEGuide, VAEGuide
from pyro_scenes.evaluation import (
    best_match,
    explanations,
    iou,
    layer_iou,
    log_weights,
    match_layers,
    overlap,
    r_squared,
    see_layers,
)


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


# places


def test_r_squared_by_hand():
    truth = torch.randn(50, 2) * torch.tensor([1.0, 30.0])
    assert r_squared(truth, truth) == 1
    assert r_squared(truth + torch.tensor([3.0, -50.0]), truth) == pytest.approx(1, abs=1e-5)
    assert r_squared(torch.ones(50, 2), truth) == pytest.approx(0)
    assert r_squared(-truth, truth) == pytest.approx(-3)
    half = torch.stack([truth[:, 0], torch.zeros(50)], -1)  # each column counts alike
    assert r_squared(half, truth) == pytest.approx(0.5)


@pytest.mark.parametrize(("found", "truth"), [((1, 2), (1, 2)), ((3, 2), (4, 2)), ((3, 1), (3, 2))])
def test_r_squared_needs_pairs(found, truth, unchecked):
    with pytest.raises(ValueError, match="two or more pairs"):
        r_squared(torch.zeros(found), torch.ones(truth))


# what is seen


SIZES = {"image_shape": (1, 12, 15), "window": (1, 7, 6), "code": 3}
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}
BOUNDED = {"z_what": Prior(dist.Beta, concentration1=[2.0] * 3, concentration0=[3.0] * 3)}


def pair(layers=3, **swaps):
    model = CSTVAE(**{**SIZES, "layers": layers, **swaps})
    return model, CSTVAEGuide(model, hidden=16)


def images_of(model, n=5):
    return torch.rand(n, *model.image_shape).round()


@pytest.mark.parametrize("swaps", [{}, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("draw", [False, True])
def test_what_is_visible_is_what_the_layers_before_leave(swaps, draw):
    model, guide = pair(**swaps)
    images = images_of(model)
    seen = see_layers(model, guide, images, draw=draw)
    assert seen.complete.shape == seen.visible.shape == (5, 3, *model.image_shape)
    assert seen.masks.shape == (5, 3, 1, 12, 15) and seen.transforms.shape == (5, 3, 2, 3)
    assert seen.canvas.shape == images.shape
    scope = torch.ones_like(seen.masks[:, 0])
    for i in range(3):
        torch.testing.assert_close(seen.visible[:, i], scope * seen.complete[:, i])
        scope = scope * (1 - seen.masks[:, i])
    torch.testing.assert_close(seen.visible.sum(1), seen.canvas)
    assert (seen.visible < seen.complete - 1e-3).any()  # something is hidden, or this proves little


def medians(guide, images):
    """Each latent at its proposal's median given those before, one after another."""
    names = poutine.trace(guide).get_trace(images).stochastic_nodes
    found = {}
    for name in (name for name in names if name.startswith("z_")):
        known = poutine.condition(guide, data=found)
        proposal = poutine.trace(known).get_trace(images).nodes[name]["fn"]
        draws = proposal.sample(torch.Size([2001]))
        normal = isinstance(proposal, dist.Independent)
        found[name] = proposal.base_dist.loc if normal else _carried(proposal, draws)
    return found


def _carried(proposal, draws):
    value = proposal.base_dist.base_dist.loc
    for transform in proposal.transforms:
        value = transform(value)
    below = (draws < value).float().mean(0)
    assert (below - 0.5).abs().max() < 0.07  # 6 sigma: it is the median indeed
    return value


@pytest.mark.parametrize("swaps", [{}, BOUNDED], ids=["normal", "beta"])
def test_without_draws_latents_are_at_their_medians(swaps):
    model, guide = pair(layers=2, **swaps)
    images = images_of(model)
    expected = medians(guide, images)
    trace = poutine.trace(poutine.condition(model, data=expected)).get_trace(images)
    torch.manual_seed(7)
    seen = see_layers(model, guide, images)
    torch.manual_seed(8)
    again = see_layers(model, guide, images)
    for name, site in (("complete", "layers"), ("masks", "masks"), ("canvas", "canvas")):
        torch.testing.assert_close(getattr(seen, name), trace.nodes[site]["value"])
    torch.testing.assert_close(seen.transforms, trace.nodes["transforms"]["value"])
    assert all(torch.equal(one, other) for one, other in zip(seen, again, strict=True))


def test_draws_are_draws_of_the_guide():
    model, guide = pair(layers=2)
    images = images_of(model)
    torch.manual_seed(7)
    proposed = poutine.trace(guide).get_trace(images)
    drawn = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    torch.manual_seed(7)
    seen = see_layers(model, guide, images, draw=True)
    torch.testing.assert_close(seen.complete, drawn.nodes["layers"]["value"])
    assert not torch.allclose(seen.complete, see_layers(model, guide, images, draw=True).complete)


def test_st_vae_is_one_layer():
    model = STVAE(**SIZES)
    images = images_of(model)
    seen = see_layers(model, STVAEGuide(model, hidden=16), images)
    assert seen.complete.shape == (5, 1, 1, 12, 15)
    for part in (seen.visible, seen.masks, seen.canvas[:, None]):
        torch.testing.assert_close(part, seen.complete)


def test_models_without_layers_are_refused():
    vae = VAE((1, 12, 15), 3)
    air = AIR((1, 12, 15), (1, 7, 6), steps=2, code=4)
    images = torch.rand(2, 1, 12, 15).round()
    for model, guide in ((vae, VAEGuide(vae)), (air, AIRGuide(air))):
        for look in (see_layers, explanations):
            with pytest.raises(ValueError, match="draws no layers, masks, transforms"):
                look(model, guide, images)


# explanations


class Seeded(nn.Module):
    """A guide whose draws do not depend on what is drawn between them."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.calls = guide, 0

    def forward(self, images):
        self.calls += 1
        torch.manual_seed(self.calls)
        self.guide(images)


def test_weights_of_explanations_are_importance_weights():
    model, guide = pair(layers=2)
    images = images_of(model)
    found, weights = explanations(model, Seeded(guide), images, draws=4)
    assert len(found) == 4 and weights.shape == (4, 5)
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    expected = log_weights(model, Seeded(guide), images, particles=4)
    torch.testing.assert_close(weights, expected.softmax(0))
    assert weights.max() > 0.9 and not torch.allclose(weights[:, 0], weights[:, 1])
    for seed, seen in enumerate(found, 1):  # each is the draw that its weight belongs to
        torch.manual_seed(seed)
        torch.testing.assert_close(
            seen.complete, see_layers(model, guide, images, draw=True).complete
        )


def test_weights_of_explanations_sum_to_one_without_a_seed():
    model, guide = pair(layers=2)
    for draws in (1, 8):
        found, weights = explanations(model, guide, images_of(model), draws=draws)
        torch.testing.assert_close(weights.sum(0), torch.ones(5))
        assert len({layers.canvas.sum().item() for layers in found}) == draws


@pytest.mark.parametrize("draws", [0, -1])
def test_no_explanations_are_refused(draws):
    with pytest.raises(ValueError, match="draws must be at least 1"):
        explanations(*pair(), torch.zeros(1, 1, 12, 15), draws=draws)
