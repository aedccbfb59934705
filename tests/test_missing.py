"""NaN in an image is "not seen": the likelihood is that of the other pixels, and no tool makes NaN of it."""

import warnings
from copy import deepcopy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.colors import to_rgb
from pyro import poutine
from pyro.infer import Trace_ELBO
from test_contract import PAIRS, images

from pyro_scenes import (
    AIR,
    VAE,
    AIRGuide,
    Blind,
    Pixels,
    VAEGuide,
    check_guide,
    evaluation,
    fit,
    to_arviz,
    viz,
)
from pyro_scenes.conditionals import Seen
from pyro_scenes.criticism import p_values, statistics
from pyro_scenes.data import as_images
from pyro_scenes.handlers import expected
from pyro_scenes.networks import fill_nearest
from pyro_scenes.viz.panels import UNSEEN_LIGHT

SMALL = PAIRS["AIR"][2]
KINDS = {"AIR": AIRGuide, "VAE": VAEGuide}
TAKES = pytest.mark.filterwarnings("ignore:.*NaN, which means unseen")


@pytest.fixture(params=["AIR", "VAE", "ST-VAE", "CST-VAE", "CST-VAE in colour"])
def aware(request):
    """A pair whose guide reads the mask."""
    build, propose, settings = PAIRS[request.param]
    model = build(**settings)
    return model, propose(model, missing=True)


@pytest.fixture
def air():
    model = AIR(**SMALL)
    return model, AIRGuide(model)


def holed(pictures, share=0.5):
    return pictures.masked_fill(torch.rand_like(pictures[:, :1]) < share, torch.nan)


# The likelihood


@pytest.mark.parametrize(
    "family",
    [
        dist.Normal(torch.randn(5, 2, 3, 4), 0.3),
        dist.Bernoulli(torch.rand(5, 2, 3, 4)),
        dist.LogNormal(torch.randn(5, 2, 3, 4), 0.3),  # no density at 0
        dist.ContinuousBernoulli(torch.rand(5, 2, 3, 4)),
    ],
)
def test_log_p_is_of_the_numbers_that_are_seen(family):
    value = family.sample()
    unseen = torch.rand(5, 2, 3, 4) < 0.5
    got = Seen(family, 3).log_prob(value.masked_fill(unseen, torch.nan))
    wanted = [log_p[~own].sum() for log_p, own in zip(family.log_prob(value), unseen)]
    torch.testing.assert_close(got, torch.stack(wanted))
    assert Seen(family, 3).support.check(value.masked_fill(unseen, torch.nan)).all()


def test_without_holes_it_is_an_independent_distribution_bit_by_bit():
    results = []
    for wrap in (lambda pixels: pixels.to_event(3), lambda pixels: Seen(pixels, 3)):
        torch.manual_seed(0)
        canvas = torch.rand(4, 1, 9, 7, requires_grad=True)
        likelihood = wrap(dist.Normal(canvas, 0.3))
        value = likelihood.sample()
        log_p = likelihood.log_prob(value)
        log_p.sum().backward()
        results.append([value, log_p, canvas.grad, likelihood.mean, likelihood.variance])
    assert all(map(torch.equal, *results))


def test_the_gradient_is_that_of_the_seen_pixels_and_0_elsewhere():
    unseen, gradients = torch.rand(4, 1, 9, 7) < 0.5, []
    canvas, value = torch.rand(2, 4, 1, 9, 7)
    for under in (0.1, 0.9, torch.nan):
        loc, scale = canvas.clone().requires_grad_(), torch.tensor(0.3, requires_grad=True)
        pixels = dist.Normal(loc, scale)
        image = value.masked_fill(unseen, under)
        left_out = pixels.mask(~unseen).to_event(3)
        (left_out if under == under else Seen(pixels, 3)).log_prob(image).sum().backward()
        gradients.append((loc.grad, scale.grad))
    assert not gradients[-1][0][unseen].any() and gradients[-1][0].any()
    assert all(torch.equal(a, b) for one in gradients[:2] for a, b in zip(one, gradients[2]))


def test_it_may_be_expanded_masked_and_mixed():
    value = holed(torch.rand(5, 1, 3, 4))
    pixels = Seen(dist.Normal(torch.rand(2, 1, 1, 3, 4), 0.3), 3)
    assert pixels.expand([2, 5]).log_prob(value).shape == (2, 5)
    assert not pixels.expand([2, 5]).mask(False).log_prob(value).any()
    parts = Seen(dist.Normal(torch.rand(5, 2, 1, 3, 4), 0.3), 3)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts)
    each = parts.log_prob(value[:, None])
    torch.testing.assert_close(mixture.log_prob(value), each.logsumexp(-1) - np.log(2))


def test_of_a_linear_gaussian_model_it_is_the_marginal_likelihood():
    """Under the exact posterior given the seen pixels every weight is log p of these."""
    torch.manual_seed(0)
    loadings = torch.randn(12, 2, dtype=torch.float64)
    model = VAE((1, 3, 4), code=2, image=Pixels(dist.Normal, scale=0.5)).double()
    model.decoder = lambda z_what: (z_what @ loadings.mT).unflatten(-1, (1, 3, 4))
    x = holed(model(size=6).detach())

    def guide(given):
        flat = given.flatten(1)
        seen = loadings * (~flat.isnan())[..., None]  # (n, 12, 2)
        precision = torch.eye(2) + seen.mT @ seen / 0.25
        mean = torch.linalg.solve(precision, seen.mT @ flat.nan_to_num(0)[..., None] / 0.25)
        with pyro.plate("images", len(given), dim=-1):
            code = dist.MultivariateNormal(mean[..., 0], precision_matrix=precision)
            pyro.sample("z_what", code)

    covariance = loadings @ loadings.mT + 0.25 * torch.eye(12)
    exact = []
    for row in x.flatten(1):
        seen = ~row.isnan()
        zero = torch.zeros(int(seen.sum()), dtype=torch.float64)
        marginal = dist.MultivariateNormal(zero, covariance[seen][:, seen])
        exact.append(marginal.log_prob(row[seen]))
    got = evaluation.log_weights(model.eval(), guide, x, particles=3)
    torch.testing.assert_close(got, torch.stack(exact).expand(3, 6), rtol=0, atol=1e-10)


# Guides


@TAKES
def test_a_guide_that_reads_the_mask_trains_and_gets_finite_gradients(aware):
    model, guide = aware
    record = next(fit(model, guide, [holed(images(model))], elbo=Trace_ELBO()))
    assert np.isfinite(record.loss) and 0 < record.norm < np.inf
    assert all(p.grad.isfinite().all() for p in guide.parameters() if p.grad is not None)


def test_the_mask_is_read(aware):
    """Black pixels and unseen ones are equal but for the mask."""
    model, guide = aware
    drawn = []
    for unseen in (0.0, torch.nan):
        black = torch.full((2, *model.image_shape), unseen)
        pyro.set_rng_seed(0)
        drawn.append(poutine.trace(guide).get_trace(black).nodes)
    assert any(
        not torch.equal(a["value"], drawn[1][name]["value"])
        for name, a in drawn[0].items()
        if name.startswith("z_w")
    )


def test_missing_is_no_setting_of_a_guide_without_it(air):
    assert "missing" not in vars(air[1])  # or checkpoints from before it would be refused
    assert vars(AIRGuide(air[0], missing=True))["missing"] is True


def test_blind_gives_its_guide_filled_images(air, unchecked):
    model, guide = air
    x = holed(images(model))
    for value, filled in ((0.0, x.nan_to_num(0)), (0.5, x.nan_to_num(0.5)), (fill_nearest,) * 2):
        given = []
        Blind(lambda pictures: given.append(pictures), value)(x)
        assert torch.equal(given[0], filled(x) if callable(filled) else filled)
    with pytest.raises(TypeError, match="guide must be a module or a function, got 3"):
        Blind(3)


@TAKES
def test_blind_has_the_mode_and_the_weights_of_its_guide(air):
    model, guide = air
    blind = Blind(guide.eval())
    assert not blind.training and blind.train().training and guide.training
    guide.eval()
    with warnings.catch_warnings(action="error"):  # of a guide in training mode
        evaluation.log_weights(model.eval(), blind, holed(images(model)))
    before = deepcopy(guide.state_dict())
    list(fit(model, Blind(guide.train()), [holed(images(model))]))
    assert any(not torch.equal(before[name], value) for name, value in guide.state_dict().items())
    with pytest.raises(ValueError, match="of another model"):
        check_guide(AIR(**SMALL), blind, holed(images(model)))


def test_a_filled_pixel_is_like_the_nearest_seen():
    x = torch.zeros(2, 1, 5, 9)
    x[0, :, :, 5:] = 1.0
    x[0, :, 1:4, 3:7] = torch.nan
    x[1] = torch.nan
    filled = fill_nearest(x)
    assert torch.equal(filled[0].round(), (torch.arange(9) >= 5).float().expand(1, 5, 9))
    assert torch.equal(filled[0][~x[0].isnan()], x[0][~x[0].isnan()]) and not filled[1].any()


def test_no_seed_of_a_sprite_lies_in_a_hole():
    build, propose, settings = PAIRS["sprites"]
    model = build(**settings)
    guide = propose(model)
    x = torch.full((40, *model.image_shape), 0.8)
    hole = torch.zeros(model.image_shape[1:], dtype=torch.bool)
    hole[4:12, 3:10] = True
    trace = poutine.trace(guide).get_trace(x.masked_fill(hole, torch.nan))
    seeds = torch.stack([trace.nodes[f"seed_0_{c}"]["value"] for c in range(2)])
    assert not hole.flatten()[seeds].any()
    blind = poutine.trace(Blind(guide)).get_trace(x.masked_fill(hole, torch.nan))
    attracted = hole.flatten()[blind.nodes["seed_0_0"]["value"]].double().mean()
    assert attracted > 0.5  # black looks like an object


def test_an_unseen_pixel_shows_what_the_masks_say():
    """Of the paper's ECON: q(z_region) is p(z_region | masks, some layer) there, and not elsewhere."""
    build, propose, settings = PAIRS["ECON"]
    model = build(**settings).eval()
    guide, x = propose(model).eval(), images(model)
    x[:, :, :4] = torch.nan
    with poutine.trace() as proposed, expected():
        guide(x)
    drawn = poutine.trace(poutine.replay(model, trace=proposed.trace)).get_trace(size=5)
    q, p = (each.nodes["z_region"]["fn"].probs[..., :2] for each in (proposed.trace, drawn))
    apart = (q - p / p.sum(-1, keepdim=True)).abs().amax((1, 2)).reshape(8, 12)
    assert apart[:4].max() < 1e-5 and apart[4:].max() > 1e-3


# What is refused, and by which words


def test_a_guide_or_a_likelihood_that_makes_nan_of_it_is_named(air):
    model, guide = air
    x = holed(images(model))
    for run in (
        lambda: next(fit(model, guide, [x])),
        lambda: evaluation.interpret(model.eval(), guide.eval(), x),
        lambda: evaluation.log_weights(model, guide, x),
        lambda: to_arviz(model, guide, x, draws=2),
    ):
        for validates in (True, False):
            with pyro.validation_enabled(validates):
                with pytest.raises(
                    ValueError, match=r"this guide makes NaN.*Blind\(guide\).*missing"
                ):
                    run()
    model.image = lambda scene: dist.Normal(scene.canvas, 0.3).to_event(3)
    for validates in (True, False):
        with pyro.validation_enabled(validates):
            with pytest.raises(ValueError, match=r"likelihood image makes NaN.*Seen"):
                check_guide(model, Blind(guide), x)
            with pytest.raises(ValueError, match=r"likelihood \w+ makes NaN.*Seen"):
                evaluation.log_weights(model, Blind(guide), x)


def test_infinite_images_and_nan_elsewhere_stay_refused(air):
    model, guide = air
    x = images(model)
    for run in (
        lambda x: next(fit(model, Blind(guide), [x])),
        lambda x: evaluation.interpret(model, guide, x),
        lambda x: to_arviz(model, guide, x),
    ):
        with pytest.raises(ValueError, match="infinit"):
            run(x.masked_fill(x > 0, torch.inf))
    with pytest.raises(ValueError, match="NaN"):
        as_images(holed(x))
    with pytest.raises(ValueError, match="images must be finite numbers"):
        evaluation.canvas_error(x, holed(x))
    labelled = x, torch.full((5,), torch.nan)
    with pytest.raises(ValueError, match="NaN in a part that is not of images"):
        next(fit(lambda x, y: model(x), lambda x, y: guide(x), [labelled]))


def test_fit_says_how_much_is_not_seen(air):
    x = images(air[0])
    x[:, :, ::2] = torch.nan
    with pytest.warns(UserWarning, match="^50.00% of the first batch's pixels are NaN"):
        list(fit(air[0], Blind(air[1]), [x, x]))


# What is made of it


def test_explanations_of_images_with_holes_are_whole():
    for name, explain in (
        ("AIR", evaluation.interpret),
        ("AIR", evaluation.see_steps),
        ("CST-VAE", evaluation.see_layers),
        ("sprites", evaluation.decompose),
        ("VAE", evaluation.inpaint),
    ):
        build, propose, settings = PAIRS[name]
        model = build(**settings).eval()
        guide = propose(model).eval()
        found = explain(model, Blind(guide) if name != "sprites" else guide, holed(images(model)))
        canvas = getattr(found, "canvas", found[-1])
        assert canvas.isfinite().all() and canvas.shape[0] == 5


def test_inpainting_takes_the_draw_that_the_seen_pixels_speak_for():
    """A bright or a dark image, by one bit of which one pixel tells."""
    prior = dist.Bernoulli(torch.tensor([0.5])).to_event(1)
    model = VAE((1, 2, 3), code=1, z_what=lambda scene: prior, image=Pixels(dist.Normal, scale=0.1))
    model.decoder = lambda z_what: z_what[..., None, None].expand(*z_what.shape[:-1], 1, 2, 3)

    def guide(pictures):
        with pyro.plate("images", len(pictures), dim=-1):
            pyro.sample("z_what", prior)

    truth = torch.cat([torch.zeros(4, 1, 2, 3), torch.ones(4, 1, 2, 3)])
    seen = truth.clone()
    seen[..., 1:] = torch.nan
    found = evaluation.inpaint(model.eval(), guide, seen, draws=40)
    assert evaluation.unseen_error(found.likeliest, truth, seen) == 0
    assert evaluation.unseen_error(found.mean, truth, seen) < 1e-6
    assert evaluation.unseen_error(1 - truth, truth, seen) == 1


def test_statistics_compare_what_was_seen(air):
    model, guide = (part.eval() for part in air)
    x = images(model)
    hole = torch.zeros_like(x, dtype=torch.bool)
    hole[..., 8:] = True
    data = to_arviz(model, Blind(guide), x.masked_fill(hole, torch.nan), draws=4, seed=0)
    assert np.isnan(data["observed_data"]["image"].values[hole.numpy()]).all()
    checks = statistics(data)
    ink = checks["observed_data"]["total_ink"]
    np.testing.assert_allclose(ink, x[..., :8].sum((1, 2, 3)), rtol=1e-6)
    for name in ("posterior_predictive", "prior_predictive"):
        whole = data[name]["image"].values
        ink = checks[name]["total_ink"].values
        np.testing.assert_allclose(ink, whole[..., :8].sum((-3, -2, -1)), rtol=1e-5)
    assert np.isfinite(p_values(checks)["total_ink"]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_unseen_pixels_are_drawn_in_a_colour_that_the_legend_names(channels):
    x = torch.rand(2, channels, 4, 5)
    x[0, :, 1, 2] = torch.nan
    for figure in (viz.pictures({"image": x}), viz.annotated(x)):
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_allclose(shown[1, 2], to_rgb(UNSEEN_LIGHT))
        np.testing.assert_allclose(shown[0, 0], x[0, :, 0, 0].expand(3), rtol=1e-6)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not seen"]
    assert not viz.pictures({"image": x[1:]}).legends
