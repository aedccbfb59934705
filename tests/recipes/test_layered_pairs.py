"""The pairs for layered digits: as many latents as the paper says, and its own parts on request."""

import pytest
import torch

from pyro_scenes.evaluation import log_weights
from pyro_scenes.models import CSTVAE, STVAE, VAE
from pyro_scenes.recipes import layered_digits_pair


@pytest.mark.parametrize(
    ("kind", "digits", "latents"),
    [
        ("vae", 1, 20),
        ("vae", 2, 50),
        ("st_vae", 1, 26),
        ("st_vae", 2, 56),
        ("cst_vae", 1, 26),
        ("cst_vae", 2, 52),
    ],
)
@pytest.mark.parametrize("paper", [False, True])
def test_a_pair_has_the_papers_number_of_latents(kind, digits, latents, paper):
    model, guide = layered_digits_pair(kind, (1, 36, 36), digits, paper=paper)
    assert isinstance(model, {"vae": VAE, "st_vae": STVAE, "cst_vae": CSTVAE}[kind])
    assert guide.model is model
    assert sum(prior.event_shape.numel() for prior in model.latents().values()) == latents


def test_the_papers_windows_are_images_that_start_at_the_identity():
    model, guide = layered_digits_pair("cst_vae", (1, 36, 36), paper=True)
    assert model.window == (1, 36, 36) and not model.centred
    assert guide.sweeps == 1 and guide.z_where.looks == 0 and not guide.explained
    torch.testing.assert_close(model.pose(torch.zeros(1, 6))[0], torch.eye(2, 3))
    model, guide = layered_digits_pair("cst_vae", (1, 36, 36), 1)
    assert model.window == (1, 28, 28) and model.centred and guide.sweeps == 2


def test_another_kind_is_named():
    with pytest.raises(ValueError, match="got 'air'"):
        layered_digits_pair("air", (1, 36, 36))


@pytest.mark.parametrize("kind", ["vae", "st_vae", "cst_vae"])
def test_windows_and_grey_levels_are_arguments(kind):
    model, guide = layered_digits_pair(kind, (3, 24, 30), window=(9, 12), binary=False)
    assert getattr(model, "window", (3, 9, 12)) == (3, 9, 12)
    images = torch.rand(2, 3, 24, 30)
    assert log_weights(model.eval(), guide.eval(), images).isfinite().all()
    with pytest.raises(ValueError, match="support"):
        log_weights(*(part.eval() for part in layered_digits_pair(kind, (3, 24, 30))), images)
