"""Scenes taken apart by experts: a tiny model whose scenes are known by hand."""

import pytest
import torch

from pyro_scenes import AIR, VAE, AIRGuide, VAEGuide
from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import (
    Decomposition,
    decompose,
    extra_share,
    reconstruction,
    repaint,
    segments,
    softmax_masks,
    visible_parts,
)

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_decomposition_is_what_the_guide_sees(blocks, stacked):
    seen = decompose(*blocks, IMAGES)
    assert seen.regions.shape == seen.masks.shape == (5, 4, 8, 8)
    assert seen.colours.shape == (5, 4, 3, 8, 8)
    truth = torch.cat([visible_parts(stacked), ~stacked.any(1, keepdim=True)], 1).float()
    torch.testing.assert_close(seen.regions[:, :3], truth.expand(5, -1, -1, -1))
    torch.testing.assert_close(seen.masks[:, :2], stacked.float().expand(5, -1, -1, -1))
    expected = torch.einsum("nlhw,nlchw->nchw", seen.regions, seen.colours)
    torch.testing.assert_close(seen.canvas, expected)
    torch.testing.assert_close(repaint(seen), seen.canvas)
    assert not any(part.requires_grad for part in seen)


def test_experts_that_make_no_objects_are_marked(blocks):
    model, guide = blocks
    seen = decompose(model, guide, IMAGES)
    assert seen.experts.tolist() == [[0, 1, -1, -1]] * 5
    objects = seen.of_objects(seen.regions)
    assert torch.equal(objects[:, :2], seen.regions[:, :2]) and not objects[:, 2:].any()
    model.object_experts = None
    seen = decompose(model, guide, IMAGES)
    assert seen.experts.tolist() == [[0, 1, 2, 3]] * 5
    assert torch.equal(seen.of_objects(seen.masks), seen.masks)


def test_chunks_do_not_matter(blocks):
    model, guide = blocks
    expected = decompose(model, guide, IMAGES)
    guide.sizes.clear()
    for one, other in zip(decompose(model, guide, IMAGES, chunk=2), expected, strict=True):
        assert torch.equal(one, other)
    assert guide.sizes == [2, 2, 1]


def test_layers_and_regions_are_arguments_of_the_call(blocks):
    model, guide = blocks
    seen = decompose(model, guide, IMAGES, layers=6)
    assert seen.regions.shape[1] == seen.experts.shape[1] == 6
    assert extra_share(seen.regions, 4) == pytest.approx(0, abs=1e-6)
    regions = torch.nn.functional.one_hot(torch.randint(4, (5, 8, 8)), 4).movedim(-1, 1).bool()
    for chunk in (2, 100):
        seen = decompose(model, guide, IMAGES, regions=regions, chunk=chunk)
        torch.testing.assert_close(seen.regions, regions.float(), atol=1e-4, rtol=0)


def test_what_extra_layers_take_is_all_but_the_largest():
    regions = torch.zeros(1, 4, 2, 5)
    regions[0, 0, :, :2], regions[0, 1, :, 2:4] = 1, 1
    regions[0, 2, 0, 4], regions[0, 3, 1, 4] = 1, 1
    assert extra_share(regions, 2) == pytest.approx(2 / 10)
    assert extra_share(regions, 3) == pytest.approx(1 / 10)
    assert extra_share(regions, 4) == 0


def test_training_mode_is_noticed(blocks):
    model, guide = blocks
    with pytest.warns(UserWarning, match="in training mode"):
        decompose(model, guide.train(), IMAGES)


def test_others_have_no_regions(blocks):
    vae, air = VAE((3, 8, 8)).eval(), AIR((3, 8, 8), (3, 4, 4), steps=2).eval()
    with pytest.raises(ValueError, match="this guide draws no z_expert_0, z_region"):
        decompose(vae, VAEGuide(vae).eval(), IMAGES)
    with pytest.raises(ValueError, match="this guide draws no"):
        decompose(air, AIRGuide(air).eval(), IMAGES)
    with pytest.raises(ValueError, match="of another model"):
        decompose(vae, blocks[1], IMAGES)


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
    assert reconstruction(seen, images) == pytest.approx((0, 0), abs=1e-12)
    swapped = seen._replace(masks=masks[:, [0, 2, 1, 3]])
    assert reconstruction(swapped, images).mse == 0
    assert reconstruction(swapped, images).mse_full_shapes > 0.01


def test_opacities_of_a_softmax_are_against_the_last_layers(blocks):
    """Here all logits are 20 or -20, and the last layer's is -20."""
    masks = decompose(*blocks, IMAGES, softmax=True).masks
    opaque = decompose(*blocks, IMAGES).masks > 0.5
    assert (masks[:, -1] == 1).all()
    torch.testing.assert_close(masks[:, :-1], opaque[:, :-1].float().clamp(min=0.5))
    shares = softmax_masks(masks)
    torch.testing.assert_close(shares.sum(1), torch.ones(5, 8, 8))
    alone = ~opaque[:, :-1].any(1)  # where all are alike
    torch.testing.assert_close(
        shares.movedim(1, -1)[alone], torch.full((int(alone.sum()), 4), 0.25)
    )
