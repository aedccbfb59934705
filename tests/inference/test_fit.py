import sys
import traceback
from itertools import islice, repeat

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    config_enumerate,
)
from pyro.optim import Adam as PyroAdam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from pyro_scenes import (
    AIR,
    CSTVAE,
    ECON,
    VAE,
    AIRGuide,
    CSTVAEGuide,
    ECONGuide,
    Persist,
    Prior,
    VAEGuide,
    Weighted,
    adam,
    fit,
)
from pyro_scenes.inference import Diverged


@pytest.fixture
def pair():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    return model, AIRGuide(model)


IMAGES = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
BATCH = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
EXACT = TraceEnum_ELBO(max_plate_nesting=1)


def weights(pair):
    return torch.cat([p.detach().flatten().clone() for module in pair for p in module.parameters()])


def test_records_count_the_steps(pair):
    records = list(fit(*pair, repeat(IMAGES, 3), start=10))
    assert [record.step for record in records] == [11, 12, 13]
    assert all(record.norm > 0 for record in records)


def test_a_step_is_taken_only_when_asked_for(pair):
    before = weights(pair)
    training = fit(*pair, repeat(IMAGES, 2))
    assert torch.equal(weights(pair), before)
    next(training)
    assert not torch.equal(weights(pair), before)


def test_loss_is_per_image(pair):
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    still = torch.optim.SGD([p for module in pair for p in module.parameters()], lr=0.0)
    one = [r.loss for r in fit(*pair, repeat(IMAGES[:4], 15), elbo=elbo, optim=still)]
    twice = [
        r.loss
        for r in fit(*pair, repeat(IMAGES[:4].repeat(5, 1, 1, 1), 15), elbo=elbo, optim=still)
    ]
    assert sum(one) / 15 == pytest.approx(sum(twice) / 15, rel=0.05)


def test_a_part_can_be_held_still(pair):
    model, guide = pair
    before = [p.detach().clone() for p in guide.parameters()]
    optim = torch.optim.Adam(model.parameters())
    list(fit(model, guide, repeat(IMAGES, 2), optim=optim))
    assert all(torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceEnum_ELBO(max_plate_nesting=1)])
def test_pyros_own_loop_trains_everything_too(pair, elbo):
    model, guide = pair
    before = [p.detach().clone() for module in pair for p in module.parameters()]
    enumerate_ = config_enumerate if isinstance(elbo, TraceEnum_ELBO) else lambda guide: guide
    SVI(model, enumerate_(guide), PyroAdam({"lr": 0.01}), elbo).step(IMAGES)
    names = [name for module in pair for name, _ in module.named_parameters()]
    after = [p for module in pair for p in module.parameters()]
    moved = {n: not torch.equal(a, b) for n, a, b in zip(names, before, after, strict=True)}
    assert all(moved[name] for name in names if "baseline" not in name)


def test_clipping_bounds_a_step(pair):
    optim = torch.optim.SGD([p for module in pair for p in module.parameters()], lr=1.0)
    before = weights(pair)
    record = next(fit(*pair, [IMAGES], optim=optim, clip=0.01))
    assert record.norm > 0.01
    assert (weights(pair) - before).norm() <= 0.0101


@pytest.mark.parametrize("validation", [True, False])
def test_what_diverges_is_not_taken(pair, validation):
    model, guide = pair
    training = fit(model, guide, repeat(IMAGES))
    next(training)
    before = weights(pair)
    model.z_what = lambda scene: dist.Normal(torch.full((4,), torch.nan), 1.0).to_event(1)
    with pyro.validation_enabled(validation):
        with pytest.raises(
            Diverged, match="step 2 diverged.*those of step 1.*smaller learning rate"
        ):
            next(training)
    assert torch.equal(weights(pair), before)


@pytest.mark.filterwarnings("ignore:Encountered")
@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("build", [AIR, CSTVAE, VAE, ECON])
def test_every_model_diverges_by_name(build, validation):
    model = build((3, 16, 16), code=4) if build in (VAE, ECON) else build((3, 16, 16), (3, 9, 9))
    guides = {AIR: AIRGuide, CSTVAE: CSTVAEGuide, VAE: VAEGuide, ECON: ECONGuide}
    guide = guides[build](model)
    optim = adam(model, guide, lr=1e30, baseline_lr=1e30)
    with pyro.validation_enabled(validation), pytest.raises(Diverged, match="diverged"):
        list(fit(model, guide, repeat(BATCH.round(), 5), optim=optim))


def test_weights_that_are_not_finite_at_the_start_are_no_page_of_pyros(pair):
    next(pair[1].parameters()).data.fill_(torch.nan)
    with pytest.raises(Diverged, match="step 1 diverged"):
        next(fit(*pair, [IMAGES]))


def test_gradients_of_zero_are_gradients(pair):
    elbo = Weighted(EXACT, image=0.0, z_pres=0.0, z_where=0.0, z_what=0.0)
    assert next(fit(*pair, [IMAGES], elbo=elbo)).norm == 0.0


def test_errors_of_another_kind_stay_what_they_are():
    model = VAE((1, 16, 16), 4)  # of Bernoulli pixels, to which these images are not 0 or 1
    with pytest.raises(ValueError, match="within the support") as error:
        next(fit(model, VAEGuide(model), [IMAGES]))
    assert not isinstance(error.value, Diverged)


def test_nothing_to_train_is_an_error(pair):
    other = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="no parameter gets a gradient"):
        next(fit(*pair, [IMAGES], optim=torch.optim.Adam(other.parameters())))


def test_baselines_have_a_learning_rate_of_their_own(pair):
    groups = adam(*pair, lr=0.1, baseline_lr=0.2).param_groups
    sizes = {group["lr"]: sum(p.numel() for p in group["params"]) for group in groups}
    assert sizes[0.2] == sum(p.numel() for p in pair[1].baseline.parameters())
    assert sum(sizes.values()) == len(weights(pair))


def test_the_enumerating_elbo_draws_no_presence(pair):
    """With TraceEnum_ELBO the guide's discrete sites are summed over, without config_enumerate."""
    model, guide = pair
    elbo, seen = TraceEnum_ELBO(max_plate_nesting=1), []

    def spy(images):
        with poutine.trace() as watch:
            guide(images)
        seen.append(watch.trace.nodes["z_pres_0"]["value"].flatten().tolist())

    next(fit(model, spy, [IMAGES], elbo=elbo, optim=adam(*pair)))
    assert seen[-1] == [0.0, 1.0]  # before, the checker has drawn some


def test_fewer_batches_than_steps_just_ends(pair):
    assert len(list(fit(*pair, islice(repeat(IMAGES), 2)))) == 2


@pytest.mark.parametrize(
    "wrong", [{"elbo": TraceEnum_ELBO}, {"optim": PyroAdam({"lr": 0.1})}, {"clip": -1.0}]
)
def test_wrong_tools_are_named(pair, wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        next(fit(*pair, [IMAGES], **wrong))


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_bad_learning_rates_are_refused(pair, rate):
    with pytest.raises(ValueError, match="lr must be"):
        adam(*pair, lr=rate)


@pytest.mark.parametrize(
    ("place", "wrong", "words"),
    [
        (0, [1], "model must be a module or a function"),
        (1, AIRGuide, "guide must be a module or a function"),
        (2, None, "batches must be batches to iterate over"),
        (2, IMAGES, r"such as \[images\], got one Tensor"),
        (2, [None], "images must be a float tensor, got NoneType"),
        (2, [IMAGES.long()], "images must be a float tensor, got torch.int64"),
    ],
)
def test_wrong_arguments_are_named(pair, unchecked, place, wrong, words):
    arguments = [*pair, [IMAGES]]
    arguments[place] = wrong
    with pytest.raises(TypeError, match=words):
        next(fit(*arguments))


@pytest.mark.parametrize(
    "wrong", [{"clip": None}, {"clip": "1"}, {"start": 1.5}, {"start": -1}, {"start": None}]
)
def test_wrong_numbers_are_named(pair, unchecked, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a .*number"):
        next(fit(*pair, [IMAGES], **wrong))


def test_an_objective_of_two_losses_is_refused():
    model = VAE((1, 16, 16), 4)
    with pytest.raises(TypeError, match="ReweightedWakeSleep has no loss that is one number"):
        next(fit(model, VAEGuide(model), [IMAGES.round()], elbo=ReweightedWakeSleep()))


# What a batch is.


def test_an_optimiser_that_asks_for_the_loss_is_refused(pair):
    optim = torch.optim.LBFGS(pair[1].parameters())
    with pytest.raises(TypeError, match="LBFGS computes the loss several times.*adam"):
        next(fit(*pair, [IMAGES], optim=optim))


def test_a_batch_of_several_parts_is_passed_on(pair):
    model, guide = pair
    shapes = []

    def of(module):
        def labelled(images, labels):
            shapes.append((images.shape, labels.shape))
            return module(images)

        return labelled

    loader = DataLoader(TensorDataset(IMAGES, torch.arange(8)), batch_size=4)  # gives lists
    optim = torch.optim.SGD([p for module in pair for p in module.parameters()], lr=0.0)
    several = [r.loss for r in fit(of(model), of(guide), loader, elbo=EXACT, optim=optim)]
    assert set(shapes) == {((4, 1, 16, 16), (4,))}
    alone = [r.loss for r in fit(model, guide, IMAGES.split(4), elbo=EXACT, optim=optim)]
    assert several == pytest.approx(alone, rel=0.1)  # per image, not per part of the batch


def test_a_tuple_of_images_alone_is_those_images(pair):
    assert len(list(fit(*pair, DataLoader(TensorDataset(IMAGES), batch_size=4)))) == 2


def test_labels_that_nobody_takes_are_an_error(pair):
    with pytest.raises(
        TypeError, match=r"2 parts, with which AIR cannot be called.*images for images"
    ):
        next(fit(*pair, [[IMAGES, torch.arange(8)]]))


# Functions, and modules inside handlers.


def moved(modules, before):
    return [
        not torch.equal(value, old)
        for value, old in zip((p for m in modules for p in m.parameters()), before, strict=True)
    ]


@pytest.mark.parametrize(
    "wrap", [lambda f: poutine.scale(f, 0.5), lambda f: lambda images: f(images)]
)
def test_functions_are_trained_without_an_optimiser(pair, wrap):
    before = [p.detach().clone() for module in pair for p in module.parameters()]
    list(fit(*map(wrap, pair), [IMAGES] * 2))
    assert all(moved(pair, before))


def test_a_function_with_a_network_of_its_own_is_trained():
    model, network = VAE((1, 16, 16), 4), torch.nn.Linear(256, 8)

    def guide(images):
        pyro.module("network", network)
        loc, scale = network(images.flatten(1)).chunk(2, -1)
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z_what", dist.Normal(loc, scale.exp()).to_event(1))

    before = [p.detach().clone() for p in network.parameters()]
    list(fit(model, guide, [IMAGES.round()] * 2))
    assert all(moved([network], before))


def test_known_counts_train_through_a_conditioned_model(pair):
    model, guide = pair
    known = {"z_pres_0": torch.ones(8), "z_pres_1": torch.zeros(8)}
    conditioned = poutine.condition(model, data=known)
    blocked = poutine.block(poutine.condition(guide, data=known), hide=[*known])
    before = [p.detach().clone() for p in model.decoder.parameters()]
    list(fit(conditioned, blocked, [IMAGES] * 2))
    assert all(moved([model.decoder], before))


def test_adam_needs_modules(pair):
    adam(poutine.condition(pair[0], data={}), pair[1])
    with pytest.raises(TypeError, match="adam needs modules.*optim= is not given"):
        adam(pair[0], lambda images: None)


# What changes while it runs.


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: lambda images: f(images)])
def test_a_part_that_is_swapped_in_is_trained(pair, wrap):
    model, guide = pair
    training = fit(wrap(model), guide, repeat(IMAGES, 3))
    next(training)
    model.z_pres = Persist([0.5, 0.5], learn=True)
    before = model.z_pres.probs.detach().clone()
    records = list(training)
    assert not torch.equal(model.z_pres.probs, before)
    gradients = [p.grad for m in pair for n, p in m.named_parameters() if "baseline" not in n]
    total = torch.stack([g.norm() for g in gradients if g is not None]).norm().item()
    assert records[-1].norm == pytest.approx(total, rel=1e-4)  # the new ones are in it


def test_a_part_that_is_swapped_in_is_refused_by_the_callers_optimiser(pair):
    model, guide = pair
    training = fit(model, guide, repeat(IMAGES), optim=(optim := adam(model, guide)))
    next(training)
    model.z_pres = Persist([0.5, 0.5], learn=True)
    with pytest.raises(RuntimeError, match="z_pres.*in no group.*add_param_group"):
        next(training)
    training = fit(model, guide, repeat(IMAGES), optim=optim)
    optim.add_param_group({"params": model.z_pres.parameters()})
    assert next(training).step == 1


def other_prior(model, guide):
    model.z_where = Prior(dist.LogNormal, loc=[0.0] * 3, scale=[1.0] * 3)


def fewer_steps(model, guide):
    guide.steps = 1


def independent_presence(model, guide):
    model.z_pres = lambda scene: dist.Bernoulli(torch.full_like(scene.z_pres, 0.5))


def other_proposal(model, guide):
    guide.z_where = Prior(dist.Bernoulli, probs=[0.5] * 3)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: lambda images: f(images)])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_prior, "z_where_0 has support"),
        (fewer_steps, "do not belong together"),
        (independent_presence, "0 after a 0"),
        (other_proposal, "z_where_0 has support"),
    ],
)
def test_a_part_that_is_swapped_in_is_checked(pair, wrap, change, words):
    training = fit(*map(wrap, pair), repeat(IMAGES))
    next(training)
    before = [(p, p.detach().clone()) for module in pair for p in module.parameters()]
    change(*pair)
    with pytest.raises(ValueError, match=words):
        next(training)
    assert all(torch.equal(p, value) for p, value in before)


def test_parts_that_differ_in_numbers_alone_are_not_checked_again(pair, monkeypatch):
    """A schedule that assigns a prior at each step costs no run of the checker."""
    model, guide = pair
    checks = []
    module = sys.modules["pyro_scenes.inference.fit"]
    monkeypatch.setattr(module, "check_guide", lambda *pair: checks.append(pair))
    for record in fit(model, guide, repeat(IMAGES, 4)):
        model.z_pres = Persist(0.5 / record.step)
        model.z_what = lambda scene, scale=record.step / 10: dist.Normal(
            torch.zeros(4), scale
        ).to_event(1)
        guide.presence = record.loss
        guide.eval() if record.step % 2 else guide.train()
    assert len(checks) == 2  # at the first step, and where a function has replaced z_what


JIT = [
    lambda: JitTraceEnum_ELBO(max_plate_nesting=1, ignore_jit_warnings=True),
    lambda: JitTrace_ELBO(ignore_jit_warnings=True),
]


def swapped(model, guide):
    model.z_pres = Persist(0.9)


def in_place(model, guide):
    model.z_pres.probs.fill_(0.9)


def a_function(model, guide):
    model.z_pres = lambda scene: dist.Bernoulli(0.5 * scene.z_pres)


def evaluated(model, guide):
    guide.eval()


@pytest.mark.parametrize("make", JIT)
@pytest.mark.parametrize("change", [swapped, in_place, a_function, evaluated])
def test_a_compiled_elbo_does_not_outlive_what_it_was_compiled_with(pair, make, change, unchecked):
    model, guide = pair
    elbo = make()
    training = fit(model, guide, repeat(IMAGES), elbo=elbo)
    next(training)
    next(training)
    change(model, guide)
    with pytest.raises(ValueError, match="Jit.* is compiled at its first step.*new ELBO"):
        next(training)
    with pytest.raises(ValueError, match="is compiled at its first step"):  # nor in another fit
        next(fit(model, guide, repeat(IMAGES), elbo=elbo))
    assert next(fit(model, guide, [IMAGES], elbo=make())).step == 1


@pytest.mark.parametrize("batch", [IMAGES[:1], IMAGES.double()])
def test_a_compiled_elbo_wants_batches_of_one_shape(pair, batch, unchecked):
    training = fit(*pair, [IMAGES, IMAGES, batch], elbo=JIT[1]())
    next(training), next(training)
    with pytest.raises(ValueError, match="JitTrace_ELBO is compiled.*'shape of the batch'"):
        next(training)


def test_gradients_that_are_off_are_named(pair):
    with torch.no_grad(), pytest.raises(RuntimeError, match="outside torch.no_grad"):
        next(fit(*pair, [IMAGES]))
    for module in pair:
        module.requires_grad_(False)
    with pytest.raises(RuntimeError, match="frozen"):
        next(fit(*pair, [IMAGES]))


class Transfers(TorchDispatchMode):
    """Counts transfers to the host by who asks: this library, or Pyro."""

    def __init__(self):
        super().__init__()
        self.ours = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select")):
            frames = [f.filename for f in traceback.extract_stack()]
            rooms = [f for f in frames if "/pyro_scenes/" in f or "/pyro/" in f]
            if rooms and "/pyro_scenes/inference/" in rooms[-1]:
                self.ours.append(rooms[-1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("validation", [True, False])
def test_a_step_waits_for_the_device_but_once_for_us(pair, validation):
    with pyro.validation_enabled(validation):
        training = fit(*pair, repeat(IMAGES))
        next(training)
        with Transfers() as transfers:
            next(training)
    # .tolist() of the norms is one transfer, which torch asks for without a dispatch on the CPU
    assert len(transfers.ours) <= 1
