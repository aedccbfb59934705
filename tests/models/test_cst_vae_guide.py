"""CST-VAE's guide: the paper's recursion written by hand, sweeps, layers that are enumerated; ST-VAE's."""

from itertools import product, repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.poutine.messenger import Messenger
from torch import nn

from pyro_scenes import CSTVAE, STVAE, CSTVAEGuide, Prior, STVAEGuide, fit
from pyro_scenes.handlers import expected
from pyro_scenes.networks import FreePoseDecoder, GlimpseDecoder
from pyro_scenes.render import inverse, warp

from .conftest import gradients, joint_of, latents, placed, same, seeded, values

IMAGE, WINDOW, CODE = (1, 12, 15), (1, 7, 6), 3
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}
IMAGES = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0)).round()


def pair(layers=2, guide=None, **swaps):
    sizes = {"image_shape": IMAGE, "window": WINDOW, "code": CODE, "layers": layers}
    model = CSTVAE(**{**sizes, **swaps})
    return model, CSTVAEGuide(model, hidden=16, **(guide or {}))


def images_of(model, n=5):
    return torch.rand(n, *model.image_shape).round()


# The guide.


def guided_by_hand(model, guide, images, sweeps):
    """The paper's recursion: recognise, draw, take away. Before it, drafts of what comes later."""
    found, layers, masks = {}, {}, {}
    for sweep in range(sweeps):
        last = sweep == sweeps - 1
        for i in range(model.layers):
            residual = images
            for j, other in layers.items():
                if j > i and i in masks:
                    other = other * (1 - masks[i])  # hidden by this one, as far as is known
                if j != i:
                    residual = torch.relu(residual - other)

            def take(name, proposal, i=i, last=last):
                if not last:
                    return proposal.mean
                value = proposal.rsample()
                found[f"{name}_{i}"] = (value, proposal.log_prob(value))
                return value

            both = [residual, images - residual] if model.layers > 1 else [residual]
            both = torch.cat(both, 1)
            transform = model.pose(take("z_where", guide.z_where(both, model.pose)))
            glimpse = warp(both, inverse(transform), (both.shape[1], *model.window[1:]))
            z_what = take("z_what", guide.z_what(guide.encode(glimpse)))
            picture = model.decoder(z_what)
            colour, mask = picture[:, : model.image_shape[0]], None
            if picture.shape[1] > colour.shape[1]:
                mask = picture[:, -1:]
                colour = colour * mask
            layers[i] = placed(model, colour, transform, mask)
            if mask is not None:
                masks[i] = placed(model, mask, transform, mask).detach()
            if not last:
                layers[i] = layers[i].detach()
    return found


@pytest.mark.parametrize("sizes", [{}, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("sweeps", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_guide_takes_away_what_is_explained(layers, sweeps, sizes):
    """With one sweep this is the paper's; and no gradient comes through the drafts of more."""
    model, guide = pair(layers, guide={"sweeps": sweeps}, **sizes)
    images = images_of(model)
    proposed = seeded(guide, images)
    proposed.compute_log_prob()
    (-proposed.log_prob_sum()).backward()
    found = gradients(model, guide)
    torch.manual_seed(3)
    expected = guided_by_hand(model, guide, images, sweeps)
    assert set(latents(proposed)) == set(expected)
    for name, (value, log_prob) in expected.items():
        torch.testing.assert_close(proposed.nodes[name]["value"], value, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(proposed.nodes[name]["log_prob"], log_prob, rtol=1e-4, atol=1e-3)
    (-sum(log_prob.sum() for _, log_prob in expected.values())).backward()
    same(found, gradients(model, guide))


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_any_sweeps_are_a_proper_guide(sweeps):
    model, guide = pair(3, guide={"sweeps": sweeps})
    one, other = seeded(guide, IMAGES, seed=1), seeded(guide, IMAGES, seed=2)
    assert set(latents(one)) == set(model.latents())
    joint = joint_of(model, one, IMAGES)
    assert (joint.log_prob_sum() - one.log_prob_sum()).isfinite()
    for name, value in values(one).items():
        assert value.isfinite().all() and (value != values(other)[name]).all()


def test_sweeps_draw_once_and_without_gradients_before_that():
    model, guide = pair(2, guide={"sweeps": 3})
    decode, calls = model.decoder, []
    model.decoder = lambda z_what: calls.append(torch.is_grad_enabled()) or decode(z_what)
    poutine.trace(guide).get_trace(IMAGES)
    assert calls == [False] * 4 + [True]  # behind the last layer nothing is looked at


def test_another_sweep_sees_what_is_explained_behind():
    """The front layer's proposal differs once the layer behind has been drafted."""
    model, guide = pair(2)
    found = []
    for guide.sweeps in (1, 2):
        found.append(seeded(guide, IMAGES).nodes["z_where_0"]["fn"].mean)
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("settings", [{"looks": 0, "explained": False}, {"looks": 1}])
def test_other_guides_train(settings):
    model, guide = pair(2, guide={"sweeps": 1, **settings})
    assert all(record.norm > 0 for record in fit(model, guide, repeat(IMAGES, 2)))


def test_the_papers_guide_sees_the_residual_alone():
    """What is explained away leaves no trace: two images of one residual get one proposal behind."""
    model, guide = pair(2, guide={"sweeps": 1, "explained": False})
    seen = []
    z_where = guide.z_where.forward
    guide.z_where.forward = lambda picture, pose: seen.append(picture) or z_where(picture, pose)
    proposed = seeded(guide, IMAGES)
    front = model.render(
        model.pose(proposed.nodes["z_where_0"]["value"]), proposed.nodes["z_what_0"]["value"]
    )[0]
    assert torch.equal(seen[0], IMAGES)
    torch.testing.assert_close(seen[1], (IMAGES - front).clamp(min=0))


def test_a_guide_holds_nothing_of_its_model():
    for model, guide in (pair(2), ((st := STVAE(IMAGE, WINDOW, CODE)), STVAEGuide(st, hidden=16))):
        assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
        assert not set(model.modules()) & set(guide.modules())
        assert {name.split(".")[0] for name in guide.state_dict()} == {
            "z_where",
            "z_what",
            "encode",
        }


@pytest.mark.parametrize("kind", [STVAE, CSTVAE])
def test_a_guide_uses_the_models_parts_as_they_are(kind):
    """Swap pose or decoder after the guide was built, and it draws by the new ones."""
    model = kind(IMAGE, WINDOW, code=CODE)
    guide = {STVAE: STVAEGuide, CSTVAE: CSTVAEGuide}[kind](model, hidden=16)
    before = values(seeded(guide, IMAGES))
    model.pose = FreePoseDecoder()
    posed = values(seeded(guide, IMAGES))
    assert any((posed[name] - before[name]).abs().max() > 1e-4 for name in posed)
    if kind is CSTVAE:
        model.decoder = GlimpseDecoder(CODE, WINDOW, bias=2.0)
        decoded = values(seeded(guide, IMAGES))
        assert (decoded["z_where_1"] - posed["z_where_1"]).abs().max() > 1e-4
        again = guided_by_hand_values(model, guide)
        assert all(torch.allclose(decoded[name], again[name], atol=1e-4) for name in decoded)


def guided_by_hand_values(model, guide):
    torch.manual_seed(3)
    found = guided_by_hand(model, guide, IMAGES, guide.sweeps)
    return {name: value for name, (value, _) in found.items()}


# ST-VAE is CST-VAE of one layer.


@pytest.fixture(params=[{}, COLOUR], ids=["grey", "colour"])
def single(request):
    sizes = {"image_shape": IMAGE, "window": WINDOW, "code": CODE, **request.param}
    one, many = STVAE(**sizes), CSTVAE(**sizes, layers=1)
    many.load_state_dict(one.state_dict())
    guides = STVAEGuide(one, hidden=16), CSTVAEGuide(many, hidden=16, sweeps=1)
    guides[1].load_state_dict(guides[0].state_dict())
    return (one, guides[0]), (many, guides[1])


def test_one_layer_is_an_st_vae(single):
    """Draw for draw: the same proposals, the same canvas, the same density."""
    (one, one_guide), (many, many_guide) = single
    images, proposed = images_of(one), {}
    found = seeded(one_guide, images), seeded(many_guide, images)
    for name in ("z_where", "z_what"):
        first, second = found[0].nodes[name], found[1].nodes[f"{name}_0"]
        assert torch.equal(first["value"], second["value"])
        for moment in ("mean", "stddev"):
            one_moment, other = (getattr(site["fn"], moment) for site in (first, second))
            torch.testing.assert_close(one_moment, other)
        proposed[f"{name}_0"] = first["value"]
    joint = joint_of(one, found[0], images)
    held = poutine.trace(poutine.condition(many, data=proposed)).get_trace(images)
    torch.testing.assert_close(joint.nodes["canvas"]["value"], held.nodes["canvas"]["value"])
    torch.testing.assert_close(joint.log_prob_sum(), held.log_prob_sum())


def test_one_layer_has_an_st_vaes_bound_and_gradients(single):
    found = []
    for model, guide in single:
        torch.manual_seed(4)
        found.append((Trace_ELBO().loss_and_grads(model, guide, images_of(model)), model, guide))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    same(gradients(*found[0][1:]), gradients(*found[1][1:]))


def test_more_sweeps_change_nothing_with_one_layer(single):
    _, (model, guide) = single
    images, found = images_of(model), []
    for guide.sweeps in (1, 3):
        found.append(values(seeded(guide, images)))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# Enumerated layers: they stand in pyro.markov.

CODES = 2


class Choice(nn.Module):
    """A proposal of one of a few codes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, CODES)

    def forward(self, features):
        return dist.OneHotCategorical(logits=self.linear(features))


def discrete_pair(layers, sweeps):
    """A CST-VAE whose codes are one of a few, in double precision."""
    model, guide = pair(layers, code=CODES, guide={"sweeps": sweeps})
    model.z_what = Prior(dist.OneHotCategorical, probs=[0.3, 0.7])
    guide.z_what = Choice()
    return model, guide


class Path(Messenger):
    """Gives each layer one of the codes, and poses of given noise."""

    def __init__(self, codes, noise):
        super().__init__()
        self.codes, self.noise = codes, noise

    def _pyro_sample(self, msg):
        kind, _, i = msg["name"].rpartition("_")
        if kind == "z_what":
            code = torch.eye(CODES)[self.codes[int(i)]]
            msg["value"] = code.expand(*msg["fn"].batch_shape, CODES)
        if kind == "z_where":
            msg["value"] = msg["fn"].mean + msg["fn"].stddev * self.noise[int(i)]


def noise_of(guide, images):
    """Standard Normal draws of the poses: for layer i, (codes of layers 0 to i-1 ..., n, pose)."""
    enumerated = poutine.enum(config_enumerate(guide), first_available_dim=-2)
    trace = poutine.trace(enumerated).get_trace(images)
    noise = []
    for i in range(guide.layers):
        site = trace.nodes[f"z_where_{i}"]
        draws = ((site["value"] - site["fn"].mean) / site["fn"].stddev).detach()
        batch = draws.shape[:-2]  # later layers stand to the left
        noise.append(draws.permute(*reversed(range(len(batch))), -2, -1))
    return noise


@pytest.mark.parametrize(("layers", "sweeps"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
def test_enumerated_layers_are_summed_over(layers, sweeps, double):
    """All sequences of codes, written by hand: the loss, and the gradient of every parameter."""
    model, guide = discrete_pair(layers, sweeps)
    images = IMAGES.double()
    torch.manual_seed(3)
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss_and_grads(
        model, config_enumerate(guide), images
    )
    summed = gradients(model, guide)
    torch.manual_seed(3)
    noise, total = noise_of(guide, images), 0.0
    for codes in product(range(CODES), repeat=layers):
        with Path(codes, [draws[codes[:i]] for i, draws in enumerate(noise)]):
            proposed = poutine.trace(guide).get_trace(images)
        joint = joint_of(model, proposed, images)
        for trace in (proposed, joint):
            trace.compute_log_prob()
        log_q, log_p = (
            sum(site["log_prob"] for name, site in trace.nodes.items() if name in scored)
            for trace, scored in (
                (proposed, latents(proposed)),
                (joint, [*latents(joint), "image"]),
            )
        )
        chosen = sum(proposed.nodes[f"z_what_{i}"]["log_prob"] for i in range(layers))
        total = total + (chosen.exp() * (log_q - log_p)).sum()
    total.backward()
    assert loss == pytest.approx(total.item(), rel=1e-9)
    same(summed, gradients(model, guide), rtol=1e-7)


def test_expected_sweeps_draw_nothing():
    """Under ``expected`` a guide of any sweeps leaves the random state as it was; else it draws once."""
    model, guide = pair(2, guide={"sweeps": 3})
    state = torch.get_rng_state()
    with expected():
        guide(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    states = []
    for guide.sweeps in (1, 3):
        seeded(guide, IMAGES)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_sweeps_before_the_last_are_hidden_from_handlers():
    """Whoever replays, conditions or records the guide meets each site once."""
    met = []

    class Meet(Messenger):
        def _pyro_sample(self, msg):
            met.append(msg["name"])

    _, guide = pair(2, guide={"sweeps": 3})
    with Meet():
        guide(IMAGES)
    assert sorted(met) == ["images", "z_what_0", "z_what_1", "z_where_0", "z_where_1"]
