"""Bounds in which discrete latents are summed out, against sums written by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from chain import IMAGES, NODES, Chain, ChainGuide, hermegauss, weigh
from pyro import poutine
from pyro.infer import ELBO, SVI, TraceEnum_ELBO
from torch import nn

from pyro_scenes import AIR, ECON, AIRGuide, ECONGuide, Summed, evaluation, fit
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.networks import RegionEncoder, UNet
from pyro_scenes.particles import image_log_probs, log_mean_exp

N, PARTICLES = 3, 2


def gradients(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_same_gradients(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def air_by_counts(model, guide, images):
    """The bound, and what trains q(n): all by conditioning on each count in turn."""
    tall, sizes = images.repeat(PARTICLES, 1, 1, 1), range(model.steps + 1)

    def given(n):
        return {f"z_pres_{t}": torch.full((len(tall),), float(t < n)) for t in range(model.steps)}

    def log_prob(program, values, kind):
        trace = poutine.trace(poutine.condition(program, data=values)).get_trace(tall)
        return image_log_probs(trace, len(tall), [name for name in trace.nodes if kind(name)])

    def is_count(name):
        return name.startswith("z_pres")

    torch.manual_seed(1)
    drawn = poutine.trace(poutine.condition(guide, data=given(model.steps))).get_trace(tall)
    z = {name: drawn.nodes[name]["value"] for name in drawn.stochastic_nodes if name != "images"}
    fixed = {name: value.detach() for name, value in z.items()}
    log_p = [log_prob(model, z | given(n), lambda name: True) for n in sizes]
    log_q = [log_prob(guide, z | given(n), lambda name: not is_count(name)) for n in sizes]
    log_w = torch.stack(log_p) - torch.stack(log_q)
    each = log_w.logsumexp(0).reshape(PARTICLES, -1)
    share = each.softmax(0).flatten() * log_w.softmax(0)
    chances = torch.stack([log_prob(guide, fixed | given(n), is_count) for n in sizes])
    return log_mean_exp(each).sum(), (share.detach() * chances).sum()


def test_air_is_summed_over_its_counts(double):
    model = AIR((1, 12, 12), (1, 6, 6), steps=2, code=3)
    guide = AIRGuide(model, hidden=16)
    images = 0.5 + 0.1 * torch.rand(N, 1, 12, 12)  # grey: one more object is worth about its price
    bound, wake = air_by_counts(model, guide, images)
    expected = gradients(bound + wake, model, guide)
    for nesting in (1, 2):
        torch.manual_seed(1)
        elbo = Summed(PARTICLES, max_plate_nesting=nesting)
        loss = elbo.differentiable_loss(model, guide, images)
        torch.testing.assert_close(-loss, bound, rtol=1e-9, atol=0)
        assert_same_gradients(gradients(-loss, model, guide), expected)
    heads = [*guide.z_pres.parameters()]
    assert all(g.any() for g in torch.autograd.grad(wake, heads))


def chain_by_quadrature(model, guide):
    """E of log sum_z1 p / q at one draw of z0 and, for each z1, of z2; and the same of what trains q(z1)."""
    nodes, weights = map(torch.as_tensor, hermegauss(NODES))
    weights = weights / weights.sum()
    noise_0, noise = torch.meshgrid(nodes, nodes, indexing="ij")
    bound = wake = 0.0
    for x in IMAGES.flatten():
        log_w, log_q = [], []
        for value in (0.0, 1.0):
            z1 = torch.full_like(noise_0, value)
            z0 = guide.parts(x, noise_0, z1)[0] + guide.first[2].exp() * noise_0
            z2 = guide.parts(x, z0, z1)[2] + guide.last[4].exp() * noise
            chance = guide.log_q(x, z0.detach(), z1, z2)[1]
            log_q.append(chance)
            log_w.append(weigh(model, guide, x, (z0, z1, z2)).reshape(NODES, NODES))
            log_w[-1] = log_w[-1] + guide.log_q(x, z0, z1, z2)[1]
        both = torch.logaddexp(log_w[0][:, :, None], log_w[1][:, None])  # z2 is drawn for each z1
        probs = weights[:, None, None] * weights[:, None] * weights
        bound = bound + (probs * both).sum()
        on = (log_w[1][:, None] - both).exp().detach()
        trained = (1 - on) * log_q[0][:, :1, None] + on * log_q[1][:, :1, None]
        wake = wake + (probs * trained).sum()
    return bound, wake


def test_a_recurrent_guide_has_the_gradients_by_quadrature():
    """What trains q(z1) must not run through z0 into q(z0)."""
    model, guide, copies, rows = Chain(), ChainGuide(), 2000, []
    for _ in range(30):
        loss = Summed().differentiable_loss(model, guide, IMAGES.repeat(copies, 1, 1, 1))
        found = torch.cat([g.flatten() for g in gradients(-loss, model, guide)])
        rows.append(torch.cat([-loss.detach()[None], found]) / copies)
    rows = torch.stack(rows)
    bound, wake = chain_by_quadrature(model, guide)
    slopes = torch.cat([g.flatten() for g in gradients(bound + wake, model, guide)])
    truth = torch.cat([bound.detach()[None], slopes])
    z = (rows.mean(0) - truth) / (rows.std(0) / len(rows) ** 0.5)
    assert z.abs().max() < 4


COUNTS = torch.tensor([0.6, 0.25, 0.15]).double()


class Coded(nn.Module):
    """0, 1 or 2 objects, of one code out of three: a Categorical that is drawn, and not counted for 0."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, -0.5, 0.2], dtype=torch.float64))
        self.level = nn.Parameter(torch.tensor([-1.0, 0.6, 1.5], dtype=torch.float64))

    def forward(self, images):
        pyro.module("coded", self)
        n = len(images)
        with pyro.plate("images", n, dim=-1):
            count = pyro.sample("count", dist.Categorical(COUNTS.expand(n, 3)))
            with poutine.mask(mask=count > 0):
                code = pyro.sample("code", dist.Categorical(logits=self.logits.expand(n, 3)))
            level = (count * self.level[code])[..., None, None, None]
            pyro.sample("image", dist.Normal(level, 0.5).to_event(3), obs=images)

    def log_w(self, guide, x):
        """The terms of the sum over counts, a row each, for each code that is drawn."""
        code = self.logits.log_softmax(0) - guide.code(x).log_softmax(-1)
        counts = torch.arange(3)[:, None]
        pixel = dist.Normal(counts * self.level, 0.5).log_prob(x)
        return pixel + COUNTS.log()[:, None] + (counts > 0) * code


class CodedGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.9, -0.2, 0.3, -0.3, 0.7], dtype=torch.float64))

    def code(self, x):
        return torch.stack([self.w[0] * x, self.w[1] * x, self.w[2] + 0 * x], -1)

    def count(self, x):
        return torch.stack([0 * x, self.w[3] + 0 * x, self.w[4] * x], -1)

    def forward(self, images):
        pyro.module("coded_guide", self)
        x = images.flatten()
        with pyro.plate("images", len(x), dim=-1):
            count = pyro.sample("count", dist.Categorical(logits=self.count(x)))
            with poutine.mask(mask=count > 0):
                drawn = dist.Categorical(logits=self.code(x))
                pyro.sample("code", drawn, infer={"enumerate": None})


def test_what_is_drawn_under_a_summed_mask_has_its_score_function():
    model, guide, copies, rows, truth = Coded(), CodedGuide(), 2000, [], 0.0
    for _ in range(30):
        loss = Summed(2).differentiable_loss(model, guide, IMAGES.repeat(copies, 1, 1, 1))
        rows.append(torch.cat([g.flatten() for g in gradients(-loss, model, guide)]) / copies)
    for x in IMAGES.flatten():
        terms, probs = model.log_w(guide, x), guide.code(x).softmax(-1)
        pairs = torch.logaddexp(terms[:, :, None], terms[:, None]) - torch.tensor(2.0).log()
        log_w = terms.logsumexp(0)
        bounds = torch.logaddexp(log_w[:, None], log_w) - torch.tensor(2.0).log()
        posterior = probs @ (pairs - bounds).exp() @ probs  # of each count, over two particles
        wake = posterior.detach() @ guide.count(x).log_softmax(-1)
        truth = truth + probs @ bounds @ probs + wake
    rows, truth = torch.stack(rows), gradients(truth, model, guide)
    truth = torch.cat([g.flatten() for g in truth])
    assert ((rows.mean(0) - truth) / (rows.std(0) / len(rows) ** 0.5)).abs().max() < 4


def test_the_layer_of_each_pixel_is_summed_out(double):
    model = ECON((3, 8, 12), experts=2, layers=2, code=5)
    prior = model.latents()["z_what_0"]
    parts = [RegionProposal(RegionEncoder((3, 8, 12), 20, channels=8), 20, prior) for _ in "ab"]
    guide = ECONGuide(model, attention=[UNet(4, (8, 8)) for _ in "ab"], proposals=parts)
    images = torch.rand(N, 3, 8, 12)
    torch.manual_seed(1)
    proposed = poutine.trace(guide).get_trace(images)
    rest = [name for name in proposed.stochastic_nodes if name.startswith(("z_expert", "z_what"))]
    given = proposed.copy()
    given.remove_node("z_region")
    each = poutine.infer_config(
        poutine.replay(model, trace=given),
        lambda site: {"enumerate": "parallel"} if site["name"] == "z_region" else {},
    )
    joint = poutine.trace(poutine.enum(each, first_available_dim=-3)).get_trace(images)
    joint.compute_log_prob()
    regions = joint.nodes["z_region"]["fn"].logits.movedim(-1, 0)
    pixels = (regions + joint.nodes["image"]["log_prob"]).logsumexp(0).sum(0)
    others = image_log_probs(joint, N, rest) - image_log_probs(proposed, N, rest)
    torch.manual_seed(1)
    assert Summed().loss(model, guide, images) == pytest.approx(-(pixels + others).sum().item())


class Switch(nn.Module):
    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres = pyro.sample("z_pres", dist.Bernoulli(torch.full((len(images),), 0.3).double()))
            canvas = 0.8 * z_pres[..., None, None, None]
            pyro.sample("image", dist.Normal(canvas, 0.5).to_event(3), obs=images)


class Sure(dist.Bernoulli):
    """Certain of the value where one is known."""

    def __init__(self, logits, value):
        super().__init__(logits=logits)
        self.value_or_nan = value
        self.known, self.value = ~value.isnan(), value.nan_to_num()

    def expand(self, batch_shape, _instance=None):
        return Sure(self.logits.expand(batch_shape), self.value_or_nan.expand(batch_shape))

    def log_prob(self, value):
        return torch.where(self.known, -30.0 * (value != self.value), super().log_prob(value))


class SwitchGuide(nn.Module):
    def __init__(self, labels=torch.full((3,), torch.nan)):
        super().__init__()
        self.logits, self.labels = nn.Parameter(torch.zeros(3).double()), labels

    def forward(self, images):
        pyro.module("switch_guide", self)
        with pyro.plate("images", len(images), dim=-1):
            labels = self.labels.double().repeat(len(images) // 3)
            pyro.sample("z_pres", Sure(self.logits.repeat(len(images) // 3), labels))


def joint_of_switch():
    """log p(image, z_pres): a row for each value."""
    values = torch.tensor([[0.0], [1.0]]).double()
    prior = dist.Bernoulli(torch.tensor(0.3).double()).log_prob(values)
    return prior + dist.Normal(0.8 * values, 0.5).log_prob(IMAGES.flatten())


def test_if_all_is_summed_out_it_is_log_p_and_q_is_trained_to_the_posterior():
    model, guide, log_p = Switch(), SwitchGuide(), joint_of_switch()
    for particles in (1, 4):
        loss = Summed(particles).loss(model, guide, IMAGES)
        assert loss == pytest.approx(-log_p.logsumexp(0).sum().item(), rel=1e-7)
    optim = torch.optim.Adam(guide.parameters(), lr=0.3)
    losses = [r.loss for r in fit(model, guide, [IMAGES] * 60, elbo=Summed(), optim=optim)]
    assert max(losses) - min(losses) < 1e-6
    posterior = (log_p[1] - log_p.logsumexp(0)).exp()
    torch.testing.assert_close(guide.logits.sigmoid(), posterior, rtol=0, atol=0.02)


def test_known_values_restrict_the_sum():
    labels = torch.tensor([1.0, torch.nan, 0.0])
    model, guide, log_p = Switch(), SwitchGuide(labels), joint_of_switch()
    loss = Summed(3).differentiable_loss(model, guide, IMAGES)
    expected = log_p[1, 0] + log_p[:, 1].logsumexp(0) + log_p[0, 2]
    torch.testing.assert_close(-loss, expected, rtol=1e-9, atol=1e-9)
    (slopes,) = gradients(loss, guide)
    assert slopes[1] != 0 and not slopes[[0, 2]].any()


class Wrapper(ELBO):
    """An ELBO around another, as Weighted is."""

    def __init__(self, elbo):
        super().__init__()
        self.elbo = elbo

    def loss_and_grads(self, *args):
        return self.elbo.loss_and_grads(*args)

    def _get_trace(self, *args):
        raise NotImplementedError


def test_fit_sees_through_wrappers_that_the_guide_is_to_be_enumerated():
    model, guide, log_p = Switch(), SwitchGuide(), joint_of_switch()
    still = torch.optim.SGD(guide.parameters(), lr=0.0)
    elbo = Wrapper(Wrapper(TraceEnum_ELBO(max_plate_nesting=1)))
    exact = -(log_p + torch.tensor(2.0).log()).mean(0).sum().item()
    (record,) = fit(model, guide, [IMAGES], elbo=elbo, optim=still)
    assert 3 * record.loss == pytest.approx(exact)


def test_svi_takes_it_for_one_image_and_one_particle():
    model = AIR((1, 12, 12), (1, 6, 6), steps=2, code=3)
    guide = AIRGuide(model, hidden=16)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), Summed())
    before = guide.z_pres[0].weight.clone()
    losses = [svi.step(torch.rand(1, 1, 12, 12)) for _ in range(2)]
    assert all(abs(loss) < 1e6 for loss in losses)
    assert not torch.equal(before, guide.z_pres[0].weight)


def test_it_is_tighter_than_the_bound_of_draws_alone():
    model = AIR((1, 12, 12), (1, 6, 6), steps=2, code=3)
    guide, images = AIRGuide(model.eval(), hidden=16).eval(), torch.rand(40, 1, 12, 12).round()
    drawn = evaluation.importance_bound(evaluation.log_weights(model, guide, images, particles=5))
    assert -Summed(5).loss(model, guide, images) > drawn.sum().item()
