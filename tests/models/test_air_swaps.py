"""Every conditional of AIR, and the guide's cell, replaced by a module and by a function, and trained."""

from itertools import repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_scenes import AIR, AIRGuide, Persist, Pixels, Prior, Product, fit
from pyro_scenes.conditionals import Amortised
from pyro_scenes.networks import GlimpseDecoder

SMALL = {"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 2, "code": 4}
BINARY = (torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.8).float()


class Spy(nn.Module):
    """Calls another conditional and remembers that it was asked."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args):
        self.calls += 1
        return self.inner(*args)


POSE = {"loc": [1.0, 0.0, 0.0], "scale": [0.2, 0.5, 0.5]}
CODE = {"loc": [0.0] * 4, "scale": [1.0] * 4}
SWAPS = {
    "z_pres, for each step": {"z_pres": Persist([0.9, 0.4])},
    "z_pres, learned": {"z_pres": Persist([0.9, 0.4], learn=True)},
    "z_pres, certain": {"z_pres": Persist(1.0)},
    "z_pres, function": {"z_pres": lambda scene: dist.Bernoulli(0.3 * scene.z_pres)},
    "z_where, positive": {"z_where": Prior(dist.LogNormal, **POSE)},
    "z_where, a product": {
        "z_where": Product(
            scale=Prior(dist.LogNormal, learn=True, loc=[1.0], scale=[0.2]),
            shift=Prior(dist.Normal, loc=[0.0, 0.0], scale=[0.5, 0.5]),
        )
    },
    "z_where, heavy tails": {"z_where": Prior(dist.StudentT, df=[3.0] * 3, **POSE)},
    "z_where, learned": {"z_where": Prior(dist.Normal, learn=True, **POSE)},
    "z_where, function": {
        "z_where": lambda scene: dist.Normal(
            torch.tensor([3.0, 0.0, 0.0]) if scene.z_where is None else scene.z_where, 0.3
        ).to_event(1)
    },
    "z_what, Laplace": {"z_what": Prior(dist.Laplace, **CODE)},
    "z_what, a mixture": {
        "z_what": lambda scene: dist.MixtureSameFamily(
            dist.Categorical(torch.ones(2)),
            dist.Normal(torch.tensor([[-1.0] * 4, [1.0] * 4]), 0.5).to_event(1),
        )
    },
    "z_what, one-hot": {"z_what": Prior(dist.OneHotCategorical, probs=[0.1, 0.2, 0.3, 0.4])},
    "z_what, of the pose": {
        "z_what": lambda scene: dist.Normal(scene.z_where[..., :1].expand(-1, 4), 1.0).to_event(1)
    },
    "z_what, in the unit interval": {
        "z_what": lambda scene: dist.Beta(torch.ones(4), torch.ones(4)).to_event(1)
    },
    "z_what, on the simplex": {"z_what": lambda scene: dist.Dirichlet(torch.ones(4))},
    "decoder, module": {"decoder": GlimpseDecoder(4, (1, 8, 8), hidden=(8,), bias=0.0)},
    "decoder, function": {
        "decoder": lambda z: torch.sigmoid(z.sum(-1))[..., None, None, None] * torch.ones(1, 8, 8)
    },
    "image, Laplace": {"image": Pixels(dist.Laplace, scale=0.2)},
    "image, Bernoulli": {"image": Pixels(dist.Bernoulli)},
    "image, learned scale": {"image": Pixels(dist.Normal, scale=0.5, learn=True)},
    "image, function": {"image": lambda scene: dist.Normal(scene.canvas, 0.5).to_event(3)},
}
CELLS = {
    "LSTM": nn.LSTMCell,
    "GRU": nn.GRUCell,
    "function": lambda inputs, hidden: nn.RNNCell(inputs, hidden, nonlinearity="relu"),
}


def untrained(model, guide, steps=6):
    """Names of the parameters that a few steps of the score function leave without a gradient."""
    left = {**dict(model.named_parameters()), **dict(guide.named_parameters())}
    for _ in fit(model, guide, repeat(BINARY, steps)):
        left = {name: p for name, p in left.items() if p.grad is None or not p.grad.any()}
        if not left:
            break
    return [*left]


@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_in_is_used_and_everything_is_trained(swap):
    ((name, part),) = SWAPS[swap].items()
    spy = Spy(part)
    model = AIR(**SMALL, **{name: spy})
    guide = AIRGuide(model, presence=3.0)
    assert untrained(model, guide) == []
    spy.calls = 0
    model(BINARY)
    assert spy.calls
    if name.startswith("z_"):
        site = poutine.trace(model).get_trace(size=3).nodes[f"{name}_0"]
        assert guide_site(guide, name)["value"].shape[1:] == site["value"].shape[1:]
        assert site["fn"].support.check(guide_site(guide, name)["value"]).all()


def guide_site(guide, name):
    return poutine.trace(guide).get_trace(BINARY).nodes[f"{name}_0"]


@pytest.mark.parametrize("cell", CELLS)
def test_any_cell(cell):
    model = AIR(**SMALL)
    guide = AIRGuide(model, cell=CELLS[cell], presence=3.0)
    assert untrained(model, guide) == []


def test_a_code_may_depend_on_the_pose_of_its_own_object():
    """In what is drawn and in the density of what is given."""
    model = AIR(
        **SMALL, z_what=lambda s: dist.Normal(s.z_where[..., :1].expand(-1, 4), 0.1).to_event(1)
    )
    drawn = poutine.trace(model).get_trace(size=6)
    again = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(BINARY[:6])
    for trace in (drawn, again):
        for t in range(2):
            where, what = (trace.nodes[f"{name}_{t}"] for name in ("z_where", "z_what"))
            assert torch.equal(what["fn"].mean, where["value"][:, :1].expand(6, 4))


HEADS = {
    "z_where": lambda like: Amortised(32, like, hidden=(5,)),
    "z_what": lambda like: Amortised(200, like, hidden=(5,)),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_ones_own_replaces_a_proposal(name):
    model = AIR(**SMALL)
    head = Spy(HEADS[name](model.latents()[f"{name}_0"]))
    guide = AIRGuide(model, hidden=32, presence=3.0, **{name: head})
    assert getattr(guide, name) is head
    assert untrained(model, guide) == [] and head.calls


def test_a_head_may_be_a_function():
    model = AIR(**SMALL)
    still = torch.tensor([3.0, 0.0, 0.0])
    guide = AIRGuide(
        model, presence=3.0, z_where=lambda h: dist.Normal(still.expand(len(h), 3), 0.1).to_event(1)
    )
    assert untrained(model, guide) == []
    assert (guide_site(guide, "z_where")["fn"].mean == still).all()


def test_a_part_of_a_living_model_is_swapped():
    """By attribute, a module for a module, a function for a module, and back."""
    model = AIR(**SMALL).double()
    never, always = Persist(0.0), lambda scene: dist.Bernoulli(scene.z_pres)
    for part, count in ((always, 2), (never, 0), (Persist(1.0), 2), (always, 2)):
        model.z_pres = part
        trace = poutine.trace(model).get_trace(size=5)
        found = sum(trace.nodes[f"z_pres_{t}"]["value"] for t in range(2))
        assert (found == count).all() and trace.nodes["image"]["value"].dtype == torch.float64


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"z_pres": 0.5}, "z_pres"),
        ({"z_where": lambda scene: torch.zeros(3)}, "z_where must return a distribution"),
        ({"z_where": lambda scene: dist.Normal(torch.zeros(3), 1.0)}, "z_where .*see .to_event"),
        ({"z_where": Prior(dist.Normal, loc=[0.0] * 4, scale=[1.0] * 4)}, r"z_where .*\(3,\)"),
        ({"z_pres": lambda scene: dist.Normal(scene.z_pres, 1.0)}, "z_pres must be 0 or 1"),
        ({"z_pres": lambda scene: dist.Bernoulli(0.5)}, "z_pres must be 0 after a 0"),
        ({"z_where": dist.Normal(torch.zeros(3), 1.0).to_event(1)}, "z_where must be a function"),
        ({"z_what": Prior(dist.Normal, loc=[0.0] * 5, scale=[1.0] * 5)}, "decoder cannot decode"),
        ({"decoder": nn.Linear(4, 64)}, "decoder must make"),
        ({"image": lambda scene: dist.Normal(scene.canvas, 0.3)}, "image must return .*to_event"),
        ({"image": lambda scene: dist.Normal(scene.canvas, 0.3).to_event(4)}, "image must return"),
        ({"image": lambda s: torch.distributions.Normal(s.canvas, 0.3)}, "pyro.distributions"),
    ],
)
def test_a_wrong_part_is_named_before_training(part, error):
    with pytest.raises((ValueError, TypeError), match=error):  # beartype's, if it comes first
        AIRGuide(AIR(**SMALL, **part))


def test_uniform_priors_too():
    model = AIR(**SMALL, z_where=Prior(dist.Uniform, low=[2.0, -1.0, -1.0], high=[4.0, 1.0, 1.0]))
    assert untrained(model, AIRGuide(model, presence=3.0)) == []


def test_a_batch_of_one_image():
    model = AIR(**SMALL)
    guide = AIRGuide(model)
    assert len(list(fit(model, guide, [BINARY[:1]] * 2))) == 2
