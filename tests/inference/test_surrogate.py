"""Objectives of layered scenes that are no bound, against formulas written by hand."""

import math
from itertools import repeat

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.nn import PyroModule
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from pyro_scenes import ECON, ECONGuide, SpritesGuide, fit, sprite_scenes
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.inference import MaskLoss, Surrogate
from pyro_scenes.inference.surrogate import region_divergence
from pyro_scenes.models.competition import Competition
from pyro_scenes.networks import BroadcastDecoder, RegionEncoder, SeededAttention, UNet

EXACT = TraceEnum_ELBO(max_plate_nesting=2)
N, SIDE, LAYERS, WEIGHTS = 2, 4, 3, [(1.0, 1.0), (0.5, 3.0), (0.0, 0.0)]
IMAGES = torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double()


class Layers(PyroModule):
    """Each image's layers are parameters: masks, and grey values that a code shifts."""

    def __init__(self, opaque, height=1.0):
        super().__init__(f"layers_{opaque}_{height}")
        self.opaque = opaque
        self.masks = nn.Parameter(height * torch.randn(LAYERS - opaque, SIDE**2, N).double())
        self.grey = nn.Parameter(torch.rand(LAYERS, SIDE**2, N).double())

    def log_prior(self):
        """log pi, with nothing but products and logarithms."""
        masks, left, shares = self.masks.sigmoid(), 1.0, []
        for mask in masks:
            shares.append(left * mask)
            left = left * (1 - mask)
        return torch.stack([*shares, left]).log()

    def forward(self, images):
        with pyro.plate("images", N, dim=-1):
            codes = []
            for i in range(LAYERS):
                with poutine.mask(mask=torch.tensor([True, i != 1])):
                    codes.append(
                        pyro.sample(
                            f"z_what_{i}", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)
                        )
                    )
            pyro.sample("z_expert_0", dist.Categorical(logits=torch.zeros(3).double()))
            grey = self.grey + torch.stack(codes)[:, None, :, 0]
            grey = torch.cat([grey, torch.zeros_like(grey[: 1 - self.opaque])])
            pixels = images.flatten(1).mT
            with pyro.plate("pixels", SIDE**2, dim=-2):
                z_region = pyro.sample(
                    "z_region", dist.Categorical(logits=self.log_prior().movedim(0, -1))
                )
                canvas = grey.gather(
                    0, z_region.reshape(-1, *z_region.shape[-2:]).expand(-1, SIDE**2, N)
                )
                canvas = canvas if z_region.dim() > 2 else canvas[0]
                pyro.sample("image", dist.Normal(canvas, 0.3), obs=pixels)


class Regions(PyroModule):
    def __init__(self, opaque, height=1.0):
        super().__init__(f"regions_{opaque}_{height}")
        self.opaque = opaque
        self.regions = nn.Parameter(height * torch.randn(LAYERS, SIDE**2, N).double())
        self.loc = nn.Parameter(torch.randn(LAYERS, N, 1).double())

    def logits(self):
        nothing = torch.full_like(self.regions[: 1 - self.opaque], -100.0)
        return torch.cat([self.regions.log_softmax(0), nothing])

    def forward(self, images):
        with pyro.plate("images", N, dim=-1):
            for i in range(LAYERS):
                with poutine.mask(mask=torch.tensor([True, i != 1])):
                    pyro.sample(f"z_what_{i}", dist.Normal(self.loc[i], 0.1).to_event(1))
            certain = torch.tensor([0.0, -1.0, -2.0]).double()
            pyro.sample("z_expert_0", dist.Categorical(logits=certain), infer={"enumerate": None})
            with pyro.plate("pixels", SIDE**2, dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=self.logits().movedim(0, -1)))


@pytest.fixture(params=[True, False], ids=["opaque", "none"])
def pair(request):
    return Layers(request.param), Regions(request.param)


def seeded(module, *args, seed=3):
    torch.manual_seed(seed)
    return poutine.trace(module).get_trace(*args)


def gradients(*modules):
    grads = [p.grad.clone() for m in modules for p in m.parameters()]
    for module in modules:
        module.zero_grad()
    return grads


def parts_by_hand(model, guide):
    """log p (layers, pixels, n), L_z, and that of z_expert, at the draw of one seed."""
    proposed = seeded(guide, IMAGES)
    codes = [proposed.nodes[f"z_what_{i}"]["value"] for i in range(LAYERS)]
    grey = model.grey + torch.stack(codes)[:, None, :, 0]
    fits = dist.Normal(grey, 0.3).log_prob(IMAGES.flatten(1).mT)
    log_ratio = torch.stack(
        [
            dist.Normal(m, 0.1).log_prob(c) - dist.Normal(0, 1).log_prob(c)
            for m, c in zip(guide.loc, codes)
        ]
    )
    counts = torch.tensor([[True, True], [True, False], [True, True]])[..., None]
    q = torch.tensor([0.0, -1.0, -2.0]).double().log_softmax(0)
    expert = q[proposed.nodes["z_expert_0"]["value"]] + math.log(3)
    return fits, (log_ratio * counts).sum(), expert.sum()


def surrogate_by_hand(model, guide, beta, gamma):
    fits, code, expert = parts_by_hand(model, guide)
    loss, scope, regions = beta * code + expert, 1.0, guide.regions.softmax(0)
    for i, region in enumerate(regions):
        loss = loss - (region * fits[i]).sum()
        if i < len(model.masks):  # the last, where it is opaque, is Ber(s) against Ber(s)
            expected = scope * model.masks[i].sigmoid()
            loss = loss + gamma * kl_divergence(Bernoulli(region), Bernoulli(expected)).sum()
        scope = scope - region
    return loss


def mask_loss_by_hand(model, guide, beta, gamma):
    fits, code, expert = parts_by_hand(model, guide)
    regions, logits = guide.regions.softmax(0), model.masks
    if model.opaque:
        logits = torch.cat([logits, torch.zeros_like(logits[:1])])
    divergence = kl_divergence(
        *(Categorical(p.movedim(0, -1)) for p in (regions, logits.softmax(0)))
    )
    mixture = (regions * fits.exp()).sum(0).log()
    return beta * code + expert + gamma * divergence.sum() - mixture.sum()


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize(
    ("objective", "by_hand"), [(Surrogate, surrogate_by_hand), (MaskLoss, mask_loss_by_hand)]
)
def test_loss_and_gradients_are_those_by_hand(pair, objective, by_hand, weights):
    elbo, losses = objective(*weights), []
    for form in (elbo.loss, elbo.differentiable_loss, elbo.loss_and_grads):
        torch.manual_seed(3)
        losses.append(torch.as_tensor(form(*pair, IMAGES), dtype=torch.float64).item())
    grads, expected = gradients(*pair), by_hand(*pair, *weights)
    expected.backward()
    assert losses == pytest.approx([expected.item()] * 3, rel=1e-9)
    for one, other in zip(grads, gradients(*pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


# Eq. 12.


def random_parts(parts=5, height=2.0):
    return (height * torch.randn(parts, 1000).double()).log_softmax(0)


@pytest.mark.parametrize("height", [0.1, 2.0, 10.0])
def test_the_printed_divergence_is_never_more_than_the_exact_one(height):
    """Pixel for pixel and part for part; the front's is the same, and the exact ones add up."""
    regions, prior = random_parts(height=height), random_parts(height=height)
    printed = region_divergence(regions, prior)
    left = [logs.flip(0).logcumsumexp(0).flip(0) for logs in (regions, prior)]
    (alpha, stays), (mask, passes) = (
        ((logs - rest)[:-1], (rest[1:] - rest[:-1])) for logs, rest in zip((regions, prior), left)
    )
    exact = left[0][:-1].exp() * (alpha.exp() * (alpha - mask) + stays.exp() * (stays - passes))
    assert (printed >= -1e-9).all() and (printed[:-1] <= exact + 1e-9).all()
    torch.testing.assert_close(printed[0], exact[0])
    assert not printed[-1].any() and printed[1:].sum() < exact[1:].sum()
    whole = kl_divergence(*(Categorical(logits=logs.mT) for logs in (regions, prior)))
    torch.testing.assert_close(exact.sum(0), whole, rtol=1e-6, atol=1e-9)


def test_what_is_hidden_costs_the_printed_divergence_nothing():
    """The point of the paper: a mask may go on behind what hides it. MONet's may not."""
    model, guide = Layers(False), Regions(False)
    with torch.no_grad():
        guide.regions[:] = 0.0
        guide.regions[0] = 60.0  # the front layer has it all
    for objective, free in ((Surrogate(), True), (MaskLoss(), False)):
        objective.loss_and_grads(model, guide, IMAGES)
        hidden = gradients(model, guide)[0][1:].abs()
        assert (hidden < 1e-12).all() if free else (hidden > 1e-3).all()


@pytest.mark.parametrize("objective", [Surrogate, MaskLoss])
@pytest.mark.parametrize("opaque", [True, False])
def test_saturated_masks_are_finite(objective, opaque):
    """In single precision, with opacities and regions that are 0 or 1 to the last digit."""
    model, guide = Layers(opaque).float(), Regions(opaque).float()
    generator = torch.Generator().manual_seed(1)
    for parameter in (model.masks, guide.regions):
        signs = torch.rand(parameter.shape, generator=generator) > 0.5
        parameter.data = torch.where(signs, 100.0, -100.0)
    stable = torch.stack([*nn.functional.logsigmoid(model.masks)])
    covered = nn.functional.logsigmoid(-model.masks).cumsum(0)
    front = torch.cat([torch.zeros_like(covered[:1]), covered[:-1]])
    logits = torch.cat([front + stable, covered[-1:]]).detach().requires_grad_()
    model.log_prior = lambda: logits
    loss = objective().loss_and_grads(model, guide, IMAGES.float())
    assert 0 < loss < float("inf")
    assert all(grad.isfinite().all() for grad in (logits.grad, guide.regions.grad, model.grey.grad))


# Of ECON and of sprite scenes.

PHOTOS = torch.rand(3, 3, 1, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 16, 12)
PHOTOS[:, 0, 2:9, 1:6] = 0.9
PHOTOS[:, 2, 6:14, 4:11] = 0.1
OBJECTIVES = pytest.mark.parametrize("objective", [Surrogate, MaskLoss])


def econ(**settings):
    shape = (3, 16, 12)
    decoders = [BroadcastDecoder(5, shape, features=8, blocks=1) for _ in range(3)]
    model = ECON(shape, 3, 3, 5, decoders=decoders)
    prior = model.latents()["z_what_0"]
    encoders = [RegionEncoder(shape, 6, channels=4, blocks=2) for _ in range(3)]
    proposals = [RegionProposal(encoder, 6, prior) for encoder in encoders]
    attention = [UNet(4, (8, 8)) for _ in range(3)]
    # The temperature is so high that all experts win now and then.
    return model, ECONGuide(
        model, attention=attention, proposals=proposals, temperature=1e4, **settings
    )


def sprites():
    model = sprite_scenes((3, 16, 12), 2, 3, 5)
    attention = SeededAttention(model.image_shape, widths=(8, 8))
    competition = Competition(temperature=1e4)
    return model, SpritesGuide(model, attention=attention, candidates=2, competition=competition)


PAIRS = pytest.mark.parametrize("build", [econ, sprites], ids=lambda build: build.__name__)


@pytest.fixture
def double():
    """Pyro's TraceEnum_ELBO counts deterministic sites in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_of(elbo, model, guide, seed=3):
    torch.manual_seed(seed)
    return elbo.loss(model, guide, PHOTOS.to(model.blank))


@PAIRS
def test_the_surrogate_is_never_above_minus_the_bound(build, double):
    """And never below it by more than what its regions cost in the bound."""
    model, guide = build()
    for seed in range(3):
        bound = loss_of(EXACT, model, config_enumerate(guide), seed)
        printed, free = (loss_of(Surrogate(gamma=g), model, guide, seed) for g in (1.0, 0.0))
        assert free < printed < bound


@PAIRS
def test_with_no_weight_on_regions_the_surrogate_is_the_bound_without_it(build, double):
    """-E_q[log p(image | z)] and the rest are the ELBO's own."""
    model, guide = build()
    proposed = seeded(guide, PHOTOS.double())
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(PHOTOS.double())
    logits = [trace.nodes["z_region"]["fn"].logits for trace in (proposed, joint)]
    divergence = kl_divergence(*(Categorical(logits=each) for each in logits)).sum()
    rest = loss_of(Surrogate(gamma=0.0), model, guide)
    bound = loss_of(EXACT, model, config_enumerate(guide))
    assert rest + divergence.item() == pytest.approx(bound, rel=1e-9)


@OBJECTIVES
@PAIRS
def test_gradients_reach_every_parameter_in_a_fit(build, objective):
    model, guide = build()
    left = {name for part in (model, guide) for name, _ in part.named_parameters()}
    for record in fit(model, guide, repeat(PHOTOS, 15), elbo=objective(0.5, 2.0)):
        assert abs(record.loss) < float("inf")
        parameters = [*model.named_parameters(), *guide.named_parameters()]
        left -= {name for name, value in parameters if value.grad is not None and value.grad.any()}
        if not left:
            return
    assert not left


@OBJECTIVES
@PAIRS
def test_weights_change_between_steps(build, objective, double):
    model, guide = build()
    elbo, losses = objective(), []
    for elbo.beta, elbo.gamma in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        losses.append(loss_of(elbo, model, guide))
    none, code, region, both = losses
    assert code != none and region > none
    assert both == pytest.approx(none + 2 * (code - none) + 3 * (region - none), rel=1e-9)


@OBJECTIVES
@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_bad_weights_are_refused(objective, weight):
    for name in ("beta", "gamma"):
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 up"):
            objective(**{name: weight})


@OBJECTIVES
def test_a_pair_without_regions_is_refused(pair, objective):
    model, guide = pair
    hidden = [poutine.block(part, hide=["z_region"]) for part in pair]
    for without in ((hidden[0], guide), (model, hidden[1])):
        with pytest.raises(ValueError, match="must draw z_region"):
            objective().loss(*without, IMAGES)


def with_expert(guide, logits):
    """A guide with another proposal of z_expert_0."""

    def proposal(images):
        with poutine.block(hide=["z_expert_0", "images"]):
            guide(images)
        with pyro.plate("images", N, dim=-1):
            pyro.sample("z_expert_0", dist.Categorical(logits=logits))

    return proposal


@OBJECTIVES
def test_a_proposal_that_would_train_wrongly_is_refused(pair, objective):
    model, guide = pair
    logits = torch.zeros(3).double()
    objective().loss_and_grads(model, with_expert(guide, logits), IMAGES)
    with pytest.raises(ValueError, match="z_expert_0 is not reparameterised"):
        objective().loss_and_grads(model, with_expert(guide, nn.Parameter(logits)), IMAGES)


def test_a_guide_that_sums_over_experts_is_refused():
    """Its experts would be drawn here, from logits that have a gradient."""
    model, guide = econ(choice="enumerate")
    with pytest.raises(ValueError, match="z_expert_0 is not reparameterised"):
        Surrogate().loss_and_grads(model, guide, PHOTOS)


@OBJECTIVES
def test_auxiliary_draws_of_the_guide_do_not_count(pair, objective):
    """The model has no such site."""
    model, guide = pair

    def with_seed(images):
        guide(images)
        probs = torch.tensor([0.2, 0.8]).double()
        pyro.sample("seed_0", dist.Categorical(probs), infer={"is_auxiliary": True})

    losses = []
    for proposal in (guide, with_seed):
        torch.manual_seed(3)
        losses.append(objective().loss(model, proposal, IMAGES))
    assert losses[0] == losses[1]
