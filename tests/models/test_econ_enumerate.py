"""ECON's enumerated choice: all K^T sequences of experts, summed by Pyro and by hand."""

from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from pyro.poutine.messenger import Messenger
from torch import nn

from pyro_scenes import ECON, ECONGuide
from pyro_scenes.conditionals import RegionProposal
from pyro_scenes.models.econ import Scene

K, LAYERS, CODE, SHAPE = 3, 3, 3, (3, 4, 2)
EXACT = TraceEnum_ELBO(max_plate_nesting=2)


class Attention(nn.Module):
    """Logits of each pixel by itself."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, both):
        return 3 * self.last(both)


class Features(nn.Module):
    """Features of the colours of a region, and of its shape."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 6)

    def forward(self, images, regions):
        return torch.tanh(self.linear(torch.cat([images * regions, regions], 1).flatten(1)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(CODE, 32)

    def forward(self, z_what):
        return self.linear(z_what).unflatten(1, (4, *SHAPE[1:]))


def pair(choice="enumerate", layers=LAYERS, experts=K, **settings):
    model = ECON(
        SHAPE,
        experts,
        layers,
        CODE,
        decoders=[Decoder() for _ in range(experts)],
        image=lambda scene: dist.Normal(scene.canvas, 0.5).to_event(3),
        **settings,
    )
    prior = model.latents()["z_what_0"]
    proposals = [RegionProposal(Features(), 6, prior) for _ in range(experts)]
    attention = [Attention() for _ in range(experts)]
    # a high temperature leaves every sequence likely: none may hide
    guide = ECONGuide(
        model, attention=attention, proposals=proposals, choice=choice, temperature=20.0
    )
    return model, guide


def images_of(n=2):
    return torch.rand(n, *SHAPE)


def gradients(*modules):
    found = {n: p.grad for m in modules for n, p in m.named_parameters()}
    for module in modules:
        module.zero_grad(set_to_none=True)
    return found


class Path(Messenger):
    """Gives the experts of one sequence, and codes of given noise."""

    def __init__(self, experts, noise):
        super().__init__()
        self.experts, self.noise = experts, noise

    def _pyro_sample(self, msg):
        kind, _, i = msg["name"].rpartition("_")
        if kind == "z_expert":
            msg["value"] = torch.full(msg["fn"].batch_shape, self.experts[int(i)])
            msg["infer"] = {}
        if kind == "z_what":
            msg["value"] = msg["fn"].mean + msg["fn"].stddev * self.noise[int(i)]


def noise_of(guide, images):
    """Standard Normal draws of the codes: for layer i, (experts of layers 0 to i ..., n, code)."""
    trace = poutine.trace(poutine.enum(guide, first_available_dim=-3)).get_trace(images)
    noise = []
    for i in range(guide.model.layers):
        site = trace.nodes[f"z_what_{i}"]
        draws = ((site["value"] - site["fn"].mean) / site["fn"].stddev).detach()
        batch = draws.shape[:-3]  # later sites stand to the left
        noise.append(draws.squeeze(-3).movedim([*range(len(batch))][::-1], [*range(len(batch))]))
    return noise


def summed_by_hand(model, guide, images, noise):
    """Minus the ELBO, over all sequences of experts and all regions."""
    loss, total = 0.0, 0.0
    for path in product(range(model.experts), repeat=model.layers):
        codes = [draws[path[: i + 1]] for i, draws in enumerate(noise)]
        with Path(path, codes):
            nodes = poutine.trace(guide).get_trace(images).nodes
        scene = Scene(0, model.layers, torch.zeros_like(images))
        log_path, log_ratio, scope, layers, log_visible = 0.0, 0.0, 1.0, [], []
        for i, k in enumerate(path):
            expert, what = nodes[f"z_expert_{i}"]["fn"], nodes[f"z_what_{i}"]
            log_path = log_path + expert.logits.log_softmax(-1)[:, k]
            scene = scene._replace(layer=i)
            choice = torch.full((len(images),), k)
            log_ratio = log_ratio + model.z_expert(scene).log_prob(choice)
            scene = scene._replace(z_expert=choice)
            normal = dist.Normal(what["fn"].mean, what["fn"].stddev)
            log_q = normal.log_prob(what["value"]).sum(-1)
            log_ratio = log_ratio + model.z_what(scene).log_prob(what["value"]) - log_q
            scene = scene._replace(z_what=what["value"])
            logits = model.decoders[k](what["value"])
            mask = logits[:, -1].sigmoid()
            layers.append(logits[:, :-1].sigmoid())
            log_visible.append((scope * mask).log())
            scope = scope * (1 - mask)
        layers.append(torch.zeros_like(images))
        log_visible.append(scope.log())
        regions = nodes["z_region"]["fn"].probs.permute(2, 1, 0).unflatten(2, SHAPE[1:])
        for region, colours, visible in zip(regions, layers, log_visible, strict=True):
            log_p = visible + dist.Normal(colours, 0.5).log_prob(images).sum(1)
            log_ratio = log_ratio + (region * (log_p - (region + 1e-300).log())).sum((1, 2))
        loss = loss - (log_path.exp() * (log_ratio - log_path)).sum()
        total = total + log_path.exp()
    torch.testing.assert_close(total, torch.ones_like(total))
    return loss


class Chained(nn.Module):
    """Priors of experts and codes that depend on those of the layer in front."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(K, K))

    def z_expert(self, scene):
        first = scene.z_expert is None
        return dist.Categorical(logits=self.table[0] if first else self.table[scene.z_expert])

    def z_what(self, scene):
        loc = (0.3 * scene.z_expert)[..., None] + torch.zeros(CODE)
        loc = loc if scene.z_what is None else loc + 0.5 * scene.z_what
        return dist.Normal(loc, 1.0).to_event(1)


@pytest.mark.parametrize(("chained", "training"), [(True, True), (False, False)])
def test_the_loss_is_the_sum_over_all_sequences_written_by_hand(chained, training, double):
    """K = 3 experts, T = 3 layers: 27 sequences; the loss, and the gradient of every parameter."""
    prior = Chained()
    priors = {"z_expert": prior.z_expert, "z_what": prior.z_what} if chained else {}
    model, guide = pair(**priors)
    guide.train(training)
    images = images_of()
    torch.manual_seed(3)
    loss = EXACT.loss_and_grads(model, config_enumerate(guide), images)
    summed = gradients(model, guide)
    torch.manual_seed(3)
    expected = summed_by_hand(model, guide, images, noise_of(guide, images))
    expected.backward()
    written = gradients(model, guide)
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    assert summed.keys() == written.keys()
    for name, grad in written.items():
        assert grad.any()
        torch.testing.assert_close(summed[name], grad, rtol=1e-7, atol=1e-9)


def test_it_trains_by_svi_as_any_guide():
    model, guide = pair()
    images = images_of(4)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 2e-2}), EXACT)
    losses = [svi.step(images) for _ in range(16)]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_what_is_drawn_has_the_sums_loss_in_the_mean():
    """One expectation: all sequences and regions, drawn sequences of experts, and drawn regions."""
    model, guide = pair(layers=2)
    parts = {"attention": [*guide.attention], "proposals": [*guide.proposals]}
    competing = ECONGuide(model, **parts, temperature=20.0)
    images = images_of().repeat(10, 1, 1, 1)  # each loss draws ten times

    def losses(proposal):
        with torch.no_grad():
            return torch.tensor([EXACT.loss(model, proposal, images) for _ in range(12)])

    summed = losses(config_enumerate(guide))
    # Without config_enumerate experts are summed over, and regions are drawn.
    for drawn in (losses(config_enumerate(competing)), losses(guide)):
        error = (summed.var() / len(summed) + drawn.var() / len(drawn)).sqrt()
        assert error > 0 and (summed.mean() - drawn.mean()).abs() < 4 * error
        assert summed.std() < drawn.std()


def test_no_gradient_goes_through_the_competition():
    """Its logits are given, in the one mode; in the other they are parameters' like all else."""
    for choice in ("compete", "enumerate"):
        _, guide = pair(choice)
        trace = poutine.trace(guide).get_trace(images_of())
        logits = [trace.nodes[f"z_expert_{i}"]["fn"].logits for i in range(LAYERS)]
        assert [one.requires_grad for one in logits] == [choice == "enumerate"] * LAYERS
