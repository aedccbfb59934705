"""Known latents: bounds against sums by hand, gradients against log q, and what is refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam
from torch import nn

from pyro_scenes import (
    AIR,
    VAE,
    AIRGuide,
    Persist,
    SpritesGuide,
    VAEGuide,
    check_guide,
    fit,
    sprite_scenes,
)
from pyro_scenes.handlers import expected
from pyro_scenes.inference import (
    Importance,
    Known,
    Summed,
    Weighted,
    adam,
    presences,
    semi_supervise,
)
from pyro_scenes.inference.objective import enumerated
from pyro_scenes.particles import image_log_probs, repeat
from pyro_scenes.pinned import Pinned
from pyro_scenes.render import glance

EXACT = TraceEnum_ELBO(max_plate_nesting=1)
ELBOS = {
    "exact": EXACT,
    "graph": TraceGraph_ELBO(),
    "trace": Trace_ELBO(),
    "dreg": Importance(3),
    "iwae": Importance(3, gradient="iwae"),
    "wake": Importance(3, gradient="wake"),
    "summed": Summed(3, max_plate_nesting=1),
}
COUNTS = torch.tensor([2, -1, 1, -1, 0, 2])
UNKNOWN = torch.full((6,), -1)
NAN = torch.nan


@pytest.fixture
def air(double):
    # All counts are likely, so that no term of a sum is lost.
    model = AIR((1, 12, 10), (1, 5, 4), steps=2, code=3, z_pres=Persist(0.6))
    return model, AIRGuide(model, hidden=16, presence=0.3)


@pytest.fixture
def images(double):
    return torch.rand(6, 1, 12, 10)


def gradients(elbo, model, guide, batch, modules, seed=3):
    torch.manual_seed(seed)
    for module in modules:
        module.zero_grad()
    loss = elbo.loss_and_grads(model, guide, batch)
    named = [pair for module in modules for pair in module.named_parameters()]
    return loss, {name: p.grad.clone() for name, p in named if p.grad is not None}


def exactly(elbo, guide):
    """As ``fit`` calls it."""
    return enumerated(guide) if elbo is EXACT else guide


def at_count(pair, images, count, seed=3):
    """log p - log q of all but the count, and log q of the count, by conditioning."""
    model, guide = pair
    data = presences(torch.full((len(images),), count), 2)
    data = {name: value.to(images) for name, value in data.items()}
    torch.manual_seed(seed)
    proposed = poutine.trace(poutine.condition(guide, data)).get_trace(images)
    joint = poutine.trace(poutine.replay(poutine.condition(model, data), proposed))
    log_p = image_log_probs(joint.get_trace(images), len(images))
    log_n = image_log_probs(proposed, len(images), [*data])
    return log_p - image_log_probs(proposed, len(images)) + log_n, log_n


def by_hand(pair, images, counts):
    """The weights of all counts, and those of the counts that are known; with log q of the counts."""
    log_w, log_n = map(
        torch.stack, zip(*(at_count(pair, images, n) for n in range(3)), strict=True)
    )
    impossible = (counts >= 0) & (torch.arange(3)[:, None] != counts)
    return log_w.masked_fill(impossible, -torch.inf), log_n


def test_exact_sums_equal_those_by_hand(air, images):
    log_w, log_n = by_hand(air, images, COUNTS)
    known_model, known_guide = semi_supervise(*air, alpha=0.0)
    batch = Known(images, presences(COUNTS, 2))
    torch.manual_seed(3)
    found = EXACT.loss(known_model, exactly(EXACT, known_guide), batch)
    bound = torch.where(COUNTS < 0, (log_n.exp() * (log_w - log_n)).sum(0), log_w.logsumexp(0))
    assert found == pytest.approx(-bound.sum().item(), abs=1e-4)
    torch.manual_seed(3)
    one = Summed(1, max_plate_nesting=1).loss(known_model, known_guide, batch)
    assert one == pytest.approx(-log_w.logsumexp(0).sum().item(), abs=1e-4)


def test_sums_of_several_particles_equal_those_by_hand(air, images):
    (tall,), _ = repeat(3, (images,))
    log_w, _ = by_hand(air, tall, COUNTS.repeat(3))
    bound = log_w.logsumexp(0).reshape(3, 6).logsumexp(0) - torch.tensor(3.0).log()
    torch.manual_seed(3)
    pair = semi_supervise(*air, alpha=0.0)
    found = Summed(3, max_plate_nesting=1).loss(*pair, Known(images, presences(COUNTS, 2)))
    assert found == pytest.approx(-bound.sum().item(), abs=1e-4)


def test_drawn_bounds_have_the_exact_mean(air, images):
    pair = semi_supervise(*air, alpha=0.0)
    batch = Known(images, presences(COUNTS, 2)).repeat(20)
    guide = exactly(EXACT, pair[1])
    with torch.no_grad():
        drawn = torch.tensor([ELBOS["trace"].loss(*pair, batch) for _ in range(15)])
        exact = torch.tensor([EXACT.loss(pair[0], guide, batch) for _ in range(15)])
    error = ((drawn.var() + exact.var()) / 15).sqrt()
    assert abs(drawn.mean() - exact.mean()) < 4 * error


def test_all_known_is_the_same_as_conditioning(air, images):
    data = presences(torch.tensor([0, 1, 2, 2, 1, 0]), 2)
    known_model, known_guide = semi_supervise(*air, alpha=0.0)
    torch.manual_seed(3)
    batch = Known(images, data)
    found = EXACT.loss(known_model, exactly(EXACT, known_guide), batch)
    data = {name: value.to(images) for name, value in data.items()}
    model, guide = (poutine.condition(part, data) for part in air)
    torch.manual_seed(3)
    expected_loss = Trace_ELBO().loss(model, poutine.block(guide, hide=[*data]), images)
    assert found == pytest.approx(expected_loss, rel=1e-9)


@pytest.mark.parametrize("elbo", ELBOS)
def test_without_labels_nothing_changes(elbo, air, images):
    """To the last bit, loss and every gradient: of a sum but for the order of its terms."""
    model, guide = air
    pair = semi_supervise(model, guide)
    elbo = ELBOS[elbo]
    plain = gradients(elbo, model, exactly(elbo, guide), images, air)
    batch = Known(images, presences(UNKNOWN, 2))
    found = gradients(elbo, pair[0], exactly(elbo, pair[1]), batch, air)
    error = 1e-9 if isinstance(elbo, Summed) else 0.0
    assert plain[0] == pytest.approx(found[0], rel=error)
    torch.testing.assert_close(plain[1], found[1], rtol=error, atol=error)


def test_a_label_touches_no_other_image(air, images):
    weights = []
    for count in (0, 2, -1):
        model, guide = semi_supervise(*air, alpha=0.0)
        counts = torch.tensor([count, -1, 1, -1, 0, 2])
        torch.manual_seed(3)
        batch = Known(images, presences(counts, 2))
        proposed = poutine.trace(guide).get_trace(batch)
        joint = poutine.trace(poutine.replay(model, proposed)).get_trace(batch)
        weights.append(image_log_probs(joint, 6) - image_log_probs(proposed, 6))
    assert torch.equal(weights[0][1:], weights[1][1:]) and torch.equal(
        weights[0][1:], weights[2][1:]
    )
    assert weights[0][0] != weights[1][0]


class Classes(nn.Module):
    """z_class ~ Cat, z_what ~ N(z_class), and one pixel."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0]).double())

    def forward(self, images):
        pyro.module("classes", self)
        with pyro.plate("images", len(images), dim=-1):
            z_class = pyro.sample("z_class", dist.Categorical(logits=torch.zeros(3).double()))
            z_what = pyro.sample("z_what", dist.Normal(self.means[z_class], 1.0))
            canvas = z_what[..., None, None, None]
            pyro.sample("image", dist.Normal(canvas, 0.5).to_event(3), obs=images)


class ClassesGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 3).double()
        self.shift = nn.Parameter(torch.tensor([0.3, -0.1, 0.2]).double())

    def logits(self, images):
        return self.head(images.flatten(1))

    def forward(self, images):
        pyro.module("classes_guide", self)
        with pyro.plate("images", len(images), dim=-1):
            z_class = pyro.sample("z_class", dist.Categorical(logits=self.logits(images)))
            loc = images.flatten() + self.shift[z_class]
            pyro.sample("z_what", dist.Normal(loc, 0.6))


LABELS = torch.tensor([2.0, NAN, 0.0, 1.0])


@pytest.fixture
def classes():
    return Classes(), ClassesGuide(), torch.randn(4, 1, 1, 1).double()


@pytest.mark.parametrize("elbo", ELBOS)
def test_alpha_adds_log_q_and_its_gradient_whatever_the_particles(elbo, classes):
    """Outside the logarithm: as much for one particle as for three."""
    model, guide, images = classes
    elbo = ELBOS[elbo]
    batch = Known(images, {"z_class": LABELS})
    pairs = (semi_supervise(model, guide, alpha=alpha) for alpha in (0.0, 3.0))
    plain, with_term = (
        gradients(elbo, pair[0], exactly(elbo, pair[1]), batch, (model, guide)) for pair in pairs
    )
    rows, labels = [0, 2, 3], LABELS[[0, 2, 3]].long()
    log_q = guide.logits(images).log_softmax(-1)[rows, labels].sum()
    assert with_term[0] - plain[0] == pytest.approx(-3.0 * log_q.item(), rel=1e-6)
    guide.zero_grad()
    (-3.0 * log_q).backward()
    for name, parameter in guide.head.named_parameters():
        found = with_term[1][f"head.{name}"] - plain[1][f"head.{name}"]
        torch.testing.assert_close(found, parameter.grad, rtol=1e-6, atol=1e-9)
    for name in ("means", "shift"):
        torch.testing.assert_close(with_term[1][name], plain[1][name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("elbo", ELBOS)
def test_only_alpha_trains_presences_on_labels(elbo, air, images):
    model, guide = air
    elbo, batch = ELBOS[elbo], Known(images, presences(COUNTS.clamp(min=0), 2))
    for alpha in (0.0, 1.0):
        pair = semi_supervise(model, guide, alpha=alpha)
        _, slopes = gradients(elbo, pair[0], exactly(elbo, pair[1]), batch, (guide,))
        found = [slopes[name] for name in slopes if name.startswith("z_pres")]
        assert any(slope.any() for slope in found) == bool(alpha)


@pytest.mark.parametrize("elbo", ["exact", "graph", "dreg", "summed"])
def test_labels_are_learned(elbo, classes):
    model, guide, _ = classes
    images = torch.tensor([2.0, 0.0, -1.5, 0.3]).double().reshape(4, 1, 1, 1)
    pair, batch = semi_supervise(model, guide), Known(images, {"z_class": LABELS})
    list(fit(*pair, [batch] * 25, elbo=ELBOS[elbo], optim=adam(model, guide, lr=0.2)))
    chance = guide.logits(images).softmax(-1)[[0, 2, 3], [2, 0, 1]]
    assert (chance > 0.7).all()


def test_a_label_that_the_guide_takes_for_impossible_stays_finite(classes):
    model, guide, images = classes
    with torch.no_grad():
        guide.head.bias[0] = -torch.inf
    batch = Known(images, {"z_class": LABELS})
    loss, slopes = gradients(Trace_ELBO(), *semi_supervise(model, guide), batch, (guide,))
    assert torch.tensor(loss).isfinite() and slopes["head.bias"].isfinite().all()


def test_it_trains_in_stock_svi_and_by_the_optimiser_of_fit(classes):
    model, guide, images = classes
    pair, batch = semi_supervise(model, guide), Known(images, {"z_class": LABELS})
    svi = SVI(*pair, Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(batch) for _ in range(30)]
    assert losses[-1] < losses[0] - 10
    records = [*fit(*pair, [batch] * 2)]  # whose optimiser finds the parameters
    assert all(record.norm > 0 for record in records)


def test_later_sites_see_what_is_known(air, images):
    pose = torch.tensor([2.0, 0.5, -0.5]).expand(6, 3).clone()
    pose[1:] = NAN
    given = presences(torch.tensor([1, -1, -1, -1, -1, -1]), 2) | {"z_where_0": pose}
    _, guide = semi_supervise(*air)
    seen = []
    air[1].encode.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    trace = poutine.trace(guide).get_trace(Known(images, given))
    assert torch.equal(trace.nodes["z_where_0"]["value"][0], pose[0])
    expected_glimpse = glance(images[:1], pose[:1], (1, 5, 4))
    torch.testing.assert_close(seen[0][:1], expected_glimpse)
    assert trace.nodes["z_where_0"]["fn"].log_prob(trace.nodes["z_where_0"]["value"])[0] == 0


def test_codes_and_experts_can_be_known():
    vae = VAE((1, 6, 6), code=2)
    code = torch.tensor([[0.5, -1.0], [NAN, NAN]])
    _, guide = semi_supervise(vae, VAEGuide(vae, hidden=8))
    batch = Known(torch.rand(2, 1, 6, 6).round(), {"z_what": code})
    value = poutine.trace(guide).get_trace(batch).nodes["z_what"]["value"]
    assert torch.equal(value[0], code[0]) and value[1].isfinite().all()
    assert TraceMeanField_ELBO().loss(*semi_supervise(vae, VAEGuide(vae)), batch) > 0


def test_what_is_known_is_expected():
    fn = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
    value = torch.tensor([[5.0, 6.0], [NAN, NAN], [7.0, 8.0]])
    with expected():
        found = pyro.sample("z", Pinned(fn, value))
    assert torch.equal(found, value.nan_to_num())
    choice = Pinned(
        dist.Categorical(torch.tensor([[0.1, 0.9], [0.1, 0.9]])), torch.tensor([0.0, NAN])
    )
    with expected():
        assert pyro.sample("k", choice).tolist() == [0, 1]


def test_a_vector_of_classes_can_be_known():
    one_hot = dist.OneHotCategorical(torch.full((2, 3), 1 / 3))
    pinned = Pinned(one_hot, torch.tensor([[0.0, 1.0, 0.0], [NAN] * 3]))
    assert pinned.log_prob(torch.eye(3)[[1, 1]]).tolist() == pytest.approx([0.0, -1.0986], abs=1e-4)
    assert pinned.log_prob(torch.eye(3)[[0, 0]])[0] < -20
    assert pinned.sample((5,))[:, 0].tolist() == [[0.0, 1.0, 0.0]] * 5


def test_presences_are_counts_in_unary_code():
    given = presences(torch.tensor([0, 1, 3, -1]), 3)
    rows = torch.stack([*given.values()], 1)
    assert rows[:3].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1]] and rows[3].isnan().all()
    assert [*given] == ["z_pres_0", "z_pres_1", "z_pres_2"]


def test_a_batch_repeats_moves_and_tells():
    images = torch.rand(3, 1, 2, 2)
    batch = Known(images, presences(torch.tensor([-1, 2, 0]), 2))
    assert len(batch) == 3 and batch.labelled.tolist() == [1, 2] and "2 labelled" in repr(batch)
    twice = batch.repeat(2)
    assert len(twice) == 6 and twice.labelled.tolist() == [1, 2, 4, 5] and twice.copies == 2
    assert torch.equal(twice.images, images.repeat(2, 1, 1, 1))
    assert twice.repeat(3).labelled_once().images.equal(images[1:])
    double = batch.to(torch.float64)
    assert double.images.dtype == double.given["z_pres_0"].dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"z_pres": torch.ones(6)}, "no site z_pres: the guide draws"),
        ({"z_pres_0": torch.full((6,), 0.5)}, "outside the support"),
        ({"z_pres_0": torch.ones(5)}, "row for each of 6 images"),
        ({"z_pres_0": torch.ones(6, 2)}, r"must be given as \(6,\)"),
        ({"z_pres_0": torch.ones(())}, "row for each"),
        ({"z_where_0": torch.ones(6, 3)}, "z_pres_0 is not known to be 1"),
        ({"z_where_0": torch.ones(6, 3), "z_pres_0": torch.zeros(6)}, "z_pres_0 is not known"),
        ({"z_where_0": torch.ones(6, 2), "z_pres_0": torch.ones(6)}, r"\(6, 3\)"),
        ({"z_what_1": torch.tensor([[1.0, NAN, 2.0]] * 6)}, "known in part"),
        ({"z_pres_0": torch.full((6,), torch.inf)}, "infinite"),
        ({"z_pres_0": [1.0] * 6}, "as a tensor"),
        ([1.0] * 6, "dictionary"),
    ],
)
def test_what_fits_no_site_is_refused(given, error, air, images, unchecked):
    with pytest.raises((TypeError, ValueError), match=error):
        next(fit(*semi_supervise(*air), [Known(images, given)]))


def test_a_site_in_another_plate_cannot_be_known():
    model = sprite_scenes((3, 16, 16), sprites=2, layers=2)
    pair = semi_supervise(model, SpritesGuide(model, candidates=2))
    batch = Known(torch.rand(2, 3, 16, 16), {"z_region": torch.zeros(2)})
    with pytest.raises(ValueError, match="in the plate of the images .* alone"):
        pair[1](batch)


def test_bad_arguments_are_refused(air, images, unchecked):
    for counts in (torch.tensor([0.0, 1.0]), torch.tensor([[1]]), torch.tensor([3]), [1]):
        with pytest.raises(ValueError, match="counts"):
            presences(counts, 2)
    with pytest.raises(ValueError, match="-2"):
        presences(torch.tensor([-2, 0]), 2)
    for alpha in (-1, float("nan"), "1"):
        with pytest.raises(ValueError, match="alpha"):
            semi_supervise(*air, alpha=alpha)
    with pytest.raises(TypeError, match="guide must be"):
        semi_supervise(air[0], AIRGuide)
    with pytest.raises(TypeError, match=r"Known\(images, given\)"):
        next(fit(*semi_supervise(*air), [images]))
    with pytest.raises(TypeError, match="images must be"):
        Known([images], {})
    with pytest.raises(ValueError, match="times"):
        Known(images, {}).repeat(0)


def test_a_pair_is_checked_like_any(air, images):
    pair = semi_supervise(*air)
    check_guide(*pair, Known(images, presences(COUNTS, 2)))
    other = AIR((1, 12, 10), (1, 5, 4), steps=2, code=3)
    with pytest.raises(ValueError, match="another model"):
        check_guide(*semi_supervise(other, air[1]), Known(images, {}))


def test_the_term_is_a_site_that_can_be_weighed(classes):
    model, guide, images = classes
    batch, elbo = Known(images, {"z_class": LABELS}), Weighted(Trace_ELBO(), known=0.0)
    plain, without = (
        gradients(each, *semi_supervise(model, guide, alpha=alpha), batch, (model, guide))[0]
        for each, alpha in ((Trace_ELBO(), 0.0), (elbo, 5.0))
    )
    assert without == pytest.approx(plain, rel=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_batch_moves_to_the_gpu(air, images):
    model, guide = (part.cuda() for part in air)
    batch = Known(images, presences(COUNTS, 2)).to("cuda")
    for elbo in ELBOS.values():
        list(fit(*semi_supervise(model, guide), [batch], elbo=elbo))
