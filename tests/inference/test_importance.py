"""Bounds of several particles against quadrature, an exact posterior, and log p in closed form."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from chain import IMAGES, Chain, ChainGuide, exact_bound, exact_wake
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormalMessenger
from torch import nn

from pyro_scenes import AIR, VAE, AIRGuide, Importance, Summed, VAEGuide, Weighted, evaluation, fit
from pyro_scenes.inference.importance import without_each

COPIES, REPEATS = 1000, 30


def importance(particles, gradient):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stl is biased
        return Importance(particles, gradient=gradient)


def gradients(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def draws_of(elbo, model, guide):
    """Independent estimates of the bound and of its gradients, a row each."""
    rows = []
    for _ in range(REPEATS):
        bound = -elbo.differentiable_loss(model, guide, IMAGES.repeat(COPIES, 1, 1, 1))
        found = gradients(bound, model, guide)
        rows.append(torch.cat([bound.detach()[None], found]) / COPIES)
    return torch.stack(rows)


def z_scores(rows, truth):
    return (rows.mean(0) - truth) / (rows.std(0) / len(rows) ** 0.5)


@pytest.fixture
def pair():
    return Chain(), ChainGuide()


def truth_of(gradient, model, guide):
    bound = exact_bound(model, guide)
    found = gradients(bound, model, guide)
    if gradient == "wake":
        found[model.w.numel() :] = gradients(exact_wake(model, guide), guide)
    return torch.cat([bound.detach()[None], found])


@pytest.mark.parametrize("gradient", ["iwae", "dreg", "wake"])
def test_values_and_gradients_of_two_particles_are_those_by_quadrature(pair, gradient):
    rows = draws_of(importance(2, gradient), *pair)
    assert z_scores(rows, truth_of(gradient, *pair)).abs().max() < 4


def test_sticking_the_landing_is_biased(pair):
    """So the test above would notice."""
    z = z_scores(draws_of(importance(2, "stl"), *pair), truth_of("stl", *pair))
    assert z[: 1 + pair[0].w.numel()].abs().max() < 4  # value and model
    assert z.abs().max() > 8


class Line(nn.Module):
    """z0 ~ N(0, 1), z1 ~ N(w z0, 1), one pixel ~ N(z1, .5): all is Gaussian."""

    def __init__(self, w=0.8):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, images):
        pyro.module("line", self)
        zero = torch.zeros(len(images), dtype=torch.float64)
        with pyro.plate("images", len(images), dim=-1):
            z0 = pyro.sample("z0", dist.Normal(zero, 1.0))
            z1 = pyro.sample("z1", dist.Normal(self.w * z0, 1.0))
            pyro.sample("image", dist.Normal(z1[:, None, None, None], 0.5).to_event(3), obs=images)

    def log_p(self, images):
        return dist.Normal(0.0, (1.25 + self.w**2).sqrt()).log_prob(images.flatten())


class LineGuide(nn.Module):
    """The exact posterior of a Line at first, z1 first and then z0; or one that is ``stretch`` as wide."""

    def __init__(self, w=0.8, stretch=1.0):
        super().__init__()
        prior, last = 1 + w**2, torch.tensor([w / (1 + w**2), stretch**2 / (1 + w**2)])
        gain = prior / (prior + 0.25)
        first = torch.tensor([gain, stretch**2 * (1 - gain) * prior])
        first, last = (n.double() for n in (first, last))
        self.first, self.last = nn.Parameter(first), nn.Parameter(last)

    def forward(self, images):
        pyro.module("line_guide", self)
        with pyro.plate("images", len(images), dim=-1):
            z1 = pyro.sample(
                "z1", dist.Normal(self.first[0] * images.flatten(), self.first[1].sqrt())
            )
            pyro.sample("z0", dist.Normal(self.last[0] * z1, self.last[1].sqrt()))


@pytest.fixture
def exact(double):
    return Line(), LineGuide()


@pytest.mark.parametrize("gradient", ["iwae", "stl", "dreg", "wake"])
def test_under_the_exact_posterior_each_draw_has_log_p(exact, gradient):
    model, guide = exact
    loss = importance(5, gradient).differentiable_loss(model, guide, IMAGES)
    log_p = model.log_p(IMAGES).sum()
    torch.testing.assert_close(-loss, log_p, rtol=0, atol=1e-10)
    found = gradients(loss, guide).abs().max()
    assert found < 1e-10 if gradient in ("stl", "dreg") else found > 0.1
    # What sticks the landing in the guide has its gradient of the model in expectation alone.
    elbo, many = importance(5, gradient), IMAGES.repeat(3000, 1, 1, 1)
    slopes = torch.stack(
        [-gradients(elbo.differentiable_loss(*exact, many), model) for _ in range(9)]
    )
    assert z_scores(slopes / 3000, gradients(log_p, model)).abs().max() < 5


def test_the_bound_tightens_with_particles_and_stays_below_log_p(double):
    model, guide = Line(), LineGuide(stretch=1.7)
    many = IMAGES.repeat(2000, 1, 1, 1)
    bounds = [-importance(k, "iwae").loss(model, guide, many) / 2000 for k in (1, 10, 100)]
    assert bounds[0] + 0.1 < bounds[1] and bounds[1] + 0.01 < bounds[2]
    assert bounds[2] < model.log_p(IMAGES).sum().item() < bounds[2] + 0.02


@pytest.fixture
def air():
    model = AIR((1, 12, 12), (1, 6, 6), steps=2, code=3)
    return model, AIRGuide(model, hidden=16)


PICTURES = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0)).round()


def test_it_is_the_bound_of_evaluation_under_each_gradient(air):
    torch.manual_seed(1)
    with pytest.warns(match="training mode"):
        log_w = evaluation.log_weights(*air, PICTURES.repeat(4, 1, 1, 1)).reshape(4, 3)
    expected = -evaluation.importance_bound(log_w).sum().item()
    for gradient in ("iwae", "stl", "dreg", "wake"):
        elbo, found = importance(4, gradient), []
        for form in (elbo.loss, elbo.differentiable_loss, elbo.loss_and_grads):
            torch.manual_seed(1)
            found.append(torch.as_tensor(form(*air, PICTURES)).item())
        torch.manual_seed(1)
        found.append(elbo(*air)(images=PICTURES).item())
        assert found == [pytest.approx(expected, rel=1e-6)] * 4


def test_svi_and_fit_take_the_same_step():
    losses = []
    for by_fit in (False, True):
        torch.manual_seed(0)
        model = VAE((1, 12, 12), code=3)
        guide = VAEGuide(model, hidden=16)
        torch.manual_seed(1)
        if by_fit:
            losses += [
                3 * record.loss for record in fit(model, guide, [PICTURES] * 2, elbo=Importance(3))
            ]
        else:
            svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Importance(3))
            losses += [svi.step(PICTURES) for _ in range(2)]
    assert losses[0] == pytest.approx(losses[2], rel=1e-6) and losses[0] != losses[1]


def test_the_control_variate_is_of_the_other_particles():
    log_w = torch.randn(3, 2).double()
    for k in range(3):
        others = [log_w[j] for j in range(3) if j != k]
        of_each = torch.stack([*others, sum(others) / 2]).exp().mean(0).log()
        torch.testing.assert_close(without_each(log_w)[k], of_each)
    assert not without_each(log_w[:1]).any()


class Planar(nn.Module):
    """A guide whose flow knows the inverse of its own draws alone."""

    def __init__(self):
        super().__init__()
        self.flow = dist.transforms.Planar(2)

    def forward(self, images):
        pyro.module("planar", self)
        with pyro.plate("images", len(images), dim=-1):
            base = dist.Normal(torch.zeros(len(images), 2), 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


def of_two(images):
    with pyro.plate("images", len(images), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(images), 2), 1.0).to_event(1))
        canvas = z.sum(-1)[:, None, None, None].expand_as(images)
        pyro.sample("image", dist.Normal(canvas, 1.0).to_event(3), obs=images)


@pytest.mark.parametrize("elbo", [Importance(3, gradient="iwae"), Summed(3)])
def test_flows_without_an_inverse_are_trained(elbo):
    guide = Planar()
    elbo.loss_and_grads(of_two, guide, PICTURES)
    assert all(p.grad.any() for p in guide.parameters())


BOUNDS = [Importance(2), Summed(2)]


@pytest.mark.parametrize("elbo", BOUNDS)
def test_what_is_scaled_has_no_bound(air, elbo):
    with pytest.raises(TypeError, match="bound on log p.*Weigh Trace_ELBO"):
        Weighted(elbo, z_what=0.5)
    model, guide = (poutine.scale(program, 0.1) for program in air)
    with pytest.raises(ValueError, match="is scaled by 0.1.*remove poutine.scale"):
        elbo.loss(model, guide, PICTURES)


@pytest.mark.filterwarnings("ignore:Found vars")
@pytest.mark.parametrize("elbo", BOUNDS)
def test_a_pair_that_is_none_is_refused(air, elbo):
    model, guide = air
    with pytest.raises(ValueError, match="do not belong together"):
        elbo.loss(model, poutine.block(guide, hide=["z_what_1"]), PICTURES)

    def shared(images):
        pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))

    with pytest.raises(ValueError, match="z is of all images at once.*pyro.plate"):
        elbo.loss(shared, shared, PICTURES)
    with pytest.raises(TypeError, match="runs inside the model"):
        elbo.loss(of_two, AutoNormalMessenger(of_two), PICTURES)
    with pytest.raises(TypeError, match=r"tensors \(n, ...\), got list"):
        elbo.loss(*air, PICTURES, [0, 1, 2])
    with pytest.raises(TypeError, match="must have images"):
        elbo.loss(*air)


@pytest.mark.parametrize("kind", [Importance, Summed])
@pytest.mark.parametrize("particles", [0, -1, True])
def test_bad_numbers_of_particles_are_refused(kind, particles):
    with pytest.raises(ValueError, match="particles must be a whole number"):
        kind(particles)


def test_other_arguments():
    with pytest.raises(ValueError, match="must be one of iwae, stl, dreg, wake, got 'IWAE'"):
        Importance(gradient="IWAE")
    with pytest.raises(ValueError, match="max_plate_nesting must be a whole number"):
        Summed(max_plate_nesting=0)
    with pytest.warns(UserWarning, match="biased for more than one particle"):
        Importance(2, gradient="stl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Importance(1, gradient="stl")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("gradient", ["iwae", "dreg", "wake"])
def test_on_a_gpu_too(air, gradient):
    model, guide = (module.cuda() for module in air)
    losses = []
    for elbo in (Importance(2, gradient=gradient), Trace_ELBO(num_particles=2)):
        torch.manual_seed(0)
        losses.append(elbo.loss_and_grads(model, guide, PICTURES.cuda()))
    assert losses[0] < losses[1] + 1.0
