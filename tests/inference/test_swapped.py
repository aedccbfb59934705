"""What counts as a part that the loop has swapped, and what does not."""

import sys

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import JitTrace_ELBO
from torch import nn

from pyro_scenes import VAE, Prior, Product, VAEGuide, fit
from pyro_scenes.networks import GlimpseDecoder

IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()


def uniform(high):
    return Prior(dist.Uniform, low=[-1.0, -1.0], high=[high, high])


def pair(**settings):
    model = VAE((1, 4, 4), 2, **settings)
    return model, VAEGuide(model, hidden=8)


@pytest.fixture
def checks(monkeypatch):
    found = []
    fit_module = sys.modules["pyro_scenes.inference.fit"]
    monkeypatch.setattr(fit_module, "check_guide", lambda *pair: found.append(pair))
    return found


def assigned(model, high):
    model.z_what = uniform(high)


def of_a_part(model, high):
    model.z_what = Product(both=uniform(high))


@pytest.mark.parametrize("narrow", [assigned, of_a_part])
def test_a_prior_of_narrower_bounds_is_checked(narrow):
    model, guide = pair(z_what=uniform(1.0))
    training = fit(model, guide, [IMAGES] * 4)
    next(training)
    narrow(model, 2.0)  # in which the guide's proposals lie, too
    next(training)
    narrow(model, 0.5)
    with pytest.raises(ValueError, match="z_what has support"):
        next(training)


def test_a_prior_of_the_same_bounds_is_not_checked_again(checks):
    model, guide = pair(z_what=uniform(1.0))
    for record in fit(model, guide, [IMAGES] * 4):
        model.z_what = uniform(1.0)
    assert record.step == 4 and len(checks) == 1


class Counting(nn.Module):
    """A decoder that keeps a number and a result of each call."""

    def __init__(self):
        super().__init__()
        self.calls, self.last = np.int64(0), None
        self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 16)

    def forward(self, z_what):
        self.calls += 1
        self.last = self.linear(self.norm(z_what)).sigmoid()
        return self.last.unflatten(-1, (1, 4, 4))


def test_what_changes_by_itself_is_no_swap(checks):
    model, guide = pair(decoder=Counting())
    for record in fit(model, guide, [IMAGES] * 5):
        if record.step == 3:
            model.decoder = GlimpseDecoder(2, (1, 4, 4), hidden=(8,))  # still a swap
    assert len(checks) == 1 + 1


def test_what_changes_by_itself_was_not_compiled():
    model, guide = pair(decoder=Counting())
    elbo = JitTrace_ELBO(ignore_jit_warnings=True)
    assert [record.step for record in fit(model, guide, [IMAGES] * 3, elbo=elbo)] == [1, 2, 3]
    model(IMAGES)
    assert len(list(fit(model, guide, [IMAGES], elbo=elbo))) == 1
    model.decoder.linear = nn.Linear(2, 16)
    with pytest.raises(ValueError, match="is compiled at its first step"):
        next(fit(model, guide, [IMAGES], elbo=elbo))
