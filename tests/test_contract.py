"""What every pair of a model and its guide must keep. A new paper is one row of PAIRS."""

import re
from functools import partial
from inspect import signature
from itertools import product, repeat
from types import SimpleNamespace

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO

from pyro_scenes import (
    AIR,
    CSTVAE,
    CVAE,
    ECON,
    STVAE,
    VAE,
    VAEAC,
    AIRGuide,
    Blind,
    CSTVAEGuide,
    CVAEGuide,
    ECONGuide,
    Importance,
    Known,
    SpritesGuide,
    STVAEGuide,
    Summed,
    VAEACGuide,
    VAEGuide,
    adam,
    fit,
    refine,
    semi_amortise,
    semi_supervise,
    sprite_scenes,
    to_arviz,
)
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.criticism import sbc
from pyro_scenes.networks import RegionEncoder, SeededAttention, UNet

SMALL = {"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 2, "code": 4}
LAYERED = {"window": (1, 9, 8), "layers": 2, "code": 4}
COMPETING = {"image_shape": (3, 8, 12), "experts": 2, "layers": 2, "code": 5}
#: With nothing seen, as images alone.
COMPLETED = {"image_shape": (1, 16, 12), "code": 4, "hidden": 16}
SPRITES = {"image_shape": (3, 16, 12), "sprites": 2, "layers": 2, "code": 5}


def econ_guide(model, choice="compete"):
    """Small networks, which are those of the paper but for their widths."""
    shape, prior, each = model.image_shape, model.latents()["z_what_0"], range(model.experts)
    encoders = [RegionEncoder(shape, 20, channels=8) for _ in each]
    proposals = [RegionProposal(encoder, 20, prior) for encoder in encoders]
    attention = [UNet(shape[0] + 1, (8, 8)) for _ in each]
    return ECONGuide(model, attention=attention, proposals=proposals, choice=choice)


def sprites_guide(model):
    attention = SeededAttention(model.image_shape, widths=(8, 8))
    return SpritesGuide(model, attention=attention, candidates=2)


PAIRS = {
    "AIR": (AIR, AIRGuide, SMALL),
    "AIR in colour": (AIR, AIRGuide, {**SMALL, "image_shape": (3, 16, 12), "window": (3, 8, 6)}),
    "VAE": (VAE, VAEGuide, {"image_shape": (1, 16, 12), "code": 4}),
    "ST-VAE": (STVAE, STVAEGuide, {"image_shape": (1, 16, 12), "window": (1, 9, 8), "code": 4}),
    "CST-VAE": (CSTVAE, CSTVAEGuide, {**LAYERED, "image_shape": (1, 16, 12)}),
    "CST-VAE in colour": (
        CSTVAE,
        CSTVAEGuide,
        {**LAYERED, "image_shape": (3, 16, 14), "window": (3, 9, 8)},
    ),
    "ECON": (ECON, econ_guide, COMPETING),
    "ECON, all sequences": (ECON, partial(econ_guide, choice="enumerate"), COMPETING),
    "sprites": (sprite_scenes, sprites_guide, SPRITES),
    "CVAE": (CVAE, partial(CVAEGuide, hidden=16), COMPLETED),
    "VAEAC": (VAEAC, partial(VAEACGuide, hidden=16), COMPLETED),
}
ELBOS = {
    "graph": TraceGraph_ELBO(),
    "trace": Trace_ELBO(),
    "exact": TraceEnum_ELBO(max_plate_nesting=1),
    "importance": Importance(2),
    "summed": Summed(2),
}
#: The layer that each pixel shows: in a plate of pixels, too, and of no conditional but the layers' masks.
SHOWN = "z_region"
#: An expert that wins nothing in a step gets no gradient in it.
EXPERT = re.compile(r"(decoders|proposals|attention)\.\d+\.")


@pytest.fixture(params=PAIRS)
def kind(request):
    return PAIRS[request.param]


@pytest.fixture
def pair(kind):
    model, guide, settings = kind
    model = model(**settings)
    return model, guide(model)


def images(model, n=5):
    return torch.rand(n, *model.image_shape).round()  # 0 or 1: any of the likelihoods takes them


def elbo_of(name, model):
    pixels = name == "exact" and SHOWN in model.latents()
    return TraceEnum_ELBO(max_plate_nesting=2) if pixels else ELBOS[name]


def sites(module, *args, **kwargs):
    trace = poutine.trace(module).get_trace(*args, **kwargs)
    return {name: trace.nodes[name] for name in trace.stochastic_nodes if name.startswith("z_")}


def parameters(*modules):
    return [(name, value) for module in modules for name, value in module.named_parameters()]


def test_model_and_guide_have_the_same_latents(pair):
    model, guide = pair
    drawn, proposed = sites(model, images(model)), sites(guide, images(model))
    assert set(drawn) == set(proposed) == set(model.latents())
    for name in drawn:
        assert drawn[name]["value"].shape == proposed[name]["value"].shape
        assert drawn[name]["fn"].event_shape == proposed[name]["fn"].event_shape
        plates = (model.blank[0].numel(), 5) if name == SHOWN else (5,)
        assert drawn[name]["fn"].batch_shape == proposed[name]["fn"].batch_shape == plates


def test_prior_draws_images(pair):
    model, _ = pair
    trace = poutine.trace(model).get_trace(size=7)
    assert trace.nodes["_RETURN"]["value"].shape == (7, *model.image_shape)
    assert trace.nodes["canvas"]["value"].shape == (7, *model.image_shape)


def test_draws_are_refined(pair):
    model, guide = (module.eval() for module in pair)
    batch = images(model, 2)
    fitted = semi_amortise(model, guide, batch, steps=1)
    found = refine(model, fitted, batch, draws=3, pool=2, moves=5)
    assert set(found.values) == set(model.latents()) and found.log_weights.shape == (6, 2)
    assert all(value.shape[:2] == (3, 2) for value in found.values.values())
    drawn = to_arviz(model, guide, batch, draws=found.values)
    assert drawn["posterior_predictive"]["image"].shape == (1, 3, *batch.shape)


@pytest.mark.parametrize("elbo", ELBOS)
def test_every_parameter_gets_a_gradient(pair, elbo):
    model, guide = pair
    list(fit(model, guide, [images(model)], elbo=elbo_of(elbo, model)))
    without = [
        name
        for name, value in parameters(*pair)
        if (value.grad is None or not value.grad.any()) and not EXPERT.match(name)
    ]
    assert all("baseline" in name for name in without)
    assert not without or elbo != "graph"  # baselines serve the score function alone


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
def test_fit_lowers_the_loss_on_one_batch(pair):
    model, guide = pair
    batch = (torch.rand(8, *model.image_shape) > 0.9).float()
    optim = adam(model, guide, lr=1e-2)
    records = fit(model, guide, repeat(batch, 9), elbo=elbo_of("exact", model), optim=optim)
    losses = [record.loss for record in records]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_each_conditional_can_be_replaced(kind, pair):
    (build, _, settings), (model, _) = kind, pair
    names = {re.sub(r"_\d+$", "", site) for site in model.latents()} | {"image"}
    names &= set(signature(build).parameters)
    assert len(names) > 1
    for name in names:
        other = build(**settings, **{name: getattr(model, name)})
        assert any(part is getattr(model, name) for part in other.modules())
        free = build(**settings, **{name: lambda scene, same=getattr(model, name): same(scene)})
        assert set(free.latents()) == set(model.latents())


def test_instances_share_nothing(kind, pair):
    model, guide = pair
    build, propose, settings = kind
    other = build(**settings)
    before = [value.clone() for _, value in parameters(other)]
    list(fit(model, guide, [images(model)]))
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, parameters(other), strict=True))
    trained = [value.clone() for _, value in parameters(model)]
    list(fit(other, propose(other), [images(other)]))
    assert all(torch.equal(a, b) for a, (_, b) in zip(trained, parameters(model), strict=True))
    assert any((a != b).any() for a, (_, b) in zip(before, parameters(other), strict=True))


def test_state_dict_round_trip(kind, pair):
    model, guide = pair
    build, propose, settings = kind
    other = build(**settings)
    other_guide = propose(other)
    other.load_state_dict(model.state_dict())
    other_guide.load_state_dict(guide.state_dict())
    drawn = []
    for one, proposal in ((model, guide), (other, other_guide)):
        torch.manual_seed(1)
        drawn.append((one(size=3), sites(proposal, torch.full((2, *model.image_shape), 0.5))))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert all(torch.equal(drawn[0][1][n]["value"], drawn[1][1][n]["value"]) for n in drawn[0][1])


def test_double_precision(pair):
    model, guide = (module.double() for module in pair)
    batch = images(model).double()
    kinds = {site["value"].dtype for site in sites(guide, batch).values()}
    assert torch.float64 in kinds <= {torch.float64, torch.int64}
    assert model(size=2).dtype == torch.float64
    assert len(list(fit(model, guide, [batch]))) == 1


def test_guide_draws_replay_through_the_model_in_parallel(pair):
    model, guide = pair
    draws = {name: [] for name in model.latents()}
    for _ in range(3):
        for name, site in sites(guide, images(model, 4)).items():
            draws[name].append(site["value"].detach())
    stacked = {name: torch.stack(values) for name, values in draws.items()}
    if SHOWN in stacked:  # Pyro would take the size of a code for that of the plate of pixels
        stacked |= {name: stacked[name][:, None] for name in stacked if name != SHOWN}
    predict = Predictive(model, stacked, return_sites=["image", "canvas"], parallel=True)
    found = {name: values.squeeze(1) for name, values in predict(size=4).items()}
    assert found["image"].shape == found["canvas"].shape == (3, 4, *model.image_shape)


def test_a_scene_seen_is_scored_as_drawn(pair):
    """log p(image, z) is one number, whether the likelihood is one term or many increments."""
    model, guide = pair
    batch = images(model, 6)
    proposed = poutine.trace(guide).get_trace(batch)
    seen = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(batch)
    held = poutine.condition(poutine.replay(model, trace=proposed), data={"image": batch})
    drawn = poutine.trace(held).get_trace(size=6)
    torch.testing.assert_close(seen.log_prob_sum(), drawn.log_prob_sum(), rtol=1e-5, atol=1e-2)


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
@pytest.mark.parametrize("elbo", ["exact", "importance", "summed"])
def test_latents_can_be_known(pair, elbo):
    """Of two images, that of the first step, and its code: all later sites see them."""
    model, guide = pair
    batch = images(model)
    drawn = sites(guide, batch)
    first = next(iter(drawn))
    known = {name: drawn[name]["value"].detach().float() for name in {first, "z_what_0"} & {*drawn}}
    if first == "z_pres_0":
        known[first].fill_(1.0)
    for value in known.values():
        value[2:] = torch.nan
    batch, semi = Known(batch, known), semi_supervise(model, guide)
    seen = sites(semi[1], batch)
    assert all(torch.equal(seen[name]["value"][:2].float(), known[name][:2]) for name in known)
    (record,) = fit(*semi, [batch], elbo=elbo_of(elbo, model))
    assert record.norm > 0


BAD_IMAGES = [
    (lambda x: x[:, 0], "shape"),
    (lambda x: x[..., :-1], "shape"),
    (lambda x: x[:0], "empty"),
    (lambda x: (x * 255).to(torch.uint8), "float"),
    (lambda x: x.numpy(), "float|Expected type"),
    (lambda x: x.double(), "float64.*float32"),
]


def test_bad_images_are_refused_by_both(pair):
    for module, (bad, error) in product(pair, BAD_IMAGES):
        with pytest.raises((ValueError, TypeError), match=error):
            module(bad(images(module)))


def test_a_guide_is_built_from_a_model(pair):
    with pytest.raises(
        TypeError,
        match="built from a model|checking parameter 'model'|typechecking parameter 'model'",
    ):
        type(pair[1])(torch.nn.Linear(2, 2))


def test_a_guide_explains_what_its_model_draws(pair):
    """A likelihood may draw any number: no range is asked of images."""
    model, guide = pair
    drawn = model(size=3)
    proposed = poutine.trace(guide).get_trace(drawn)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(drawn)
    assert (joint.log_prob_sum() - proposed.log_prob_sum()).isfinite()


@pytest.mark.filterwarnings("ignore:.*scenes that this model draws have")
def test_scenes_are_ranked_among_the_draws(pair):
    model, guide = (module.eval() for module in pair)
    found = sbc(model, guide, simulations=3, draws=2, batch=2, seed=0)
    ranks = found["rank"].values
    assert ranks.shape[0] >= 5 and ranks.shape[1] == 3 and ((ranks >= 0) & (ranks <= 2)).all()
    assert "log_p" in found["quantity"] and found["truth"].sel(quantity="log_p").notnull().all()


def test_a_guide_of_another_model_is_refused(kind, pair):
    build, propose, settings = kind
    model, _ = pair
    with pytest.raises(ValueError, match="another model|different model"):
        next(fit(model, propose(build(**settings)), [images(model)]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("elbo", ELBOS)
def test_the_gpu_trains_too(pair, elbo):
    model, guide = (module.cuda() for module in pair)
    before = [value.clone() for _, value in parameters(guide)]
    list(fit(model, guide, [images(model).cuda()] * 2, elbo=elbo_of(elbo, model)))
    moved = [not torch.equal(a, b) for a, (_, b) in zip(before, parameters(guide), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert model(size=2).is_cuda


def half_seen(model):
    """Images of 0 and 1, and which of their numbers are seen."""
    complete = images(model)
    return complete, torch.rand_like(complete) < 0.5


def log_likelihood(model, draws, image):
    """Of the observed image, at these draws: its site, and increments."""
    trace = poutine.trace(poutine.replay(model, trace=draws)).get_trace(image)
    trace.compute_log_prob()
    terms = [trace.nodes[name] for name in trace.observation_nodes]
    return sum(site["log_prob"].sum() for site in terms if not site["infer"].get("_deterministic"))


def left_out(image, seen):
    """A likelihood whose unseen pixels are masked out by hand."""

    def likelihood(scene):
        pixels = image(scene).base_dist
        whole = pixels.batch_shape[-2:] == seen.shape[-2:]
        mask = seen if whole else seen.flatten(2).movedim(-1, 0)[..., None, None]
        return pixels.mask(mask).to_event(3)

    return likelihood


def test_log_p_is_of_the_pixels_that_are_seen(pair):
    model, guide = (part.eval() for part in pair)
    complete, seen = half_seen(model)
    draws = poutine.trace(guide).get_trace(complete)
    got = log_likelihood(model, draws, complete.masked_fill(~seen, torch.nan))
    scene = poutine.trace(poutine.replay(model, trace=draws)).get_trace(size=5)
    canvas = scene.nodes["canvas"]["value"]
    by_hand = model.image(SimpleNamespace(canvas=canvas)).base_dist.log_prob(complete)[seen].sum()
    torch.testing.assert_close(got, by_hand, rtol=1e-5, atol=1e-4)
    assert log_likelihood(model, draws, torch.full_like(complete, torch.nan)) == 0


def test_no_gradient_depends_on_what_is_not_seen(pair):
    model, guide = (part.eval() for part in pair)
    complete, seen = half_seen(model)
    draws = poutine.trace(guide).get_trace(complete)
    draws.detach_()
    image, gradients = model.image, []
    for under in (torch.nan, 0.1, 0.9):
        model.image = left_out(image, seen) if under == under else image
        with pyro.validation_enabled(False):  # 0.1 is no value of a Bernoulli
            log_p = log_likelihood(model, draws, complete.masked_fill(~seen, under))
        weights = [value for _, value in parameters(model)]
        gradients.append(torch.autograd.grad(log_p, weights, allow_unused=True))
    for one in zip(*gradients, strict=True):
        assert all(g is None for g in one) or all(torch.equal(g, one[0]) for g in one)
    assert any(g is not None and g.any() and g.isfinite().all() for g in gradients[0])


@pytest.mark.filterwarnings("ignore:.*NaN, which means unseen")
def test_fit_takes_images_with_holes(pair):
    model, guide = pair
    complete, seen = half_seen(model)
    proposal = (
        guide if SHOWN in model.latents() else Blind(guide)
    )  # ECON's leaves out what is unseen
    elbo = elbo_of("exact" if SHOWN in model.latents() else "trace", model)
    (record,) = fit(model, proposal, [complete.masked_fill(~seen, torch.nan)], elbo=elbo)
    assert record.norm > 0
    assert all(p.grad.isfinite().all() for _, p in parameters(*pair) if p.grad is not None)
