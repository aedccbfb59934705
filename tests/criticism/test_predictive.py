"""Statistics, discrepancies and p-values per image: right by hand, and with the power that is claimed."""

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from matplotlib import pyplot

from pyro_scenes.criticism import (
    p_values,
    roughness,
    statistics,
    tail_shares,
    to_arviz,
    total_ink,
)
from pyro_scenes.criticism.groups import to_groups

GROUPS = ["posterior_predictive", "prior_predictive", "observed_data"]


def predicted(observed, replicates):
    """An object with these total inks: observed (image), replicates (draw, image)."""
    dims = ("image_id", "channel", "row", "column")
    observed, replicates = (np.asarray(ink, np.float32) for ink in (observed, replicates))
    pixels = np.full((1, 2, 2), 0.25, np.float32)
    observed = xr.DataArray(observed[..., None, None, None] * pixels, dims=dims)
    replicates = xr.DataArray(
        replicates[None, ..., None, None, None] * pixels, dims=("chain", "draw", *dims)
    )
    replicates = replicates.assign_coords(draw=np.arange(replicates.sizes["draw"]))
    return to_groups(
        {
            "observed_data": xr.Dataset({"image": observed}),
            "posterior_predictive": xr.Dataset({"image": replicates}),
        }
    )


def test_statistics_and_p_of_a_case_made_by_hand():
    data = predicted([1.0, 2.0], [[0.0, 2.0], [1.0, 3.0], [4.0, 1.0], [5.0, 0.5]])
    checks = statistics(data, total_ink=total_ink, top=lambda images: images.max((-3, -2, -1)))
    assert sorted(checks["observed_data"].data_vars) == ["top", "total_ink"]
    assert checks["observed_data"]["total_ink"].values.tolist() == [1, 2]
    replicated = checks["posterior_predictive"]["total_ink"]
    assert replicated.dims == ("chain", "draw", "image_id")
    assert replicated.values.tolist() == [[[0, 2], [1, 3], [4, 1], [5, 0.5]]]
    assert "prior_predictive" not in checks
    # Image 0: 4 and 5 are above, 1 is a tie; image 1: 3 is above, 2 is a tie.
    p = p_values(checks)
    assert p["top"].dims == ("image_id",) and p.attrs["draws"] == 4
    assert p["top"].values.tolist() == p["total_ink"].values.tolist() == [2.5 / 4, 1.5 / 4]
    lacking = p_values(statistics(predicted([3.0, 1.0], [[4.0, 2.0], [np.nan, 2.0]])))["total_ink"]
    assert np.isnan(lacking[0]) and lacking[1] == 1


def test_statistics_of_batches_are_those_of_the_whole(pair, images):
    batches = [to_arviz(*pair, images[i], draws=2, image_ids=i) for i in ([0, 1], [2])]
    joined = statistics(batch for batch in batches)
    for group in GROUPS:
        for name in ("total_ink", "roughness"):
            parts = [statistics(batch)[group][name].values for batch in batches]
            np.testing.assert_array_equal(joined[group][name].values, np.concatenate(parts, -1))
            assert joined[group]["image_id"].values.tolist() == [0, 1, 2]


def test_statistics_want_images_and_scalars(data):
    with pytest.raises(ValueError, match="to_arviz"):
        statistics(statistics(data))
    with pytest.raises(ValueError, match="must return an array \\(1, 1, 3\\) of images"):
        statistics(data, all_together=np.sum)
    with pytest.raises(ValueError, match=r"p_values\(statistics\(data\)\)"):
        p_values(data)
    with pytest.raises(ValueError, match="'posterior_predictive'"):
        p_values({})
    with pytest.raises(ValueError, match="p_values"):
        tail_shares(xr.Dataset({"a": ("image_id", [0.5])}))
    with pytest.raises(ValueError, match="tail must be"):
        tail_shares(p_values(statistics(data)), tail=0.5)


# discrepancies: T(images, draw)


def chi_square(images, draw):
    return np.square((images - draw["canvas"]) / 0.1).sum((-3, -2, -1))


def test_a_discrepancy_is_given_the_latents_of_its_draw(data):
    checks = statistics(data, ink=total_ink, chi_square=chi_square)
    assert checks["observed_data"]["ink"].dims == ("image_id",)
    for group, latents in zip(GROUPS, ("posterior", "prior", "posterior"), strict=True):
        image, canvas = data[group]["image"], data[f"{latents}_pictures"]["canvas"]
        by_hand = (np.square(canvas - image) / 0.1**2).sum(("channel", "row", "column"))
        by_hand = by_hand.transpose("chain", "draw", "image_id")
        xr.testing.assert_allclose(checks[group]["chi_square"], by_hand, rtol=1e-4)
    expected = checks["posterior_predictive"]["chi_square"] > checks["observed_data"]["chi_square"]
    p = p_values(checks)["chi_square"]
    assert np.array_equal(p, expected.mean(("chain", "draw")))


def test_every_latent_is_there_by_name_and_absent_ones_are_nan(data):
    shapes = {}

    def record(images, draw):
        shapes.update({name: value.shape for name, value in draw.items()})
        return np.where(np.isnan(draw["z_where"]).any((1, 2)), 1.0, draw["count"])

    statistics(data, record=record)
    assert shapes == {
        **{"z_pres": (3, 2), "z_where": (3, 2, 3), "z_what": (3, 2, 4), "z_expert": (3, 2)},
        **{"count": (3,), "canvas": (3, 1, 8, 8)},
    }


def test_discrepancies_of_batches_are_joined(pair, images):
    batches = [to_arviz(*pair, images[i], draws=3, image_ids=i) for i in ([0, 1], [2])]
    joined = statistics(iter(batches), chi_square=chi_square)
    assert joined["observed_data"]["chi_square"].dims == ("chain", "draw", "image_id")
    assert p_values(joined)["chi_square"].image_id.values.tolist() == [0, 1, 2]


def test_discrepancies_want_draws_and_a_number_an_image(data):
    with pytest.raises(ValueError, match="whole"):
        statistics(predicted([1.0], [[2.0]]), chi_square=chi_square)
    with pytest.raises(ValueError, match=r"one number for each of 3 images, got shape \(\)"):
        statistics(data, one=lambda images, draw: images.sum())


def test_a_parameter_with_a_default_is_no_draw(data):
    checks = statistics(data, brightest=lambda images, axis=(-3, -2, -1): images.max(axis))
    assert checks["observed_data"]["brightest"].dims == ("image_id",)


# power


INK, NOISE, DRAWS = 60, 15, 100  # of a digit, and of the likelihood over 2,500 pixels


def shares_and_pooled(explained, counts, draws=DRAWS):
    """Tail share, and p pooled over images, where images with counts are explained as others."""
    rng = np.random.default_rng(0)
    observed = INK * counts + rng.normal(0, NOISE, counts.shape)
    replicates = INK * explained + rng.normal(0, NOISE, (draws, *counts.shape))
    p = p_values(statistics(predicted(observed, replicates), total_ink=total_ink))
    return tail_shares(p)["total_ink"], float(p["total_ink"].mean())


COUNTS = np.random.default_rng(1).integers(0, 3, 2000)


@pytest.mark.parametrize("draws", [20, 100])
def test_the_right_model_has_the_expected_tail_share(draws):
    found, _ = shares_and_pooled(COUNTS, COUNTS, draws)
    assert found.expected == pytest.approx(2 * np.ceil(0.05 * draws) / (draws + 1))
    assert abs(found.share - found.expected) < 4 * found.standard_error
    assert found.share == found.low + found.high and found.images == 2000


def test_images_explained_as_others_are_found_by_the_share_and_not_by_the_pooled_p():
    found, pooled = shares_and_pooled(np.random.default_rng(2).permutation(COUNTS), COUNTS)
    assert abs(pooled - 0.5) < 0.02
    assert found.share > 0.5 > found.expected + 10 * found.standard_error


def test_errors_that_cancel_are_found_by_the_share():
    """A digit too many in a fifth of the images, and one too few in a fifth."""
    error = np.random.default_rng(3).choice([-1, 0, 1], p=[0.2, 0.6, 0.2], size=2000)
    found, pooled = shares_and_pooled(COUNTS + error, COUNTS)
    assert abs(pooled - 0.5) < 0.02
    assert found.share > found.expected + 10 * found.standard_error
    assert found.low > 0.15 and found.high > 0.15


def test_the_tail_says_what_is_wrong():
    """A digit that the model misses makes replicates that have too little."""
    missed = np.random.default_rng(3).random(2000) < 0.1
    found, _ = shares_and_pooled(COUNTS + 1 - missed, COUNTS + 1)
    assert found.low > found.expected / 2 + 10 * found.standard_error > found.high


def test_images_without_a_p_value_do_not_count():
    data = predicted([3.0, 1.0, 1.0], [[4.0, 2.0, 1.0], [np.nan, 2.0, 1.0]])
    found = tail_shares(p_values(statistics(data)))["total_ink"]
    assert (found.images, found.share, found.high) == (2, 0.5, 0.5)
    data = predicted([3.0], [[np.nan]])
    assert np.isnan(tail_shares(p_values(statistics(data)))["total_ink"].share)


def test_roughness_shows_noise_that_the_images_do_not_have():
    def noisy(images=None, *, size=1):
        with pyro.plate("images", size, dim=-1):
            pyro.sample("image", dist.Normal(torch.full((1, 8, 8), 0.5), 0.1).to_event(3))

    smooth = torch.full((20, 1, 8, 8), 0.5)
    data = to_arviz(noisy, lambda images: None, smooth, draws=20)
    found = tail_shares(p_values(statistics(data)))["roughness"]
    assert found.share == found.high == 1


# statistics


def test_roughness_is_that_of_neighbours():
    checks = np.indices((6, 5)).sum(0)[None] % 2.0
    assert roughness(checks) == 1
    assert roughness(np.full((3, 6, 5), 0.7)) == 0
    ramp = np.broadcast_to(0.1 * np.arange(5.0), (1, 6, 5))
    assert roughness(ramp) == pytest.approx(0.01 * 24 / 49)
    noise = np.random.default_rng(0).normal(0, 0.3, (2, 3, 1, 80, 80)).astype(np.float32)
    np.testing.assert_allclose(roughness(noise), np.full((2, 3), 2 * 0.3**2), rtol=0.1)
    assert roughness(noise).dtype == np.float32


def test_arviz_summarises_and_plots_statistics(data):
    checks = statistics(data)
    table = arviz.summary(checks, group="posterior_predictive", kind="stats")
    assert {"total_ink[a]", "roughness[c]"} <= set(table.index)
    if arviz.__version__.startswith("0."):
        arviz.plot_ppc(checks, var_names=["roughness"])
        arviz.plot_ppc(checks, group="prior", var_names=["total_ink"])
        pyplot.close("all")
    else:
        arviz.plot_ppc_dist(checks, var_names=["roughness"], backend="none")
        arviz.plot_ppc_tstat(checks, var_names=["total_ink"], t_stat="mean", backend="none")


@pytest.mark.parametrize("wrong", [None, 3, "images", [1, 2], np.zeros((2, 1, 8, 8))])
def test_wrong_types_are_named(unchecked, data, wrong):
    for call in (statistics, p_values, tail_shares, lambda w: statistics(data, f=w)):
        with pytest.raises((TypeError, ValueError), match="must be|there is no"):
            call(wrong)
    if not isinstance(wrong, np.ndarray):
        for call in (total_ink, roughness):
            with pytest.raises(ValueError, match="images must be an array"):
                call(wrong)
