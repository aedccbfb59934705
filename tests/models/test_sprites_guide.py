"""The guide of sprite scenes: its bound by hand, auxiliary draws, empty layers, who learns."""

from itertools import repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

from pyro_scenes import ECON, SpritesGuide, fit, sprite_scenes
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.handlers import expected
from pyro_scenes.models.competition import Competition
from pyro_scenes.networks import RegionEncoder, SeededAttention

from .conftest import named_gradients, seeded

SHAPE, CODE = (3, 16, 12), 5
EXACT = TraceEnum_ELBO(max_plate_nesting=2)


def pair(sprites=2, layers=3, **settings):
    model = sprite_scenes(SHAPE, sprites, layers, CODE)
    attention = SeededAttention(SHAPE, widths=(8, 8))
    return model, SpritesGuide(model, **{"attention": attention, "candidates": 2, **settings})


def images_of(n=4, seed=0):
    """Two rectangles of other colours on plain ground, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, 1, 1, generator=generator).expand(-1, *SHAPE).clone()
    for i in range(n):
        for row, column in torch.randint(9, (2, 2), generator=generator).tolist():
            colour = torch.rand(3, 1, 1, generator=generator)
            images[i, :, row : row + 6, column // 2 : column // 2 + 5] = colour
    images = (images + 0.02 * torch.randn(n, *SHAPE, generator=generator)).clamp(0, 1)
    return images.to(torch.get_default_dtype())


def plain(n=6):
    return (0.1 + 0.8 * torch.rand(n, 3, 1, 1)).expand(-1, *SHAPE).contiguous()


def replayed(model, proposed, images):
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)
    for trace in (joint, proposed):
        trace.compute_log_prob()
    return joint


def auxiliary(trace):
    sites = trace.nodes.items()
    return {name for name, site in sites if site.get("infer", {}).get("is_auxiliary")}


def by_hand(model, guide, images):
    """Minus the ELBO of one draw: experts, the codes of layers that are not empty, regions summed out."""
    nodes, loss = seeded(guide, images).nodes, 0.0
    scope, layers, visible = 1.0, [], []
    sprites, last = guide.sprites, model.layers - 1
    for i in range(model.layers):
        choice, code = (nodes[f"{name}_{i}"] for name in ("z_expert", "z_what"))
        log_p = 0.0 if i == last else -torch.tensor(sprites + 1.0).log()
        loss = loss + (choice["fn"].log_prob(choice["value"]) - log_p).sum()
        there = choice["value"] <= sprites
        proposal = dist.Normal(code["fn"].mean, code["fn"].stddev)
        log_ratio = proposal.log_prob(code["value"]) - dist.Normal(0, 1).log_prob(code["value"])
        loss = loss + log_ratio.sum(1)[there].sum()
        made = torch.cat(
            [model.decoders[k](code["value"][j, None]) for j, k in enumerate(choice["value"])]
        )
        mask = made[:, -1].sigmoid()
        layers.append(made[:, :-1].sigmoid())
        visible.append(scope * mask)
        scope = scope * (1 - mask)
    probs = nodes["z_region"]["fn"].probs.permute(2, 1, 0).unflatten(2, SHAPE[1:])
    for region, colours, log_p in zip(probs, layers, visible):
        fits = dist.Cauchy(colours, 0.05).log_prob(images).sum(1)
        ratio = region * (region.log() - (log_p + 1e-300).log())
        loss = loss + (ratio.where(region > 1e-40, 0.0) - region * fits).sum()
    return loss


def test_the_loss_is_the_bound_written_by_hand(double):
    model, guide = pair()
    images = images_of()
    torch.manual_seed(3)
    loss = EXACT.loss_and_grads(model, config_enumerate(guide), images)
    found, expected = named_gradients(model, guide), by_hand(model, guide, images)
    expected.backward()
    written = named_gradients(model, guide)
    assert loss == pytest.approx(expected.item(), rel=1e-7)
    assert found.keys() == written.keys() and len(found) > 20
    for name, grad in found.items():
        size = written[name].abs().max().item()
        torch.testing.assert_close(grad, written[name], rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("training", [True, False])
def test_regions_sum_to_one_before_any_normalisation(training, monkeypatch):
    _, guide = pair()
    regions = []
    step = guide.step
    guide.__dict__["step"] = lambda seen: (regions.append(step(seen)), regions[-1])[1]
    guide.train(training)(images_of())
    total = torch.stack([log_region for _, log_region in regions]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("training", [True, False])
def test_a_replay_of_all_draws_is_the_same(training):
    """Seeds and candidates are sites as well."""
    _, guide = pair()
    guide.train(training)
    first = seeded(guide, images_of())
    assert auxiliary(first) == {
        *[f"seed_{i}_{c}" for i in range(2) for c in range(2)],
        *[f"candidate_{i}" for i in range(2)],
    }
    again = seeded(poutine.replay(guide, trace=first), images_of(), seed=9)
    assert first.nodes.keys() == again.nodes.keys()
    for name in first.stochastic_nodes:
        assert torch.equal(first.nodes[name]["value"], again.nodes[name]["value"])
    assert torch.equal(first.log_prob_sum(), again.log_prob_sum())


def test_auxiliary_draws_do_not_count():
    model, guide = pair()
    proposed = seeded(guide, images_of())
    proposed.compute_log_prob()
    assert not any(proposed.nodes[name]["log_prob"].any() for name in auxiliary(proposed))
    assert proposed.nodes["z_expert_0"]["log_prob"].any()


def test_expected_draws_seeds_and_candidates_alone():
    _, guide = pair()
    guide.eval()
    images = images_of()
    with expected():
        first = poutine.trace(guide).get_trace(images)
        auxiliary = first.copy()
        for name in first.stochastic_nodes:
            if name.startswith("z_"):
                auxiliary.remove_node(name)
        torch.manual_seed(2)
        again = poutine.trace(poutine.replay(guide, trace=auxiliary)).get_trace(images)
    for name in first.stochastic_nodes:
        assert torch.equal(first.nodes[name]["value"], again.nodes[name]["value"])
    drawn = {name[:4] for name in auxiliary.stochastic_nodes} - {"imag", "pixe"}  # the plates
    assert drawn == {"seed", "cand"}


def test_in_evaluation_experts_are_certain():
    _, guide = pair()
    nodes = seeded(guide.eval(), images_of()).nodes
    for i in range(3):
        site = nodes[f"z_expert_{i}"]
        assert (site["fn"].log_prob(site["value"]) == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_what_is_plain_background_has_no_objects(training):
    """Layers to spare stay empty: their codes count for nothing in either, and the background has all."""
    model, guide = pair()
    for proposal in guide.proposals:
        proposal.correct.head.head[-1].weight.data.zero_()
    images = plain()
    proposed = seeded(guide.train(training), images)
    joint = replayed(model, proposed, images)
    for trace in (proposed, joint):
        for i in range(2):
            assert (trace.nodes[f"z_expert_{i}"]["value"] == 3).all()
            assert not trace.nodes[f"z_what_{i}"]["log_prob"].any()
        assert (trace.nodes["z_expert_2"]["value"] == 2).all()
        assert trace.nodes["z_what_2"]["log_prob"].all()
        assert (trace.nodes["z_region"]["value"] == 2).all()


def test_objects_are_found():
    """Each layer but the last is of a sprite, and its region is of one colour."""
    _, guide = pair(candidates=3)
    images = torch.full((4, *SHAPE), 0.2)
    images[:, 0, 2:7, 1:6] = 0.9
    images[:, 2, 9:14, 6:11] = 0.9
    with expected():
        nodes = poutine.trace(guide.eval()).get_trace(images).nodes
    regions = nodes["z_region"]["fn"].probs.permute(1, 2, 0).unflatten(2, SHAPE[1:]) > 0.5
    objects = torch.zeros(2, *SHAPE[1:], dtype=torch.bool)
    objects[0, 2:7, 1:6] = objects[1, 9:14, 6:11] = True
    for i in range(2):
        assert (nodes[f"z_expert_{i}"]["value"] < 2).all()
    for n in range(4):
        overlap = (regions[n, :2, None] & objects).sum((2, 3)) / objects.sum((1, 2))
        assert (overlap.amax(0) > 0.9).all() and (overlap.amin(0) < 0.1).all()


def test_losers_get_no_gradient():
    """Nor do their decoders and proposals; attention and the background always learn."""
    model, guide = pair(sprites=3, layers=2, competition=Competition(temperature=1e4))
    lost = 0
    for seed in range(6):
        images = images_of(1, seed)
        nodes = seeded(guide, images, seed=seed).nodes
        winners = {nodes[f"z_expert_{i}"]["value"].item() for i in range(2)}
        torch.manual_seed(seed)
        EXACT.loss_and_grads(model, config_enumerate(guide), images)
        trained = {".".join(name.split(".")[:2]) for name in named_gradients(model, guide)}
        owned = {name for name in trained if not name.startswith("attention")}
        assert owned <= {f"{part}.{k}" for part in ("decoders", "proposals") for k in winners}
        assert "decoders.3" in trained
        lost += 4 - len(winners)
    assert lost


def test_all_of_it_trains():
    model, guide = pair(layers=4)
    left = {**dict(model.named_parameters()), **dict(guide.named_parameters())}
    for record in fit(model, guide, repeat(images_of(16), 5), elbo=EXACT, clip=100.0):
        assert abs(record.loss) < float("inf")
        left = {name: p for name, p in left.items() if not p.grad.any()}
        if not left:
            break
    assert not left


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_layers_of_a_call_are_of_that_call(layers):
    model, guide = pair()
    images = images_of()
    proposed = seeded(guide, images, layers=layers)
    names = {name for name in proposed.stochastic_nodes if name.startswith("z_")}
    wanted = {f"z_{kind}_{i}" for kind in ("expert", "what") for i in range(layers)}
    assert names == wanted | {"z_region"}
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images, layers=layers)
    assert (joint.log_prob_sum() - proposed.log_prob_sum()).isfinite()
    assert "z_what_2" in seeded(guide, images) and "z_what_3" not in seeded(guide, images)


def test_the_prior_is_asked_as_the_model_asks_it():
    """With a blank canvas, the layer, its expert, and the code in front."""
    scenes = []

    def z_what(scene):
        scenes.append(scene)
        return dist.Normal(torch.zeros(CODE), 1.0).to_event(1)

    model = sprite_scenes(SHAPE, 2, 3, CODE, z_what=z_what)
    guide = SpritesGuide(model, attention=SeededAttention(SHAPE, widths=(8, 8)), candidates=2)
    scenes.clear()
    nodes = seeded(guide, images_of()).nodes
    assert [scene.layer for scene in scenes] == [0, 1]
    assert all(scene.layers == 3 and not scene.canvas.any() for scene in scenes)
    assert scenes[0].z_what is None
    code = nodes["z_what_0"]["value"]
    assert (scenes[1].z_what == code.unsqueeze(-2)).all()
    assert (scenes[1].z_expert == torch.arange(2)).all()


def encoders(number, prior):
    parts = (RegionEncoder(SHAPE, 6, channels=4, blocks=2) for _ in range(number))
    return [RegionProposal(part, 6, prior) for part in parts]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"proposals": encoders(2, dist.Normal(torch.zeros(CODE), 1).to_event(1))}, "must be 3"),
        ({"candidates": 0}, "candidates must be"),
        ({"stride": 0}, "stride must be"),
    ],
    ids=["proposals", "candidates", "stride"],
)
def test_a_wrong_part_is_named(settings, error):
    with pytest.raises(ValueError, match=error):
        pair(**settings)


def test_other_models_are_refused(unchecked):
    with pytest.raises(TypeError, match="needs a model of sprite_scenes"):
        SpritesGuide(ECON(SHAPE, 3, 3))
    with pytest.raises(TypeError, match="built from a model"):
        SpritesGuide(nn.Linear(2, 2))


@pytest.mark.parametrize("size", [(8, 8), (6, 6), (15, 15)])
def test_images_too_small_for_its_networks_are_refused_at_construction(size):
    with pytest.raises(ValueError, match=r"needs sides of 8 .*multiples of 2, got .*give larger"):
        SpritesGuide(sprite_scenes((3, *size), 1, 2, CODE))
