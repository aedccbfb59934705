"""A product of families for one vector, and what a guide reads of it: support, median, spread."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import biject_to

from pyro_scenes import AIR, AIRGuide, Amortised, Prior, Product
from pyro_scenes.handlers import point_estimate


def pose(**settings):
    scale = Prior(dist.LogNormal, loc=[1.0], scale=[0.2], **settings)
    return Product(scale=scale, shift=Prior(dist.Normal, loc=[0.0, 0.5], scale=[1.0, 2.0]))


def test_the_density_is_the_product_and_the_parts_keep_their_order():
    joint, value = pose()(None), torch.tensor([[2.0, -1.0, 3.0], [4.0, 0.5, 0.0]])
    assert joint.batch_shape == () and joint.event_shape == (3,)
    scale = dist.LogNormal(1.0, 0.2).log_prob(value[:, 0])
    shift = dist.Normal(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 2.0])).log_prob(value[:, 1:])
    torch.testing.assert_close(joint.log_prob(value), scale + shift.sum(-1))


def test_draws_have_the_parts_moments_and_lie_in_the_support():
    joint = pose()(None)
    draws = joint.sample((20000,))
    assert joint.support.check(draws).all() and (draws[:, 0] > 0).all() and (draws[:, 1] < 0).any()
    assert not joint.support.check(-draws).any()
    torch.testing.assert_close(draws.mean(0), joint.mean, rtol=0.02, atol=0.05)
    torch.testing.assert_close(draws.var(0), joint.variance, rtol=0.1, atol=0)


def test_batch_shapes_broadcast_and_expand():
    joint = Product(
        scale=lambda scene: dist.Gamma(torch.rand(5, 1, 1) + 1, torch.ones(1)).to_event(1),
        shift=lambda scene: dist.Normal(torch.zeros(4, 2), 1.0).to_event(1),
    )(None)
    assert joint.batch_shape == (5, 4) and joint.sample((3,)).shape == (3, 5, 4, 3)
    wide = joint.expand((2, 5, 4))
    assert wide.log_prob(wide.sample()).shape == (2, 5, 4)
    with pyro.plate("images", 6):
        assert poutine.trace(lambda: pyro.sample("z", pose()(None)))().shape == (6, 3)


def test_it_is_reparametrised_if_all_its_parts_are():
    assert pose()(None).has_rsample
    joint = pose(learn=True)
    joint(None).rsample((10,)).sum().backward()
    assert all(value.grad.any() for value in joint.parameters())
    mixture = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2, 1), 1.0).to_event(1)
    )
    assert not Product(a=lambda scene: mixture, b=pose().shift)(None).has_rsample


def test_double_precision_and_a_checkpoint():
    joint = pose(learn=True).double()
    assert joint(None).sample().dtype == torch.float64
    again = pose(learn=True)
    with torch.no_grad():
        next(joint.parameters()).add_(1.0)
    again.double().load_state_dict(joint.state_dict())
    torch.testing.assert_close(again(None).mean, joint(None).mean)


def test_a_product_of_real_vectors_is_a_real_vector():
    real = Product(a=Prior(dist.Normal, loc=[0.0], scale=[1.0]), b=pose().shift)
    assert isinstance(Amortised(5, real(None))(torch.randn(1, 5)).base_dist, dist.Normal)


PARTS = {
    "scalar": Prior(dist.Normal, loc=0.0, scale=1.0),
    "simplex": Prior(dist.Dirichlet, concentration=[1.0, 2.0]),
    "discrete": Prior(dist.Bernoulli, probs=[0.5]),
    "number": lambda scene: 3.0,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_cannot_be_concatenated_is_named(part):
    with pytest.raises(ValueError, match="odd must return"):
        Product(odd=PARTS[part], shift=pose().shift)(None)


def test_names_of_modules_are_refused_and_no_parts_too():
    with pytest.raises(ValueError, match="another name"):
        Product(forward=pose().shift)
    with pytest.raises(ValueError, match="at least one part"):
        Product()


MIXTURE = dist.Categorical(torch.tensor([0.3, 0.7]))
MEANS = torch.tensor([[-1.0, 4.0, 0.0], [1.0, 4.0, 3.0]])
LIKE = {
    "product": pose()(None),
    "product with a mixture": Product(
        scale=lambda scene: dist.MixtureSameFamily(
            MIXTURE, dist.LogNormal(MEANS[:, :1], 0.3).to_event(1)
        ),
        shift=pose().shift,
    )(None),
    "mixture of vectors": dist.MixtureSameFamily(MIXTURE, dist.Normal(MEANS, 1.0).to_event(1)),
    "vector of mixtures": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(3, 2)), dist.Normal(MEANS.T, 1.0)
    ).to_event(1),
    "mixture of diagonal Normals": dist.MixtureOfDiagNormals(
        MEANS, torch.ones(2, 3), torch.zeros(2)
    ),
}


@pytest.mark.parametrize("name", LIKE)
def test_a_proposal_starts_about_where_the_prior_draws(name):
    like = LIKE[name]
    proposal = Amortised(5, like)
    torch.nn.init.zeros_(proposal.head[0].weight), torch.nn.init.zeros_(proposal.head[0].bias)
    proposed, drawn = proposal(torch.randn(4000, 5)).rsample(), like.sample((4000,))
    if name == "mixture of diagonal Normals":  # takes no sample shape
        drawn = like.expand((4000,)).sample()
    assert like.support.check(proposed).all()
    line = [biject_to(proposal.support).inv(draws) for draws in (drawn, proposed)]
    off, spread = (line[0].quantile(0.5, 0) - line[1].quantile(0.5, 0)), line[0].std(0)
    assert (off.abs() < 0.2 * spread).all()
    assert (line[1].std(0) < 1.5 * spread).all() and (line[1].std(0) > 0.6 * spread).all()


def test_a_mixture_with_bounds_of_its_components_own_is_refused():
    bounds = torch.tensor([[0.0] * 3, [2.0] * 3])
    like = dist.MixtureSameFamily(MIXTURE, dist.Uniform(bounds, bounds + 1).to_event(1))
    with pytest.raises(ValueError, match="Amortised proposes .* the support Mixture"):
        Amortised(5, like)


@pytest.mark.parametrize("move", ["meta", torch.float64])
def test_the_bounds_of_a_support_move_with_the_proposal(move):
    bounded = Prior(dist.Uniform, low=[2.0], high=[4.0])
    proposal = Amortised(5, Product(scale=bounded, shift=pose().shift)(None)).to(move)
    with pyro.validation_enabled(False):  # meta tensors have no values to check
        found = proposal(torch.randn(6, 5).to(move)).rsample()
    assert found.device.type == "meta" if move == "meta" else found.dtype == move
    bound = proposal.support.base_constraint.cseq[0].lower_bound
    assert bound.is_meta if move == "meta" else bound.dtype == move


def test_half_precision_has_quantiles():
    like = dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1)
    half = dist.Normal(like.mean.bfloat16(), like.stddev.bfloat16()).to_event(1)
    start = Amortised(5, half).start[:2]
    assert start.dtype == torch.bfloat16
    torch.testing.assert_close(start.float(), like.mean, rtol=0.05, atol=0.1)


def test_objects_of_a_positive_scale_stand_anywhere():
    """What ``Prior(dist.LogNormal, ...)`` of all three numbers is not: its x and y are positive too."""
    parts = {"image_shape": (1, 12, 12), "window": (1, 6, 6), "steps": 1, "code": 4}
    model = AIR(**parts, z_where=pose())
    z_where = poutine.trace(model).get_trace(size=2000).nodes["z_where_0"]["value"]
    centre = -z_where[:, 1:] / z_where[:, :1]
    assert (z_where[:, 0] > 0).all()
    assert ((centre > 0).float().mean(0) - torch.tensor([0.5, 0.4])).abs().max() < 0.05
    proposed = poutine.trace(AIRGuide(model)).get_trace(torch.rand(50, 1, 12, 12))
    drawn = proposed.nodes["z_where_0"]
    assert (drawn["value"][:, 0] > 0).all() and (drawn["value"][:, 1:] < 0).any()
    estimate = point_estimate(drawn["fn"])
    assert drawn["fn"].support.check(estimate).all()


@pytest.mark.parametrize(
    "like",
    [
        dist.Pareto(torch.ones(1, 2), 3.0).to_event(1),
        dist.Uniform(torch.zeros(4, 2), torch.ones(2)).to_event(1),
    ],
    ids=["Pareto", "Uniform"],
)
def test_bounds_may_have_a_batch_dimension(like):
    head = Amortised(5, like)
    assert like.support.check(head(torch.randn(4, 5)).sample()).all()
