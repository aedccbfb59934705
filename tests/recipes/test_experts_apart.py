"""Experts set apart by the shapes and colours that their guide finds."""

from itertools import repeat

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

from pyro_scenes import ECON, ECONGuide, SpritesGuide, fit, sprite_scenes
from pyro_scenes.models.competition import Competition
from pyro_scenes.networks import SeededAttention, SpriteDecoder
from pyro_scenes.recipes import colour_experts, separate_experts

SHAPE, CODE = (3, 16, 12), 5
EXACT = TraceEnum_ELBO(max_plate_nesting=2)
CALLS = pytest.mark.parametrize("call", [separate_experts, colour_experts])
REDDISH, GREENISH, BLUISH = torch.eye(3) * 0.6 + 0.2
GREYISH = torch.full((3,), 0.8)


class SameColour(nn.Module):
    """Attention that takes all pixels of the seed's colour."""

    def forward(self, images, scope, seeds):
        seeds = seeds % images[0, 0].numel()
        colour = images.flatten(2).gather(2, seeds[:, None, None].expand(-1, 3, 1))
        alike = (images - colour[..., None]).abs().amax(1, keepdim=True) < 0.02
        return torch.where(alike, 20.0, -20.0)


def pair(sprites=2):
    """A guide that finds objects, and prefers the expert whose shape fits best."""
    model = sprite_scenes(SHAPE, sprites, 2, CODE)
    competition = Competition(temperature=1e-3, margin=float("inf"))
    return model, SpritesGuide(model, attention=SameColour(), competition=competition)


def two_kinds(hues):
    """Images of a small and of a large square in turn, in these colours (n, 3) on dark ground."""
    images = torch.full((len(hues), *SHAPE), 0.2)
    for i, hue in enumerate(hues):
        size, start = 5 + 4 * (i % 2), 2 + i % 3
        images[i, :, start : start + size, 1 : 1 + size] = hue[:, None, None]
    return images


def images_of(n=4):
    return two_kinds(GREYISH.expand(n, 3))


def samples_of(model, expert, n=40):
    """Colours (n, 3) that an expert draws from the prior, and the pixels that it covers in the middle."""
    with torch.no_grad():
        made = model.decoders[expert](torch.randn(n, CODE)).sigmoid()
        middle = model.decoders[expert](torch.zeros(1, CODE))
    return made[:, :3, 0, 0], (middle[0, -1] > 0).sum().item()


def by_size(model):
    """The colours of both experts' samples, that of small shapes first."""
    return [
        colour for colour, _ in sorted((samples_of(model, k) for k in (0, 1)), key=lambda s: s[1])
    ]


def apart(hues):
    model, guide = pair()
    separate_experts(model, guide, two_kinds(hues), steps=150)
    return model, guide


def test_experts_set_apart_have_one_shape_each():
    model, guide = pair()
    images = images_of(12)
    optim = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    list(fit(model, guide, repeat(images, 2), elbo=EXACT, optim=optim))
    sizes = separate_experts(model, guide, images, optim, steps=150)
    assert sorted(sizes.tolist()) == [6, 6]
    areas = sorted(samples_of(model, k)[1] for k in (0, 1))
    assert areas == pytest.approx([25, 81], rel=0.4)
    replaced = [p for k in (0, 1) for p in model.decoders[k].parameters()]
    assert all(value not in optim.state for value in replaced)
    assert all(value.grad is None or not value.grad.any() for value in replaced[-8:])
    assert guide.training


def test_they_win_what_they_were_given():
    """Small squares are the one's, large ones the other's; no more gradient is needed."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    model, guide = apart(hues)
    assert sorted(colour_experts(model, guide, two_kinds(hues)).tolist()) == [20, 20]


def test_experts_set_apart_have_the_colours_of_their_cluster():
    """Small ones are reddish, large ones bluish: so are samples of the expert that makes them."""
    model, _ = apart(torch.stack([REDDISH, BLUISH]).repeat(20, 1) + 0.1 * torch.rand(40, 3))
    small, large = by_size(model)
    assert small[:, 0].mean() > 0.6 > small[:, 2].mean()
    assert large[:, 2].mean() > 0.6 > large[:, 0].mean()
    ground, _ = samples_of(model, 2)
    torch.testing.assert_close(ground.mean(0), torch.full((3,), 0.2), atol=0.05, rtol=0)


def test_some_outliers_do_not_colour_a_cluster():
    """One shape in ten is of another class, and so of another colour: an expert never draws that one."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    hues[:4] = GREENISH
    for found, hue in zip(by_size(apart(hues)[0]), (REDDISH, BLUISH), strict=True):
        torch.testing.assert_close(found, hue.expand_as(found), atol=0.1, rtol=0)


def test_a_cluster_may_have_two_colours():
    """Two of five are no outliers: its samples vary along the line from one colour to the other."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    hues[:16:2] = GREENISH
    small, large = by_size(apart(hues)[0])
    assert small[:, 0].min() < 0.4 and small[:, 0].max() > 0.6
    assert small[:, 1].min() < 0.4 and small[:, 1].max() > 0.6
    torch.testing.assert_close(large, BLUISH.expand_as(large), atol=0.1, rtol=0)


def test_experts_take_on_the_colours_of_what_they_win():
    """Whatever colours they had; shapes stay, and the optimiser forgets what was fitted alone."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    model, guide = apart(hues)
    for part in model.decoders[:2]:
        part.colour.weight.data.normal_(std=3)
    images = two_kinds(hues)
    optim = torch.optim.Adam(model.parameters())
    list(fit(model, guide, [images], elbo=EXACT, optim=optim))
    shape = [value.clone() for value in model.decoders[0].opacity.parameters()]
    wins = colour_experts(model, guide, images, optim)
    assert sorted(wins.tolist()) == [20, 20]
    for found, hue in zip(by_size(model), (REDDISH, BLUISH), strict=True):
        torch.testing.assert_close(found, hue.expand_as(found), atol=0.1, rtol=0)
    assert model.decoders[0].colour.weight not in optim.state
    assert model.decoders[0].reach in optim.state
    assert all(map(torch.equal, shape, model.decoders[0].opacity.parameters()))


def test_few_objects_colour_no_expert():
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    model, guide = apart(hues)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert sorted(colour_experts(model, guide, two_kinds(hues[:8])).tolist()) == [4, 4]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (images_of(2).repeat(6, 1, 1, 1), "found 2 kinds of shapes, for 3 experts"),
        (torch.full((4, *SHAPE), 0.5), "found 0 objects in 4 images, for 3 experts"),
    ],
    ids=["two kinds", "plain"],
)
def test_fewer_kinds_than_experts_change_nothing(images, error):
    """Said before anything is overwritten."""
    model, guide = pair(3)
    for proposal in guide.proposals:
        proposal.correct.head.head[-1].weight.data.zero_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=error):
        separate_experts(model, guide, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@CALLS
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"images": images_of().mul(255).byte()}, "images must be a float tensor"),
        ({"images": images_of()[:0]}, "empty"),
        ({"optim": 3}, "optim must be"),
        ({"guide": None}, "needs a model ECON, then its guide SpritesGuide, got ECON and"),
        ({"guide": ECONGuide(ECON((3, 16, 16), 1, 1))}, "got ECON and ECONGuide"),
        ({"guide": pair()[1]}, "built from a different model"),
    ],
    ids=["uint8", "empty", "optim", "none", "ECON's", "another's"],
)
def test_bad_input_is_refused(call, settings, error, unchecked):
    model, guide = pair()
    with pytest.raises((ValueError, TypeError), match=error):
        call(**{"model": model, "guide": guide, "images": images_of(), **settings})


@pytest.mark.parametrize("bad", [{"tries": 0}, {"steps": -3}], ids=str)
def test_bad_sizes_are_refused(bad, unchecked):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        separate_experts(*pair(), images_of(), **bad)


@CALLS
def test_only_sprites_of_one_shape_are_set_apart(call):
    model, _ = pair()
    model.decoders[1] = SpriteDecoder(CODE, SHAPE, shape=1)
    guide = SpritesGuide(model, attention=SeededAttention(SHAPE, widths=(8, 8)))
    with pytest.raises(TypeError, match="needs sprites of one shape each"):
        call(model, guide, images_of())
