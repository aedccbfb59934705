"""AIR: the exact sum over counts against a sum written by hand, and what makes it exact."""

from itertools import islice

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate

from pyro_scenes import AIR, AIRGuide, Persist, adam, evaluation, fit
from pyro_scenes.data import batches
from pyro_scenes.render import place

EXACT = TraceEnum_ELBO(max_plate_nesting=1)


def small(steps=3, **swaps):
    return AIR((1, 16, 16), (1, 8, 8), steps, 4, **swaps)


def by_hand(model, guide, images, seed):
    """The loss as a sum over n = 0 .. N of q(n) times (log p - log q), from one pass of the guide."""
    torch.manual_seed(seed)
    steps = range(model.steps)
    present = {f"z_pres_{t}": images.new_ones(len(images)) for t in steps}
    q = poutine.trace(poutine.condition(guide, data=present)).get_trace(images)
    q.compute_log_prob()
    canvas = model.blank.expand_as(images)
    likelihood = [dist.Normal(canvas, 0.3).log_prob(images).sum((1, 2, 3))]
    z_terms = [torch.zeros(len(images))]
    for t in steps:
        where, what = q.nodes[f"z_where_{t}"], q.nodes[f"z_what_{t}"]
        prior = dist.Normal(torch.tensor([3.0, 0, 0]), torch.tensor([0.2, 1, 1])).to_event(1)
        code = dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1)
        ratio = prior.log_prob(where["value"]) + code.log_prob(what["value"])
        z_terms.append(z_terms[-1] + ratio - where["log_prob"] - what["log_prob"])
        canvas = canvas + place(model.decoder(what["value"]), where["value"], (16, 16))
        likelihood.append(dist.Normal(canvas, 0.3).log_prob(images).sum((1, 2, 3)))
    hazard = [q.nodes[f"z_pres_{t}"]["fn"].probs for t in steps]
    total = 0
    for n in range(model.steps + 1):
        log_q, log_p = torch.zeros(len(images)), 0.0
        for t in range(n):
            log_q, log_p = log_q + hazard[t].log(), log_p + torch.tensor(0.01).log()
        if n < model.steps:
            log_q, log_p = log_q + torch.log1p(-hazard[n]), log_p + torch.tensor(0.99).log()
        total = total + (log_q.exp() * (likelihood[n] + z_terms[n] + log_p - log_q)).sum()
    return -total


def gradients(*modules):
    found = torch.cat(
        [p.grad.flatten() for m in modules for p in m.parameters() if p.grad is not None]
    )
    for module in modules:
        module.zero_grad()
    return found


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_enumerated_loss_is_the_sum_over_counts(steps):
    model = small(steps)
    guide = AIRGuide(model, presence=0.3)
    images = torch.rand(6, 1, 16, 16)
    torch.manual_seed(5)
    loss = EXACT.loss_and_grads(model, config_enumerate(guide), images)
    enumerated = gradients(model, guide)
    expected = by_hand(model, guide, images, seed=5)
    expected.backward()
    written = gradients(model, guide)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        enumerated, written, rtol=1e-3, atol=1e-3 * written.abs().max().item()
    )


def test_enumeration_carries_no_more_dimensions_at_more_steps():
    """Cost is linear in the steps: no site of a long model is enumerated over more than two presences."""
    widest = {}
    for steps in (3, 12):
        model = small(steps)
        guide = AIRGuide(model)
        images = torch.rand(2, 1, 16, 16)
        traces = EXACT._get_traces(model, config_enumerate(guide), (images,), {})
        for joint, proposed in traces:
            sites = [s for t in (joint, proposed) for s in t.nodes.values() if "log_prob" in s]
            widest[steps] = max(site["log_prob"].numel() for site in sites)
    assert widest[12] == widest[3] == 4 * 2  # two neighbouring presences, two images


def test_once_absent_always_absent():
    model = small(4, z_pres=Persist(0.6))
    drawn = poutine.trace(model).get_trace(size=200)
    guessed = poutine.trace(AIRGuide(model, presence=0.0)).get_trace(torch.rand(200, 1, 16, 16))
    for trace in (drawn, guessed):
        present = torch.stack([trace.nodes[f"z_pres_{t}"]["value"] for t in range(4)])
        assert (present[1:] <= present[:-1]).all() and 0 < present[1].mean() < present[0].mean() < 1


def test_the_canvas_is_the_sum_of_the_present_objects():
    model = small(3, z_pres=Persist(0.5))
    trace = poutine.trace(model).get_trace(size=20)
    expected = torch.zeros(20, 1, 16, 16)
    for t in range(3):
        z = {name: trace.nodes[f"{name}_{t}"]["value"] for name in ("z_pres", "z_where", "z_what")}
        layer = place(model.decoder(z["z_what"]), z["z_where"], (16, 16))
        expected = expected + z["z_pres"][:, None, None, None] * layer
    torch.testing.assert_close(trace.nodes["canvas"]["value"], expected)


def test_the_count_prior_is_geometric():
    model = small(3)
    present = [{f"z_pres_{t}": torch.tensor([float(t < n)]) for t in range(3)} for n in range(4)]
    traces = [poutine.trace(poutine.condition(model, data=z)).get_trace(size=1) for z in present]
    sites = [[t.nodes[f"z_pres_{i}"] for i in range(3)] for t in traces]
    log_p = [sum(s["fn"].log_prob(s["value"]).item() for s in row) for row in sites]
    steps = [b - a for a, b in zip(log_p[:-2], log_p[1:-1], strict=True)]
    assert steps == pytest.approx([torch.tensor(0.01).log().item()] * 2, rel=1e-4)
    assert torch.tensor(log_p).exp().sum().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    "image",
    [
        lambda scene: dist.Laplace(scene.canvas, 0.2).to_event(3),
        lambda scene: dist.Normal(scene.canvas, 0.1 + 0.2 * scene.canvas.abs()).to_event(3),
        lambda scene: dist.Normal(scene.canvas, 0.3 + 0.1 * scene.step).to_event(3),
    ],
)
def test_seen_and_drawn_scenes_have_one_density(image):
    """Whatever the likelihood, and whatever it tries to read besides the canvas."""
    model = small(3, z_pres=Persist(0.6), image=image)
    images = model(size=8).clamp(0, 1)
    drawn = poutine.trace(model).get_trace(size=8)
    seen = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(images)
    held = poutine.condition(poutine.replay(model, trace=drawn), data={"image": images})
    again = poutine.trace(held).get_trace(size=8)
    torch.testing.assert_close(seen.log_prob_sum(), again.log_prob_sum(), rtol=1e-4, atol=1e-2)


def test_both_estimators_have_one_gradient():
    """The score function, baselines and all, is unbiased: its mean is the exact gradient."""
    model = small(2)
    guide = AIRGuide(model)
    images = torch.rand(4, 1, 16, 16).repeat(40, 1, 1, 1)  # each step draws forty times
    found = {}
    for name, elbo, proposal, draws in (
        ("exact", EXACT, config_enumerate(guide), 10),
        ("graph", TraceGraph_ELBO(), guide, 25),
    ):
        sums = []
        for _ in range(draws):
            guide.zero_grad()
            elbo.loss_and_grads(model, proposal, images)
            sums.append(torch.cat([p.grad.flatten() for p in guide.z_pres[-1].parameters()]))
        found[name] = torch.stack(sums)
    means = [rows.mean(0) for rows in found.values()]
    errors = torch.stack([rows.var(0) / len(rows) for rows in found.values()]).sum(0).sqrt()
    z = (means[0] - means[1]) / (errors + 1e-6)
    assert (
        z.square().mean().sqrt() < 2 and found["exact"].var(0).sum() < found["graph"].var(0).sum()
    )


def test_an_absent_object_costs_nothing():
    """Whatever is drawn under z_pres = 0, the joint density does not change."""
    model = small(2)
    images, absent = torch.rand(3, 1, 16, 16), {f"z_pres_{t}": torch.zeros(3) for t in range(2)}
    held = poutine.condition(model, data=absent)
    scores = [poutine.trace(held).get_trace(images).log_prob_sum() for _ in range(3)]
    assert torch.stack(scores).std() < 1e-3


def test_a_baseline_reads_the_past_alone():
    """The control variate is a function of image and earlier latents: its gradient is its own."""
    guide = AIRGuide(small(2))
    value = guide.control(torch.rand(5, 256, requires_grad=True), torch.ones(5))
    value["baseline"]["baseline_value"].sum().backward()
    assert all((p.grad is not None) == ("baseline" in name) for name, p in guide.named_parameters())


def test_learns_to_find_squares():
    """Some seconds of training find bright squares that nobody labelled, and say where there is none."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (256,), generator=generator)
    corner = torch.randint(0, 10, (256, 2), generator=generator)
    images = torch.zeros(256, 1, 16, 16)
    for image, n, (x, y) in zip(images, truth, corner.tolist(), strict=True):
        image[0, y : y + 6, x : x + 6] = n
    model = small(1)
    guide = AIRGuide(model)
    stream = islice(batches(images, 32), 100)
    for _ in fit(model, guide, stream, elbo=EXACT, optim=adam(model, guide, lr=4e-3)):
        pass
    with torch.no_grad():
        found = evaluation.interpret(model, guide, images)
    assert evaluation.count_accuracy(found.counts, truth) > 0.95
    both = (truth == 1) & (found.counts == 1)
    centre = (found.boxes[both, 0, :2] + found.boxes[both, 0, 2:]) / 2
    assert (
        centre - (corner[both] + 3)
    ).abs().mean() < 1.5  # pixels; 4 would be a window in the middle


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"steps": 0}, "steps"),
        ({"code": 0}, "code"),
        ({"window": (3, 8, 8)}, "window"),
        ({"window": (8, 8)}, "window"),
        ({"image_shape": (16, 16)}, "image_shape"),
    ],
)
def test_bad_sizes_are_refused(settings, error):
    with pytest.raises(ValueError, match=error):
        AIR(**{"image_shape": (1, 16, 16), "window": (1, 8, 8), **settings})


def test_certainty_is_bounded_in_training_alone():
    guide = AIRGuide(small(1), certainty=2.0)
    with torch.no_grad():
        guide.z_pres[-1].bias.fill_(-50.0)
    images = torch.rand(4, 1, 16, 16)
    for training, bound in ((True, torch.sigmoid(torch.tensor(2.0)).item()), (False, 1.0)):
        absent = evaluation.count_probabilities(guide.train(training), images, draws=1)[:, 0]
        assert absent.tolist() == pytest.approx([bound] * 4, abs=1e-3)
