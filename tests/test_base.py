"""What every model and guide does: checks in evaluation mode, and parts swapped by assignment."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_scenes import VAE, Amortised, Prior, VAEGuide, fit

SHAPE, CODE = (1, 6, 6), 3


def decoder(layer):
    return nn.Sequential(nn.Linear(CODE, 36), layer, nn.Sigmoid(), nn.Unflatten(-1, SHAPE))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(36), nn.Dropout(0.5)], ids=["norm", "dropout"])
def test_a_check_leaves_modes_buffers_and_the_random_state(layer):
    model = VAE(SHAPE, CODE, decoder=decoder(layer))
    model.decoder[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    model.check()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and layer.training and not model.decoder[0].training
    VAEGuide(model)  # one code at a time: in training mode a BatchNorm refuses it
    assert layer.training


def test_sizes_may_be_integers_of_numpy(unchecked):
    model = VAE(tuple(np.array(SHAPE)), np.int64(CODE))
    images = torch.rand(2, *SHAPE).round()
    (record,) = fit(model, VAEGuide(model, hidden=np.int32(8)), [images], start=np.int64(3))
    assert record.step == 4 and len(model(size=np.uint8(2))) == 2


@pytest.mark.parametrize("size", [True, 2.0, np.float64(2), np.int64(0), "2", None])
def test_other_sizes_are_refused(size, unchecked):
    with pytest.raises(ValueError, match="code must be a whole number, from 1 up"):
        VAE(SHAPE, size)


def test_a_part_that_is_swapped_in_takes_dtype_and_may_be_a_function():
    model = VAE(SHAPE, CODE).double()
    guide = VAEGuide(model)
    images = torch.rand(2, *SHAPE, dtype=torch.double).round()
    guide.z_what = Amortised(256, Prior(dist.Normal, loc=[0.0] * CODE, scale=[1.0] * CODE)(None))
    assert {value.dtype for value in guide.z_what.state_dict().values()} == {torch.double}
    guide(images)
    guide.z_what = lambda features: dist.Normal(features[:, :CODE], 1.0).to_event(1)
    guide(images)
    with pytest.raises(AttributeError, match="build a new guide"):
        guide.model = model
