import os
import sys
from argparse import Namespace
from functools import partial

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_scenes import (
    AIR,
    CSTVAE,
    AIRGuide,
    CSTVAEGuide,
    Persist,
    Pixels,
    Prior,
    adam,
    fit,
    load_checkpoint,
    save_checkpoint,
)
from pyro_scenes.inference import CheckpointError, describe_pair, read_checkpoint
from pyro_scenes.inference.description import describe, differences

IMAGES = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
SIZES = {"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 2, "code": 4}


def pair(**settings):
    model = AIR(**{**SIZES, **settings})
    return model, AIRGuide(model)


def weights(modules):
    return torch.cat(
        [p.detach().flatten().clone() for module in modules for p in module.parameters()]
    )


def trained(path, **settings):
    """A checkpoint after three steps of Adam."""
    modules = pair(**settings)
    optim = adam(*modules)
    list(fit(*modules, [IMAGES] * 3, optim=optim))
    save_checkpoint(path, *modules, optim=optim, step=3, extra={"note": [1, "a"]})
    return modules, optim


def refused(path, modules, optim=None, match=""):
    """Loading is an error of one sentence, after which weights, optimiser and random state are as before."""
    before, random = weights(modules), torch.get_rng_state()
    options = str(optim.state_dict()) if optim else ""
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(path, *modules, optim=optim)
    assert "\n" not in str(caught.value)
    assert torch.equal(weights(modules), before) and torch.equal(torch.get_rng_state(), random)
    assert not optim or str(optim.state_dict()) == options


def test_going_on_equals_never_having_stopped(tmp_path):
    modules, optim = trained(tmp_path / "c.pt")
    list(fit(*modules, [IMAGES] * 3, optim=optim))
    others = pair()
    other_optim = adam(*others)
    content = load_checkpoint(tmp_path / "c.pt", *others, optim=other_optim)
    assert content["step"] == 3 and content["extra"] == {"note": [1, "a"]}
    list(fit(*others, [IMAGES] * 3, optim=other_optim))
    assert torch.equal(weights(modules), weights(others))


def step(first, last, optim):
    optim.zero_grad()
    last(first(torch.ones(1, 3))).square().sum().backward()
    optim.step()


@pytest.mark.parametrize(
    "optimiser",
    [
        torch.optim.Adagrad,
        torch.optim.AdamW,
        partial(torch.optim.Adam, amsgrad=True),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.SGD, lr=0.1),
        partial(torch.optim.RMSprop, centered=True),
    ],
)
def test_every_optimiser_goes_on_where_it_was(tmp_path, optimiser):
    layers = [nn.Linear(3, 2), nn.Linear(2, 1)]
    optim = optimiser([p for layer in layers for p in layer.parameters()])

    step(*layers, optim)
    save_checkpoint(tmp_path / "c.pt", *layers, optim=optim)
    step(*layers, optim)
    others = [nn.Linear(3, 2), nn.Linear(2, 1)]
    # In another order: parameters are known by name.
    other_optim = optimiser([p for layer in others[::-1] for p in layer.parameters()])
    load_checkpoint(tmp_path / "c.pt", *others, optim=other_optim)
    step(*others, other_optim)
    assert torch.equal(weights(layers), weights(others))


def test_an_optimiser_of_swapped_parts_finds_its_parameters_by_name(tmp_path):
    """A module that replaced a function stands in another place than in a fresh model."""
    prior = partial(Prior, dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.2, 1.0, 1.0], learn=True)
    model = AIR(**SIZES)
    model.z_where = lambda scene: None
    model.z_where = prior()
    guide = AIRGuide(model)
    optim = adam(model, guide)
    list(fit(model, guide, [IMAGES] * 2, optim=optim))
    save_checkpoint(tmp_path / "c.pt", model, guide, optim=optim)
    list(fit(model, guide, [IMAGES] * 2, optim=optim))
    others = pair(z_where=prior())
    other_optim = adam(*others)
    load_checkpoint(tmp_path / "c.pt", *others, optim=other_optim)
    for p, state in other_optim.state.items():
        assert state["exp_avg"].shape == p.shape
    list(fit(*others, [IMAGES] * 2, optim=other_optim))
    named = dict(others[0].named_parameters())
    assert all(torch.equal(p, named[name]) for name, p in model.named_parameters())


def test_it_holds_no_code(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()), optim=adam(*modules))
    torch.load(tmp_path / "c.pt", weights_only=True)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    save_checkpoint(path, *(modules := pair()), step=1)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, full)
            with pytest.raises(OSError, match="no space"):
                save_checkpoint(path, *modules, step=2)
        assert read_checkpoint(path)["step"] == 1
        assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def posed(scene):
    return dist.Normal(torch.zeros(3), 1.0).to_event(1)


def posed_wide(scene):
    return dist.Normal(torch.zeros(3), 2.0).to_event(1)


def closure(family):
    return lambda scene: family(torch.zeros(3), 1.0).to_event(1)


@pytest.mark.parametrize(
    ("saved", "own", "match"),
    [
        ({}, {"steps": 3, "code": 5}, "in the file.*here"),
        (
            {},
            {"z_pres": Persist([0.1, 0.1])},
            r"z_pres.probs is float \(\) .*float \(2,\) here",
        ),
        ({}, {"z_pres": Persist(0.01, learn=True)}, "z_pres"),
        ({"image_shape": (1, 12, 16)}, {"image_shape": (1, 16, 12)}, r"\(1, 12, 16\) in the file"),
        ({"steps": 3}, {"steps": 7}, "steps is 3 in the file, 7 here"),
        (
            {"image": Pixels(dist.Normal, scale=0.3)},
            {"image": Pixels(dist.Laplace, scale=0.3)},
            "image.family is Normal in the file, Laplace here",
        ),
        (
            {"z_where": posed},
            {"z_where": posed_wide},
            "posed in the file, function posed_wide here",
        ),
        ({"z_where": posed}, {}, "z_where is function posed in the file, Prior here"),
        ({"z_where": closure(dist.Normal)}, {"z_where": closure(dist.Laplace)}, "Normal.*Laplace"),
        (
            {"z_where": lambda scene: dist.Normal(torch.zeros(3), 1.0).to_event(1)},
            {"z_where": lambda scene: dist.Laplace(torch.zeros(3), 1.0).to_event(1)},
            "Normal.*Laplace",
        ),
    ],
)
def test_another_model_is_refused_and_nothing_changes(tmp_path, saved, own, match):
    save_checkpoint(tmp_path / "c.pt", *pair(**saved))
    refused(tmp_path / "c.pt", pair(**own), match="another (model|guide): .*" + match)
    load_checkpoint(tmp_path / "c.pt", *pair(**saved))


def scaled(scale):
    """Four ways to write a prior of a scale."""

    def named(scene):
        return dist.Normal(torch.zeros(3), scale).to_event(1)

    fixed = dist.Normal(torch.zeros(3), scale).to_event(1)
    wide = torch.full((3,), scale)
    return {
        "named": named,
        "closure": lambda scene: dist.Normal(torch.zeros(3), scale).to_event(1),
        "default": lambda scene, scale=scale: dist.Normal(torch.zeros(3), scale).to_event(1),
        "distribution": lambda scene: fixed,
        "tensor": lambda scene: dist.Normal(torch.zeros(3), wide).to_event(1),
        "partial": partial(lambda scene, wide: dist.Normal(wide * 0, wide).to_event(1), wide=wide),
    }


WAYS = [*scaled(1.0)]


@pytest.mark.parametrize("way", WAYS)
def test_functions_that_hold_other_numbers_are_refused(tmp_path, way):
    modules = pair(z_where=scaled(1.0)[way])
    list(fit(*modules, [IMAGES]))  # a distribution that is in use caches what it computes
    save_checkpoint(tmp_path / "c.pt", *modules)
    refused(tmp_path / "c.pt", pair(z_where=scaled(2.0)[way]), match="z_where is .*file.*here")
    load_checkpoint(tmp_path / "c.pt", *pair(z_where=scaled(1.0)[way]))


LAMBDAS = [
    (
        lambda scene: dist.Normal(torch.zeros(3), 1.0),
        lambda scene: dist.Normal(torch.zeros(3), 2.0),
    ),
    (lambda scene: dist.Normal(torch.zeros(3), 1), lambda scene: dist.Normal(torch.zeros(3), 2)),
    (lambda scene: scene.step, lambda scene: scene.z_pres),
    (lambda scene: (lambda: 1.0)(), lambda scene: (lambda: 2.0)()),
    (lambda scene: scene.step, lambda scene: -scene.step),
    (lambda scene: scene.step - scene.z_pres, lambda scene: scene.z_pres - scene.step),
    (lambda scene: 2.0 / scene, lambda scene: scene / 2.0),
    (lambda scene: [-s for s in scene], lambda scene: [s for s in scene]),  # noqa: C416
]


@pytest.mark.parametrize(("one", "other"), LAMBDAS)
def test_lambdas_that_say_other_things_are_described_otherwise(one, other):
    words = [describe(Holder(function)) for function in (one, other, one)]
    assert differences(words[0], words[1]) and not differences(words[0], words[2])


def described(function, monkeypatch, version):
    monkeypatch.setattr(sys.implementation, "cache_tag", version)
    return describe(Holder(function))


def test_across_versions_of_python_a_lambda_is_known_by_its_names_and_constants_alone(monkeypatch):
    """How they are compiled, and in which order, differs between versions."""
    function = lambda scene: [scene.step[1:2] + i for i in range(7)]  # noqa: E731
    reordered = lambda scene: [i - scene.step[2:1] for i in range(7)]  # noqa: E731
    other = lambda scene: [scene.step[1:2] + i for i in range(8)]  # noqa: E731
    saved = described(function, monkeypatch, "cpython-311")
    assert saved["z"].endswith(" of 1, 2, 7, range, step")
    assert differences(saved, described(reordered, monkeypatch, "cpython-311"))
    assert not differences(saved, described(reordered, monkeypatch, "cpython-312"))
    assert differences(saved, described(other, monkeypatch, "cpython-312"))


@pytest.mark.parametrize(
    ("one", "equal", "other"),
    [
        (2.0, 2, 2.1),
        (-2.0, np.int64(-2), -2.05),
        ((1, 0.0), (1.0, 0), (1, 1)),
        (0.5, np.float64(0.5), np.float32(0.1)),
        ({"a", "b"}, frozenset("ba"), {"a"}),
        (torch.float32, torch.float, torch.float64),
        (range(3), range(0, 3), range(4)),
    ],
)
def test_settings_are_equal_as_their_values_are(one, equal, other):
    described = [describe(Holder(value)) for value in (one, equal, other)]
    assert not differences(described[0], described[1])
    assert differences(described[0], described[2])


class Holder(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.z = function


def pair_of(function):
    return Holder(function), nn.Identity()


def test_what_a_function_trains_is_no_setting(tmp_path):
    """The values of a parameter that it closes over are weights, and change."""
    learned = nn.Parameter(torch.zeros(3))
    modules = pair_of(lambda scene: dist.Normal(learned, 1.0))
    before = describe_pair(*modules)
    learned.data += 1
    assert describe_pair(*modules) == before


def test_a_function_that_calls_itself_is_described():
    def again(scene):
        return again(scene), other(scene)

    def other(scene):
        return again(scene), other(scene)

    assert "again" in describe_pair(*pair_of(again))["model"]["z"]


def test_objects_that_a_function_closes_over_are_known_by_their_class():
    """The arguments of a program may differ where it is resumed."""
    words = []
    for steps in (100, 200):
        args = Namespace(steps=steps, scale=2.0)
        words.append(describe_pair(*pair_of(lambda scene: dist.Normal(0.0, args.scale))))
    assert words[0] == words[1]


def test_other_numbers_of_layers_are_refused(tmp_path):
    def layered(layers):
        model = CSTVAE((1, 12, 12), code=3, layers=layers)
        return model, CSTVAEGuide(model)

    save_checkpoint(tmp_path / "c.pt", *layered(2))
    refused(tmp_path / "c.pt", layered(4), match="layers is 2 in the file, 4 here")


def test_parts_without_weights_are_compared(tmp_path):
    def layers(*activations):
        return [nn.Sequential(nn.Linear(2, 2), *activations), nn.Linear(2, 2)]

    save_checkpoint(tmp_path / "c.pt", *layers(nn.ReLU()))
    for other in (layers(nn.Tanh()), layers(), layers(nn.ReLU(), nn.ReLU())):
        refused(tmp_path / "c.pt", other, match="another model")


def test_settings_may_be_those_before_a_loop_changed_them(tmp_path):
    model, guide = pair()
    before = describe_pair(model, guide)
    guide.presence = 1.0 - guide.presence
    save_checkpoint(tmp_path / "c.pt", model, guide, description=before)
    load_checkpoint(tmp_path / "c.pt", *pair())


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()), step=1)
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        save_checkpoint(tmp_path / "c.pt", *modules, step=2, extra={"rows": [{"x": np.float64(1)}]})
    assert read_checkpoint(tmp_path / "c.pt")["step"] == 1


def test_another_class_is_refused(tmp_path):
    class Other(AIRGuide):
        pass

    model, guide = pair()
    save_checkpoint(tmp_path / "c.pt", model, guide)
    refused(tmp_path / "c.pt", (model, Other(model)), match="another model")


def test_damage_is_named(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(path)
    save_checkpoint(path, *pair())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint", whole[:100] + b"x" * 50):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged or of another kind"):
            load_checkpoint(path, *pair())
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not written by save_checkpoint"):
        load_checkpoint(path, *pair())


CRAFTED = [
    lambda c: c.update(extra=None),
    lambda c: c.update(extra=[]),
    lambda c: c.update(model=list(c["model"])),
    lambda c: c.update(model=dict.fromkeys(c["model"], "text")),
    lambda c: c.update(guide=None),
    lambda c: c.update(model=dict(enumerate(c["model"].values()))),
    lambda c: c.update(names=None),
    lambda c: c.update(names=["AIR"]),
    lambda c: c.update(description=None),
    lambda c: c.update(description={}),
    lambda c: c.update(description={"model": 1, "guide": {3: 4}}),
    lambda c: c.update(step="3"),
    lambda c: c.update(step=None),
    lambda c: c.update(step=True),
    lambda c: c.update(step=-1),
    lambda c: c.pop("step"),
    lambda c: c.update(random=None),
    lambda c: c.update(random={}),
    lambda c: c.update(random={"cpu": None, "cuda": []}),
    lambda c: c["random"].update(cpu=c["random"]["cpu"][:9]),
    lambda c: c["random"].update(cpu=c["random"]["cpu"].float()),
    lambda c: c["random"].update(cpu=torch.zeros_like(c["random"]["cpu"])),
    lambda c: c["random"].update(cuda=3),
    lambda c: c.update(optim=[]),
    lambda c: c.update(optim={}),
    lambda c: c["optim"].update({"class": 3}),
    lambda c: c["optim"].update(groups=None),
    lambda c: c["optim"].update(groups=[1, 2]),
    lambda c: c["optim"].update(groups=c["optim"]["groups"] * 2),
    lambda c: c["optim"]["groups"][0].update(params=[]),
    lambda c: c["optim"]["groups"][0].update(params=5),
    lambda c: c["optim"]["groups"][0].update(lr="much"),
    lambda c: c["optim"]["groups"][0].update(lr=float("nan")),
    lambda c: c["optim"]["groups"][0].update(lr=-1e-3),
    lambda c: c["optim"]["groups"][0].update(betas=(0.9,)),
    lambda c: c["optim"]["groups"][0].update(betas=(0.9, 1.5)),
    lambda c: c["optim"]["groups"][0].update(eps=-1.0),
    lambda c: c["optim"]["groups"][0].update(amsgrad=True),
    lambda c: c["optim"]["groups"][0].update(more=True),
    lambda c: c["optim"].update(state=[]),
    lambda c: c["optim"]["state"].update({"model.bias": 3}),
    lambda c: c["optim"]["state"]["model.bias"].pop("exp_avg"),
    lambda c: c["optim"]["state"]["model.bias"].update(exp_avg=torch.zeros(3)),
    lambda c: c["optim"]["state"]["model.bias"].update(exp_avg=None),
    lambda c: c["optim"]["state"]["model.bias"].update(step=1),
    lambda c: [s.update(exp_avg_sq=s["exp_avg_sq"].int()) for s in c["optim"]["state"].values()],
    lambda c: c["optim"]["state"]["model.bias"]["exp_avg"].fill_(torch.nan),
    lambda c: c["optim"]["state"]["model.bias"]["exp_avg_sq"].fill_(torch.inf),
    lambda c: c["optim"]["state"]["model.bias"]["exp_avg_sq"].fill_(-1.0),
    lambda c: c["optim"]["state"]["model.bias"]["step"].fill_(-7.0),
    lambda c: c["optim"]["state"]["model.bias"]["step"].fill_(torch.nan),
    lambda c: c.update(model={k: v.cfloat() for k, v in c["model"].items()}),
    lambda c: c.update(guide={k: v.int() for k, v in c["guide"].items()}),
    lambda c: c.update(guide={k: v.to_sparse() for k, v in c["guide"].items()}),
]


def small():
    """A model and a guide so small that many files can be tried."""
    modules = [nn.Linear(3, 2), nn.Linear(2, 1)]
    return modules, torch.optim.Adam([p for m in modules for p in m.parameters()], fused=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("crafted") / "c.pt"
    modules, optim = small()
    step(*modules, optim)
    save_checkpoint(path, *modules, optim=optim, step=1)
    return path


@pytest.mark.parametrize("change", CRAFTED)
def test_crafted_content_is_refused_in_a_sentence(original, tmp_path, change):
    content = torch.load(original, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", *small(), match=str(tmp_path))


def test_state_that_overlaps_itself_does_not_write_outside(original, tmp_path):
    content = torch.load(original, weights_only=True)
    for state in content["optim"]["state"].values():
        state["exp_avg"] = torch.zeros(1).expand(state["exp_avg"].shape)
    torch.save(content, tmp_path / "c.pt")
    modules, optim = small()
    load_checkpoint(tmp_path / "c.pt", *modules, optim=optim)
    for p, state in optim.state.items():
        assert state["exp_avg"].stride() == p.stride()
    step(*modules, optim)


def test_weights_that_are_not_numbers_are_named(tmp_path):
    model, guide = pair()
    with torch.no_grad():
        model.decoder.layers[0].weight[0, 0] = torch.nan
    save_checkpoint(tmp_path / "c.pt", model, guide)
    refused(tmp_path / "c.pt", pair(), match=r"not finite numbers \(decoder.layers.0.weight\)")


def test_without_an_optimiser_it_cannot_be_resumed(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()))
    refused(tmp_path / "c.pt", modules, adam(*modules), match="evaluated, not resumed")


@pytest.mark.parametrize(
    "other",
    [
        partial(torch.optim.SGD, lr=0.1),
        torch.optim.Adagrad,
        torch.optim.AdamW,
        partial(torch.optim.Adam, amsgrad=True),
        lambda weights: torch.optim.Adam([{"params": [p]} for p in weights]),
        lambda weights: torch.optim.Adam(weights[:3]),
    ],
)
def test_another_optimiser_is_refused(original, other):
    modules, _ = small()
    optim = other([p for module in modules for p in module.parameters()])
    refused(original, modules, optim, match="another optimiser")
