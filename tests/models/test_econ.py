"""ECON as in the paper: its bound and competition written by hand, regions, layers in order, parts swapped.

The sum over sequences of experts is in test_econ_enumerate.py.
"""

from itertools import product, repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

from pyro_scenes import ECON, ECONGuide, Pixels, Prior, Weighted, fit
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.evaluation import importance_bound, log_weights
from pyro_scenes.models.econ import Scene
from pyro_scenes.networks import (
    BroadcastDecoder,
    FlatDecoder,
    RegionEncoder,
    SpriteDecoder,
    UNet,
)
from pyro_scenes.networks.pixels import coordinates

from .conftest import named_gradients, seeded

SHAPE, CODE = (3, 8, 6), 5
EXACT = TraceEnum_ELBO(max_plate_nesting=2)
BOTH = ["compete", "enumerate"]


def broadcast(shape=SHAPE):
    return BroadcastDecoder(CODE, shape, features=8, blocks=1)


def pair(guide=None, shape=SHAPE, experts=3, **settings):
    decoders = [broadcast(shape) for _ in range(experts)]
    model = ECON(shape, experts, **{"layers": 3, "code": CODE, "decoders": decoders, **settings})
    tiny = shape[1] < 4
    prior = model.latents()["z_what_0"]
    encoders = [
        RegionEncoder(shape, 6, channels=4, blocks=1 if tiny else 2) for _ in range(experts)
    ]
    parts = {
        "attention": [nn.Conv2d(4, 1, 1) if tiny else UNet(4, (8, 8)) for _ in range(experts)],
        "proposals": [RegionProposal(encoder, 6, prior) for encoder in encoders],
    }
    return model, ECONGuide(model, **{**parts, **(guide or {})})


def images_of(n=4, shape=SHAPE):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)).to(
        torch.get_default_dtype()
    )


def halves(n=4, layers=3):
    """Regions (n, layers, H, W): the left, the upper right, the rest."""
    regions = torch.zeros(n, layers, *SHAPE[1:], dtype=torch.bool)
    regions[:, 0, :, :3] = regions[:, 1, :4, 3:] = regions[:, 2, 4:, 3:] = True
    return regions


def replayed(model, proposed, images, **kwargs):
    return poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images, **kwargs)


def maps_of(node):
    """A site's probabilities of regions (n, layers and none, H, W)."""
    probs = node["fn"].probs
    side = (2, 2) if len(probs) == 4 else SHAPE[1:]
    return probs.permute(1, 2, 0).unflatten(2, side)


# The bound.


def by_hand(model, guide, images, z_what=1.0, z_region=1.0):
    """Minus the ELBO of one draw of experts and codes: the sum over all maps of regions, one by one."""
    nodes, loss = seeded(guide, images).nodes, 0.0
    scope, layers, visible = 1.0, [], []
    for i in range(model.layers):
        choice, code = (nodes[f"{name}_{i}"] for name in ("z_expert", "z_what"))
        log_q = choice["fn"].log_prob(choice["value"])
        loss = loss + (log_q + torch.tensor(1.0 * model.experts).log()).sum()
        proposal = dist.Normal(code["fn"].mean, code["fn"].stddev)
        log_ratio = proposal.log_prob(code["value"]) - dist.Normal(0, 1).log_prob(code["value"])
        loss = loss + z_what * log_ratio.sum()
        made = torch.cat(
            [model.decoders[k](code["value"][j, None]) for j, k in enumerate(choice["value"])]
        )
        mask = made[:, -1].sigmoid()
        layers.append(made[:, :-1].sigmoid())
        visible.append(scope * mask)
        scope = scope * (1 - mask)
    layers, visible = torch.stack([*layers, 0 * images]), torch.stack([*visible, scope])
    regions = maps_of(nodes["z_region"]).movedim(1, 0)
    fits = dist.Normal(layers, 0.1).log_prob(images).sum(2)  # (layers and none, n, H, W)
    every = torch.arange(images[0, 0].numel())
    logs = [part.flatten(2) for part in (regions.log(), visible.log(), fits)]
    for numbers in product(range(model.layers + 1), repeat=len(every)):
        log_q, log_p, fit = (part[list(numbers), :, every].sum(0) for part in logs)
        loss = loss + (log_q.exp() * (z_region * (log_q - log_p) - fit)).sum()
    return loss


@pytest.mark.parametrize("weights", [{}, {"z_what": 0.3, "z_region": 2.5}], ids=str)
def test_the_loss_is_the_sum_over_all_maps_of_regions(weights, double):
    """On 2 x 2 pixels of 2 layers or none: 81 maps; the loss, and every gradient."""
    small = (3, 2, 2)
    model, guide = pair(shape=small, layers=2)
    images = images_of(3, small)
    elbo = Weighted(EXACT, **weights) if weights else EXACT
    torch.manual_seed(3)
    loss = elbo.loss_and_grads(model, config_enumerate(guide), images)
    found, expected = named_gradients(model, guide), by_hand(model, guide, images, **weights)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-7)
    written = named_gradients(model, guide)
    assert found.keys() == written.keys() and len(found) > 10
    for name, grad in found.items():
        size = written[name].abs().max().item()
        torch.testing.assert_close(grad, written[name], rtol=1e-5, atol=1e-5 * size)


def test_the_bounds_are_in_order(double):
    """Many draws are nearer to log p(image) than one, and a sum over regions is the mean of their draws."""
    model, guide = (module.eval() for module in pair())
    images, times = images_of().repeat(5, 1, 1, 1), 8
    with torch.no_grad():
        weights = log_weights(model, guide, images, particles=times)
        losses = torch.tensor(
            [EXACT.loss(model, config_enumerate(guide), images) for _ in range(times)]
        )
    draws = weights.unflatten(1, (5, 4)).flatten(0, 1)  # those of one image together
    assert (draws.mean(0) < importance_bound(draws)).all()
    drawn = weights.sum(1)
    error = (drawn.var() / times + losses.var() / times).sqrt()
    assert (drawn.mean() + losses.mean()).abs() < 4 * error


# The guide.


def test_regions_are_those_of_attention_layer_by_layer(double):
    """(f) and (i) by hand, not normalised: so they sum to one; and the last takes what is left."""
    model, guide = pair()
    images = images_of()
    for training in (True, False):
        nodes = seeded(guide.train(training), images).nodes
        found, scope = maps_of(nodes["z_region"]), torch.ones_like(images[:, :1])
        for i in range(2):
            experts = nodes[f"z_expert_{i}"]["value"].tolist()
            both = torch.cat([images, scope], 1)
            alpha = torch.cat([guide.attention[k](both[j, None]) for j, k in enumerate(experts)])
            torch.testing.assert_close(found[:, i, None], scope * alpha.sigmoid())
            scope = scope * alpha.neg().sigmoid()
        torch.testing.assert_close(found[:, 2, None], scope)
        assert found[:, 3].max() < 1e-20  # no pixel shows none


def test_codes_are_proposed_for_the_winners_region(double):
    model, guide = pair()
    images, nodes = images_of(), seeded(guide, images_of()).nodes
    regions = maps_of(nodes["z_region"])
    for i in range(3):
        scope = 1 - regions[:, :i].sum(1, keepdim=True)
        for j, k in enumerate(nodes[f"z_expert_{i}"]["value"].tolist()):
            proposal = guide.proposals[k]
            given = images[j, None], regions[j, i, None, None], scope[j, None]
            made = proposal.distribution(proposal(*given))
            torch.testing.assert_close(nodes[f"z_what_{i}"]["fn"].mean[j], made.mean[0])
            torch.testing.assert_close(nodes[f"z_what_{i}"]["fn"].stddev[j], made.stddev[0])


@pytest.mark.parametrize(("appearance", "temperature"), [(1.0, 1.0), (0.0, 3.0), (2.5, 50.0)])
def test_the_competition_is_the_papers(appearance, temperature, double):
    """P(k) ~ exp -(lambda L_x + L_r): of region r = s alpha, beside the mask m of the median code."""
    model, guide = pair({"appearance": appearance, "temperature": temperature})
    images = images_of()
    nodes = seeded(guide, images).nodes
    scope, losses = 1 - maps_of(nodes["z_region"])[:, :1], []
    for k in range(3):
        alpha = guide.attention[k](torch.cat([images, scope], 1)).sigmoid()
        region = scope * alpha
        proposal = guide.proposals[k]
        code = proposal.distribution(proposal(images, region, scope)).mean
        made = model.decoders[k](code).sigmoid()
        mask = made[:, -1:]
        off = (images - made[:, :-1]).square().sum(1, keepdim=True) / (2 * 0.1**2)
        inside = region * (region / (scope * mask)).log()
        outside = (scope - region) * ((scope - region) / (scope * (1 - mask))).log()
        losses.append((appearance * region * off + inside + outside).sum((1, 2, 3)))
    expected = (-torch.stack(losses, 1) / temperature).log_softmax(1)
    torch.testing.assert_close(nodes["z_expert_1"]["fn"].logits, expected)


def test_evaluation_makes_the_best_choice():
    _, guide = pair()
    chances = seeded(guide, images_of()).nodes["z_expert_0"]["fn"].logits
    guide.eval()
    one, other = (seeded(guide, images_of(), seed=seed).nodes for seed in (1, 2))
    assert torch.equal(one["z_expert_0"]["value"], chances.argmax(1))
    for i in range(3):
        site = one[f"z_expert_{i}"]
        assert torch.equal(site["value"], other[f"z_expert_{i}"]["value"])
        assert (site["fn"].log_prob(site["value"]) == 0).all()


def test_losers_get_no_gradient():
    """Nor do their decoders, proposals and attention."""
    lost, won = 0, set()
    model, guide = pair({"temperature": 1e4}, experts=4, layers=2)
    images = images_of(1)
    for seed in range(8):
        nodes = seeded(guide, images, seed=seed).nodes
        winners = {nodes[f"z_expert_{i}"]["value"].item() for i in range(2)}
        torch.manual_seed(seed)
        EXACT.loss_and_grads(model, config_enumerate(guide), images)
        trained = {".".join(name.split(".")[:2]) for name in named_gradients(model, guide)}
        parts = ("decoders", "proposals", "attention")
        assert trained <= {f"{part}.{k}" for part in parts for k in winners}
        lost, won = lost + 4 - len(winners), won | winners
    assert lost and len(won) > 2


@pytest.mark.parametrize("choice", BOTH)
def test_a_replay_draws_nothing_and_is_the_same(choice):
    _, guide = pair({"choice": choice})
    first = seeded(guide, images_of())
    again = seeded(poutine.replay(guide, trace=first), images_of(), seed=9)
    assert first.nodes.keys() == again.nodes.keys()
    for name in first.stochastic_nodes:
        assert torch.equal(first.nodes[name]["value"], again.nodes[name]["value"])
    torch.testing.assert_close(first.log_prob_sum(), again.log_prob_sum())


@pytest.mark.parametrize("choice", BOTH)
def test_given_regions_are_the_guides(choice):
    _, guide = pair({"choice": choice})
    nodes = seeded(guide, images_of(), halves()).nodes
    found = maps_of(nodes["z_region"])
    torch.testing.assert_close(found[:, :3], halves().float())
    assert not found[:, 3].gt(1e-20).any()


def test_given_regions_train_by_fit():
    """A batch of images and regions is passed on as it is; attention has nothing to learn."""
    model, guide = pair()
    batches = repeat((images_of(), halves()), 2)
    assert all(record.norm > 0 for record in fit(model, guide, batches, elbo=EXACT))
    trained = named_gradients(model, guide)
    assert trained and not any(name.startswith("attention") for name in trained)


@pytest.mark.parametrize(
    "regions", [halves().float(), halves(3), halves()[..., :-1], halves()[:, :2]], ids=str
)
def test_regions_of_other_images_are_refused(regions, unchecked):
    with pytest.raises(ValueError, match=r"regions must be bool \(n, layers, H, W\)"):
        pair()[1](images_of(), regions)


@pytest.mark.parametrize("choice", BOTH)
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_layers_of_a_call_are_of_that_call(layers, choice):
    model, guide = pair({"choice": choice})
    images = images_of()
    proposed = seeded(guide, images, layers=layers)
    drawn = {name for name in proposed.stochastic_nodes if name.startswith("z_")}
    expected = {f"z_{kind}_{i}" for kind in ("expert", "what") for i in range(layers)}
    assert drawn == expected | {"z_region"}
    joint = replayed(model, proposed, images, layers=layers)
    assert joint.nodes["masks"]["value"].shape[-4] == layers
    assert joint.log_prob_sum().isfinite()
    assert model(size=2, layers=layers).shape == (2, *SHAPE)
    assert (model.layers, len(model.latents())) == (3, 7)
    assert "z_what_2" in seeded(guide, images) and "z_what_3" not in seeded(guide, images)


@pytest.mark.parametrize("layers", [0, 2.5])
def test_layers_that_are_no_number_are_refused(layers, unchecked):
    model, guide = pair()
    for call in (lambda: model(size=2, layers=layers), lambda: guide(images_of(), layers=layers)):
        with pytest.raises(ValueError, match="layers must be a whole number"):
            call()


# Layers.


class Disc(nn.Module):
    """An opaque disc: two numbers are its place, three the logits of its colour."""

    def __init__(self, radius=0.6, image_shape=(3, 16, 12)):
        super().__init__()
        self.radius, self.image_shape = radius, image_shape

    def forward(self, z_what):
        away = coordinates(self.image_shape).to(z_what) - z_what[:, :2, None, None]
        inside = away.square().sum(1, keepdim=True) < self.radius**2
        colour = z_what[:, 2:, None, None].expand(-1, -1, *self.image_shape[1:])
        return torch.cat([colour, torch.where(inside, 100.0, -100.0).to(z_what)], 1)


def discs(radius):
    return ECON((3, 16, 12), 2, 2, decoders=[Disc(radius), Disc(radius)])


def scene_of(model, codes):
    """One image of these layers."""
    held = {f"z_what_{i}": code[None] for i, code in enumerate(codes)}
    return poutine.trace(poutine.condition(model, data=held)).get_trace(size=1).nodes


RED = torch.tensor([-0.2, 0.0, 5.0, -5.0, -5.0])
BLUE = torch.tensor([0.2, 0.0, -5.0, -5.0, 5.0])


def test_the_front_hides_what_is_behind_and_no_layer_is_black():
    model = discs(0.6)
    one, other = scene_of(model, [RED, BLUE]), scene_of(model, [BLUE, RED])
    red, blue = (one["masks"]["value"][0, i, 0] > 0.5 for i in (0, 1))
    canvases = [nodes["canvas"]["value"][0] for nodes in (one, other)]
    both, neither = red & blue, ~red & ~blue
    assert both.any() and (red & ~blue).any() and neither.any()
    torch.testing.assert_close(canvases[0][:, ~both], canvases[1][:, ~both])
    for canvas, code in zip(canvases, (RED, BLUE), strict=True):
        torch.testing.assert_close(canvas[:, both].mean(1), code[2:].sigmoid())
        assert not canvas[:, neither].any()


def test_layers_are_complete_where_they_are_hidden():
    nodes = scene_of(discs(0.6), [RED, BLUE])
    assert nodes["colours"]["value"].shape == (1, 2, 3, 16, 12)
    assert nodes["masks"]["value"].shape == (1, 2, 1, 16, 12)
    for i, code in enumerate((RED, BLUE)):
        expected = Disc(0.6)(code[None]).sigmoid()
        torch.testing.assert_close(nodes["colours"]["value"][:, i], expected[:, :-1])
        torch.testing.assert_close(nodes["masks"]["value"][:, i], expected[:, -1:])


def test_the_canvas_is_the_colours_of_the_layers_that_pixels_show():
    model, _ = pair()
    nodes = poutine.trace(model).get_trace(size=5).nodes
    number = nodes["z_region"]["value"].mT.unflatten(1, SHAPE[1:])[:, None, None]
    palette = nodes["colours"]["value"]
    palette = torch.cat([palette, torch.zeros_like(palette[:, :1])], 1)
    expected = palette.gather(1, number.expand(-1, 1, *SHAPE))[:, 0]
    torch.testing.assert_close(nodes["canvas"]["value"], expected)
    assert number.unique().tolist() == [0, 1, 2, 3]


def test_each_pixel_is_scored_by_its_own_place():
    """On an image that is not square: rows, columns and channels in order."""
    model, _ = pair()
    images, colours = torch.rand(2, 4, *SHAPE)
    expected = dist.Normal(colours, 0.1).log_prob(images).sum(1, keepdim=True)
    scene = Scene(0, 3, model.blank)
    torch.testing.assert_close(model.pixel_log_prob(scene, images, colours), expected)


# Swaps.


def test_a_conditional_is_given_the_layer_and_its_expert():
    scenes = []

    def z_what(scene):
        scenes.append(scene)
        return dist.Normal(torch.zeros(CODE), 1.0).to_event(1)

    model, _ = pair(z_what=z_what)
    scenes.clear()
    nodes = poutine.trace(model).get_trace(size=4).nodes
    assert [scene.layer for scene in scenes] == [0, 1, 2] and scenes[0].z_what is None
    assert all(scene.layers == 3 and not scene.canvas.any() for scene in scenes)
    for i in range(3):
        assert torch.equal(scenes[i].z_expert, nodes[f"z_expert_{i}"]["value"])
        if i:
            assert torch.equal(scenes[i].z_what, nodes[f"z_what_{i - 1}"]["value"])


def test_a_prior_of_experts():
    probs = torch.tensor([0.9, 0.05, 0.05])
    model, guide = pair(z_expert=Prior(dist.Categorical, probs=probs.tolist()))
    drawn = poutine.trace(model).get_trace(size=200).nodes["z_expert_0"]["value"]
    assert (drawn == 0).float().mean() > 0.8
    joint = replayed(model, seeded(guide, images_of()), images_of())
    joint.compute_log_prob()
    site = joint.nodes["z_expert_0"]
    torch.testing.assert_close(site["log_prob"], probs.log()[site["value"]])


@pytest.mark.parametrize(
    ("settings", "choices"),
    [
        ({"image": Pixels(dist.Normal, scale=0.3, learn=True)}, ["compete"]),
        ({"image": Pixels(dist.Cauchy, scale=0.05)}, ["compete"]),
        ({"image": Pixels(dist.ContinuousBernoulli)}, ["enumerate"]),
        ({"z_what": Prior(dist.Laplace, loc=[0.0] * CODE, scale=[0.5] * CODE)}, ["enumerate"]),
        (
            {"z_what": Prior(dist.Beta, concentration1=[2.0] * CODE, concentration0=[2.0] * CODE)},
            BOTH,
        ),
        ({"decoders": [SpriteDecoder(CODE, SHAPE), FlatDecoder(CODE, SHAPE), broadcast()]}, BOTH),
        ({"experts": 1, "layers": 2}, BOTH),
        ({"experts": 2, "layers": 1}, BOTH),
    ],
    ids=str,
)
def test_other_parts_train(settings, choices):
    for choice in choices:
        model, guide = pair({"choice": choice}, **settings)
        (record,) = fit(model, guide, [images_of()], elbo=EXACT)
        assert abs(record.loss) < float("inf") and record.norm > 0


def test_the_defaults_train():
    shape = (3, 16, 16)
    model = ECON(shape, experts=2, layers=2)
    (record,) = fit(model, ECONGuide(model), [images_of(2, shape)], elbo=EXACT)
    assert abs(record.loss) < float("inf") and record.norm > 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"layers": 0}, "layers"),
        ({"code": 0}, "code"),
        ({"decoders": [broadcast()]}, "decoders must be 3, one for each expert, got 1"),
        ({"decoders": [broadcast((3, 6, 8))] * 3}, "decoder 0 must make"),
        ({"decoders": [broadcast()] * 2 + [FlatDecoder(CODE + 1, SHAPE)]}, "decoder 2 cannot"),
        ({"decoders": [broadcast()] * 2 + [FlatDecoder(CODE, (1, 8, 6))]}, "decoder 2 must make"),
        ({"z_expert": Prior(dist.Categorical, probs=[0.5, 0.5])}, "a categorical over 3 experts"),
        ({"z_expert": dist.Categorical(torch.ones(3))}, "z_expert must be a function"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(CODE), 1)}, "z_what must return"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(4), 1).to_event(1)}, "cannot decode"),
        ({"image": lambda s: dist.Normal(s.canvas, 0.1)}, "image must return"),
    ],
)
def test_a_wrong_part_is_named(settings, error):
    with pytest.raises((ValueError, TypeError), match=error):
        pair(**settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"choice": "best"}, "choice compete or enumerate, got .*'best'"),
        ({"appearance": -1.0}, "got appearance=-1.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"attention": [UNet(4, (8, 8))]}, "attention must be 3, one for each expert, got 1"),
    ],
)
def test_a_wrong_part_of_the_guide_is_named(settings, error):
    with pytest.raises((ValueError, TypeError), match=error):
        pair(settings)


def test_images_too_small_for_its_networks_are_refused_at_construction():
    with pytest.raises(ValueError, match="needs sides of 8 x 16 pixels or more, got 8 x 8"):
        ECONGuide(ECON((3, 8, 8), 2, 2))
