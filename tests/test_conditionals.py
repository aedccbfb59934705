import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_scenes import Amortised, Persist, Pixels, Prior, Product
from pyro_scenes.handlers import point_estimate
from pyro_scenes.models.air import Scene


def scene(step=0, present=1.0, n=3, canvas=0.5):
    return Scene(step, torch.full((n, 1, 4, 4), canvas), torch.full((n,), present))


def test_a_prior_is_its_family():
    prior = Prior(dist.Normal, loc=[3.0, 0.0], scale=[0.2, 1.0])(scene())
    assert prior.batch_shape == () and prior.event_shape == (2,)
    value = torch.tensor([2.9, 0.5])
    expected = dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).log_prob(value).sum()
    torch.testing.assert_close(prior.log_prob(value), expected)


def test_a_prior_moves_with_its_module_and_is_no_parameter():
    prior = Prior(dist.Normal, loc=[0.0], scale=[1.0])
    assert not list(prior.parameters()) and len(prior.state_dict()) == 2
    assert prior.double()(scene()).sample().dtype == torch.float64


def test_a_learned_prior_starts_where_told_and_keeps_its_constraints():
    prior = Prior(dist.Gamma, learn=True, concentration=[2.0], rate=[3.0])
    torch.testing.assert_close(prior(scene()).mean, torch.tensor([2 / 3]))
    optim = torch.optim.SGD(prior.parameters(), lr=0.1)
    prior(scene()).log_prob(torch.tensor([50.0])).neg().backward()
    optim.step()
    assert (prior(scene()).mean > 0).all() and prior(scene()).mean > 0.7


@pytest.mark.parametrize(
    "parameters",
    [{"loc": [0.0], "scale": [-1.0]}, {"loc": [0.0], "width": [1.0]}, {"scale": [float("nan")]}],
)
def test_wrong_parameters_are_refused_at_once(parameters):
    with pytest.raises(ValueError, match="Normal takes"):
        Prior(dist.Normal, **parameters)


@pytest.mark.parametrize(
    ("family", "parameters", "words"),
    [
        (
            dist.Normal,
            {"loc": [0.0] * 2, "scale": [1.0] * 3},
            r"Normal of \['loc', 'scale'\]: .*size",
        ),
        (dist.MultivariateStudentT, {"df": 3.0, "loc": [0.0]}, "missing .* 'scale_tril'"),
        (dist.Multinomial, {"total_count": 3, "probs": [1.0]}, "Multinomial takes .*total_count=3"),
        (dist.RelaxedBernoulli, {"temperature": -1.0, "probs": 0.5}, "takes .*temperature=-1"),
    ],
)
def test_what_a_family_cannot_be_built_of_is_refused_with_the_remedy(family, parameters, words):
    with pytest.raises(ValueError, match=f"(?s){words}.*need a function, such as lambda scene: "):
        Prior(family, **parameters)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize(
    ("family", "parameters", "fixed"),
    [
        (dist.RelaxedOneHotCategorical, {"temperature": 0.5, "probs": [0.2, 0.8]}, set()),
        (dist.RelaxedBernoulli, {"temperature": 0.5, "logits": [1.0, 2.0]}, set()),
        (dist.Binomial, {"total_count": [3.0], "probs": [0.2]}, {"total_count"}),
        (dist.Delta, {"v": [0.2, 3.0]}, set()),
        (dist.Uniform, {"low": [0.2], "high": [3.0]}, set()),
    ],
)
def test_any_family_with_parameters_that_are_numbers_is_a_prior(family, parameters, fixed, learn):
    prior = Prior(family, learn=learn, **parameters)
    trained = {name for name, _ in prior.named_parameters()}
    assert trained == ({*parameters} - fixed if learn else set())
    for name, value in prior.values().items():
        torch.testing.assert_close(value, torch.as_tensor(parameters[name]))
    drawn = prior(None)
    assert drawn.event_shape == (len(next(reversed(parameters.values()))),)
    assert drawn.log_prob(drawn.sample()).isfinite()


def test_a_family_of_torch_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match="a class of pyro.distributions"):
        Prior(torch.distributions.Normal, loc=[0.0], scale=[1.0])


def test_presence_persists_and_never_returns():
    persist = Persist(0.3)
    torch.testing.assert_close(persist(scene()).probs, torch.full((3,), 0.3))
    ended = persist(scene(present=0.0))
    assert (ended.sample((1000,)) == 0).all()
    assert ended.log_prob(torch.zeros(3)).abs().max() < 1e-30
    assert (
        ended.log_prob(torch.ones(3)).isfinite().all() and ended.log_prob(torch.ones(3)).max() < -90
    )


def test_a_probability_for_each_step():
    persist = Persist([0.5, 0.2], learn=True)
    for step, probs in enumerate([0.5, 0.2]):
        torch.testing.assert_close(persist(scene(step)).probs, torch.full((3,), probs))
    with pytest.raises(ValueError, match="one for each step"):
        persist(scene(2))
    with pytest.raises(ValueError, match="probs"):
        Persist(1.5)


@pytest.mark.parametrize("probs", [0.0, 1.0])
def test_certain_presence_is_finite(probs):
    persist = Persist(probs)(scene())
    assert (persist.sample((100,)) == probs).all()
    assert (
        persist.log_prob(torch.zeros(3)).isfinite().all()
        and persist.log_prob(torch.ones(3)).isfinite().all()
    )


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        (dist.Normal, {}),
        (dist.Beta, {"concentration1": 1.0}),
        (dict, {}),
        (dist.Bernoulli, {"logits": 0.5}),
        (dist.Normal, {"loc": 0.0, "scale": 0.3}),
    ],
)
def test_a_likelihood_that_cannot_stand_around_a_canvas_is_refused(family, parameters):
    with pytest.raises((ValueError, TypeError), match="takes a family|give the family"):
        Pixels(family, **parameters)


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace])
def test_pixels_stand_around_the_canvas(family):
    likelihood = Pixels(family, scale=0.2)(scene())
    assert likelihood.batch_shape == (3,) and likelihood.event_shape == (1, 4, 4)
    torch.testing.assert_close(likelihood.mean, scene().canvas)
    one = family(torch.tensor(0.5), torch.tensor(0.2)).log_prob(torch.tensor(0.1))
    torch.testing.assert_close(
        likelihood.log_prob(torch.full((3, 1, 4, 4), 0.1)), 16 * one.expand(3)
    )


@pytest.mark.parametrize("canvas", [-0.1, 0.0, 0.4, 1.0, 1.7])
def test_binary_pixels_are_never_impossible(canvas):
    likelihood = Pixels(dist.Bernoulli)(scene(canvas=canvas))
    for pixel in (0.0, 1.0):
        assert likelihood.log_prob(torch.full((3, 1, 4, 4), pixel)).isfinite().all()


def test_a_learned_scale_finds_the_noise():
    torch.manual_seed(0)
    likelihood = Pixels(dist.Normal, scale=0.5, learn=True)
    images = 0.5 + 0.1 * torch.randn(3, 1, 4, 4)
    optim = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optim.zero_grad()
        likelihood(scene()).log_prob(images).sum().neg().backward()
        optim.step()
    torch.testing.assert_close(
        likelihood(scene()).stddev.mean(), (images - 0.5).square().mean().sqrt(), rtol=0.02, atol=0
    )


@pytest.mark.parametrize(
    "like",
    [
        dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
        dist.LogNormal(torch.tensor([1.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
        dist.Uniform(torch.tensor([-2.0, 5.0]), torch.tensor([2.0, 6.0])).to_event(1),
        dist.Beta(torch.tensor([2.0, 9.0]), torch.tensor([2.0, 1.0])).to_event(1),
        dist.StudentT(
            torch.tensor(1.0), torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])
        ).to_event(1),
        dist.MultivariateNormal(torch.tensor([3.0, 0.0]), torch.eye(2)),
    ],
    ids=lambda like: type(getattr(like, "base_dist", like)).__name__,
)
def test_a_proposal_starts_about_where_the_prior_draws(like):
    proposal = Amortised(5, like)(torch.randn(4000, 5))
    assert proposal.batch_shape == (4000,) and proposal.event_shape == (2,)
    drawn, proposed = like.sample((4000,)), proposal.rsample()
    assert like.support.check(proposed).all()
    assert proposal.log_prob(proposed).isfinite().all()
    spread = drawn.quantile(0.9, 0) - drawn.quantile(0.1, 0)
    assert ((proposed.median(0)[0] - drawn.median(0)[0]).abs() < 0.9 * spread).all()
    wide = proposed.quantile(0.9, 0) - proposed.quantile(0.1, 0)
    assert (wide > 0.5 * spread).all() and (wide < 6 * spread).all()


def test_constraints_of_a_real_prior_leave_a_plain_normal():
    """A Normal proposal keeps a Normal's type, so that an analytic KL stays possible."""
    like = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    assert isinstance(Amortised(5, like)(torch.randn(1, 5)).base_dist, dist.Normal)
    assert like.support.base_constraint is constraints.real


def start_of(like, **settings):
    """The proposal at the start: of a head that says nothing yet."""
    proposal = Amortised(3, like, **settings)
    for parameter in proposal.head.parameters():
        torch.nn.init.zeros_(parameter)
    return proposal(torch.zeros(1, 3))


@pytest.mark.parametrize("narrow", [0.1, 0.5, 3.0])
def test_a_narrow_proposal_starts_with_a_share_of_the_priors_scale(narrow):
    like = dist.Normal(torch.tensor([3.0, 0.0, -7.0]), torch.tensor([0.2, 1.0, 4.0])).to_event(1)
    proposed = start_of(like, narrow=narrow)
    torch.testing.assert_close(proposed.stddev[0], narrow * like.stddev, rtol=0.15, atol=0)
    assert ((proposed.mean[0] - like.mean).abs() < 0.2 * like.stddev).all()


SUPPORTS = {
    "real": dist.Normal(torch.tensor([3.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
    "positive": dist.LogNormal(torch.tensor([1.0, 0.0]), torch.tensor([0.2, 1.0])).to_event(1),
    "bounded": dist.Uniform(torch.tensor([-2.0, 5.0]), torch.tensor([2.0, 6.0])).to_event(1),
    "unit": dist.Beta(torch.tensor([2.0, 9.0]), torch.tensor([2.0, 1.0])).to_event(1),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_the_point_estimate_is_the_median_and_draws_nothing(name):
    like = SUPPORTS[name]
    proposed = Amortised(5, like, hidden=(7,))(3 * torch.randn(6, 5))
    state = torch.get_rng_state()
    median = point_estimate(proposed)
    assert torch.equal(torch.get_rng_state(), state)
    assert median.shape == (6, 2) and like.support.check(median).all()
    below = (proposed.sample((4000,)) < median).float().mean(0)
    torch.testing.assert_close(below, torch.full((6, 2), 0.5), rtol=0, atol=0.04)


def test_the_point_estimate_of_a_composition_is_one():
    like = dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0]))
    estimate = point_estimate(Amortised(5, like)(torch.randn(6, 5)))
    assert estimate.shape == (6, 3) and like.support.check(estimate).all()


def test_a_point_estimate_carries_gradients():
    proposal, features = Amortised(5, SUPPORTS["bounded"]), torch.randn(6, 5, requires_grad=True)
    point_estimate(proposal(features)).sum().backward()
    assert features.grad.any() and proposal.head[0].weight.grad[:2].any()


@pytest.mark.parametrize(("edge", "pixel"), [(0.0, 1.0), (1.0, 0.0)])
def test_an_unexplained_binary_pixel_pulls_at_the_edge(edge, pixel):
    """Where the canvas is quite black or white, and wrong, it must be told so, by something finite."""
    canvas = torch.full((3, 1, 4, 5), edge, requires_grad=True)
    likelihood = Pixels(dist.Bernoulli)(Scene(0, canvas, torch.ones(3)))
    log_prob = likelihood.log_prob(torch.full_like(canvas, pixel))
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and log_prob.max() < -20 * 5
    assert canvas.grad.isfinite().all() and (canvas.grad.sign() == (1 if pixel else -1)).all()
    assert canvas.grad.abs().min() > 10


def test_a_binary_pixel_is_about_its_canvas():
    canvas = torch.rand(3, 1, 4, 5)
    probs = Pixels(dist.Bernoulli)(Scene(0, canvas, torch.ones(3))).mean
    torch.testing.assert_close(probs, canvas, rtol=0, atol=2e-3)
    assert torch.equal(probs.flatten().argsort(), canvas.flatten().argsort())


def normal(size):
    return dist.Normal(torch.zeros(size), torch.ones(size)).to_event(1)


@pytest.mark.parametrize(
    ("conditional", "line"),
    [
        (Prior(dist.Normal, loc=[3.0, 0.0], scale=1.0), "Prior(Normal, loc=[3, 0], scale=1)"),
        (
            Prior(dist.Gamma, concentration=2.0, rate=0.5, learn=True),
            "Prior(Gamma, concentration=2, rate=0.5, learn=True)",
        ),
        (
            Prior(dist.Bernoulli, probs=[0.5] * 50),
            "Prior(Bernoulli, probs=[0.5, 0.5, 0.5, 0.5, ...])",
        ),
        (Persist([0.5, 0.2], learn=True), "Persist(probs=[0.5, 0.2], learn=True)"),
        (Pixels(dist.Laplace, scale=0.3), "Pixels(Laplace, scale=0.3)"),
    ],
    ids=["Prior", "learned", "long", "Persist", "Pixels"],
)
def test_its_repr_is_the_call(conditional, line):
    assert repr(conditional) == line


def test_no_conditional_waits_for_the_host():
    """A meta tensor has no values: reading one, in an ``if``, an index or ``.item()``, is an error."""
    far = Scene(0, torch.rand(3, 1, 4, 4, device="meta"), torch.ones(3, device="meta"))
    pose = Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.0, 1.0])
    scale = Prior(dist.LogNormal, learn=True, loc=[1.0], scale=[0.2])
    for prior in (Persist(0.3), Persist([0.3], learn=True), scale, Product(a=scale, b=pose)):
        with pyro.validation_enabled(False):
            drawn = prior.to("meta")(far).sample()
            assert prior(far).log_prob(drawn).is_meta
    bits = dist.Bernoulli(torch.full((3,), 0.5)).to_event(1)
    for like in (*SUPPORTS.values(), dist.OneHotCategorical(torch.ones(3)), bits):
        head = Amortised(5, like).to("meta")
        with pyro.validation_enabled(False):
            proposed = head(torch.rand(6, 5, device="meta"))
            assert proposed.log_prob(proposed.sample()).is_meta
    for family in (dist.Laplace, dist.Bernoulli):
        parts = {} if family is dist.Bernoulli else {"scale": 0.3}
        with pyro.validation_enabled(False):
            likelihood = Pixels(family, **parts).to("meta")(far)
            assert likelihood.log_prob(far.canvas).is_meta


@pytest.mark.parametrize("learn", [True, False])
def test_priors_of_one_tensor_share_no_memory(learn):
    start = torch.zeros(2)
    first, second = (Prior(dist.Normal, learn=learn, loc=start, scale=1.0) for _ in range(2))
    with torch.no_grad():
        first.loc += 5.0
    assert not start.any() and not second.loc.any()
