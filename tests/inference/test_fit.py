from itertools import islice, repeat

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.optim import Adam as PyroAdam

from pyro_scenes import AIR, AIRGuide, adam, fit
from pyro_scenes.inference import Diverged


@pytest.fixture
def pair():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    return model, AIRGuide(model)


IMAGES = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


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
    one = [r.loss for r in fit(*pair, repeat(IMAGES[:4], 40), elbo=elbo, optim=still)]
    twice = [
        r.loss
        for r in fit(*pair, repeat(IMAGES[:4].repeat(5, 1, 1, 1), 40), elbo=elbo, optim=still)
    ]
    assert sum(one) / 40 == pytest.approx(sum(twice) / 40, rel=0.05)


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


def test_what_diverges_is_not_taken(pair):
    model, guide = pair
    training = fit(model, guide, repeat(IMAGES))
    next(training)
    before = weights(pair)
    pyro.enable_validation(False)  # as training runs have it: else Pyro is the first to complain
    model.z_what = lambda scene: pyro.distributions.Normal(
        torch.full((4,), torch.nan), 1.0
    ).to_event(1)
    with pytest.raises(Diverged, match="step 2 diverged.*smaller learning rate"):
        next(training)
    assert torch.equal(weights(pair), before)


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
