"""In a training step on a GPU this library hardly waits for the device: counted without one.

A step is counted twice. On the CPU, by the operations that would wait on a GPU; and on the device ``meta``,
which has shapes and no values, by the copies between it and the host as well.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_scenes import (
    AIR,
    CSTVAE,
    ECON,
    STVAE,
    VAE,
    AIRGuide,
    CSTVAEGuide,
    ECONGuide,
    Persist,
    Prior,
    STVAEGuide,
    VAEGuide,
    fit,
)
from pyro_scenes.conditionals import Product
from pyro_scenes.inference import MaskLoss, Surrogate, warm_up
from pyro_scenes.models import SpritesGuide, sprite_scenes
from pyro_scenes.networks import SeededAttention, UNet

#: The loss, the norm of the gradient, and one check.
MOST = 3
#: Operations that read a tensor's values, to return a number or a tensor whose size depends on them.
READING = {
    "_local_scalar_dense",  # item(), bool(), float(), and a tensor as an index
    "equal",
    "nonzero",
    "masked_select",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
    "bincount",
    "histc",
    "multinomial",  # checks that probabilities are valid
    "linalg_eig",  # the rest checks for errors; solve_ex, inv_ex and cholesky_ex do not
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_lstsq",
    "linalg_pinv",
    "_linalg_check_errors",
}
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index"}
#: These read a tensor of the CPU without an operation ...
READERS = "tolist", "numpy"
#: ... and these make one on ``meta`` of numbers of the host.
MAKERS = (torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")
TORCH, PYRO = (Path(package.__file__).parent for package in (torch, pyro))


class Waits(TorchDispatchMode):
    """Counts where the host would wait for a device, by the innermost line of Python outside torch.

    What is read from ``meta`` is 1.

    Attributes:
        device: The type of the device: ``cpu`` (in place of a GPU), or ``meta``.
        ours: The count of each operation and line of this library, and of whoever calls it.
        theirs: That of Pyro and torch.distributions.
    """

    def __init__(self, device):
        super().__init__()
        self.device, self.ours, self.theirs = device, Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if self.waits(name, args, kwargs):
            self.count(name)
        if name == "_local_scalar_dense" and args[0].is_meta:
            return ones_like(args[0]).item()
        return func(*args, **kwargs)

    def waits(self, name, args, kwargs):
        if name == "_to_copy":
            return kwargs.get("device", args[0].device) != args[0].device
        if name in ("copy_", "where"):  # where copies a number of the host
            return len({part.device for part in args[:3] if isinstance(part, torch.Tensor)}) > 1
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None and self.is_on_device(args[0])
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            copied = any(index.device != args[0].device for index in indices)
            masks = any(index.dtype == torch.bool for index in indices)
            return copied or (masks and self.is_on_device(args[0]))
        return name in READING and self.is_on_device(args[0])

    def is_on_device(self, tensor):
        return tensor.device.type == self.device

    def count(self, operation):
        frame = sys._getframe(2)
        while is_torch(frame.f_code.co_filename):
            frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        theirs = PYRO in path.parents or TORCH in path.parents
        line = f"{operation} at {path.parent.name}/{path.name}:{frame.f_lineno}"
        (self.theirs if theirs else self.ours)[line] += 1


def is_torch(file):
    folders = Path(file).parents
    return TORCH in folders and TORCH / "distributions" not in folders


def ones_like(tensor):
    return torch.ones(tensor.shape, dtype=tensor.dtype)


@contextmanager
def counted(device="cpu"):
    counter = Waits(device)
    with pytest.MonkeyPatch.context() as patch, counter:
        for name in READERS:
            patch.setattr(torch.Tensor, name, reader(name, counter))
        if device != "cpu":
            for owner, name in MAKERS:
                patch.setattr(owner, name, maker(owner, name, counter))
        yield counter


def reader(name, counter):
    original = getattr(torch.Tensor, name)

    def method(self, *args, **kwargs):
        if counter.is_on_device(self):
            counter.count(name)
        return original(ones_like(self) if self.is_meta else self, *args, **kwargs)

    return method


def maker(owner, name, counter):
    original = getattr(owner, name)

    def function(*args, **kwargs):
        result = original(*args, **kwargs)
        if counter.is_on_device(result) and not isinstance(args[-1], torch.Tensor):
            counter.count(name)
        return result

    return function


# The counter.

WAITING = [
    lambda x: x.sum().item(),
    lambda x: float(x[0]),
    lambda x: 1 if x[0] > 0 else 2,
    lambda x: x[x > 0],
    lambda x: x.masked_select(x > 0),
    lambda x: x.nonzero(),
    lambda x: torch.where(x > 0),
    lambda x: x.unique(),
    lambda x: torch.equal(x, x),
    lambda x: x[x.argmax()],
    lambda x: x.repeat_interleave(x.long()),
    lambda x: x.diag().inverse(),
    lambda x: torch.linalg.pinv(x.diag()),
    lambda x: x.tolist(),
    lambda x: x.numpy(),
]
COPYING = [
    lambda x: torch.tensor(0.5, device=x.device),
    lambda x: torch.as_tensor([0.5], device=x.device, dtype=x.dtype),
    lambda x: torch.tensor([0.5]).to(x),
    lambda x: x.new_tensor([0.5]),
    lambda x: torch.zeros_like(x).copy_(torch.ones(3)),
    lambda x: x[torch.tensor([0, 1])],
    lambda x: torch.where(x > 0, x, torch.tensor(0.5)),
    lambda x: x.sum().item(),
    lambda x: x.tolist(),
]
FREE = [
    lambda x: x.where(x > 0, -1.0).masked_fill(x > 0, 0.5).clamp(0, 1) + torch.tensor(0.5),
    lambda x: x[x.argsort()] + torch.arange(3, device=x.device),
    lambda x: x.gather(0, x.argmax(0, keepdim=True)).sum(),
    lambda x: torch.linalg.inv_ex(x.diag()).inverse,
    lambda x: torch.as_tensor(x, dtype=x.dtype),
    lambda x: torch.full_like(x, 2.0) + x.new_ones(3) + torch.randn_like(x),
    lambda x: torch.ones(3).sum().item() if x.is_meta else None,  # of the host's own tensors
]


@pytest.mark.parametrize(
    ("device", "functions", "waits"),
    [("cpu", WAITING, 1), ("meta", COPYING, 1), ("cpu", FREE, 0), ("meta", FREE, 0)],
)
def test_the_counter_knows_what_waits(device, functions, waits):
    for i, function in enumerate(functions):
        x = torch.ones(3, device=device)
        with counted(device) as counter:
            function(x)
        assert counter.ours.total() == waits, (i, counter.ours)
        assert not counter.theirs


def test_the_counter_knows_whose_line_it_is():
    with counted() as counter:
        dist.Categorical(torch.ones(3), validate_args=False).sample()
    assert "multinomial at distributions/categorical.py" in str(counter.theirs)
    assert not counter.ours


# Steps.


def pair(model, guide, **settings):
    return model, guide(model, **settings)


def air(**parts):
    return pair(AIR((1, 16, 16), (1, 8, 8), 3, 4, **parts), AIRGuide)


def swapped_air():
    normal = {"loc": [0.0, 0.0], "scale": [1.0, 1.0]}
    pose = Product(
        scale=Prior(dist.LogNormal, loc=[1.0], scale=[0.2]), shift=Prior(dist.Normal, **normal)
    )
    code = Prior(dist.OneHotCategorical, learn=True, probs=[0.25] * 4)
    return air(z_pres=Persist([0.5, 0.4, 0.3], learn=True), z_where=pose, z_what=code)


def cst_vae(shape, **settings):
    model = CSTVAE(shape, (shape[0], 9, 8), layers=2, code=4, **settings)
    return pair(model, CSTVAEGuide, sweeps=2)


def econ(choice="compete"):
    model = ECON((3, 16, 12), experts=2, layers=2, code=5)
    return pair(model, ECONGuide, attention=[UNet(4, (8, 8)) for _ in range(2)], choice=choice)


def sprites():
    model = sprite_scenes((3, 16, 12), sprites=2, layers=2)
    attention = SeededAttention(model.image_shape, widths=(8, 8))
    return pair(model, SpritesGuide, attention=attention, candidates=2)


EXACT, PIXELS = TraceEnum_ELBO(max_plate_nesting=1), TraceEnum_ELBO(max_plate_nesting=2)
REGIONS = (torch.arange(2)[:, None, None] == 0).expand(5, 2, 16, 12)  # all of the first layer
STEPS = {
    "AIR, exact": (air, EXACT),
    "AIR, graph": (air, TraceGraph_ELBO()),
    "AIR, swapped": (swapped_air, TraceGraph_ELBO()),
    "VAE": (lambda: pair(VAE((1, 16, 12), 4), VAEGuide), Trace_ELBO()),
    "ST-VAE": (lambda: pair(STVAE((1, 16, 12), (1, 9, 8), 4), STVAEGuide), Trace_ELBO()),
    "CST-VAE": (lambda: cst_vae((1, 16, 12)), Trace_ELBO()),
    "CST-VAE, colour": (lambda: cst_vae((3, 16, 14), centred=True), Trace_ELBO()),
    "ECON": (econ, PIXELS),
    "ECON, regions": (econ, PIXELS, REGIONS),
    "ECON, enumerate": (lambda: econ("enumerate"), PIXELS),
    "ECON, surrogate": (econ, Surrogate()),
    "sprites": (sprites, PIXELS),
    "sprites, masks": (sprites, MaskLoss()),
}


def batch(model, device, *rest):
    # Of 0 and 1: any likelihood takes them.
    images = torch.rand(5, *model.image_shape, device=device).round()
    return images, *(part.to(device) for part in rest)


def count_step(model, guide, elbo, *rest, before=lambda: None):
    """Waits of ``before`` and a step: the third one. In the first one, the guide is checked."""
    records = fit(model, guide, repeat(batch(model, "cpu", *rest)), elbo=elbo)
    return count_third(records, before, "cpu")


def count_step_without_values(model, guide, elbo, *rest, before=lambda: None):
    """The same on ``meta``. The guide is not checked: that needs values."""
    pyro.clear_param_store()
    model.to("meta"), guide.to("meta")
    optim = SGD([*model.parameters(), *guide.parameters()], lr=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["pyro_scenes.inference.fit"], "check_guide", lambda *pair: None)
        batches = repeat(batch(model, "meta", *rest))
        records = fit(model, guide, batches, elbo=elbo, optim=optim)
        return count_third(records, before, "meta")


def count_third(records, before, device):
    with pyro.validation_enabled(False), counted(device) as counter:  # as in training
        for _ in range(3):
            counter.ours.clear()
            before()
            next(records)
    return counter.ours


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_at_most_three_times(name):
    build, elbo, *rest = STEPS[name]
    model, guide = build()
    for count in (count_step, count_step_without_values):
        waits = count(model, guide, elbo, *rest)
        assert 1 <= waits.total() <= MOST, waits  # 1 at least: the norm of the gradient


@pytest.mark.parametrize("count", [count_step, count_step_without_values])
def test_a_new_prior_at_each_step_waits_no_more_than_that(count):
    bounded = Prior(dist.Uniform, low=[0.0, -1.0, -1.0], high=[5.0, 1.0, 1.0])
    model, guide = air(z_where=bounded)

    def anneal():
        model.z_pres = Persist(warm_up(100))

    waits = count(model, guide, EXACT, before=anneal)
    copied = count is count_step_without_values  # the new number, to the device
    assert 1 + copied <= waits.total() <= MOST, waits


def test_a_conditional_that_waits_is_caught():
    def impatient(scene):
        scale = 1.0 if scene.canvas.sum() > 9 else 1.1
        return dist.Normal(scene.canvas.new_zeros(len(scene.canvas), 4), scale).to_event(1)

    model, guide = air(z_what=impatient)
    waits = count_step(model, guide, EXACT)
    assert waits.total() > MOST
    assert f"{Path(__file__).name}" in str(waits)
