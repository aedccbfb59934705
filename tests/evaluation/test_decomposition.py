"""Scenes taken apart by experts, true shapes, and counts that a network reads: hand-made, and brute force."""

import pytest
import torch

from pyro_scenes import AIR, ECON, VAE, AIRGuide, ECONGuide, VAEGuide
from pyro_scenes.data import coloured_shapes, shape_masks
from pyro_scenes.evaluation import (
    Decomposition,
    count_classes,
    decompose,
    repaint,
    segments,
    shape_fit,
    train_reader,
)

IMAGES = coloured_shapes(5, canvas=16, colours="random").images / 255


@pytest.fixture(params=[True, False])
def pair(request):
    torch.manual_seed(0)
    model = ECON((3, 16, 16), experts=3, steps=4, background=request.param)
    return model, ECONGuide(model).eval()


def test_parts_of_a_scene_belong_together(pair):
    model, guide = pair
    seen = decompose(model, guide, IMAGES)
    assert seen.regions.shape == seen.masks.shape == (5, 4, 16, 16)
    assert seen.colours.shape == (5, 4, 3, 16, 16)
    torch.testing.assert_close(seen.regions.sum(1), torch.ones(5, 16, 16))  # none of them: nowhere
    torch.testing.assert_close(
        seen.canvas, torch.einsum("nlhw,nlchw->nchw", seen.regions, seen.colours)
    )
    assert not any(part.requires_grad for part in seen)
    idle = seen.experts == -1
    if model.background:
        assert (seen.experts[:, -1] == 2).all() and (seen.experts[:, :-1] < 2).all()
        assert (seen.regions[idle] < 1e-6).all() and (seen.masks[idle] < 1e-6).all()
    else:
        assert not idle.any() and (seen.experts < 3).all()


def test_flat_objects_of_plain_colours_are_there_untrained():
    torch.manual_seed(0)
    model = ECON((3, 16, 16), experts=3)
    seen = decompose(model, ECONGuide(model).eval(), IMAGES)
    assert (seen.canvas - IMAGES).square().mean() < IMAGES.var() / 2


def test_others_have_no_regions():
    vae = VAE((3, 16, 16))
    with pytest.raises(ValueError, match="this guide draws no z_expert_0, z_region"):
        decompose(vae, VAEGuide(vae), IMAGES)
    air = AIR((3, 16, 16), (3, 8, 8), steps=2)
    with pytest.raises(ValueError, match="this guide draws no"):
        decompose(air, AIRGuide(air), IMAGES)
    model = ECON((3, 16, 16), experts=3, steps=3)
    with pytest.raises(ValueError, match="of another model"):
        decompose(vae, ECONGuide(model), IMAGES)


def test_what_is_painted_from_true_shapes_is_the_scene():
    scenes = coloured_shapes(20, canvas=20)
    images = scenes.images / 255
    ground = torch.ones(20, 1, 20, 20)
    masks = torch.cat([scenes.masks.float(), ground], 1)
    inks = torch.eye(3)[scenes.labels]
    colours = torch.cat([inks, images.flatten(2).amin(2)[:, None]], 1)  # shapes have pure colours
    for scene, truth in zip(range(20), segments(scenes.masks), strict=True):
        colours[scene, -1] = images[scene][:, truth == 0][:, 0]
    colours = colours[..., None, None].expand(-1, -1, -1, 20, 20)
    seen = Decomposition(masks, 0.8 * masks, colours, torch.zeros(20, 4).long(), images)
    torch.testing.assert_close(repaint(seen), images)


STENCILS = shape_masks(4)


def laid(stencil, top, left, size=(14, 17)):
    """A shape on a canvas; what is outside is cut off."""
    canvas = torch.zeros(60, 60)
    canvas[20 + top : 20 + top + stencil.shape[0], 20 + left : 20 + left + stencil.shape[1]] = (
        stencil
    )
    return canvas[20 : 20 + size[0], 20 : 20 + size[1]]


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (6, 9), (-3, 2), (9, 12), (-2, -2)])
def test_a_true_shape_fits_wherever_it_is(label, top, left):
    fit = shape_fit(0.6 * laid(STENCILS[label].float(), top, left)[None], STENCILS)
    assert fit.iou.item() == 1
    inside = 0 <= top <= 6 and 0 <= left <= 9
    assert fit.label.item() == label or not inside  # a corner may be of two classes


def test_fits_are_the_best_of_all_places():
    stencils = STENCILS[:, ::2, 1::2]
    masks = torch.rand(4, 6, 5).round()
    fit = shape_fit(masks, stencils)
    for mask, iou in zip(masks, fit.iou, strict=True):
        best = 0.0
        for stencil in stencils.float():
            for top in range(-4, 7):
                for left in range(-4, 6):
                    there = laid(stencil, top, left, (6, 5))
                    either = torch.maximum(there, mask).sum()
                    best = max(best, ((there * mask).sum() / either).item())
        assert iou.item() == pytest.approx(best)


def test_shapes_that_are_none(unchecked):
    masks = torch.zeros(3, 14, 17)
    masks[1] = 0.5  # half is not covered
    masks[2] = 1.0
    fit = shape_fit(masks, STENCILS)
    assert fit.iou[:2].tolist() == [0, 0] and fit.label[:2].tolist() == [-1, -1]
    assert fit.iou[2] == STENCILS.sum((1, 2)).max() / (14 * 17) and fit.label[2] >= 0
    for wrong in ((masks[0], STENCILS), (masks > 0.5, STENCILS), (masks, STENCILS.float())):
        with pytest.raises(ValueError, match="needs"):
            shape_fit(*wrong)


def test_counts_by_class(unchecked):
    labels = torch.tensor([[0, 2, 2, -1], [-1, -1, -1, -1]])
    assert count_classes(labels, 4).tolist() == [[1, 0, 2, 0], [0, 0, 0, 0]]
    for wrong, message in ((labels, "below 2"), (labels - 1, "-2"), (labels.float(), "integer")):
        with pytest.raises(ValueError, match=message):
            count_classes(wrong, 2)


def test_a_reader_learns_to_count(unchecked):
    options = {"count": (0, 2), "canvas": 16, "classes": "any"}
    train, test = (coloured_shapes(n, seed=n, **options) for n in (2000, 200))
    state = torch.get_rng_state()
    counts = count_classes(train.labels, 3)
    reader = train_reader(train.images, counts, steps=150)
    assert torch.equal(torch.get_rng_state(), state) and not reader.training
    read = reader.read(test.images / 255)
    wanted = count_classes(test.labels, 3)
    assert (read == wanted).float().mean() > 0.85 > 0.8 > (wanted == 0).float().mean()
    again = train_reader(train.images / 255, counts, steps=150)
    assert torch.equal(again.read(test.images / 255), read)
    with pytest.raises(ValueError, match="integer counts"):
        train_reader(train.images, counts[:5])


def test_opacities_of_a_softmax_are_against_the_last_layers(pair):
    """By hand: exp of logits, over the sum of it and the last layer's; that of an opaque one is 0."""
    model, guide = pair
    torch.manual_seed(1)
    seen = decompose(model, guide, IMAGES, softmax=True)
    torch.manual_seed(1)
    plain = decompose(model, guide, IMAGES).masks.double()
    logits = (plain / (1 - plain)).log()
    last = 0.0 if model.background else logits[:, -1:]
    found = seen.masks[:, :-1]
    expected = (logits[:, :-1] - last).sigmoid().float()
    sure = (plain[:, :-1] - 0.5).abs() > 0.49999  # a float loses its logit
    torch.testing.assert_close(found.where(~sure, 0), expected.where(~sure, 0), atol=1e-3, rtol=0)
    assert (seen.masks[:, -1] == 1).all() and not sure.all()
