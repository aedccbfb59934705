"""Stand-ins for a model and a guide, small enough to be checked by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule

from pyro_scenes.criticism import to_arviz

STEPS, NOISE = 2, 0.1


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
    def __init__(self, model):
        super().__init__("patches_guide")
        self.__dict__["model"] = model  # not registered, as in pyro_scenes.base
        self.logit = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres = torch.ones(len(images))
            for t in range(STEPS):
                z_pres, _ = latents(t, self.logit + images.mean((1, 2, 3)), z_pres)


@pytest.fixture
def images():
    return torch.rand(3, 1, 8, 8)


@pytest.fixture
def pair():
    """A model that draws patches with noise of scale 0.1, and its guide."""
    model = Patches().eval()
    return model, PatchesGuide(model).eval()


@pytest.fixture
def data(pair, images):
    return to_arviz(*pair, images, draws=6, image_ids=["a", "b", "c"])
