"""What is seen of scenes, against the model's own equations."""

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_scenes import AIR, CSTVAE, STVAE, VAE, AIRGuide, CSTVAEGuide, Prior, STVAEGuide, VAEGuide
from pyro_scenes.evaluation import doubt, explanations, log_weights, see_layers

SIZES = {"image_shape": (1, 12, 15), "window": (1, 7, 6), "code": 3}
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}
BOUNDED = {"z_what": Prior(dist.Beta, concentration1=[2.0] * 3, concentration0=[3.0] * 3)}


def pair(layers=3, **swaps):
    model = CSTVAE(**{**SIZES, "layers": layers, **swaps})
    return model.eval(), CSTVAEGuide(model, hidden=16).eval()


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


def test_chunks_do_not_matter():
    model, guide = pair(layers=2)
    images = images_of(model)
    expected = see_layers(model, guide, images)
    for one, other in zip(see_layers(model, guide, images, chunk=2), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_another_model_and_training_mode_are_noticed():
    model, guide = pair(layers=2)
    with pytest.raises(ValueError, match="of another model"):
        see_layers(pair(layers=2)[0], guide, images_of(model))
    with pytest.warns(UserWarning, match="in training mode"):
        see_layers(model, guide.train(), images_of(model))


def test_st_vae_is_one_layer():
    model = STVAE(**SIZES)
    images = images_of(model)
    seen = see_layers(model.eval(), STVAEGuide(model, hidden=16).eval(), images)
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
                look(model.eval(), guide.eval(), images)


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
    found, weights = explanations(model, Seeded(guide).eval(), images, draws=4)
    assert len(found) == 4 and weights.shape == (4, 5)
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    expected = log_weights(model, Seeded(guide).eval(), images, particles=4)
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
    with pytest.raises(ValueError, match="draws must be a whole number"):
        explanations(*pair(), torch.zeros(1, 1, 12, 15), draws=draws)


def test_explanations_of_weight_that_differ_are_in_doubt():
    model, guide = pair(layers=2)
    images = images_of(model)
    scenes, _ = explanations(model, guide, images, draws=2)
    apart = (scenes[0].complete - scenes[1].complete).square().sum((1, 2, 3, 4))
    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    expected = share * (1 - share) * apart
    torch.testing.assert_close(doubt(scenes, torch.stack([share, 1 - share])), expected)
