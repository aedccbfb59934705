"""Sprite scenes: the parts of ECON that they are."""

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_scenes import ECON, Prior, sprite_scenes
from pyro_scenes.models.econ import Scene
from pyro_scenes.models.sprites import count_sprites
from pyro_scenes.networks import EmptyDecoder, FlatDecoder, SpriteDecoder

SHAPE, CODE = (3, 8, 6), 5


def scenes(**settings):
    return sprite_scenes(SHAPE, **{"sprites": 2, "layers": 3, "code": CODE, **settings})


def drawn(model, n=200, **kwargs):
    trace = poutine.trace(model).get_trace(size=n, **kwargs)
    trace.compute_log_prob()
    return trace.nodes


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_the_background_is_the_last_layer_and_no_other(layers):
    """Of as many layers as a call asks for."""
    nodes = drawn(scenes(), layers=layers)
    for i in range(layers):
        numbers = set(nodes[f"z_expert_{i}"]["value"].tolist())
        assert numbers == ({2} if i == layers - 1 else {0, 1, 3})
    assert (nodes["masks"]["value"][:, -1] > 0.999).all()
    assert nodes["z_region"]["value"].max() < layers  # no pixel shows none


def test_an_empty_layer_paints_nothing_and_its_code_does_not_count():
    model = scenes()
    held = {"z_expert_0": torch.full((4,), 3), "z_expert_1": torch.zeros(4, dtype=torch.long)}
    held |= {f"z_what_{i}": torch.randn(4, CODE) for i in range(3)}
    other = {**held, "z_what_0": torch.randn(4, CODE)}
    one, two = (drawn(poutine.condition(model, data=data), 4) for data in (held, other))
    assert torch.equal(one["masks"]["value"], two["masks"]["value"])
    assert one["masks"]["value"][:, 0].max() < 1e-20
    for nodes in (one, two):
        assert not nodes["z_what_0"]["log_prob"].any() and nodes["z_what_1"]["log_prob"].all()
        assert not (nodes["z_region"]["value"] == 0).any()


def test_pixels_have_heavy_tails():
    model = scenes()
    images, colours = torch.rand(2, 4, *SHAPE)
    expected = dist.Cauchy(colours, 0.05).log_prob(images).sum(1, keepdim=True)
    found = model.pixel_log_prob(Scene(0, 3, model.blank), images, colours)
    torch.testing.assert_close(found, expected)


def test_a_prior_of_codes_may_be_swapped():
    z_what = Prior(dist.Normal, loc=[3.0] * CODE, scale=[0.1] * CODE)
    nodes = drawn(scenes(z_what=z_what))
    assert (nodes["z_what_0"]["value"].mean(0) - 3).abs().max() < 0.1
    assert ((nodes["z_what_0"]["log_prob"] == 0) == (nodes["z_expert_0"]["value"] == 3)).all()


def test_sprites_are_counted():
    assert count_sprites(scenes()) == 2 and count_sprites(scenes(sprites=1)) == 1
    flat, empty = FlatDecoder(CODE, SHAPE), EmptyDecoder(SHAPE)
    sprite = SpriteDecoder(CODE, SHAPE)
    for decoders in ([flat, empty], [sprite, empty, flat], [sprite, sprite, sprite]):
        with pytest.raises(TypeError, match="needs a model of sprite_scenes"):
            count_sprites(ECON(SHAPE, len(decoders), code=CODE, decoders=decoders))


@pytest.mark.parametrize("bad", [{"sprites": 0}, {"layers": 0}, {"code": 0}], ids=str)
def test_wrong_sizes_are_named(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be a whole number"):
        scenes(**bad)
