"""Ranks of true scenes are uniform under the posterior, and under nothing else that a quantity sees."""

import itertools
import re
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro import poutine
from scipy.stats import chisquare, norm
from torch import nn

from pyro_scenes import AIR, VAE, AIRGuide, Persist, Pixels, Prior, VAEGuide
from pyro_scenes.criticism import calibration, order_free, sbc
from pyro_scenes.pairs import TrainingModeWarning

# The image is two numbers, W z + noise: the posterior is Normal, and its correlation is -.76.
NOISE = 0.5
W = torch.tensor([[1.0, 0.9], [0.3, 0.8]])
COVARIANCE = torch.linalg.inv(torch.eye(2) + W.T @ W / NOISE**2)
SPREAD = COVARIANCE.diagonal().sqrt()


def linear(images=None, *, size=1):
    size = size if images is None else len(images)
    with pyro.plate("images", size, dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(size, 2), 1).to_event(1))
        mean = (z @ W.T)[:, None, None]
        return pyro.sample("image", dist.Normal(mean, NOISE).to_event(3), obs=images)


def guide_of(propose):
    """A guide that draws z from what ``propose`` makes of the posterior's mean."""

    def guide(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", propose(images[:, 0, 0] @ W @ COVARIANCE / NOISE**2))

    return guide


GUIDES = {
    "posterior": lambda mean: dist.MultivariateNormal(mean, COVARIANCE),
    "too narrow": lambda mean: dist.MultivariateNormal(mean, 0.36 * COVARIANCE),
    "too wide": lambda mean: dist.MultivariateNormal(mean, 2.25 * COVARIANCE),
    "the prior": lambda mean: dist.Normal(torch.zeros_like(mean), 1).to_event(1),
    "no correlation": lambda mean: dist.Normal(mean, SPREAD).to_event(1),
}


def run(name, **settings):
    settings = {"simulations": 1000, "batch": 1000, "draws": 49, "seed": 0} | settings
    return sbc(linear, guide_of(GUIDES[name]), **settings)


def p_of(found):
    return {name: result.p for name, result in calibration(found).items()}


def test_the_posterior_passes_in_nineteen_of_twenty_runs():
    """Simulations are independent: those of one run are those of twenty."""
    found = run("posterior", simulations=10_000, batch=10_000, draws=19)
    runs = (found.isel(simulation=slice(i, i + 500)) for i in range(0, 10_000, 500))
    assert sum(min(p_of(part).values()) > 0.01 for part in runs) >= 19


@pytest.mark.parametrize(
    "name, fails",
    [
        ("too narrow", ["z[0]", "z[1]", "log_p"]),
        ("too wide", ["z[0]", "z[1]", "log_p"]),
        ("the prior", ["log_p"]),
        ("no correlation", ["log_p"]),
    ],
)
def test_a_wrong_guide_fails_in_what_sees_it(name, fails):
    found = p_of(run(name))
    assert [*found] == ["z[0]", "z[1]", "log_p"]
    assert all((p <= 0.001) == (quantity in fails) for quantity, p in found.items()), found


@pytest.mark.parametrize("name, scale", [("too narrow", 0.6), ("too wide", 1.5)])
def test_coverage_is_that_of_the_draws_intervals(name, scale):
    """Of a Normal posterior and a guide of another scale it is known."""
    result = calibration(run(name), levels=(0.5, 0.8))["z[0]"]
    for level in (0.5, 0.8):
        covered = 2 * norm.cdf(scale * norm.ppf((1 + level) / 2)) - 1
        assert abs(result.coverage[level] - covered) < 4 * result.standard_error[level]
    assert abs(result.mean - 0.5) < 4 / np.sqrt(12 * 1000)


def test_the_mean_says_on_which_side_draws_lie():
    for shift in (-0.5, 0.5):
        guide = guide_of(lambda mean: dist.MultivariateNormal(mean + shift, COVARIANCE))
        found = calibration(sbc(linear, guide, simulations=500, batch=500, draws=9, seed=0))
        assert (found["z[0]"].mean - 0.5) * shift < -0.05 * abs(shift)


def test_a_rank_is_the_number_of_draws_below():
    """Draws far below, at and far above all truths, in turn: log p sees how far, z where."""
    turn = itertools.count()

    def far(mean):
        return dist.Delta(torch.full_like(mean, [-9.0, 9.0, 9.0][next(turn) % 3]), event_dim=1)

    found = sbc(linear, guide_of(far), simulations=6, batch=6, draws=9, seed=0)
    ranks = found["rank"].transpose("quantity", "simulation").values
    # The check of the pair draws, too: of nine draws in turn three are low, whichever is first.
    assert (ranks == [[3] * 6, [3] * 6, [9] * 6]).all()
    assert ((found["pit"] * 10).astype(int) == found["rank"]).all()


def test_ties_have_uniform_ranks():
    def constant(draw):
        return {"one": np.ones(len(draw["z"])), "none": np.nan * draw["z"][:, 0]}

    found = run("the prior", quantities=constant, simulations=4000, draws=9, batch=4000)
    for rank in found["rank"].values:
        assert chisquare(np.bincount(rank, minlength=10)).pvalue > 0.001


# Scenes of 0, 1 or 2 objects in noise so strong that the posterior is the prior.
TINY = {"image_shape": (1, 4, 4), "window": (1, 4, 4), "steps": 2, "code": 2}
POSE = Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0])


class Flat(nn.Module):
    """A glimpse of one brightness."""

    def forward(self, codes):
        return codes[..., :1, None, None].sigmoid().expand(*codes.shape[:-1], 1, 4, 4)


@pytest.fixture
def blind():
    noise = Pixels(dist.Normal, scale=1e3)
    return AIR(**TINY, z_pres=Persist([0.9, 0.8]), z_where=POSE, decoder=Flat(), image=noise).eval()


def guesser(model, narrow=1.0, in_order=False):
    """The model's prior as its guide; with poses of another spread, or objects from left to right."""

    def guide(images):
        n, present = len(images), torch.ones(len(images))
        with pyro.plate("images", n, dim=-1):
            drawn = [dist.Bernoulli(prob).sample((n,)) for prob in (0.9, 0.8)]
            counts = drawn[0] * (1 + drawn[1])
            pose = torch.tensor([3.0, 0.0, 0.0]) + torch.tensor([0.2, 1, 1]) * narrow * torch.randn(
                n, 2, 3
            )
            if in_order:  # the first object is the one further left: x has the largest number
                swap = (counts == 2) & (pose[:, 0, 1] < pose[:, 1, 1])
                pose = torch.where(swap[:, None, None], pose.flip(1), pose)
            for t in range(2):
                present = pyro.sample(f"z_pres_{t}", dist.Delta((counts > t).float()))
                with poutine.mask(mask=present.bool()):
                    pyro.sample(f"z_where_{t}", dist.Delta(pose[:, t], event_dim=1))
                    pyro.sample(f"z_what_{t}", dist.Normal(torch.zeros(n, 2), 1).to_event(1))

    return guide


MANY = {"simulations": 500, "batch": 500, "draws": 19, "seed": 0}


@pytest.mark.parametrize("in_order", [False, True])
def test_the_order_of_objects_does_not_matter(blind, in_order):
    found = p_of(sbc(blind, guesser(blind, in_order=in_order), **MANY))
    assert len(found) == 1 + 3 * 3 + 2 + 1 and min(found.values()) > 0.001, found


def test_ranks_by_step_see_the_order(blind):
    def first(draw):
        return {"first": draw["z_where_0"][:, 1]}

    found = sbc(blind, guesser(blind, in_order=True), quantities=first, **MANY)
    assert p_of(found)["first"] <= 0.001


def test_poses_too_narrow_are_seen_in_the_poses(blind):
    found = p_of(sbc(blind, guesser(blind, narrow=0.6), **MANY))
    wrong = {name for name, p in found.items() if p <= 0.001}
    assert not wrong & {"count", "z_what[0] at least z_where[y]", "z_what[1] at least z_where[y]"}
    assert wrong >= {
        f"{word} z_where[{i}]" for word in ("least", "most") for i in ("scale", "x", "y")
    }


def test_order_free_quantities_by_hand():
    nan = np.nan
    draw = {
        "z_pres_0": np.array([1, 1, 0]),
        "z_pres_1": np.array([1, 0, 0]),
        "z_where_0": np.array([[3.0, 0.5, 0.1], [2.0, 1.0, 0.4], [nan] * 3]),
        "z_where_1": np.array([[4.0, 0.2, -0.3], [nan] * 3, [nan] * 3]),
        "z_what_0": np.array([[7.0, 8.0], [5.0, 6.0], [nan] * 2]),
        "z_what_1": np.array([[9.0, 1.0], [nan] * 2, [nan] * 2]),
        "bright": np.array([1.0, 2.0, 3.0]),
        "log_p": np.array([-1.0, -2.0, -3.0]),
        "image": np.zeros((3, 1, 2, 2)),
    }
    inf = np.inf
    expected = {
        "count": [2, 1, 0],
        "sum z_where[scale]": [7, 2, 0],
        "least z_where[x]": [0.2, 1, inf],
        "most z_where[y]": [0.1, 0.4, -inf],
        "z_what[0] at least z_where[y]": [9, 5, nan],
        "z_what[1] at least z_where[y]": [1, 6, nan],
        "bright": [1, 2, 3],
        "log_p": [-1, -2, -3],
    }
    found = order_free(draw)
    assert len(found) == 1 + 9 + 2 + 1 + 1
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    swapped = {name.translate({48: "1", 49: "0"}): value for name, value in draw.items()}
    swapped |= {f"z_pres_{t}": draw[f"z_pres_{t}"] for t in (0, 1)}
    for name, values in order_free(swapped).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_latents_without_a_step_are_quantities_each_and_pictures_none():
    draw = {"a": np.zeros((2, 2, 3)), "b": np.zeros((2, 99)), "log_p": np.zeros(2)}
    names = [f"a[{i}, {j}]" for i in range(2) for j in range(3)]
    assert [*order_free(draw)] == [*names, "log_p"]


def test_a_seed_makes_ranks_reproducible_and_leaves_the_stream(blind):
    runs = []
    for _ in range(2):
        torch.rand(3)
        state = torch.get_rng_state()
        runs.append(sbc(blind, guesser(blind), simulations=7, draws=4, batch=3, seed=5))
        assert torch.equal(torch.get_rng_state(), state)
    xr.testing.assert_identical(*runs)
    other = sbc(blind, guesser(blind), simulations=7, draws=4, batch=3, seed=6)
    assert not (other["truth"] == runs[0]["truth"]).all()
    assert dict(other.sizes) == {"quantity": 13, "simulation": 7}
    assert ((other["rank"] >= 0) & (other["rank"] <= 4)).all()


def test_own_quantities_see_latents_image_and_log_p():
    def own(draw):
        assert set(draw) == {"z", "image", "log_p"}
        return {"misfit": np.square(draw["image"][:, 0, 0] - draw["z"] @ W.T.numpy()).sum(1)}

    assert p_of(run("posterior", quantities=own))["misfit"] > 0.01
    assert p_of(run("too wide", quantities=own))["misfit"] <= 0.001


def test_log_p_is_of_each_image_and_its_scene():
    truths = []

    def own(draw):
        truths.append(draw)
        return {"log_p": draw["log_p"]}

    found = run("posterior", quantities=own, simulations=5, batch=5, draws=1)
    z, x = (torch.as_tensor(truths[0][name]) for name in ("z", "image"))
    by_hand = dist.Normal(0.0, 1.0).log_prob(z).sum(1)
    by_hand += dist.Normal(z @ W.T, NOISE).log_prob(x[:, 0, 0]).sum(1)
    np.testing.assert_allclose(found["truth"].sel(quantity="log_p"), by_hand, rtol=1e-5)


def test_a_prior_of_few_objects_warns():
    model = AIR(**TINY)
    pair = model.eval(), AIRGuide(model).eval()
    with pytest.warns(UserWarning, match="scenes that this model draws have 0 objects") as caught:
        sbc(*pair, simulations=30, draws=1, seed=0)
    assert caught[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        sbc(*_vae(), simulations=3, draws=1)


def _vae():
    model = VAE((1, 4, 4), 2).eval()
    return model, VAEGuide(model).eval()


def test_training_mode_warns():
    model, guide = _vae()
    with pytest.warns(TrainingModeWarning):
        sbc(model, guide.train(), simulations=2, draws=1)


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"simulations": 0}, "simulations"),
        ({"draws": 0}, "draws"),
        ({"batch": 1.5}, "batch"),
        ({"seed": -1}, "seed"),
        ({"quantities": lambda draw: {"z": draw["z"]}}, "number z for each of 2"),
    ],
)
def test_wrong_arguments_are_refused(wrong, error, unchecked):
    with pytest.raises(ValueError, match=error):
        run("posterior", **{"simulations": 2, "draws": 1, **wrong})


def test_wrong_pairs_are_refused():
    guide = guide_of(GUIDES["posterior"])

    def unnamed(images=None, *, size=1):
        with pyro.plate("images", size, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(size, 2), 1).to_event(1))

    def shared(images=None, *, size=1):
        pyro.sample("all", dist.Normal(0.0, 1.0))
        return linear(images, size=size)

    def shared_guide(images):
        pyro.sample("all", dist.Normal(0.0, 1.0))
        guide(images)

    def summed(images=None, *, size=1):
        size = size if images is None else len(images)
        with pyro.plate("images", size, dim=-1):
            coin = dist.Bernoulli(torch.full((size,), 0.5))
            k = pyro.sample("k", coin, infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(torch.zeros(size, 2), 1).to_event(1))
            mean = (z + k[..., None])[..., None, None, :]
            return pyro.sample("image", dist.Normal(mean, NOISE).to_event(3), obs=images)

    def broken(mean):
        return dist.MultivariateNormal(mean * torch.nan, COVARIANCE, validate_args=False)

    for model, proposal, error in [
        (unnamed, guide, "must draw 'image'"),
        (shared, shared_guide, "all is of all images at once"),
        (summed, guide, "do not belong together"),
        (lambda images=None, *, size=1: shared(images, size=size), guide, "do not belong together"),
    ]:
        with pytest.raises(ValueError, match=error):
            sbc(model, proposal, simulations=4, draws=1)
    with pyro.validation_enabled(False), pytest.raises(ValueError, match="is NaN"):
        sbc(linear, guide_of(broken), simulations=4, draws=1)


def test_wrong_ranks_are_refused(unchecked):
    with pytest.raises(ValueError, match="sbc"):
        calibration(xr.Dataset())
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration(run("posterior", simulations=3, draws=1), levels=(0.5, 90))


def test_the_page_runs_as_it_stands():
    page = (Path(__file__).parents[2] / "docs" / "toolbox.rst").read_text(encoding="utf-8")
    sections = re.split(r"\n(?=[^\n]+\n-{5,}\n)", page)
    (section,) = (part for part in sections if part.startswith("Calibration:"))
    blocks = re.findall(r"code-block:: python\n\n(.*?)\n(?=\S)", section, re.S)
    names = {}
    for block in blocks:
        exec(textwrap.dedent(block), names)
    assert len(blocks) == 3 and names["axis"].lines
    seen = {name: p_of(ranks) for name, ranks in names["linear_ranks"].items()}
    for guide, fails in {
        "posterior": [],
        "scale x 0.6": ["z[0]", "log_p", "z to image"],
        "mean x 0.9": ["z to image"],
        "no correlation": ["log_p", "z to image"],
        "the prior": ["log_p", "z to image"],
    }.items():
        assert [quantity for quantity, p in seen[guide].items() if p <= 0.001] == fails


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_draws_too(unchecked):
    model, guide = (part.cuda() for part in _vae())
    state = torch.cuda.get_rng_state()
    found = sbc(model, guide, simulations=4, draws=3, seed=0)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert dict(found.sizes) == {"quantity": 3, "simulation": 4}
