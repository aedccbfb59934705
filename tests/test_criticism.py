"""Draws reach ArviZ under the model's names, NaN where absent; statistics and p-values are right."""

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from matplotlib import pyplot
from pyro import poutine
from pyro.nn import PyroModule

from pyro_scenes import CSTVAE, ECON, STVAE, CSTVAEGuide, ECONGuide, STVAEGuide
from pyro_scenes.criticism import bayes_p, roughness, statistics, to_arviz, total_ink

CLASSIC = arviz.__version__.startswith("0.")  # else ArviZ works with xarray's DataTree
DRAWS, STEPS, NOISE = 6, 2, 0.1
PICTURE = ("channel", "row", "column")
GROUPS = ["posterior", "posterior_predictive", "prior", "prior_predictive", "observed_data"]


def groups(**datasets):
    return arviz.InferenceData(**datasets) if CLASSIC else xr.DataTree.from_dict(datasets)


def latents(t, logit, present):
    """One step of the stand-ins: a patch of brightness z_what[0]; its pose is not looked at."""
    z_pres = pyro.sample(f"z_pres_{t}", dist.Bernoulli(logit.sigmoid() * present))
    with poutine.mask(mask=z_pres.bool()):
        pyro.sample(f"z_where_{t}", dist.Normal(torch.zeros(3), 1).to_event(1))
        z_what = pyro.sample(f"z_what_{t}", dist.Normal(torch.zeros(4), 1).to_event(1))
        pyro.sample(f"z_expert_{t}", dist.Categorical(torch.ones(3)))
    return z_pres, z_pres * z_what[..., 0].sigmoid()


class Patches(PyroModule):
    """Each object lights a quarter of an 8 x 8 image."""

    def __init__(self):
        super().__init__("patches")
        self.logit = torch.nn.Parameter(torch.tensor(0.5))
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images=None, *, size=1):
        with pyro.plate("images", size if images is None else len(images), dim=-1) as plate:
            canvas, z_pres = torch.zeros(len(plate), 1, 8, 8), torch.ones(len(plate))
            for t in range(STEPS):
                z_pres, ink = latents(t, self.logit, z_pres)
                canvas[:, 0, :4, 4 * t : 4 * t + 4] = self.gain * ink[:, None, None]
            if images is None:
                pyro.deterministic("canvas", canvas, event_dim=3)
            pyro.factor("nothing", torch.zeros(len(plate)))
            return pyro.sample("image", dist.Normal(canvas, NOISE).to_event(3), obs=images)


class PatchesGuide(PyroModule):
    def __init__(self):
        super().__init__("patches_guide")
        self.logit = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres = torch.ones(len(images))
            for t in range(STEPS):
                z_pres, _ = latents(t, self.logit + images.mean((1, 2, 3)), z_pres)


def other(images=None, *, size=1):
    """No presence, no steps or odd ones, and a site that all images share."""
    bright = pyro.sample("bright", dist.Dirichlet(torch.ones(5)))
    with pyro.plate("images", size, dim=-1):
        pyro.sample("z_what", dist.Normal(torch.zeros(2, 3), 1).to_event(2))
        pyro.sample("z_expert_0", dist.Categorical(torch.ones(3)))
        pyro.sample("bits", dist.Bernoulli(torch.full((4,), 0.5)).to_event(1))
        pyro.sample("level_0", dist.Normal(torch.zeros(2), 1).to_event(1))
        pyro.sample("level_1", dist.Normal(torch.zeros(7), 1).to_event(1))
        if images is None:
            canvas = torch.full((size, 1, 8, 8), 0.5) * bright.max()
            pyro.sample("image", dist.Bernoulli(canvas).to_event(3))


def other_guide(images):
    other(images, size=len(images))


@pytest.fixture
def images():
    return torch.rand(3, 1, 8, 8)


@pytest.fixture
def data(images):
    return to_arviz(Patches(), PatchesGuide(), images, draws=DRAWS, image_ids=["a", "b", "c"])


def test_groups_and_dimensions(data):
    picture, per_image = ("channel", "row", "column"), ("chain", "draw", "image_id")
    for group in ("posterior", "prior"):
        expected = {
            "z_pres": (*per_image, "step"),
            "z_where": (*per_image, "step", "pose"),
            "z_what": (*per_image, "step", "code"),
            "z_expert": (*per_image, "step"),
            "count": per_image,
            "canvas": (*per_image, *picture),
        }
        assert {name: data[group][name].dims for name in data[group].data_vars} == expected
        predictive = data[f"{group}_predictive"]
        assert {name: predictive[name].dims for name in predictive.data_vars} == {
            "image": (*per_image, *picture)
        }
    assert list(data["observed_data"].data_vars) == ["image"]
    assert data["observed_data"]["image"].dims == ("image_id", *picture)
    sizes = {"chain": 1, "draw": DRAWS, "image_id": 3, "step": STEPS, "pose": 3, "code": 4}
    assert dict(data["posterior"].sizes) == sizes | {"channel": 1, "row": 8, "column": 8}


def test_coordinates(data, images):
    for group in GROUPS:
        assert data[group]["image_id"].values.tolist() == ["a", "b", "c"]
        assert set(data[group].dims) == set(data[group].coords)
    assert data["posterior"]["pose"].values.tolist() == ["scale", "x", "y"]
    assert data["posterior"]["step"].values.tolist() == [0, 1]
    plain = to_arviz(Patches(), PatchesGuide(), images, draws=1)
    assert plain["observed_data"]["image_id"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("group", ["posterior", "prior"])
def test_nan_exactly_where_absent(data, group):
    absent = data[group]["z_pres"] == 0
    assert absent.any() and not absent.all()
    for name in ("z_where", "z_what", "z_expert"):
        assert (np.isnan(data[group][name]) == absent).all()
    assert not np.isnan(data[group]["canvas"]).any()


@pytest.mark.parametrize("group", ["posterior", "prior"])
def test_count_is_the_number_of_objects(data, group):
    assert (data[group]["count"] == data[group]["z_pres"].sum("step")).all()
    assert data[group]["count"].dtype == data[group]["z_pres"].dtype == np.int64


@pytest.mark.parametrize("group", ["posterior", "prior"])
def test_canvas_and_replicate_belong_to_the_draw(data, group):
    bright = 1 / (1 + np.exp(-data[group]["z_what"].isel(code=0, drop=True)))
    drawn = data[group]["canvas"].isel(channel=0, row=0, column=[0, 4], drop=True)
    np.testing.assert_allclose(drawn.values, bright.fillna(0).values, rtol=1e-5)
    noise = (data[f"{group}_predictive"]["image"] - data[group]["canvas"]).values
    assert noise.dtype == np.float32
    assert np.abs(noise).max() < 6 * NOISE
    assert noise.std() == pytest.approx(NOISE, rel=0.1)


def test_replicates_are_not_the_observed_images(data, images):
    np.testing.assert_array_equal(data["observed_data"]["image"].values, images.numpy())
    replicate = data["posterior_predictive"]["image"]
    assert (replicate != data["observed_data"]["image"]).all()
    assert (replicate.isel(draw=0) != replicate.isel(draw=1)).all()


def test_the_prior_does_not_see_the_images(images):
    def guide(images):  # uses up as many random numbers as the images are bright
        torch.rand(int(images.sum()))
        PatchesGuide()(images)

    one = to_arviz(Patches(), guide, images, draws=2, seed=1)
    two = to_arviz(Patches(), guide, images.flip(0) / 2, draws=2, seed=1)
    for group in ("prior", "prior_predictive"):
        for name in one[group].data_vars:
            xr.testing.assert_identical(one[group][name], two[group][name])


def test_names_without_steps_or_presence(images):
    data = to_arviz(other, other_guide, images, draws=2)
    dims = {name: data["posterior"][name].dims[2:] for name in data["posterior"].data_vars}
    assert dims == {
        "bright": ("bright_dim_0",),
        "z_what": ("image_id", "z_what_dim_0", "z_what_dim_1"),
        "z_expert": ("image_id", "step"),
        "bits": ("image_id", "bits_dim_0"),
        "level_0": ("image_id", "level_0_dim_0"),
        "level_1": ("image_id", "level_1_dim_0"),
    }
    assert data["posterior"]["z_expert"].dtype == data["posterior"]["bits"].dtype == np.int64
    assert data["posterior_predictive"]["image"].dtype == np.float32


@pytest.mark.parametrize("early", [False, True])
def test_steps_are_in_order_whatever_was_drawn_first(images, early):
    def back_to_front(images=None, *, size=1):
        with pyro.plate("images", size, dim=-1):
            for t in (10, 9, 2):
                pyro.deterministic(f"turn_{t}", torch.full((size,), t), event_dim=0)
            if early:
                pyro.deterministic("z_pres_0", torch.ones(size), event_dim=0)
            pyro.sample("image", dist.Normal(torch.zeros(1, 8, 8), 1).to_event(3))

    turn = to_arviz(back_to_front, lambda images: None, images, draws=1)["posterior"]["turn"]
    assert turn["step"].values.tolist() == [0] * early + [2, 9, 10]
    there = turn.sel(step=[2, 9, 10])
    assert (there == there["step"]).all()
    assert np.isnan(turn).sum() == 3 * early  # another site's step, which this one does not have


def test_netcdf_round_trip(data, tmp_path):
    data.to_netcdf(str(tmp_path / "data.nc"), engine="h5netcdf")
    back = arviz.from_netcdf(str(tmp_path / "data.nc"))
    for group in GROUPS:
        assert set(back[group].data_vars) == set(data[group].data_vars)
        for name in data[group].data_vars:
            xr.testing.assert_equal(back[group][name], data[group][name])
    assert bayes_p(statistics(back)) == bayes_p(statistics(data))


def test_a_seed_repeats_the_draws_and_leaves_the_state(images):
    def draw(seed):
        data = to_arviz(Patches(), PatchesGuide(), images, draws=2, seed=seed)
        return np.concatenate([data[g]["image"].values for g in (GROUPS[1], GROUPS[3])])

    before = torch.get_rng_state()
    one = draw(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert (draw(3) == one).all()
    assert (draw(4) != one).all()
    assert (draw(None) != draw(None)).all()


def test_no_gradients_and_one_draw(images):
    assert torch.is_grad_enabled()
    data = to_arviz(Patches(), PatchesGuide(), images[:1].requires_grad_(), draws=1)
    assert data["posterior"]["canvas"].shape == (1, 1, 1, 1, 8, 8)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3, 1, 8, 8), {"draws": 0}, "draws must be at least 1, got 0"),
        ((1, 8, 8), {}, r"\(n, C, H, W\).*image\[None\]"),
        ((3, 2, 1, 8, 8), {}, r"\(n, C, H, W\)"),
        ((0, 1, 8, 8), {}, "n > 0"),
        ((3, 1, 8, 8), {"image_ids": [0, 1]}, "3 labels"),
    ],
)
def test_wrong_arguments(shape, settings, message):
    with pytest.raises(ValueError, match=message):
        to_arviz(Patches(), PatchesGuide(), torch.zeros(shape), **settings)


def test_a_latent_must_come_from_the_guide(images):
    with pytest.raises(ValueError, match="'z_what_0'.*poutine.block"):
        to_arviz(Patches(), poutine.block(PatchesGuide(), hide=["z_what_0"]), images, draws=1)
    hidden = poutine.block(Patches(), hide=["z_where_0"])
    guide = poutine.block(PatchesGuide(), hide=["z_where_0"])
    assert "z_what" in to_arviz(hidden, guide, images, draws=1)["posterior"]
    with pytest.raises(ValueError, match="must draw 'image'"):
        to_arviz(poutine.block(Patches(), hide=["image"]), PatchesGuide(), images, draws=1)


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
    return groups(
        observed_data=xr.Dataset({"image": observed}),
        posterior_predictive=xr.Dataset({"image": replicates}),
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
    # image 0: 4 and 5 are above, 1 is a tie; image 1: 3 is above, 2 is a tie
    assert bayes_p(checks) == {"total_ink": 0.5, "top": 0.5}
    assert bayes_p(statistics(predicted([3.0], [[4.0], [3.0]])))["total_ink"] == 0.75
    assert np.isnan(bayes_p(statistics(predicted([3.0], [[4.0], [np.nan]])))["total_ink"])


def test_statistics_of_batches_are_those_of_the_whole(images):
    batches = [
        to_arviz(Patches(), PatchesGuide(), images[i], draws=2, image_ids=i) for i in ([0, 1], [2])
    ]
    joined = statistics(batch for batch in batches)
    for group in GROUPS[1::2] + GROUPS[4:]:
        for name in ("total_ink", "roughness"):
            parts = [statistics(batch)[group][name].values for batch in batches]
            np.testing.assert_array_equal(joined[group][name].values, np.concatenate(parts, -1))
            assert joined[group]["image_id"].values.tolist() == [0, 1, 2]


def test_statistics_want_images_and_scalars(data):
    with pytest.raises(ValueError, match="to_arviz"):
        statistics(statistics(data))
    with pytest.raises(ValueError, match="unexpected number of dimensions"):
        statistics(data, all_together=np.sum)
    with pytest.raises(ValueError, match=r"bayes_p\(statistics\(data\)\)"):
        bayes_p(data)


def test_roughness_is_that_of_neighbours():
    checks = np.indices((6, 5)).sum(0)[None] % 2.0
    assert roughness(checks) == 1
    assert roughness(np.full((3, 6, 5), 0.7)) == 0
    ramp = np.broadcast_to(0.1 * np.arange(5.0), (1, 6, 5))
    assert roughness(ramp) == pytest.approx(0.01 * 24 / 49)
    noise = np.random.default_rng(0).normal(0, 0.3, (2, 3, 1, 80, 80)).astype(np.float32)
    np.testing.assert_allclose(roughness(noise), np.full((2, 3), 2 * 0.3**2), rtol=0.1)
    assert roughness(noise).dtype == np.float32


def test_roughness_shows_noise_that_the_images_do_not_have():
    def noisy(images=None, *, size=1):
        with pyro.plate("images", size, dim=-1):
            pyro.sample("image", dist.Normal(torch.full((1, 8, 8), 0.5), NOISE).to_event(3))

    smooth = torch.full((20, 1, 8, 8), 0.5)
    p = bayes_p(statistics(to_arviz(noisy, lambda images: None, smooth, draws=20)))
    assert p == {"total_ink": pytest.approx(0.5, abs=0.15), "roughness": 1}


def test_arviz_summarises_and_plots_statistics(data):
    checks = statistics(data)
    table = arviz.summary(checks, group="posterior_predictive", kind="stats")
    assert {"total_ink[a]", "roughness[c]"} <= set(table.index)
    if CLASSIC:
        arviz.plot_ppc(checks, var_names=["roughness"])
        arviz.plot_ppc(checks, group="prior", var_names=["total_ink"])
        pyplot.close("all")
    else:
        arviz.plot_ppc_dist(checks, var_names=["roughness"], backend="none")
        arviz.plot_ppc_tstat(checks, var_names=["total_ink"], t_stat="mean", backend="none")


# layers


SIZES = {"image_shape": (1, 12, 15), "window": (1, 7, 6), "code": 4}
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}


def layered(**swaps):
    model = CSTVAE(**{**SIZES, "layers": 2, **swaps})
    guide = CSTVAEGuide(model, hidden=16)
    return to_arviz(model, guide, torch.rand(3, *model.image_shape).round(), draws=5)


@pytest.mark.parametrize(("swaps", "channels"), [({}, 1), (COLOUR, 3)], ids=["grey", "colour"])
def test_layers_have_names(swaps, channels):
    data = layered(**swaps)
    per_image, picture = ("chain", "draw", "image_id"), ("channel", "row", "column")
    for group in ("posterior", "prior"):
        assert {name: data[group][name].dims for name in data[group].data_vars} == {
            "z_where": (*per_image, "step", "pose"),
            "z_what": (*per_image, "step", "code"),
            "canvas": (*per_image, *picture),
            "layers": (*per_image, "layer", *picture),
            "masks": (*per_image, "layer", "opacity", "row", "column"),
            "transforms": (*per_image, "layer", "axis", "term"),
        }
        assert dict(data[group].sizes) == {
            **{"chain": 1, "draw": 5, "image_id": 3, "step": 2, "pose": 6, "code": 4},
            **{"channel": channels, "row": 12, "column": 15},
            **{"layer": 2, "opacity": 1, "axis": 2, "term": 3},
        }
        assert set(data[group].dims) == set(data[group].coords)
        assert data[group]["pose"].values.tolist() == list(range(6))  # no scale, x, y
        assert data[f"{group}_predictive"]["image"].dims == (*per_image, *picture)
        assert not any(np.isnan(data[group][name]).any() for name in data[group].data_vars)


@pytest.mark.parametrize("swaps", [{}, COLOUR], ids=["grey", "colour"])
def test_layers_by_name_make_the_canvas(swaps):
    """Front first, each behind what those before leave: by names alone, without a position."""
    scene = layered(**swaps)["posterior"]
    front, back = (scene["layers"].sel(layer=i, drop=True) for i in (0, 1))
    opacity = scene["masks"].sel(layer=0, opacity=0, drop=True)
    canvas = (front + (1 - opacity) * back).transpose(*scene["canvas"].dims)
    np.testing.assert_allclose(canvas.values, scene["canvas"].values, atol=1e-5)
    if swaps:
        assert (scene["layers"] <= scene["masks"].isel(opacity=0) + 1e-5).all()


def test_a_single_layer_has_no_steps():
    model = STVAE(**SIZES)
    data = to_arviz(model, STVAEGuide(model, hidden=16), torch.ones(3, 1, 12, 15), draws=2)
    dims = {name: data["posterior"][name].dims for name in ("z_where", "z_what")}
    per_image = ("chain", "draw", "image_id")
    assert dims == {"z_where": (*per_image, "pose"), "z_what": (*per_image, "code")}
    assert data["posterior"].sizes["layer"] == 1


def test_netcdf_round_trip_of_layers(tmp_path):
    data = layered(**COLOUR)
    data.to_netcdf(str(tmp_path / "data.nc"), engine="h5netcdf")
    back = arviz.from_netcdf(str(tmp_path / "data.nc"))
    for name in data["posterior"].data_vars:
        xr.testing.assert_equal(back["posterior"][name], data["posterior"][name])


@pytest.mark.parametrize("background", [True, False])
def test_regions_of_pixels_belong_to_their_images(background):
    """A plate of pixels comes before that of images: with as many of both a shape does not tell."""
    model = ECON((3, 16, 16), experts=3, steps=3, background=background)
    data = to_arviz(model, ECONGuide(model), torch.rand(256, 3, 16, 16), draws=1)
    for group in ("posterior", "prior"):
        sites = data[group]
        assert sites["z_region"].dims == ("chain", "draw", "image_id", "pixel")
        assert sites["colours"].dims == ("chain", "draw", "image_id", "layer", *PICTURE)
        colours = sites["colours"].values.reshape(1, 1, 256, 3, 3, 256)
        colours = np.concatenate([colours, 0 * colours[:, :, :, :1]], 3)  # of none
        chosen = sites["z_region"].values[:, :, :, None, None]
        shown = np.take_along_axis(colours, chosen, 3)[:, :, :, 0]
        assert np.allclose(shown, sites["canvas"].values.reshape(shown.shape))


def test_a_layer_of_no_object_has_no_code():
    """Nor an expert; the background's layer, the last, always has."""
    model = ECON((3, 16, 16), experts=3, steps=3)
    data = to_arviz(model, ECONGuide(model), torch.rand(6, 3, 16, 16), draws=8)
    for group in ("posterior", "prior"):
        sites = data[group]
        absent = sites["z_pres"].values[..., :2] == 0
        assert np.array_equal(np.isnan(sites["z_what"].values[..., :2, :]).any(-1), absent)
        assert np.array_equal(np.isnan(sites["z_expert"].values[..., :2]), absent)
        assert not np.isnan(sites["z_what"].values[..., 2, :]).any()
        assert np.array_equal(sites["count"].values, (~absent).sum(-1))
    assert data["prior"]["count"].values.std() > 0
