"""Weighted objectives against formulas written by hand."""

from itertools import repeat

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.nn import PyroModule, PyroParam
from torch.distributions import kl_divergence

from pyro_scenes import AIR, CSTVAE, VAE, AIRGuide, CSTVAEGuide, Persist, VAEGuide, fit
from pyro_scenes.inference import Weighted, as_printed

EXACT = TraceEnum_ELBO(max_plate_nesting=1)
IMAGES = torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0)).round()
PLAIN = {
    "graph": TraceGraph_ELBO(),
    "trace": Trace_ELBO(),
    "mean field": TraceMeanField_ELBO(),
    "exact": EXACT,
}
WEIGHTS = [{}, {"z_what": 0.0}, {"z_what": 0.3, "z_where": 2.0}, {"image": 0.5, "z_where": 0.1}]


@pytest.fixture
def pair():
    model = CSTVAE((1, 12, 10), (1, 7, 6), layers=2, code=3)
    return model, CSTVAEGuide(model, hidden=16)


def gradients(*modules):
    found = [p.grad.clone() for m in modules for p in m.parameters() if p.grad is not None]
    for module in modules:
        module.zero_grad()
    return found


def loss_and_gradients(elbo, model, guide, images=IMAGES, seed=3):
    torch.manual_seed(seed)
    loss = elbo.loss_and_grads(model, guide, images)
    return loss, gradients(
        model, getattr(guide, "__wrapped__", guide)
    )  # as config_enumerate has it


def traces(model, guide, seed=3):
    torch.manual_seed(seed)
    proposed = poutine.trace(guide).get_trace(IMAGES)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(IMAGES)
    proposed.compute_log_prob(), joint.compute_log_prob()
    return joint.nodes, proposed.nodes


def by_hand(model, guide, weights, analytic):
    """-(weight of the image) log p(x | z) + the sum over latents of weight times KL, at one draw."""
    joint, proposed = traces(model, guide)
    loss = -weights.get("image", 1.0) * joint["image"]["log_prob"].sum()
    for name in ("z_where_0", "z_what_0", "z_where_1", "z_what_1"):
        kl = proposed[name]["log_prob"] - joint[name]["log_prob"]
        if analytic:
            kl = kl_divergence(proposed[name]["fn"], joint[name]["fn"])
        loss = loss + weights.get(name[:-2], 1.0) * kl.sum()
    return loss


def compare(elbo, model, guide, expected):
    loss, found = loss_and_gradients(elbo, model, guide)
    expected.backward()
    written = gradients(model, guide)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert len(found) == len(written)
    for one, other in zip(found, written, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("weights", [{}, {"z_where": 1.0, "z_what": 1.0, "image": 1.0}])
def test_with_weights_of_one_it_is_the_elbo(pair, name, weights):
    for model, guide, images in (
        (*pair, IMAGES),
        (air := AIR((1, 12, 10), (1, 7, 6), 2, 3), AIRGuide(air), IMAGES),
    ):
        if name == ("mean field" if isinstance(model, AIR) else "exact"):
            continue  # AIR's draws are not of a mean field; a CST-VAE has nothing to sum over
        proposal = config_enumerate(guide) if name == "exact" else guide
        plain = loss_and_gradients(PLAIN[name], model, proposal, images)
        weighted = loss_and_gradients(Weighted(PLAIN[name], **weights), model, proposal, images)
        assert plain[0] == weighted[0] and len(plain[1]) == len(weighted[1]) > 0
        assert all(torch.equal(a, b) for a, b in zip(plain[1], weighted[1], strict=True))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_weights_on_an_analytic_kl(pair, weights):
    elbo = Weighted(TraceMeanField_ELBO(), **weights)
    compare(elbo, *pair, by_hand(*pair, weights, analytic=True))


@pytest.mark.parametrize("inner", [Trace_ELBO, TraceGraph_ELBO])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_weights_on_a_sampled_kl(pair, inner, weights):
    compare(Weighted(inner(), **weights), *pair, by_hand(*pair, weights, analytic=False))


def test_loss_in_all_its_forms(pair):
    weights = {"z_what": 0.3, "z_where": 2.0}
    elbo, found = Weighted(Trace_ELBO(), **weights), []
    for form in (elbo.loss, elbo.differentiable_loss, elbo.loss_and_grads):
        torch.manual_seed(3)
        found.append(torch.as_tensor(form(*pair, IMAGES)).item())
    torch.manual_seed(3)
    found.append(elbo(*pair)(IMAGES).item())
    assert found == pytest.approx([by_hand(*pair, weights, analytic=False).item()] * 4, rel=1e-5)


def test_the_printed_objective(pair):
    """Eq. 3.1 of the paper: log q(z) - log p(x | z), to be minimised, with no log p(z)."""
    joint, proposed = traces(*pair)
    log_q = sum(proposed[name]["log_prob"].sum() for name in proposed if name.startswith("z_"))
    compare(as_printed(), *pair, log_q - joint["image"]["log_prob"].sum())


def test_the_printed_objective_knows_no_prior(pair):
    model, guide = pair
    before, _ = loss_and_gradients(as_printed(), model, guide)
    plain, _ = loss_and_gradients(Trace_ELBO(), model, guide)
    model.z_what = lambda scene: dist.Normal(torch.full((3,), 5.0), 0.1).to_event(1)
    assert loss_and_gradients(as_printed(), model, guide)[0] == before
    assert loss_and_gradients(Trace_ELBO(), model, guide)[0] > plain + 1


def test_the_printed_objective_of_other_latents():
    model = VAE((1, 12, 10), code=3)
    guide = VAEGuide(model, hidden=16)
    joint, proposed = traces(model, guide)
    expected = proposed["z_what"]["log_prob"].sum() - joint["image"]["log_prob"].sum()
    compare(as_printed(["z_what"]), model, guide, expected)


def test_weights_change_between_steps(pair):
    elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0)
    losses = {}
    for weight in (0.0, 1.0, 3.0):
        elbo.weights["z_what"] = weight
        losses[weight], _ = loss_and_gradients(elbo, *pair)
    assert losses[1.0] > losses[0.0]
    expected = losses[0.0] + 3 * (losses[1.0] - losses[0.0])
    assert losses[3.0] == pytest.approx(expected, rel=1e-4)


def test_a_weight_of_zero_trains_no_prior():
    model = VAE((1, 12, 10), code=3)
    learned = torch.nn.Parameter(torch.ones(3))
    model.z_what = lambda scene: dist.Normal(learned, 1.0).to_event(1)
    guide = VAEGuide(model, hidden=16)
    for weight, moved in ((0.0, False), (1.0, True)):
        learned.grad = None
        Weighted(TraceMeanField_ELBO(), z_what=weight).loss_and_grads(model, guide, IMAGES)
        assert (learned.grad is not None and bool(learned.grad.any())) == moved


def test_the_fit_takes_it_and_its_changes(pair):
    elbo = Weighted(TraceMeanField_ELBO(), z_what=0.0, z_where=0.0)
    still = torch.optim.SGD([p for module in pair for p in module.parameters()], lr=0.0)
    losses = []
    for record in fit(*pair, repeat(IMAGES, 6), elbo=elbo, optim=still):
        losses.append(record.loss)
        elbo.weights["z_what"] = 100.0 * (record.step >= 3)
    assert min(losses[3:]) > max(losses[:3])


def test_the_fit_takes_the_printed_objective(pair):
    records = list(fit(*pair, repeat(IMAGES, 3), elbo=as_printed()))
    assert len(records) == 3 and all(record.norm > 0 for record in records)


class Switch(PyroModule):
    """One switch to each image, on or off: bright or dark."""

    def __init__(self):
        super().__init__("switch")
        self.bright = torch.nn.Parameter(torch.tensor(0.8))

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres = pyro.sample("z_pres", dist.Bernoulli(0.3))
            canvas = self.bright * z_pres[..., None, None, None] * torch.ones_like(images[0])
            pyro.sample("image", dist.Normal(canvas, 1.0).to_event(3), obs=images)


class SwitchGuide(PyroModule):
    def __init__(self):
        super().__init__("switch_guide")
        self.probs = PyroParam(torch.tensor(0.6), dist.constraints.unit_interval)

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z_pres", dist.Bernoulli(self.probs))


def summed_by_hand(images, weight):
    """E_q[-log p(x | z)] + weight KL(q || p), exactly, per image."""
    total = 0.0
    for present, q, p in ((0.0, 0.4, 0.7), (1.0, 0.6, 0.3)):
        log_p = dist.Normal(0.8 * present, 1.0).log_prob(images).sum((1, 2, 3)).mean()
        total += q * (-log_p + weight * (torch.tensor(q) / p).log())
    return total.item()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_fit_enumerates_under_weights_too(weight):
    """The loss is exact: no step of a still optimiser differs from another, or from the sum by hand."""
    model, guide = Switch(), SwitchGuide()
    still = torch.optim.SGD([*model.parameters(), *guide.parameters()], lr=0.0)
    elbo = Weighted(EXACT, z_pres=weight)
    found = [r.loss for r in fit(model, guide, repeat(IMAGES, 3), elbo=elbo, optim=still)]
    assert found == pytest.approx([summed_by_hand(IMAGES, weight)] * 3, rel=1e-5)


@pytest.fixture
def increments():
    """A pair whose likelihood is a site and two factors, and log p(image | its draws) in whole."""
    model = AIR((1, 12, 10), (1, 7, 6), 2, 3, z_pres=Persist(0.5))
    guide = AIRGuide(model).eval()

    def log_likelihood(seed=3):
        torch.manual_seed(seed)
        proposed = poutine.trace(guide).get_trace(IMAGES)
        drawn = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(size=len(IMAGES))
        return drawn.nodes["image"]["fn"].log_prob(IMAGES).sum().item()

    return model, guide, log_likelihood


@pytest.mark.parametrize("inner", [Trace_ELBO, TraceGraph_ELBO])
def test_a_likelihood_in_increments_is_weighed_whole(increments, inner):
    model, guide, log_likelihood = increments
    loss = {
        weight: loss_and_gradients(Weighted(inner(), image=weight), model, guide)[0]
        for weight in (0.0, 1.0, 2.5)
    }
    assert loss[1.0] - loss[0.0] == pytest.approx(-log_likelihood(), rel=1e-4)
    assert loss[2.5] - loss[0.0] == pytest.approx(-2.5 * log_likelihood(), rel=1e-4)
    plain = loss_and_gradients(inner(), model, guide)[0]
    assert loss[1.0] == pytest.approx(plain, rel=1e-6)


def test_a_factor_that_is_named_has_its_own_weight(increments):
    model, guide, log_likelihood = increments
    loss = {
        weights: loss_and_gradients(
            Weighted(Trace_ELBO(), image=weights[0], evidence=weights[1]), model, guide
        )[0]
        for weights in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    }
    blank = model.likelihood(model.blank.expand_as(IMAGES)).log_prob(IMAGES).sum().item()
    none = loss[0.0, 0.0]
    assert loss[1.0, 0.0] - none == pytest.approx(-blank, rel=1e-4)
    assert loss[0.0, 1.0] - none == pytest.approx(blank - log_likelihood(), rel=1e-4)


@pytest.mark.parametrize("jit", [JitTrace_ELBO, JitTraceEnum_ELBO])
def test_a_compiled_elbo_would_not_see_weights_that_change(jit):
    with pytest.raises(TypeError, match=f"{jit.__name__} is compiled.*weigh {jit.__name__[3:]}"):
        Weighted(jit(), z_what=0.5)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weights must be numbers from 0 up.*z_what"):
        Weighted(Trace_ELBO(), z_where=1.0, z_what=weight)


@pytest.mark.parametrize("elbo", [Trace_ELBO, None, "elbo"])
def test_what_is_no_elbo_is_refused(elbo):
    with pytest.raises(TypeError, match="elbo must be an object|checking parameter 'elbo'"):
        Weighted(elbo)
