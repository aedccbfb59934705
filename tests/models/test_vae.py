"""VAE: the bound against one written by hand, and what may be swapped."""

from itertools import islice, repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_scenes import VAE, Pixels, VAEGuide, adam, fit
from pyro_scenes.checks import check_images

SHAPE = (2, 9, 12)
IMAGES = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)).round()


@pytest.fixture
def pair():
    model = VAE(SHAPE, code=3)
    return model, VAEGuide(model, hidden=16)


def by_hand(model, guide, images, analytic):
    torch.manual_seed(3)
    q = guide.z_what(guide.encode(images))
    prior = dist.Normal(torch.zeros(5, 3), 1.0).to_event(1)
    z_what = q.rsample()
    canvas = model.decoder(z_what)
    probs = 1e-3 + (1 - 2e-3) * canvas
    log_p = (images * probs.log() + (1 - images) * torch.log1p(-probs)).sum()
    if analytic:
        mean, variance = q.mean, q.variance
        kl = 0.5 * (variance + mean.square() - 1 - variance.log()).sum()
    else:
        kl = (q.log_prob(z_what) - prior.log_prob(z_what)).sum()
    return kl - log_p


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO()])
def test_the_loss_is_the_bound_written_by_hand(pair, elbo):
    expected = by_hand(*pair, IMAGES, isinstance(elbo, TraceMeanField_ELBO))
    expected.backward()
    written = [p.grad.clone() for module in pair for p in module.parameters()]
    for module in pair:
        module.zero_grad()
    torch.manual_seed(3)
    loss = elbo.loss_and_grads(*pair, IMAGES)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    found = [p.grad for module in pair for p in module.parameters()]
    for one, other in zip(found, written, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_the_canvas_is_what_the_code_decodes_to(pair):
    model, _ = pair
    nodes = poutine.trace(model).get_trace(size=4).nodes
    canvas = nodes["canvas"]["value"]
    torch.testing.assert_close(canvas, model.decoder(nodes["z_what"]["value"]))
    assert nodes["image"]["fn"].event_shape == SHAPE
    torch.testing.assert_close(nodes["image"]["fn"].base_dist.probs, canvas, rtol=0, atol=2e-3)
    assert set(nodes["_RETURN"]["value"].unique().tolist()) == {0.0, 1.0}


def test_images_given_are_returned(pair):
    assert pair[0](IMAGES) is IMAGES


def test_a_gaussian_likelihood_and_a_prior_of_another_family():
    model = VAE(
        SHAPE,
        z_what=lambda scene: dist.Laplace(torch.zeros(4), 0.5).to_event(1),
        decoder=nn.Sequential(nn.Linear(4, 2 * 9 * 12), nn.Sigmoid(), nn.Unflatten(-1, SHAPE)),
        image=Pixels(dist.Normal, scale=0.1),
    )
    guide, images = VAEGuide(model, hidden=16), torch.rand(5, *SHAPE)
    joint = poutine.trace(poutine.replay(model, poutine.trace(guide).get_trace(images)))
    trace = joint.get_trace(images)
    z_what, canvas = (trace.nodes[name]["value"] for name in ("z_what", "canvas"))
    expected = dist.Laplace(0.0, 0.5).log_prob(z_what).sum()
    expected = expected + dist.Normal(canvas, 0.1).log_prob(images).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected, rtol=1e-5, atol=1e-2)


def test_a_bounded_prior_is_proposed_in_its_support():
    uniform = dist.Uniform(torch.tensor([-1.0, 4.0]), torch.tensor([1.0, 5.0])).to_event(1)
    model = VAE(SHAPE, code=2, z_what=lambda scene: uniform)
    trace = poutine.trace(VAEGuide(model, hidden=16)).get_trace(IMAGES.repeat(20, 1, 1, 1))
    assert uniform.support.check(trace.nodes["z_what"]["value"]).all()
    assert len(list(fit(model, VAEGuide(model, hidden=16), [IMAGES]))) == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"code": 0}, "code"),
        ({"image_shape": (9, 12)}, "image_shape"),
        (
            {"decoder": lambda z: torch.zeros(len(z), 2, 12, 9)},
            r"decoder must make \(n, 2, 9, 12\)",
        ),
        ({"decoder": nn.Linear(7, 3)}, "decoder cannot decode"),
        ({"z_what": dist.Normal(0.0, 1.0)}, "z_what must be a function"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(3), 1.0)}, "z_what must return .*to_event"),
        ({"image": lambda s: dist.Normal(s.canvas, 0.1).to_event(2)}, "image must return"),
    ],
)
def test_a_wrong_part_is_named(settings, error):
    with pytest.raises(ValueError, match=error):
        VAEGuide(VAE(**{"image_shape": SHAPE, "code": 3, **settings}))


def test_a_guide_takes_a_model_of_double_precision():
    model = VAE(SHAPE, code=3).double()
    guide = VAEGuide(model, hidden=16)
    assert all(value.dtype == torch.float64 for value in guide.parameters())
    trace = poutine.trace(guide).get_trace(IMAGES.double())
    assert trace.nodes["z_what"]["value"].dtype == torch.float64


def test_the_guide_holds_nothing_of_the_model(pair):
    model, guide = pair
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
    assert not set(model.modules()) & set(guide.modules())


def test_it_learns_two_pictures_apart():
    """The code tells what is seen: reconstructions are nearer to their own image than to the other."""
    model = VAE(SHAPE, code=3)
    guide = VAEGuide(model, hidden=32)
    two = torch.zeros(2, *SHAPE)
    two[0, :, :4], two[1, :, :, 7:] = 1, 1
    batch = two.repeat(10, 1, 1, 1)
    stream = islice(repeat(batch), 120)
    optim = adam(model, guide, lr=5e-3)
    losses = [r.loss for r in fit(model, guide, stream, elbo=Trace_ELBO(), optim=optim)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    proposed = poutine.trace(guide).get_trace(batch)
    joint = poutine.trace(poutine.replay(model, trace=proposed)).get_trace(batch)
    canvas = joint.nodes["canvas"]["value"]
    own, other = ((canvas - x).square().mean() for x in (batch, batch.flip(0)))
    assert own < 0.2 * other


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (IMAGES.long(), r"torch.int64: give images / 255"),
        (IMAGES.bool(), r"torch.bool: give images.float\(\)"),
        (IMAGES.byte(), r"torch.uint8: give images / 255"),
        ([IMAGES, IMAGES], "list: give .* the images alone"),
        (IMAGES.numpy(), r"ndarray: give torch.as_tensor\(images\)"),
    ],
    ids=["int64", "bool", "uint8", "list", "array"],
)
def test_images_of_another_type_are_refused_with_what_to_give(bad, hint, unchecked):
    with pytest.raises(TypeError, match=f"images must be a float tensor, got {hint}"):
        check_images(bad, VAE(SHAPE, 3).blank)
