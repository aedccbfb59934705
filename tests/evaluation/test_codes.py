"""Codes are the proposals' medians; a probe learns what there is to learn of them, and no more."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule

from pyro_scenes import AIR, CSTVAE, STVAE, VAE, AIRGuide, CSTVAEGuide, STVAEGuide, VAEGuide
from pyro_scenes.evaluation import code_accuracy, codes, log_weights, probe
from pyro_scenes.handlers import expected

IMAGES = torch.rand(4, 1, 12, 15, generator=torch.Generator().manual_seed(0)).round()
SIZES = {"image_shape": (1, 12, 15), "window": (1, 7, 6), "code": 3}


def taken(distribution):
    with expected():
        return pyro.sample("z", distribution)


# the median instead of a draw


@pytest.mark.parametrize(
    "distribution",
    [
        dist.Normal(torch.tensor([-1.0, 2.0]), 3.0),
        dist.LogNormal(torch.tensor([-1.0, 2.0]), 1.5),
        dist.TransformedDistribution(
            dist.Normal(torch.tensor([-1.0, 2.0]), 2.0), dist.transforms.SigmoidTransform()
        ),
        dist.TransformedDistribution(
            dist.Normal(torch.tensor([-1.0, 2.0]), 2.0),
            [dist.transforms.SigmoidTransform(), dist.transforms.AffineTransform(1.0, 4.0)],
        ),
        dist.Uniform(torch.zeros(2), torch.tensor([1.0, 5.0])),
        dist.Laplace(torch.tensor([-1.0, 2.0]), 3.0),
    ],
    ids=["normal", "lognormal", "sigmoid", "interval", "uniform", "laplace"],
)
def test_half_of_the_distribution_lies_below_what_is_taken(distribution):
    value = taken(distribution)
    torch.testing.assert_close(distribution.cdf(value), torch.full((2,), 0.5))
    for wrapped in (distribution.to_event(1), distribution.mask(torch.tensor([True, False]))):
        assert torch.equal(taken(wrapped), value)
    wider = dist.Independent(distribution.expand([3, 2]), 2)
    assert torch.equal(taken(wider), value.expand(3, 2))


@pytest.mark.parametrize(
    "distribution",
    [
        dist.Exponential(torch.ones(2)),
        dist.HalfNormal(torch.ones(2)),
        dist.Cauchy(torch.ones(2), 1.0),
    ],
    ids=["exponential", "half-normal", "cauchy"],
)
def test_the_median_of_other_families_is_their_median_too(distribution):
    torch.testing.assert_close(distribution.cdf(taken(distribution)), torch.full((2,), 0.5))


def test_what_carries_an_event_to_another_support_keeps_its_shape():
    plain = dist.Normal(torch.tensor([[0.5, -1.0]]), 1.0).to_event(1)
    simplex = dist.TransformedDistribution(plain, dist.transforms.StickBreakingTransform())
    value = taken(simplex)
    assert value.shape == (1, 3) and value.sum().item() == pytest.approx(1)


def test_discrete_sites_take_their_mode():
    rare = dist.Bernoulli(torch.tensor([0.2, 0.7]))
    for distribution in (
        rare,
        rare.to_event(1),
        dist.Categorical(torch.tensor([[3, 1], [1, 2.0]])),
    ):
        assert taken(distribution).tolist() == [0, 1]
    assert taken(dist.OneHotCategorical(torch.tensor([[1, 5.0, 2]]))).tolist() == [[0, 1, 0]]


def test_what_is_known_is_left_alone():
    def program():
        with pyro.plate("some", 10, subsample_size=4) as chosen:
            seen = pyro.sample("seen", dist.Normal(0.0, 1.0), obs=torch.full((4,), 7.0))
            pyro.deterministic("twice", 2 * seen)
            return chosen, pyro.sample("z", dist.Normal(0.0, 1.0))

    trace = poutine.trace(expected()(program)).get_trace()
    assert trace.nodes["seen"]["value"].eq(7).all() and trace.nodes["twice"]["value"].eq(14).all()
    chosen, z = trace.nodes["_RETURN"]["value"]
    assert z.eq(0).all() and len(chosen.unique()) == 4 and chosen.dtype == torch.int64
    conditioned = poutine.condition(program, data={"z": torch.full((4,), 3.0)})
    assert expected()(conditioned)()[1].eq(3).all()


# codes


def single():
    model = STVAE(**SIZES)
    return STVAEGuide(model, hidden=16).eval()


def layered():
    model = CSTVAE(**SIZES, layers=3)
    return CSTVAEGuide(model, hidden=16).eval()


@pytest.mark.parametrize(
    ("guide", "size"),
    [(single, 3), (layered, 9), (lambda: VAEGuide(VAE((1, 12, 15), 5)).eval(), 5)],
    ids=["st_vae", "cst_vae", "vae"],
)
def test_codes_are_the_medians_and_nothing_is_drawn(guide, size):
    guide = guide()
    state = torch.get_rng_state()
    found = codes(guide, IMAGES)
    assert found.shape == (4, size) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(codes(guide, IMAGES), found)
    torch.testing.assert_close(codes(guide, IMAGES[1:2]), found[1:2])
    torch.testing.assert_close(codes(guide, IMAGES, chunk=3), found)
    with pytest.warns(UserWarning, match="in training mode"):
        codes(guide.train(), IMAGES)
    trace = poutine.trace(expected()(guide)).get_trace(IMAGES)
    sites = [site for name, site in trace.nodes.items() if name.startswith("z_what")]
    torch.testing.assert_close(found, torch.cat([s["fn"].base_dist.mean for s in sites], -1))


def test_codes_of_other_sites():
    assert codes(layered(), IMAGES, site="z_where").shape == (4, 18)
    air = AIR((1, 12, 15), (1, 7, 6), steps=2, code=4)
    assert codes(AIRGuide(air).eval(), IMAGES, site="z_where").shape == (4, 6)


class Many(PyroModule):
    """More steps than one digit can count."""

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            for t in range(12):
                where = torch.full((len(images), 2), float(t))
                pyro.sample(f"z_what_{t}", dist.Normal(where, 1.0).to_event(1))
                pyro.sample(f"z_whatever_{t}", dist.Normal(where, 1.0).to_event(1))


def test_codes_lie_side_by_side_in_order():
    expected = torch.arange(12.0).repeat_interleave(2).expand(4, 24)
    assert torch.equal(codes(Many().eval(), IMAGES), expected)


def test_what_there_is_is_said():
    with pytest.raises(ValueError, match=r"no site z_pose: it has \['z_what', 'z_where'\]"):
        codes(single(), IMAGES, site="z_pose")


def test_bounds_are_of_draws_still():
    model = CSTVAE(**SIZES)
    guide = CSTVAEGuide(model, hidden=16).eval()
    torch.manual_seed(1)
    before = log_weights(model, guide, IMAGES, particles=3)
    codes(guide, IMAGES)
    torch.manual_seed(1)
    assert torch.equal(log_weights(model, guide, IMAGES, particles=3), before)
    assert not torch.allclose(before[0], before[1])


# probes


def blobs(n, *, random=False):
    """Codes around ten corners, of very different scales, and their labels."""
    labels = torch.randint(10, (n,))
    corners = 2.0 * torch.eye(10)[labels] + 0.1 * torch.randn(n, 10)
    scales = torch.logspace(-3, 3, 10)
    return 100 + corners * scales, torch.randint(10, (n,)) if random else labels


def test_separable_codes_are_told_apart():
    found = probe(blobs(1000), blobs(300))
    assert found.train > 0.99 and found.test > 0.99


def test_labels_that_codes_do_not_tell_are_guessed():
    found = probe(blobs(1000, random=True), blobs(1000, random=True))
    assert abs(found.test - 0.1) < 0.05  # 5 sigma


def test_a_label_that_was_never_trained_is_never_right():
    points, labels = blobs(1600)
    known = labels < 5
    found = probe((points[known], labels[known]), (points, labels))
    assert found.train > 0.99 and found.test == pytest.approx(
        known.double().mean().item(), abs=0.01
    )


def test_a_seed_repeats_the_probe_and_leaves_the_state():
    train, test = blobs(200, random=True), blobs(200, random=True)
    state = torch.get_rng_state()
    first = probe(train, test, seed=3, epochs=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert probe(train, test, seed=3, epochs=3) == first
    assert len({probe(train, test, seed=seed, epochs=3) for seed in range(4)}) > 1


def test_a_probe_trains_where_no_gradients_are_wanted():
    train, test = blobs(300), blobs(100)
    expected = probe(train, test, epochs=2)
    with torch.no_grad():
        assert probe(train, test, epochs=2) == expected
        assert not torch.is_grad_enabled()
    assert not train[0].requires_grad


def test_a_probe_leaves_the_guide_alone():
    """Frozen: no gradient goes through the codes, even if nobody said no_grad."""
    guide = single()
    points, labels = codes(guide, IMAGES), torch.arange(4)
    assert points.requires_grad
    probe((points, labels), (points, labels), epochs=2, batch_size=2)
    assert all(value.grad is None for value in guide.parameters())


@pytest.mark.parametrize(
    ("train", "test"), [((5, 4), (3, 3)), ((5, 5), (3, 2)), ((0, 0), (3, 3)), ((5, 5), (0, 0))]
)
def test_a_probe_needs_a_label_for_each_code(train, test, unchecked):
    sets = [(torch.zeros(n, 2), torch.zeros(m).long()) for n, m in (train, test)]
    with pytest.raises(ValueError, match="needs a label for each code"):
        probe(*sets)


# all digits of a scene, in any order


class Told(PyroModule):
    """A guide whose code is the image's first pixels."""

    def __init__(self):
        super().__init__("told")
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            code = self.weight * images.flatten(1)[:, :2]
            pyro.sample("z_what", dist.Normal(code, 1.0).to_event(1))


@pytest.mark.parametrize("objects", [1, 2])
def test_digits_are_read_in_any_order_from_codes_that_have_them(objects):
    labels = torch.randint(3, (600, objects))
    pixels = labels.sort(1).values / 3
    pixels = torch.cat([pixels, torch.zeros(600, 4 - objects)], 1).view(600, 1, 2, 2)
    train, test = ((pixels[part], labels[part].flip(1)) for part in (slice(400), slice(400, 600)))
    informed = code_accuracy(Told().eval(), train, test)
    assert min(informed) > 0.95
    blind = code_accuracy(Told().eval(), train, (torch.zeros_like(test[0]), test[1]), epochs=1)
    assert blind.code_accuracy < 0.7


def test_bytes_are_read_as_floats_are():
    images = (255 * IMAGES).to(torch.uint8)
    guide = VAEGuide(VAE((1, 12, 15), 3)).eval()
    torch.testing.assert_close(codes(guide, images), codes(guide, IMAGES))
