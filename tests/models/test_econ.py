"""ECON: its bound written by hand, regions, competition, layers in order, parts swapped."""

from itertools import product, repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from pyro_scenes import (
    ECON,
    ECONGuide,
    Pixels,
    Prior,
    Weighted,
    colour_experts,
    fit,
    separate_experts,
)
from pyro_scenes.conditionals import Competition
from pyro_scenes.evaluation import importance_bound, log_weights
from pyro_scenes.models.econ import Scene
from pyro_scenes.models.econ_guide import median
from pyro_scenes.models.econ_search import Plan, cost
from pyro_scenes.networks import (
    BroadcastDecoder,
    ExpertAttention,
    FlatDecoder,
    GivenAttention,
    SeededAttention,
    SpriteDecoder,
    UNet,
)
from pyro_scenes.networks.layers import places

SHAPE, CODE = (3, 16, 12), 5
EXACT = TraceEnum_ELBO(max_plate_nesting=2)
SETTINGS = {"experts": 3, "steps": 3, "code": CODE}
BOTH = pytest.mark.parametrize("background", [True, False], ids=["background", "none"])


def pair(guide=None, **settings):
    model = ECON(SHAPE, **{**SETTINGS, "image": Pixels(dist.Normal, scale=0.1), **settings})
    small = SeededAttention(SHAPE, candidates=2, widths=(8, 8))
    return model, ECONGuide(model, **{"attention": small, **(guide or {})})


def images_of(n=4, seed=0):
    """Two rectangles of other colours on plain ground, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, 1, 1, generator=generator).expand(-1, *SHAPE).clone()
    for i in range(n):
        for row, column in torch.randint(9, (2, 2), generator=generator).tolist():
            colour = torch.rand(3, 1, 1, generator=generator)
            images[i, :, row : row + 6, column // 2 : column // 2 + 5] = colour
    return (images + 0.05 * torch.randn(n, *SHAPE, generator=generator)).clamp(0, 1)


def seeded(module, *args, seed=3, **kwargs):
    torch.manual_seed(seed)
    return poutine.trace(module).get_trace(*args, **kwargs)


def gradients(*modules):
    found = {n: p.grad for m in modules for n, p in m.named_parameters() if p.grad is not None}
    for module in modules:
        module.zero_grad(set_to_none=True)
    return {name: grad for name, grad in found.items() if grad.any()}


@pytest.fixture
def double():
    """Pyro's TraceEnum_ELBO counts deterministic sites in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Disc(nn.Module):
    """An opaque disc: two numbers are its place, three the logits of its colour."""

    def __init__(self, radius=0.6, image_shape=SHAPE):
        super().__init__()
        self.radius, self.image_shape = radius, image_shape

    def forward(self, z_what, every=1):
        away = places(self.image_shape).to(z_what) - z_what[:, :2, None, None]
        inside = away.square().sum(1, keepdim=True) < self.radius**2
        colour = z_what[:, 2:, None, None].expand(-1, -1, *self.image_shape[1:])
        opacity = torch.where(inside, 20.0, -20.0).to(z_what)
        return torch.cat([colour, opacity], 1)[..., every // 2 :: every, every // 2 :: every]


def discs(*radii, background=True):
    return [*map(Disc, radii), *[FlatDecoder(CODE, SHAPE)] * background]


# Regions.


@BOTH
def test_regions_share_out_every_pixel(background, double):
    """The guide's, before any normalisation, and the model's, where none counts too."""
    model, guide = pair(background=background)
    for training in (True, False):
        guide.train(training)
        parts = guide.explain(images_of().double(), lambda name, proposal, best: proposal.sample())
        regions = torch.stack([part.log_region for part in parts]).exp()
        assert (regions > -1e-12).all() and regions.min() < 0.5 < regions.max()
        torch.testing.assert_close(regions.sum(0), torch.ones_like(regions[0]))
    logits = 3 * torch.randn(4, 3, 1, 16, 12)
    if background:
        logits[:, -1] = 100.0
    shown = model.shown(logits)
    assert shown.shape == (4, 3 if background else 4, 16, 12)
    torch.testing.assert_close(shown.exp().sum(1), torch.ones(4, 16, 12))


@BOTH
def test_the_sites_are_those_regions(background):
    model, guide = pair(background=background)
    proposed = seeded(guide, images_of())
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images_of())
    masks = joint.nodes["masks"]["value"]
    scope = torch.cat([torch.ones_like(masks[:, :1]), (1 - masks).cumprod(1)], 1)
    layers = masks if background else torch.cat([masks, torch.ones_like(masks[:, :1])], 1)
    shown = (scope[:, : layers.shape[1]] * layers)[:, :, 0].flatten(2)  # (n, layers, pixels)
    found = joint.nodes["z_region"]["fn"].probs
    assert found.shape == proposed.nodes["z_region"]["fn"].probs.shape
    torch.testing.assert_close(found, shown.movedim((0, 1), (1, 2)), rtol=1e-4, atol=1e-5)


def test_the_divergence_of_regions_is_one_of_each_layer_within_its_scope(double):
    """The chain rule: KL(Cat(r) || Cat(pi)) = sum_t s_t KL(Ber(alpha_t) || Ber(m_t))."""
    model, _ = pair(background=False)
    attention, masks = 4 * torch.randn(2, 5, 3, 1, 16, 12)
    whole = kl_divergence(
        *(Categorical(logits=model.shown(x).movedim(1, -1)) for x in (attention, masks))
    )
    scope, total = 1.0, 0.0
    for i in range(3):
        alpha, mask = attention[:, i, 0], masks[:, i, 0]
        total = total + scope * kl_divergence(Bernoulli(logits=alpha), Bernoulli(logits=mask))
        scope = scope * alpha.neg().sigmoid()
    torch.testing.assert_close(whole, total)


def test_saturated_opacities_have_finite_logarithms():
    model, _ = pair(background=False)
    logits = (200 * (torch.rand(5, 3, 1, 16, 12) > 0.5) - 100.0).requires_grad_()
    shown = model.shown(logits)
    shown.sum().backward()
    assert shown.isfinite().all() and logits.grad.isfinite().all()


# The bound.


def by_hand(model, guide, images, z_what=1.0, z_region=1.0):
    """Minus the ELBO of one draw of the choices and codes, with products and logarithms alone."""
    nodes, loss = seeded(guide, images).nodes, 0.0
    experts, steps, scope, layers, shown = model.experts, model.steps, 1.0, [], []
    for i in range(steps):
        last = model.background and i == steps - 1
        if last:
            z_expert = torch.full((len(images),), experts - 1)
        else:
            z_expert = nodes[f"z_expert_{i}"]["value"]
            log_q = nodes[f"z_expert_{i}"]["fn"].log_prob(z_expert)
            loss = loss + (log_q + torch.tensor(float(experts)).log()).sum()
        code, proposal = nodes[f"z_what_{i}"]["value"], nodes[f"z_what_{i}"]["fn"]
        surprise = dist.Normal(proposal.mean, proposal.stddev).log_prob(code) - dist.Normal(
            0, 1
        ).log_prob(code)
        there = (z_expert < experts - 1) | last | (not model.background)
        loss = loss + z_what * surprise.sum(-1)[there].sum()
        made = torch.cat(
            [model.decoders[k](code[j : j + 1]) for j, k in enumerate(z_expert.tolist())]
        )
        mask = torch.where(there[:, None, None], made[:, -1].sigmoid(), torch.zeros(()))
        layers.append(made[:, :-1].sigmoid())
        shown.append(scope * mask)
        scope = scope * (1 - mask)
    if not model.background:
        layers.append(torch.zeros_like(images))
        shown.append(scope)
    regions = nodes["z_region"]["fn"].probs.movedim((0, 1), (2, 0)).unflatten(2, images.shape[2:])
    for i, (layer, expected) in enumerate(zip(layers, shown)):
        region = regions[:, i]
        fits = dist.Normal(layer, 0.1).log_prob(images).sum(1)
        divergence = region * (region.log() - (expected + 1e-60).log())
        loss = loss + (z_region * divergence.where(region > 1e-40, 0.0) - region * fits).sum()
    return loss


@BOTH
@pytest.mark.parametrize("weights", [{}, {"z_what": 0.3, "z_region": 2.5}], ids=str)
def test_the_loss_is_the_bound_written_by_hand(background, weights, double):
    model, guide = pair(background=background)
    images = images_of().double()
    elbo = Weighted(EXACT, **weights) if weights else EXACT
    torch.manual_seed(3)
    loss = elbo.loss_and_grads(model, config_enumerate(guide), images)
    found, expected = gradients(model, guide), by_hand(model, guide, images, **weights)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-7)
    written = gradients(model, guide)
    assert found.keys() == written.keys() and len(found) > 20
    for name, grad in found.items():
        size = written[name].abs().max().item()
        torch.testing.assert_close(grad, written[name], rtol=1e-5, atol=1e-5 * size)


@BOTH
def test_the_bounds_are_in_order(background, double):
    """Regions summed under q, summed out, and many draws: each is nearer to log p(image)."""
    model, guide = pair(background=background)
    images, bounds, weights = images_of().double(), [], []
    with torch.no_grad():
        for seed in range(3):
            model.collapsed = False
            torch.manual_seed(seed)
            bounds.append(-EXACT.loss(model, config_enumerate(guide), images))
            model.collapsed = True
            torch.manual_seed(seed)
            weights.append(log_weights(model, guide, images)[0])
    collapsed = torch.stack(weights)
    assert all(one <= other + 1e-6 for one, other in zip(bounds, collapsed.sum(1).tolist()))
    assert (collapsed.mean(0) <= importance_bound(collapsed)).all()


def test_regions_are_summed_out_exactly(double):
    model, guide = pair(background=False)
    images = images_of().double()
    model.collapsed = True
    assert "z_region" not in model.latents()
    proposed = seeded(guide, images)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    joint.compute_log_prob()
    masks, colours = (joint.nodes[name]["value"] for name in ("masks", "colours"))
    masks = torch.cat([masks, torch.ones_like(masks[:, :1])], 1)
    colours = torch.cat([colours, torch.zeros_like(colours[:, :1])], 1)
    scope = torch.cat([torch.ones_like(masks[:, :1]), (1 - masks[:, :-1]).cumprod(1)], 1)
    fits = dist.Normal(colours, 0.1).log_prob(images[:, None]).sum(2)
    expected = ((scope * masks)[:, :, 0].log() + fits).logsumexp(1).flatten(1).mT
    torch.testing.assert_close(joint.nodes["image"]["log_prob"], expected)


def test_a_collapsed_model_trains_without_enumeration():
    model, guide = pair()
    model.collapsed = True
    records = list(fit(model, guide, repeat(images_of(), 3), elbo=Trace_ELBO()))
    assert all(0 < record.norm < float("inf") for record in records)


def test_a_flat_image_is_nearly_as_likely_as_can_be():
    """The likelihood's normaliser, less what a code and choices cost."""
    model, guide = pair()
    guide.eval()
    for proposal in guide.proposals:
        proposal.head.head[-1].weight.data.zero_()
    images = torch.full((2, *SHAPE), 0.6)
    best = 16 * 12 * dist.Normal(0.0, 0.1).log_prob(torch.zeros(3)).sum()
    found = log_weights(model, guide, images, particles=5).mean(0)
    assert (found < best).all() and (found > best - 60).all()


# Who learns, and who is asked.


def winners(trace, model):
    sites = [trace.nodes[f"z_expert_{i}"]["value"] for i in range(model.steps - model.background)]
    found = set(torch.cat(sites).tolist())
    return found | {model.experts - 1} if model.background else found


def own_attention(experts):
    return ExpertAttention([UNet(4, (8, 8)) for _ in range(experts)])


@BOTH
def test_losers_get_no_gradient(background):
    """Nor do their decoders, proposals and, if they have any, attention."""
    lost, won, settings = 0, set(), {"competition": Competition(temperature=1e4)}
    if not background:
        settings["attention"] = own_attention(4)
    model, guide = pair(settings, experts=4, steps=2, background=background)
    for seed in range(12):
        images = images_of(1, seed)
        winning = winners(seeded(guide, images, seed=seed), model)
        torch.manual_seed(seed)
        EXACT.loss_and_grads(model, config_enumerate(guide), images)
        trained = gradients(model, guide)
        parts = {f"{part}.{k}" for part in ("decoders", "proposals") for k in winning}
        owned = {".".join(name.split(".")[:2]) for name in trained if "attention" not in name}
        assert owned <= parts
        asked = {int(name.split(".")[2]) for name in trained if "attention.networks" in name}
        assert asked <= winning
        lost, won = lost + 4 - len(winning), won | winning
    assert lost and len(won) > 2


def test_attention_of_ones_own_may_be_idle():
    """With a background, whose number no network has."""
    model, guide = pair({"attention": own_attention(2)})
    images = torch.full((2, *SHAPE), 0.5)
    for proposal in guide.proposals:
        proposal.head.head[-1].weight.data.zero_()
    assert winners(seeded(guide, images), model) == {2}


@BOTH
def test_evaluation_makes_the_best_choices(background):
    model, guide = pair(background=background)
    guide.eval()
    one, other = (seeded(guide, images_of()) for _ in range(2))
    for i in range(2):
        site = one.nodes[f"z_expert_{i}"]
        assert torch.equal(site["value"], other.nodes[f"z_expert_{i}"]["value"])
        assert (site["fn"].log_prob(site["value"]) == 0).all()
        assert torch.equal(one.nodes[f"z_what_{i}"]["value"], other.nodes[f"z_what_{i}"]["value"])


def test_training_chooses_by_chance():
    model, guide = pair({"competition": Competition(temperature=1e4)}, background=False)
    trace = seeded(guide, images_of())
    for i in range(3):
        assert (trace.nodes[f"z_expert_{i}"]["fn"].probs - 1 / 3).abs().max() < 0.2


def halves():
    """Regions (n, 3, H, W): the left and the upper right, and the rest."""
    regions = torch.zeros(4, 3, 16, 12)
    regions[:, 0, :, :6] = regions[:, 1, :8, 6:] = regions[:, 2, 8:, 6:] = 1
    return regions


def test_no_sequence_is_better_than_the_one_of_the_search():
    """Where the regions are given, competition is one path among all that are tried."""
    attention = GivenAttention()
    attention.regions = halves()
    settings = {"attention": attention, "choice": "enumerate"}
    model, guide = pair(settings, experts=2, background=False)
    guide.eval()
    images = images_of()
    (path, seed), least, competed = guide.search(images)
    assert path.shape == (4, 3) and 0 <= path.min() and path.max() < 2
    assert (least <= competed).all()
    with torch.no_grad():
        for other in product(range(2), repeat=3):
            parts = guide.explain(images, median, Plan(torch.tensor(other).expand(4, -1), seed))
            assert (least <= cost(model, images, parts) + 1e-3).all()
        best, chosen = (guide.explain(images, median, Plan(each, seed)) for each in (path, None))
        torch.testing.assert_close(cost(model, images, best), least)
        torch.testing.assert_close(cost(model, images, chosen), competed)
    trace = seeded(guide, images)
    assert all(torch.equal(trace.nodes[f"z_expert_{i}"]["value"], path[:, i]) for i in range(3))


def test_the_cost_is_minus_the_bound_at_those_codes(double):
    attention = GivenAttention()
    attention.regions = halves()
    model, guide = pair({"attention": attention}, background=False)
    guide.eval()
    images = images_of().double()
    with torch.no_grad():
        parts = guide.explain(images, median)
    values = {f"z_{name}_{i}": getattr(part, f"z_{name}")
              for name in ("expert", "what") for i, part in enumerate(parts)}  # fmt: skip
    bound = EXACT.loss(
        poutine.condition(model, data=values), config_enumerate(_held(guide, values)), images
    )
    proposed = sum(part.proposal.log_prob(part.z_what).sum() for part in parts)
    choices = 4 * 3 * torch.tensor(3.0).log()
    expected = cost(model, images, parts).sum() - proposed + choices
    assert bound == pytest.approx(expected.item(), rel=1e-6)


def _held(guide, values):
    """The guide, of which only the regions are drawn."""

    def forward(images):
        with poutine.block(hide=[*values]), poutine.condition(data=values):
            guide(images)

    return forward


def test_the_search_loses_nothing_to_competition():
    """Of the same candidates, whatever else is drawn: on plain ground, and where there are objects."""
    model, guide = pair()
    guide.eval()
    for images in (torch.full((2, *SHAPE), 0.5), images_of()):
        plan, least, competed = guide.search(images)
        assert (least <= competed).all()

        def drawn(name, proposal, best):
            torch.rand(7)
            return best

        with torch.no_grad():
            again = guide.explain(images, drawn, plan)
        torch.testing.assert_close(cost(model, images, again), least)
    guide.choice = "enumerate"
    torch.manual_seed(3)
    plan = guide.search(images).plan
    nodes = seeded(guide, images).nodes
    regions = nodes["z_region"]["fn"].probs.movedim((0, 1), (2, 0))
    with torch.no_grad():
        expected = torch.stack([part.log_region for part in guide.explain(images, median, plan)], 1)
    torch.testing.assert_close(regions.flatten(2), expected.exp().flatten(2), atol=1e-4, rtol=0)


# No object.


def test_what_is_plain_background_has_no_objects():
    """Steps to spare stay idle: nothing is drawn, z_what counts for nothing, and the background has all."""
    model, guide = pair()
    for proposal in guide.proposals:
        proposal.head.head[-1].weight.data.zero_()
    guide.eval()
    images = torch.rand(6, 3, 1, 1).mul(0.8).add(0.1).expand(-1, *SHAPE).contiguous()
    proposed = seeded(guide, images)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    for trace in (proposed, joint):
        trace.compute_log_prob()
        for i in range(2):
            assert (trace.nodes[f"z_expert_{i}"]["value"] == model.experts - 1).all()
            assert not trace.nodes[f"z_what_{i}"]["log_prob"].any()
        assert trace.nodes["z_what_2"]["log_prob"].all()
        assert (trace.nodes["z_region"]["value"] == 2).all()
    masks = joint.nodes["masks"]["value"]
    assert masks[:, :2].max() < 1e-20 and masks[:, 2].min() > 0.999


def test_an_object_on_a_background_is_found():
    model, guide = pair(decoders=discs(0.6, 0.6))
    code = torch.tensor([[0.1, -0.2, 3.0, -3.0, -3.0]])
    made = Disc()(code)
    images = torch.where(made[:, -1:] > 0, made[:, :3].sigmoid(), 0.2)
    regions = torch.cat([made[:, -1] > 0, torch.zeros(1, 16, 12), made[:, -1] < 0]).float()[None]
    attention = GivenAttention()
    attention.regions = regions
    guide.attention = attention
    with torch.no_grad():
        guide.eval()
        scope = torch.ones(1, 1, 16, 12)
        ground = guide.unexplained(images, scope.log())
        bids = guide.bid(
            0,
            Scene(0, images),
            images,
            scope,
            ground,
            attention.propose(images, scope, ground, 0)[1],
        )
    assert bids.gain.shape == (1, 1) and (bids.gain > 50).all()


def test_an_empty_layer_leaves_the_pixels_behind_as_they_are():
    model, _ = pair(decoders=discs(0.6, 0.6))
    codes = {f"z_what_{i}": torch.randn(4, CODE) for i in range(3)}
    choices = {"z_expert_0": torch.full((4,), 2), "z_expert_1": torch.zeros(4, dtype=torch.long)}
    shifted = {**codes, "z_what_0": torch.randn(4, CODE)}
    one, other = (
        poutine.trace(poutine.condition(model, data={**choices, **held})).get_trace(size=4)
        for held in (codes, shifted)
    )
    for name in ("canvas", "masks"):
        assert torch.equal(one.nodes[name]["value"], other.nodes[name]["value"])
    assert one.log_prob_sum(lambda name, _: name == "z_what_0") == 0


# Layers.


def scene_of(model, experts, codes):
    """One image of these experts' layers, whatever chance says."""
    held = {f"z_what_{i}": code[None] for i, code in enumerate(codes)}
    held |= {f"z_expert_{i}": torch.tensor([k]) for i, k in enumerate(experts)}
    return poutine.trace(poutine.condition(model, data=held)).get_trace(size=1).nodes


RED = torch.tensor([-0.2, 0.0, 5.0, -5.0, -5.0])
BLUE = torch.tensor([0.2, 0.0, -5.0, -5.0, 5.0])
GREY = torch.zeros(5)


def test_the_front_hides_what_is_behind():
    model, _ = pair(decoders=discs(0.6, 0.6))
    one = scene_of(model, [0, 1], [RED, BLUE, GREY])
    other = scene_of(model, [1, 0], [BLUE, RED, GREY])
    red, blue = (one["masks"]["value"][0, i, 0] > 0.5 for i in (0, 1))
    canvases = [nodes["canvas"]["value"][0] for nodes in (one, other)]
    both, neither = red & blue, ~red & ~blue
    assert both.any() and (red & ~blue).any() and neither.any()
    torch.testing.assert_close(canvases[0][:, ~both], canvases[1][:, ~both])
    colours = [canvas[:, both].mean(1) for canvas in canvases]
    torch.testing.assert_close(colours[0], RED[2:].sigmoid())
    torch.testing.assert_close(colours[1], BLUE[2:].sigmoid())
    torch.testing.assert_close(
        canvases[0][:, neither], torch.full_like(canvases[0][:, neither], 0.5)
    )


def test_a_pixel_without_a_layer_is_black():
    model, _ = pair(decoders=discs(0.4, 0.4, 0.4, background=False), background=False)
    nodes = scene_of(model, [0, 1, 2], [RED, BLUE, RED])
    nothing = (nodes["masks"]["value"] < 0.5).all(1)[0, 0]
    assert nothing.any() and not nodes["canvas"]["value"][0][:, nothing].any()


def test_each_pixel_is_scored_by_its_own_place():
    """On an image that is not square: rows, columns and channels in order."""
    model, _ = pair()
    images, colours = images_of(), images_of(seed=1)
    expected = dist.Normal(colours, 0.1).log_prob(images).sum(1, keepdim=True)
    torch.testing.assert_close(model.fits(images, colours), expected)


def test_sampling_obeys_experts_and_order():
    model, _ = pair(decoders=discs(0.3, 0.7))
    drawn = model.sample([1, 0], size=5)
    assert drawn.images.shape == (5, *SHAPE) and drawn.layers.shape == (5, 3, *SHAPE)
    assert (
        drawn.masks.shape == (5, 3, 1, 16, 12) and ((drawn.masks == 0) | (drawn.masks == 1)).all()
    )
    assert drawn.masks[:, 2].all()
    for i, radius in enumerate((0.7, 0.3)):
        area = drawn.masks[:, i].mean((1, 2, 3))
        assert (area < torch.pi * radius**2 / 4 + 0.03).all()  # cut off at the edges
    assert drawn.masks[:, 0].sum() > drawn.masks[:, 1].sum()
    scope, canvas = 1.0, 0.0
    for i in range(3):
        canvas, scope = canvas + scope * drawn.layers[:, i], scope * (1 - drawn.masks[:, i])
    torch.testing.assert_close(drawn.images, canvas)


@pytest.mark.parametrize(
    ("background", "objects"), [(True, 0), (True, 1), (True, 5), (False, 1), (False, 5)]
)
def test_sampling_takes_any_number_of_objects(background, objects):
    model, _ = pair(background=background)
    drawn = model.sample([0] * objects, size=2)
    assert drawn.images.shape == (2, *SHAPE)
    assert drawn.layers.shape[1] == objects + background


@pytest.mark.parametrize(("background", "bad"), [(True, 2), (True, -1), (False, 3), (False, 7)])
def test_sampling_of_no_such_expert_is_refused(background, bad):
    model, _ = pair(background=background)
    with pytest.raises(ValueError, match="experts must be numbers below"):
        model.sample([0, bad])
    with pytest.raises(ValueError, match="size"):
        model.sample([0], size=0)


def test_sampling_of_nothing_at_all_is_refused():
    model, _ = pair(background=False)
    with pytest.raises(ValueError, match="experts"):
        model.sample([])


# Swaps.


def test_a_conditional_is_given_the_layer_and_its_expert():
    seen = []

    def z_what(scene):
        seen.append(scene)
        return dist.Normal(torch.zeros(CODE), 1.0).to_event(1)

    model, _ = pair(z_what=z_what)
    seen.clear()
    nodes = poutine.trace(model).get_trace(size=4).nodes
    assert [scene.layer for scene in seen] == [0, 1, 2] and seen[0].z_what is None
    assert all(not scene.canvas.any() for scene in seen)
    for i in (0, 1):
        assert torch.equal(seen[i].z_expert, nodes[f"z_expert_{i}"]["value"])
        assert torch.equal(seen[i + 1].z_what, nodes[f"z_what_{i}"]["value"])
    assert (seen[2].z_expert == 2).all()


def test_a_guide_asks_the_prior_as_the_model_does():
    """With a blank canvas, the layer, its expert, and the code before."""
    seen = []

    def z_what(scene):
        seen.append(scene)
        return dist.Normal(torch.zeros(CODE), 1.0).to_event(1)

    model, guide = pair(z_what=z_what)
    nodes = seeded(guide, images_of()).nodes
    asked = [scene for scene in seen if len(scene.canvas) > 1]
    assert asked and all(not scene.canvas.any() for scene in asked)
    assert {scene.canvas.shape[1:] for scene in asked} == {SHAPE}
    for scene in asked:
        if scene.layer:
            codes = nodes[f"z_what_{scene.layer - 1}"]["value"]
            assert torch.equal(scene.z_what, codes.repeat(len(scene.z_what) // len(codes), 1))
        else:
            assert scene.z_what is None
    seen.clear()
    model.sample([0, 1], size=3)
    assert [scene.layer for scene in seen] == [0, 1, 2]
    assert all(not scene.canvas.any() for scene in seen) and seen[2].z_what.shape == (3, CODE)


def test_a_guide_follows_its_models_steps():
    model, guide = pair()
    model.steps = 4
    assert "z_expert_2" in seeded(guide, images_of()).nodes


@pytest.mark.parametrize("steps", [0, 1, 2.5])
def test_steps_that_are_none_are_refused(steps):
    model, guide = pair()
    model.steps = steps
    for call in (lambda: model(size=2), lambda: guide(images_of())):
        with pytest.raises(ValueError, match="steps must be a whole number"):
            call()


def test_a_search_without_end_is_refused():
    model, guide = pair(steps=20)
    with pytest.raises(ValueError, match=r"3\^19 sequences of experts"):
        guide.search(images_of())


def test_a_prior_of_experts():
    prior = Prior(dist.Categorical, probs=[0.9, 0.05, 0.05])
    model, guide = pair(z_expert=prior)
    drawn = poutine.trace(model).get_trace(size=200).nodes["z_expert_0"]["value"]
    assert (drawn == 0).float().mean() > 0.8
    joint = poutine.trace(poutine.replay(model, trace=seeded(guide, images_of()))).get_trace(
        images_of()
    )
    joint.compute_log_prob()
    site = joint.nodes["z_expert_0"]
    torch.testing.assert_close(
        site["log_prob"], torch.tensor([0.9, 0.05, 0.05]).log()[site["value"]]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"image": None},
        {"image": Pixels(dist.Normal, scale=0.3, learn=True)},
        {"image": Pixels(dist.ContinuousBernoulli)},
        {"z_what": Prior(dist.Laplace, loc=[0.0] * CODE, scale=[0.5] * CODE)},
        {"decoders": [BroadcastDecoder(CODE, SHAPE) for _ in range(3)], "background": False},
        {
            "decoders": [SpriteDecoder(CODE, SHAPE, shape=1) for _ in range(2)]
            + [FlatDecoder(CODE, SHAPE)]
        },
        {"decoders": [SpriteDecoder(CODE, SHAPE, shape=2) for _ in range(3)], "background": False},
        {"experts": 1, "steps": 2, "background": False},
        {"experts": 2, "steps": 1, "background": False},
        {"experts": 2, "steps": 2},
    ],
)
def test_other_parts_train(settings):
    model, guide = pair(**settings)
    for record in fit(model, guide, repeat(images_of(), 3), elbo=EXACT):
        assert abs(record.loss) < float("inf") and record.norm > 0


def test_codes_may_have_bounds():
    """They are carried to the prior's support, and not guessed."""
    z_what = Prior(dist.Beta, concentration1=[2.0] * CODE, concentration0=[2.0] * CODE)
    model, guide = pair(z_what=z_what)
    assert all(
        0 < record.norm < float("inf")
        for record in fit(model, guide, repeat(images_of(), 2), elbo=EXACT)
    )
    for part in guide.explain(images_of(), median):
        assert (part.z_what > 0).all() and (part.z_what < 1).all()


def test_the_papers_attention_trains():
    model, guide = pair({"attention": own_attention(3)}, background=False)
    records = list(fit(model, guide, repeat(images_of(), 4), elbo=EXACT))
    assert all(0 < record.norm < float("inf") for record in records)


def test_given_regions_are_the_guides():
    attention = GivenAttention()
    attention.regions = halves()
    model, guide = pair({"attention": attention}, background=False)
    probs = seeded(guide, images_of()).nodes["z_region"]["fn"].probs  # (pixels, n, layers and none)
    expected = halves().flatten(2).movedim((0, 1), (1, 2))
    torch.testing.assert_close(probs[..., :3], expected)
    assert not probs[..., 3].gt(1e-20).any()


# Refusals.


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"experts": 0}, "experts"),
        ({"steps": 0}, "steps"),
        ({"code": 0}, "code"),
        ({"experts": 1}, "experts and steps must be 2 at least"),
        ({"steps": 1}, "experts and steps must be 2 at least"),
        ({"decoders": discs(0.3)}, "decoders must be 3, one for each expert, got 2"),
        ({"decoders": [Disc(0.3, (3, 12, 16)), *discs(0.3)]}, "decoder 0 must make"),
        ({"decoders": [*discs(0.3), FlatDecoder(CODE + 1, SHAPE)]}, "decoder 2 cannot decode"),
        ({"decoders": [*discs(0.3), FlatDecoder(CODE, (1, 16, 12))]}, "decoder 2 must make"),
        (
            {"z_expert": Prior(dist.Categorical, probs=[0.0] * 5 + [1.0])},
            "z_expert must be of 3 experts",
        ),
        ({"z_expert": Prior(dist.Categorical, probs=[0.5, 0.5])}, "z_expert must be of 3 experts"),
        ({"decoders": discs(0.3, 0.3, 0.6, background=False)}, "the last decoder's logits"),
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
        ({"choice": "best"}, "choice must be 'compete' or 'enumerate', got 'best'"),
        ({"proposals": []}, "proposals must be 3, one for each expert, got 0"),
        ({"attention": own_attention(7)}, "attention must have 2 networks, one an expert, got 7"),
    ],
)
def test_a_wrong_part_of_the_guide_is_named(settings, error):
    with pytest.raises((ValueError, TypeError), match=error):
        pair(settings)


# Experts set apart.


def two_kinds(n=12):
    """Images of a small and of a large square in turn, and their regions."""
    regions = torch.zeros(n, 3, 16, 12)
    for i in range(n):
        size = 3 + 5 * (i % 2)
        regions[i, 0, 2 + i % 3 : 2 + i % 3 + size, 1 : 1 + size] = 1
    regions[:, 2] = 1 - regions[:, 0]
    return 0.2 + 0.6 * regions[:, :1].expand(-1, 3, -1, -1), regions


def test_experts_set_apart_have_one_shape_each():
    attention = GivenAttention()
    images, attention.regions = two_kinds()
    model, guide = pair({"attention": attention}, steps=2)
    optim = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    list(fit(model, guide, repeat(images, 2), elbo=EXACT, optim=optim))
    guide.competition.plenty = float("inf")
    sizes = separate_experts(model, guide, images, optim, steps=150)
    assert sorted(sizes.tolist()) == [6, 6]
    with torch.no_grad():
        areas = [
            (part(torch.zeros(1, CODE))[0, -1] > 0).sum().item() for part in model.decoders[:2]
        ]
    assert sorted(areas) == pytest.approx([9, 64], rel=0.5)
    assert all(value not in optim.state for value in model.decoders[0].parameters())
    assert all(p.grad is None or not p.grad.any() for p in model.decoders[0].opacity.parameters())


def apart(hues):
    """Experts set apart by small squares and large ones in turn, in these colours (n, 3)."""
    attention = GivenAttention()
    images, attention.regions = two_kinds(len(hues))
    images = images.where(attention.regions[:, :1] == 0, hues[..., None, None])
    model, guide = pair({"attention": attention}, steps=2)
    guide.competition.plenty = float("inf")
    guide.competition.temperature = 1e-3
    separate_experts(model, guide, images, steps=150)
    return model


def colours_of(model):
    """Of samples (20, 3) of each expert of objects, that of small ones first."""
    drawn = [model.sample([k], size=20) for k in range(2)]
    drawn.sort(key=lambda one: one.masks[:, 0].sum())
    return [one.layers[:, 0].amax((2, 3)) for one in drawn]


REDDISH, GREENISH, BLUISH = torch.eye(3) * 0.6 + 0.2


def test_experts_set_apart_have_the_colours_of_their_cluster():
    """Small ones are reddish, large ones bluish: so are samples of the expert that makes them."""
    model = apart(torch.stack([REDDISH, BLUISH]).repeat(20, 1) + 0.1 * torch.rand(40, 3))
    small, large = colours_of(model)
    assert small[:, 0].mean() > 0.6 > small[:, 2].mean()
    assert large[:, 2].mean() > 0.6 > large[:, 0].mean()
    ground = model.sample([], size=20).images.mean((0, 2, 3))
    torch.testing.assert_close(ground, torch.full((3,), 0.2), atol=0.05, rtol=0)


def test_some_strays_do_not_colour_a_cluster():
    """One shape in ten is of another class, and so of another colour: an expert never draws that one."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    hues[:4] = GREENISH
    for found, hue in zip(colours_of(apart(hues)), (REDDISH, BLUISH), strict=True):
        torch.testing.assert_close(found, hue.expand_as(found), atol=0.1, rtol=0)


def test_a_cluster_may_have_two_colours():
    """Two of five are no strays: its samples vary along the line from one colour to the other."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    hues[:16:2] = GREENISH
    small, large = colours_of(apart(hues))
    assert small[:, 0].min() < 0.4 and small[:, 0].max() > 0.6
    assert small[:, 1].min() < 0.4 and small[:, 1].max() > 0.6
    torch.testing.assert_close(large, BLUISH.expand_as(large), atol=0.1, rtol=0)


def test_experts_take_on_the_colours_of_what_they_win():
    """Their spread was too wide, as that of clusters may be; with few wins they are left alone."""
    hues = torch.stack([REDDISH, BLUISH]).repeat(20, 1)
    model = apart(hues)
    for part in model.decoders[:2]:
        part.colour.weight.data.normal_(std=3)
    attention = GivenAttention()
    images, attention.regions = two_kinds(40)
    images = images.where(attention.regions[:, :1] == 0, hues[..., None, None])
    guide = ECONGuide(model, attention=attention)
    guide.competition.plenty = float("inf")
    optim = torch.optim.Adam(model.parameters())
    list(fit(model, guide, [images], elbo=EXACT, optim=optim))
    shape = [value.clone() for value in model.decoders[0].opacity.parameters()]
    wins = colour_experts(model, guide, images, optim)
    assert sorted(wins.tolist()) == [20, 20]
    for found, hue in zip(colours_of(model), (REDDISH, BLUISH), strict=True):
        torch.testing.assert_close(found, hue.expand_as(found), atol=0.1, rtol=0)
    assert model.decoders[0].colour.weight not in optim.state
    assert model.decoders[0].reach in optim.state
    assert all(map(torch.equal, shape, model.decoders[0].opacity.parameters()))
    for part in model.decoders[:2]:
        part.colour.weight.data.fill_(3)
    attention.regions = attention.regions[:8]
    ground = model.decoders[-1].colour.weight.clone()
    assert colour_experts(model, guide, images[:8], optim).tolist() == [4, 4]  # too few to tell
    assert all((part.colour.weight == 3).all() for part in model.decoders[:2])
    assert torch.equal(ground, model.decoders[-1].colour.weight)
    attention.regions = None
    with pytest.raises(ValueError, match="set regions"):
        colour_experts(model, guide, images)
    assert guide.training


def test_fewer_kinds_than_experts_change_nothing():
    """Two squares for three experts: said before anything is overwritten."""
    attention = GivenAttention()
    images, regions = (part[:2].repeat(6, 1, 1, 1) for part in two_kinds())
    attention.regions = regions
    model, guide = pair({"attention": attention}, experts=4, steps=2)
    guide.competition.plenty = float("inf")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="found 2 kinds of shapes, for 3 experts"):
        separate_experts(model, guide, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("call", [separate_experts, colour_experts])
@pytest.mark.parametrize(
    ("settings", "images", "error"),
    [
        ({}, images_of().mul(255).byte(), "images must be a float tensor"),
        ({}, images_of()[:0], "empty"),
        ({"optim": 3}, images_of(), "optim must be"),
        (
            {"guide": None},
            images_of(),
            "needs a model ECON, then its guide ECONGuide, got ECON and",
        ),
    ],
)
def test_bad_input_changes_no_expert(call, settings, images, error, unchecked):
    model, guide = pair()
    with pytest.raises((ValueError, TypeError), match=error):
        call(**{"model": model, "guide": guide, "images": images, **settings})


@pytest.mark.parametrize(
    ("settings", "images", "error"),
    [
        ({"tries": 0}, images_of(), "tries must be"),
        ({"steps": -3}, images_of(), "steps must be"),
    ],
)
def test_bad_input_sets_nothing_apart(settings, images, error, unchecked):
    model, guide = pair()
    with pytest.raises((ValueError, TypeError), match=error):
        separate_experts(model, guide, images, **settings)


def test_a_guide_of_another_model_is_not_trained():
    with pytest.raises(ValueError, match="of another model"):
        next(fit(pair()[0], pair()[1], [images_of()], elbo=EXACT))
    model, guide = pair()
    for wrapped in (poutine.scale(model, 0.5), lambda images: model(images)):
        optim = torch.optim.Adam(guide.parameters())
        assert next(fit(wrapped, guide, [images_of()], elbo=EXACT, optim=optim)).step == 1


@pytest.mark.parametrize("call", [separate_experts, colour_experts])
def test_a_guide_of_another_model_sets_nothing_apart(call):
    with pytest.raises(ValueError, match="of another model"):
        call(pair()[0], pair()[1], images_of())


def test_only_sprites_of_one_shape_are_set_apart():
    for settings in ({"decoders": discs(0.3, 0.6)}, {"background": False}):
        model, guide = pair(**settings)
        for call in (separate_experts, colour_experts):
            with pytest.raises(TypeError, match="SpriteDecoder"):
                call(model, guide, images_of())
