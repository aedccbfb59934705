"""Draws reach ArviZ under the model's names, NaN where absent, pictures apart from latents."""

import warnings

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro import poutine

from pyro_scenes import CSTVAE, STVAE, VAE, CSTVAEGuide, STVAEGuide, VAEGuide
from pyro_scenes.criticism import p_values, statistics, to_arviz
from pyro_scenes.pairs import TrainingModeWarning

DRAWS, STEPS, NOISE = 6, 2, 0.1
PICTURE = ("channel", "row", "column")
SITES = ["posterior", "prior"]
PER_IMAGE = ("chain", "draw", "image_id")
GROUPS = [s + k for s in SITES for k in ("", "_pictures", "_predictive")] + ["observed_data"]


def dims(group):
    return {name: variable.dims for name, variable in group.data_vars.items()}


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


def test_groups_and_dimensions(data):
    expected = {
        "z_pres": (*PER_IMAGE, "step"),
        "z_where": (*PER_IMAGE, "step", "pose"),
        "z_what": (*PER_IMAGE, "step", "code"),
        "z_expert": (*PER_IMAGE, "step"),
        "count": PER_IMAGE,
    }
    for group in SITES:
        assert dims(data[group]) == expected
        assert dims(data[f"{group}_pictures"]) == {"canvas": (*PER_IMAGE, *PICTURE)}
        assert dims(data[f"{group}_predictive"]) == {"image": (*PER_IMAGE, *PICTURE)}
    assert dims(data["observed_data"]) == {"image": ("image_id", *PICTURE)}
    sizes = {"chain": 1, "draw": DRAWS, "image_id": 3}
    assert dict(data["posterior"].sizes) == sizes | {"step": STEPS, "pose": 3, "code": 4}
    assert dict(data["posterior_pictures"].sizes) == sizes | {"channel": 1, "row": 8, "column": 8}


@pytest.mark.parametrize("group", SITES)
def test_a_summary_has_a_row_for_each_latent_of_each_image(data, group):
    table = arviz.summary(data, group=group, kind="stats")
    per_object = 1 + 3 + 4 + 1
    assert len(table) == 3 * (STEPS * per_object + 1)
    some = (data[group]["z_pres"].sum("draw") > 0).values.ravel()
    rows = [f"z_where[{i}, {t}, x]" for i in "abc" for t in range(STEPS)]
    table = arviz.summary(data, group=group, var_names=["z_where"], kind="stats", skipna=True)
    assert np.isfinite(table.loc[rows, "mean"].values[some]).all()  # where it is in some draw


def test_coordinates(data, pair, images):
    for group in GROUPS:
        assert data[group]["image_id"].values.tolist() == ["a", "b", "c"]
        assert set(data[group].dims) == set(data[group].coords)
    assert data["posterior"]["pose"].values.tolist() == ["scale", "x", "y"]
    assert data["posterior"]["step"].values.tolist() == [0, 1]
    plain = to_arviz(*pair, images, draws=1)
    assert plain["observed_data"]["image_id"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("group", SITES)
def test_nan_exactly_where_absent(data, group):
    absent = data[group]["z_pres"] == 0
    assert absent.any() and not absent.all()
    for name in ("z_where", "z_what", "z_expert"):
        assert (np.isnan(data[group][name]) == absent).all()
    assert not np.isnan(data[f"{group}_pictures"]["canvas"]).any()


@pytest.mark.parametrize("group", SITES)
def test_count_is_the_number_of_objects(data, group):
    assert (data[group]["count"] == data[group]["z_pres"].sum("step")).all()
    assert data[group]["count"].dtype == data[group]["z_pres"].dtype == np.int64


@pytest.mark.parametrize("group", SITES)
def test_canvas_and_replicate_belong_to_the_draw(data, group):
    bright = 1 / (1 + np.exp(-data[group]["z_what"].isel(code=0, drop=True)))
    drawn = data[f"{group}_pictures"]["canvas"].isel(channel=0, row=0, column=[0, 4], drop=True)
    np.testing.assert_allclose(drawn.values, bright.fillna(0).values, rtol=1e-5)
    noise = (data[f"{group}_predictive"]["image"] - data[f"{group}_pictures"]["canvas"]).values
    assert noise.dtype == np.float32
    assert np.abs(noise).max() < 6 * NOISE
    assert noise.std() == pytest.approx(NOISE, rel=0.1)


def test_replicates_are_not_the_observed_images(data, images):
    np.testing.assert_array_equal(data["observed_data"]["image"].values, images.numpy())
    replicate = data["posterior_predictive"]["image"]
    assert (replicate != data["observed_data"]["image"]).all()
    assert (replicate.isel(draw=0) != replicate.isel(draw=1)).all()


def test_the_prior_does_not_see_the_images(pair, images):
    def guide(images):  # uses up as many random numbers as the images are bright
        torch.rand(int(images.sum()))
        pair[1](images)

    one = to_arviz(pair[0], guide, images, draws=2, seed=1)
    two = to_arviz(pair[0], guide, images.flip(0) / 2, draws=2, seed=1)
    for group in ("prior", "prior_predictive"):
        for name in one[group].data_vars:
            xr.testing.assert_identical(one[group][name], two[group][name])


def test_names_without_steps_or_presence(images):
    data = to_arviz(other, other_guide, images, draws=2)
    assert {name: names[2:] for name, names in dims(data["posterior"]).items()} == {
        "bright": ("bright_dim_0",),
        "z_what": ("image_id", "z_what_dim_0", "z_what_dim_1"),
        "z_expert": ("image_id", "step"),
        "bits": ("image_id", "bits_dim_0"),
        "level_0": ("image_id", "level_0_dim_0"),
        "level_1": ("image_id", "level_1_dim_0"),
    }
    assert "posterior_pictures" not in data
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
    xr.testing.assert_equal(p_values(statistics(back)), p_values(statistics(data)))


def test_a_seed_repeats_the_draws_and_leaves_the_state(pair, images):
    def draw(seed):
        data = to_arviz(*pair, images, draws=2, seed=seed)
        return np.concatenate(
            [data[g]["image"].values for g in ("posterior_predictive", "prior_predictive")]
        )

    before = torch.get_rng_state()
    one = draw(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert (draw(3) == one).all()
    assert (draw(4) != one).all()
    assert (draw(None) != draw(None)).all()


def test_no_gradients_and_one_draw(pair, images):
    assert torch.is_grad_enabled()
    data = to_arviz(*pair, images[:1].requires_grad_(), draws=1)
    assert data["posterior_pictures"]["canvas"].shape == (1, 1, 1, 1, 8, 8)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3, 1, 8, 8), {"draws": 0}, "draws must be a whole number, at least 1, got 0"),
        ((1, 8, 8), {}, r"\(n, C, H, W\).*image\[None\]"),
        ((3, 2, 1, 8, 8), {}, r"\(n, C, H, W\)"),
        ((0, 1, 8, 8), {}, "n > 0"),
        ((3, 1, 8, 8), {"image_ids": [0, 1]}, "3 labels"),
    ],
)
def test_wrong_arguments(pair, unchecked, shape, settings, message):
    with pytest.raises(ValueError, match=message):
        to_arviz(*pair, torch.zeros(shape), **settings)


def test_images_that_are_no_numbers_are_named(pair, images):
    with pytest.raises(ValueError, match="images must be finite numbers.*as_images"):
        to_arviz(*pair, torch.where(images > images.mean(), images, torch.inf))


def test_numbers_may_be_of_numpy(pair, images, unchecked):
    data = to_arviz(*pair, images, draws=np.int64(2), seed=np.uint8(3))
    assert data["posterior"].sizes["draw"] == 2


def test_a_latent_must_come_from_the_guide(pair, images):
    model, guide = pair
    with pytest.raises(ValueError, match="do not belong together.*'z_what_0'.*must draw each"):
        to_arviz(model, poutine.block(guide, hide=["z_what_0"]), images, draws=1)
    hidden = [poutine.block(part, hide=["z_where_0"]) for part in pair]
    assert "z_what" in to_arviz(*hidden, images, draws=1)["posterior"]
    with pytest.raises(ValueError, match="must draw 'image'"):
        to_arviz(poutine.block(model, hide=["image"]), guide, images, draws=1)


def test_a_guide_of_another_model_is_refused(images):
    guide, other_model = VAEGuide(VAE((1, 8, 8)).eval()).eval(), VAE((1, 8, 8)).eval()
    for one in (other_model, poutine.block(other_model, hide=["z_what"])):
        with pytest.raises(ValueError, match="of another model"):
            to_arviz(one, guide, images, draws=1)


def unmasked(images):
    one_latent(images, mask=True)


def of_other_support(images):
    one_latent(images, latent=dist.Normal(torch.zeros(4), 1.0).to_event(1))


def of_other_shape(images):
    one_latent(images, latent=dist.LogNormal(torch.zeros(5), 1.0).to_event(1))


def one_latent(images=None, *, size=3, mask=None, latent=None):
    """A model and its guide: z_what, positive, where z_pres is 1."""
    latent = dist.LogNormal(torch.zeros(4), 1.0).to_event(1) if latent is None else latent
    with pyro.plate("images", size, dim=-1):
        z_pres = pyro.sample("z_pres", dist.Bernoulli(0.9)).bool()
        with poutine.mask(mask=z_pres if mask is None else mask):
            pyro.sample("z_what", latent)
        if images is None:
            pyro.sample("image", dist.Normal(torch.zeros(1, 8, 8), 1.0).to_event(3))


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (unmasked, "z_what where the model masks it out"),
        (of_other_support, "z_what has support"),
        (of_other_shape, "z_what has event shape"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused_as_by_fit(images, guide, words):
    assert "z_what" in to_arviz(one_latent, one_latent, images, draws=1)["posterior"]
    with pytest.raises(ValueError, match=words):
        to_arviz(one_latent, guide, images, draws=1)


@pytest.mark.parametrize("names", [["model"], ["guide"], ["model", "guide"]])
def test_training_mode_is_noticed(pair, images, names):
    for name, part in zip(("model", "guide"), pair, strict=True):
        part.train(name in names)
    kinds = [type(part).__name__ for part in pair if part.training]
    wrapped = pair[0], poutine.block(pair[1], hide=[])
    for model, guide in (pair, wrapped):
        with pytest.warns(TrainingModeWarning, match=rf"^{' and '.join(kinds)} in training.*eval"):
            to_arviz(model, guide, images, draws=1)


def test_evaluation_mode_is_not_warned_of(pair, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingModeWarning)
        to_arviz(*pair, images, draws=1)


def test_what_a_batch_has_beside_images_reaches_model_and_guide(images):
    def model(images, level, *, size):
        with pyro.plate("images", size, dim=-1):
            z = pyro.sample("z", dist.Normal(level + 1, 1e-3))
            pyro.sample(
                "image", dist.Delta(z[:, None, None, None].expand(-1, 1, 8, 8), event_dim=3)
            )

    def guide(images, level):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Delta(level))

    data = to_arviz(model, guide, images, torch.arange(3.0), draws=1)
    assert data["posterior"]["z"].values.tolist() == [[[0, 1, 2]]]
    assert data["prior"]["z"].values.round().tolist() == [[[1, 2, 3]]]


def test_groups_are_those_of_a_data_tree_with_arviz_1(pair, images, monkeypatch, tmp_path):
    monkeypatch.setattr(arviz, "__version__", "1.0.0")
    data = to_arviz(*pair, images, draws=2)
    assert isinstance(data, xr.DataTree) and set(data.children) == set(GROUPS)

    def error(image, draw):
        return np.square(image - draw["canvas"]).sum((-3, -2, -1))

    checks = statistics(data, error=error)
    assert p_values(checks)["error"].dims == ("image_id",)
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "data.nc", engine="h5netcdf") as back:
        for group in GROUPS:
            xr.testing.assert_equal(back[group].to_dataset(), data[group].to_dataset())
        xr.testing.assert_equal(p_values(statistics(back, error=error)), p_values(checks))


def areas(images=None, *, size=1):
    """16 pixels of 4 x 4, each of one of two layers; the layer behind is always there."""
    with pyro.plate("images", size, dim=-1):
        z_pres = pyro.sample("z_pres_0", dist.Bernoulli(torch.full((size,), 0.5)))
        for i in range(2):
            with poutine.mask(mask=z_pres.bool() if i == 0 else torch.tensor(True)):
                pyro.sample(f"z_what_{i}", dist.Normal(torch.zeros(size, 4), 1).to_event(1))
        with pyro.plate("pixels", 16, dim=-2):
            chosen = pyro.sample("z_region", dist.Categorical(torch.ones(16, size, 2)))
        if images is None:
            canvas = chosen.T.reshape(size, 1, 4, 4).float()
            pyro.deterministic("canvas", canvas, event_dim=3)
            pyro.sample("image", dist.Normal(canvas, 0.1).to_event(3))


def test_regions_of_pixels_belong_to_their_images():
    """A plate of pixels comes before that of images: with as many of both a shape does not tell."""
    guide = lambda images: areas(images, size=len(images))  # noqa: E731
    data = to_arviz(areas, guide, torch.rand(16, 1, 4, 4), draws=3)
    for group in SITES:
        assert set(data[group].data_vars) == {"z_pres", "z_what", "count"}
        pictures = data[f"{group}_pictures"]
        assert pictures["z_region"].dims == (*PER_IMAGE, "pixel")
        assert np.array_equal(pictures["z_region"], pictures["canvas"].values.reshape(1, 3, 16, 16))


def test_a_layer_without_presence_is_always_there():
    data = to_arviz(areas, lambda images: areas(images, size=6), torch.rand(6, 1, 4, 4), draws=8)
    for group in SITES:
        lacking = np.isnan(data[group]["z_what"].values).any(-1)
        assert np.array_equal(lacking[..., 0], data[group]["z_pres"].values[..., 0] == 0)
        assert not lacking[..., 1].any()


# layers


SIZES = {"image_shape": (1, 12, 15), "window": (1, 7, 6), "code": 4}
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}


def layered(**swaps):
    model = CSTVAE(**{**SIZES, "layers": 2, **swaps})
    guide = CSTVAEGuide(model, hidden=16)
    return to_arviz(model.eval(), guide.eval(), torch.rand(3, *model.image_shape).round(), draws=5)


@pytest.mark.parametrize(("swaps", "channels"), [({}, 1), (COLOUR, 3)], ids=["grey", "colour"])
def test_layers_have_names(swaps, channels):
    data = layered(**swaps)
    sizes = {"chain": 1, "draw": 5, "image_id": 3}
    codes = {"step": 2, "pose": 6, "code": 4, "layer": 2, "axis": 2, "term": 3}
    pictures = {"layer": 2, "opacity": 1, "channel": channels, "row": 12, "column": 15}
    for group in SITES:
        assert dims(data[group]) == {
            "z_where": (*PER_IMAGE, "step", "pose"),
            "z_what": (*PER_IMAGE, "step", "code"),
            "transforms": (*PER_IMAGE, "layer", "axis", "term"),
        }
        assert dims(data[f"{group}_pictures"]) == {
            "canvas": (*PER_IMAGE, *PICTURE),
            "layers": (*PER_IMAGE, "layer", *PICTURE),
            "masks": (*PER_IMAGE, "layer", "opacity", "row", "column"),
        }
        assert dict(data[group].sizes) == sizes | codes
        assert dict(data[f"{group}_pictures"].sizes) == sizes | pictures
        assert data[group]["pose"].values.tolist() == list(range(6))  # no scale, x, y
        for one in (data[group], data[f"{group}_pictures"]):
            assert set(one.dims) == set(one.coords)
            assert not any(np.isnan(variable).any() for variable in one.data_vars.values())


@pytest.mark.parametrize("swaps", [{}, COLOUR], ids=["grey", "colour"])
def test_layers_by_name_make_the_canvas(swaps):
    """Front first, each behind what those before leave: by names alone, without a position."""
    scene = layered(**swaps)["posterior_pictures"]
    front, back = (scene["layers"].sel(layer=i, drop=True) for i in (0, 1))
    opacity = scene["masks"].sel(layer=0, opacity=0, drop=True)
    canvas = (front + (1 - opacity) * back).transpose(*scene["canvas"].dims)
    np.testing.assert_allclose(canvas.values, scene["canvas"].values, atol=1e-5)
    if swaps:
        assert (scene["layers"] <= scene["masks"].isel(opacity=0) + 1e-5).all()


def test_a_single_layer_has_no_steps():
    model = STVAE(**SIZES).eval()
    guide = STVAEGuide(model, hidden=16).eval()
    data = to_arviz(model, guide, torch.ones(3, 1, 12, 15), draws=2)
    assert data["posterior"]["z_where"].dims == (*PER_IMAGE, "pose")
    assert data["posterior"]["z_what"].dims == (*PER_IMAGE, "code")
    assert data["posterior_pictures"].sizes["layer"] == 1
