"""Reconstructions of every kind of model, and what trivial ones reach."""

import math

import pytest
import torch
from pyro import poutine

from pyro_scenes import AIR, CSTVAE, VAE, AIRGuide, CSTVAEGuide, VAEGuide
from pyro_scenes.evaluation import canvas_error, floors, reconstruct, see_layers

IMAGES = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0)).round()
PAIRS = {
    "vae": lambda: (lambda model: (model, VAEGuide(model)))(VAE((1, 12, 12), 4)),
    "air": lambda: (lambda model: (model, AIRGuide(model)))(AIR((1, 12, 12), (1, 6, 6), code=4)),
    "cst_vae": lambda: (lambda model: (model, CSTVAEGuide(model)))(
        CSTVAE((1, 12, 12), (1, 6, 6), code=4)
    ),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return tuple(part.eval() for part in PAIRS[request.param]())


def test_they_are_the_same_each_time_and_for_each_chunk(pair):
    whole = reconstruct(*pair, IMAGES)
    assert whole.shape == IMAGES.shape and not whole.requires_grad
    torch.testing.assert_close(reconstruct(*pair, IMAGES, chunk=2), whole)


def test_those_of_layers_are_their_canvas():
    pair = [part.eval() for part in PAIRS["cst_vae"]()]
    torch.testing.assert_close(reconstruct(*pair, IMAGES), see_layers(*pair, IMAGES).canvas)


def test_a_guide_that_sees_nothing_leaves_the_canvas_black():
    model = AIR((1, 12, 12), (1, 6, 6), code=4)
    guide = AIRGuide(model, presence=-20.0).eval()
    assert (reconstruct(model, guide, IMAGES) == 0).all()


def test_a_model_without_a_canvas_is_refused():
    model, guide = (part.eval() for part in PAIRS["cst_vae"]())
    with pytest.raises(ValueError, match="no site canvas"):
        reconstruct(poutine.block(model, hide=["canvas"]), guide, IMAGES)


def test_the_share_of_the_variance_that_is_explained():
    perfect = canvas_error(IMAGES, IMAGES)
    assert perfect.mse == 0 and perfect.explained_variance == 1
    known = floors.canvas_floors(IMAGES)
    assert known["one flat colour"].explained_variance == pytest.approx(0, abs=1e-6)
    assert known["one flat colour"].mse < known["black"].mse == pytest.approx(IMAGES.mean())
    # No single image is nearer to all.
    mean = known["mean image"].mse
    assert all(mean < canvas_error(one.expand_as(IMAGES), IMAGES).mse for one in IMAGES)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_flat_images_have_no_variance_to_explain(level, channels):
    flat = torch.full((5, channels, 12, 12), level)
    flat[1:] *= 0.9  # each image has a colour of its own
    assert math.isnan(canvas_error(torch.rand_like(flat), flat).explained_variance)
    flat[0, 0, 3, 4] = 0.5  # but for one pixel
    assert canvas_error(flat, flat).explained_variance == 1


@pytest.mark.parametrize("shape", [(5, 1, 12, 11), (4, 1, 12, 12)])
def test_other_shapes_are_refused(shape, unchecked):
    with pytest.raises(ValueError, match="canvases and images of one shape, one at least"):
        canvas_error(torch.zeros(shape), IMAGES)
