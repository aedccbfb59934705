"""Whole layers: places, shapes and colours of what is drawn, and a decoder's own inverse."""

import pytest
import torch
from torch.nn.functional import interpolate

from pyro_scenes.networks import (
    CERTAIN,
    BroadcastDecoder,
    EmptyDecoder,
    FlatDecoder,
    SpriteDecoder,
    subsample,
    typical_colour,
)
from pyro_scenes.networks.pixels import coordinates

SHAPE = (3, 16, 24)
DECODERS = {
    "broadcast": lambda: BroadcastDecoder(5, SHAPE, features=8),
    "sprite": lambda: SpriteDecoder(5, SHAPE),
    "sprite of many shapes": lambda: SpriteDecoder(5, SHAPE, shape=2),
    "flat": lambda: FlatDecoder(5, SHAPE),
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]()


def disc(radius=0.3, code=5):
    """A sprite whose opacity is one within a radius of its place."""
    decoder = SpriteDecoder(code, SHAPE)

    class Round(torch.nn.Module):
        def forward(self, seen):
            away = (seen[..., :2] / decoder.sharpness).norm(dim=-1, keepdim=True)
            return (60 * (radius - away)).clamp(-15, 15)

    decoder.opacity = Round()
    return decoder


def code_at(decoder, x, y, colour):
    """A code of a sprite of this colour whose place is (x, y)."""
    place = torch.erfinv(torch.tensor([x, y]) / decoder.reach.detach()) * 2**0.5
    return torch.cat([place, torch.logit(torch.tensor(colour))])[None]


def test_places_are_the_middles_of_pixels():
    x, y = coordinates((1, 2, 4))
    torch.testing.assert_close(x[0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(y[:, 0], torch.tensor([-0.5, 0.5]))
    assert (x[0] == x[1]).all() and (y[:, :1] == y).all()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("name", ["sprite", "sprite of many shapes", "flat"])
def test_every_so_many_pixels_are_those_of_the_whole(name, stride):
    decoder, codes = DECODERS[name](), torch.randn(4, 5)
    whole = decoder(codes)
    assert whole.shape == (4, 4, 16, 24)
    torch.testing.assert_close(decoder(codes, stride=stride), subsample(whole, stride))
    first = stride // 2
    assert torch.equal(subsample(whole, stride), whole[:, :, first::stride, first::stride])


def test_an_empty_layer_is_transparent_whatever_its_code():
    decoder, codes = EmptyDecoder(SHAPE), torch.randn(4, 5, requires_grad=True)
    made = decoder(codes)
    assert made.shape == (4, 4, 16, 24)
    assert (made[:, -1] == -CERTAIN).all() and not made[:, -1].sigmoid().gt(1e-20).any()
    assert not made.requires_grad and not list(decoder.parameters())


def test_each_code_is_decoded_on_its_own(decoder):
    codes = torch.randn(4, 5)
    for i in range(4):
        torch.testing.assert_close(
            decoder(codes[i : i + 1])[0], decoder(codes)[i], atol=1e-5, rtol=0
        )


def test_gradients_in_double_precision(decoder):
    decoder = decoder.double()
    codes = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    made = decoder(codes)
    (made.sigmoid() * torch.rand_like(made)).sum().backward()
    assert made.dtype == torch.float64
    assert all(value.grad.any() for value in (codes, *decoder.parameters()))


@pytest.mark.parametrize(("across", "down"), [(1, 0), (0, 1), (-3, 2), (5, -3)])
def test_the_place_moves_the_shape_and_nothing_else(across, down):
    """By whole pixels, exactly: what is drawn elsewhere is drawn alike."""
    decoder = SpriteDecoder(5, SHAPE)
    colour = [0.2, 0.5, 0.9]
    here = decoder(code_at(decoder, 0.0, 0.0, colour))
    there = decoder(code_at(decoder, across * 2 / 24, down * 2 / 16, colour))
    moved = here.roll((down, across), (2, 3))
    rows, columns = slice(4, -4), slice(6, -6)
    torch.testing.assert_close(
        there[..., rows, columns], moved[..., rows, columns], atol=1e-4, rtol=0
    )
    assert (here - there).abs().max() > 1e-3


def test_a_sprite_has_one_colour_and_it_is_the_codes():
    decoder = SpriteDecoder(5, SHAPE)
    made = decoder(code_at(decoder, 0.1, 0.2, [0.2, 0.5, 0.9])).sigmoid()
    expected = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, 16, 24)
    torch.testing.assert_close(made[:, :3], expected)


def test_a_sprite_of_one_shape_has_no_other():
    """Colours and places change; the opacity seen from the place does not, unless shape= says so."""
    codes = torch.randn(6, 5)
    codes[:, :2] = 0
    one, many = SpriteDecoder(5, SHAPE), SpriteDecoder(5, SHAPE, shape=2)
    assert (one(codes)[:, -1] == one(codes)[:1, -1]).all()
    assert (many(codes)[:, -1] - many(codes)[:1, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.3, -0.4), (-0.5, 0.2)])
def test_the_guess_inverts_the_sprite(place):
    """Colour and place, of a region that shows all of it."""
    decoder, colour = disc(), [0.2, 0.5, 0.9]
    code = code_at(decoder, *place, colour)
    made = decoder(code).sigmoid()
    images, regions = made[:, :3] * made[:, 3:] + 0.4 * (1 - made[:, 3:]), made[:, 3:]
    found = decoder.guess(images, regions, torch.ones_like(regions))
    half_a_pixel = torch.tensor([1 / 24, 1 / 16])
    found_place = decoder.reach * torch.erf(found[0, :2] / 2**0.5)
    assert ((found_place - torch.tensor(place)).abs() < half_a_pixel).all()
    torch.testing.assert_close(decoder(found).sigmoid()[:, :3], made[:, :3], atol=0.05, rtol=0)


def test_the_guess_completes_what_is_hidden():
    """Of a region cut in half by what is in front, the place is that of the whole."""
    decoder = disc(0.5)
    code = code_at(decoder, 0.1, 0.0, [0.2, 0.5, 0.9])
    made = decoder(code).sigmoid()
    scope = torch.ones(1, 1, 16, 24)
    scope[..., :12] = 0
    regions = made[:, 3:] * scope
    found, blind = (decoder.match(regions, left) for left in (scope, torch.ones_like(scope)))
    assert (found - torch.tensor([0.1, 0.0])).abs().max() < 0.1
    assert blind[0, 0] > found[0, 0] + 0.1  # had it been free to go on, it would have


def test_the_place_is_found_on_odd_sizes():
    decoder = SpriteDecoder(5, (3, 13, 17))
    with torch.no_grad():
        decoder.opacity[-1].weight.mul_(5.0)
        torch.manual_seed(1)
        made = decoder(torch.zeros(1, 5)).sigmoid()[:, 3:]
        shifted = torch.zeros_like(made)
        shifted[..., 2:, :] = made[..., :-2, :]
        still, moved = (decoder.match(region, torch.ones_like(made)) for region in (made, shifted))
    assert made.std() < 1e-3 or (moved - still)[0, 1] > 0


def test_the_guess_inverts_a_flat_layer():
    images = torch.rand(4, 3, 1, 1).clamp(0.05, 0.95).expand(-1, *SHAPE).clone()
    expected = images[:, :, 0, 0].clone()
    images[:, :, :5, :5] = torch.rand(4, 3, 5, 5)  # what does not belong counts little
    decoder = FlatDecoder(5, SHAPE)
    found = decoder(decoder.guess(images, torch.ones(4, 1, 16, 24), torch.ones(4, 1, 16, 24)))
    torch.testing.assert_close(found[:, :3].sigmoid()[..., 0, 0], expected, atol=0.03, rtol=0)
    assert (found[:, 3].sigmoid() == 1).all()


def test_a_typical_colour_is_that_of_most():
    images = torch.full((1, 3, 8, 8), 0.3)
    images[..., 6:] = 0.9
    region = torch.ones(1, 1, 8, 8)
    assert (typical_colour(images, region) - 0.3).abs().max() < 0.02
    assert (images.mean((2, 3)) - 0.3).abs().min() > 0.1
    region[..., :6] = 0
    torch.testing.assert_close(
        typical_colour(images, region), torch.full((1, 3), 0.9), atol=1e-3, rtol=0
    )
    assert typical_colour(images, 0 * region).isfinite().all()


def test_bias_decides_how_much_an_untrained_layer_hides():
    made = [SpriteDecoder(5, SHAPE, bias=bias)(torch.randn(20, 5)) for bias in (-4.0, 0.0, 4.0)]
    hidden = [logits[:, -1].sigmoid().mean().item() for logits in made]
    assert hidden == sorted(hidden) and hidden[0] < 0.2 < 0.8 < hidden[2]


@pytest.mark.parametrize(("code", "shape"), [(2, 0), (1, 0), (5, 4), (5, -1)])
def test_a_sprite_without_room_for_its_code_is_refused(code, shape):
    with pytest.raises(ValueError, match="a sprite's code is 2 numbers"):
        SpriteDecoder(code, SHAPE, shape=shape)


def test_an_enlarged_image_has_the_same_layers():
    """Places are relative: a sprite of twice the size on twice as many pixels."""
    small, large = SpriteDecoder(5, SHAPE), SpriteDecoder(5, (3, 32, 48))
    large.load_state_dict(small.state_dict())
    codes = torch.randn(3, 5)
    shrunk = interpolate(large(codes)[:, 3:], (16, 24), mode="area")
    assert (shrunk - small(codes)[:, 3:]).abs().mean() < 0.1


def test_of_two_places_alike_one_is_found():
    """Their mean is a place where there is nothing."""
    decoder = disc()
    with torch.no_grad():
        places_of = [code_at(decoder, x, 0.1, (0.5, 0.5, 0.5)) for x in (-0.5, 0.5)]
        regions = sum((decoder(code)[:, -1:] > 0).float() for code in places_of)
        found = decoder.match(regions, torch.ones_like(regions))
    assert found[0, 0].abs() == pytest.approx(0.5, abs=0.03)


def test_numbers_of_the_shape_have_no_colour_to_start_with():
    decoder = SpriteDecoder(8, SHAPE, shape=3)
    assert not decoder.colour.weight[:, :3].any()
    for decoder in (decoder, SpriteDecoder(5, SHAPE, shape=2), SpriteDecoder(5, SHAPE, shape=3)):
        assert (
            torch.linalg.matrix_rank(decoder.colour.weight) == 3
        )  # any colour, if they must share
