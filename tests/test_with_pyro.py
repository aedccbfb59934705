"""The page "With the rest of Pyro": each of its lines is run, and each row of its tables has a test."""

import math
import re
import sys
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import infer, poutine
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from pyro.infer.inspect import generate_graph_specification, get_model_relations
from pyro.infer.mcmc.util import initialize_model
from test_contract import COMPETING, econ_guide

from pyro_scenes import (
    AIR,
    CSTVAE,
    ECON,
    STVAE,
    VAE,
    AIRGuide,
    CSTVAEGuide,
    Prior,
    STVAEGuide,
    VAEGuide,
    evaluation,
    fit,
    to_arviz,
)
from pyro_scenes.criticism import statistics
from pyro_scenes.handlers import unmasked

PAGE = Path(__file__).parent.parent / "docs" / "with_pyro.rst"
SHAPE, WINDOW = (1, 12, 12), (1, 6, 6)
CONTINUOUS = ["VAE", "ST-VAE", "CST-VAE"]
PRESENCES = ["z_pres_0", "z_pres_1"]
EXACT = infer.TraceEnum_ELBO(max_plate_nesting=1)
WAKE = infer.ReweightedWakeSleep(2, vectorize_particles=False)
AUTO = [AutoNormal, AutoDelta, AutoDiagonalNormal]


#: A model, its guide, and the arguments of both.
PAIRS = {
    "VAE": (VAE, VAEGuide, {"code": 2}, {"hidden": 16}),
    "ST-VAE": (STVAE, STVAEGuide, {"window": WINDOW, "code": 2}, {"hidden": 16}),
    "CST-VAE": (CSTVAE, CSTVAEGuide, {"window": WINDOW, "code": 2}, {"hidden": 16}),
    "AIR": (AIR, AIRGuide, {"window": WINDOW, "steps": 2, "code": 2}, {"hidden": 16}),
    "ECON": (ECON, econ_guide, COMPETING, {}),
}


def pair_of(name):
    build, propose, sizes, widths = PAIRS[name]
    model = build(**{"image_shape": SHAPE, **sizes})
    return model.eval(), propose(model, **widths).eval()


@pytest.fixture
def pair(request):
    return pair_of(request.param)


def pairs(*names):
    return pytest.mark.parametrize("pair", names, indirect=True)


def images(model, n=3):
    return (torch.rand(n, *model.image_shape) > 0.7).float()


def presences(*values):
    return dict(zip(PRESENCES, map(torch.tensor, values), strict=True))


def gradients(module):
    found = [p.grad for p in module.parameters() if p.grad is not None]
    module.zero_grad(set_to_none=True)
    return found


# The page.


def test_the_page_runs(monkeypatch, tmp_path):
    """Its code blocks, in order, with fewer and shorter draws."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE.read_text())
    lines = re.sub("^    ", "", "".join(blocks), flags=re.M).replace("=300", "=2")
    lines = lines.replace("NUTS(", "partial(NUTS, max_tree_depth=1)(")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    if find_spec("graphviz") is None:  # Pyro draws with it, and only then
        monkeypatch.setitem(sys.modules, "graphviz", MagicMock())
    with warnings.catch_warnings(action="ignore"):
        exec(compile(lines, str(PAGE), "exec"), {"partial": partial})
    assert (tmp_path / "data.nc").exists()


# Objectives.


def check_training(model, guide, elbo, training=None):
    """Pyro's own loop with Pyro's own optimiser moves every parameter that the objective reaches."""
    before = {n: p.detach().clone() for m in (model, guide) for n, p in m.named_parameters()}
    step = infer.SVI(model, training or guide, pyro.optim.ClippedAdam({"lr": 1e-2}), elbo).step
    assert math.isfinite(step(images(model)))
    now = {n: p for m in (model, guide) for n, p in m.named_parameters()}
    still = [n for n in now if torch.equal(now[n], before[n])]
    assert all(re.search(r"baseline|(decoders|proposals|attention)\.\d", name) for name in still)


@pairs(*PAIRS)
@pytest.mark.parametrize("kind", [infer.Trace_ELBO, infer.TraceGraph_ELBO, infer.TraceEnum_ELBO])
@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
def test_elbos_train_every_pair(pair, kind):
    model, guide = (module.train() for module in pair)
    plates = 2 if isinstance(model, ECON) else 1
    wrap = infer.config_enumerate if kind is infer.TraceEnum_ELBO else lambda guide: guide
    check_training(model, guide, kind(max_plate_nesting=plates), wrap(guide))


@pairs(*CONTINUOUS)
@pytest.mark.parametrize("elbo", [infer.TraceMeanField_ELBO(), infer.RenyiELBO(0, 2)])
def test_what_trains_continuous_latents(pair, elbo):
    check_training(*pair, elbo)


@pairs("VAE")
@pytest.mark.parametrize("kind", ["Trace", "TraceGraph", "TraceEnum"])
@pytest.mark.filterwarnings("ignore")
def test_compiled_elbos_do_not_see_a_swap(pair, kind):
    model, guide = pair
    kind = getattr(infer, f"Jit{kind}_ELBO")
    elbo, batch = kind(), images(model)
    check_training(model, guide, elbo)
    losses = []
    for scale in (1.0, 0.1):
        model.z_what = Prior(dist.Normal, loc=[0.0, 0.0], scale=[scale, scale])
        for objective in (elbo, infer.Trace_ELBO()):
            torch.manual_seed(0)
            losses.append(objective.loss_and_grads(model, guide, batch))
    assert losses[0] == losses[2] and losses[1] < losses[3] - 1
    training = fit(model, guide, [batch] * 2, elbo=kind())
    next(training)
    model.z_what = Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.0, 1.0])
    with pytest.raises(ValueError, match="does not see what changes later"):
        next(training)


@pairs("AIR")
def test_discrete_draws_are_refused_without_a_score_function(pair):
    with pytest.raises(NotImplementedError, match="must be fully reparameterized"):
        infer.TraceMeanField_ELBO().loss_and_grads(*pair, images(pair[0]))


@pairs("AIR")
def test_the_importance_weighted_bound_does_not_train_presences(pair):
    model, guide = pair
    infer.RenyiELBO(alpha=0, num_particles=2).loss_and_grads(model, guide, images(model))
    assert not any(p.grad is not None and p.grad.any() for p in guide.z_pres.parameters())
    assert any(p.grad is not None and p.grad.any() for p in guide.embed.parameters())


@pairs("VAE", "AIR")
def test_objectives_are_those_of_the_log_weights(pair):
    """At the same draws: the mean; each image's bound; and, of wake-sleep, one bound of the whole batch."""
    batch = images(pair[0])
    torch.manual_seed(1)
    log_w = evaluation.log_weights(*pair, batch, particles=3).detach()
    for kind in (infer.Trace_ELBO, infer.TraceGraph_ELBO):
        torch.manual_seed(1)
        loss = kind(num_particles=3).loss(*pair, batch)
        assert loss == pytest.approx(-log_w.mean(0).sum().item(), rel=1e-4)
    torch.manual_seed(1)
    loss = infer.RenyiELBO(0, num_particles=3).loss(*pair, batch)
    assert loss == pytest.approx(-evaluation.importance_bound(log_w).sum().item(), rel=1e-4)
    torch.manual_seed(1)
    joint = evaluation.importance_bound(log_w[:2].sum(1, keepdim=True))
    assert WAKE.loss(*pair, batch)[0].item() == pytest.approx(-joint.item(), rel=1e-4)


def wake_gradients(model, guide, image, particles=2):
    """Of the guide: self-normalised weights times d log q at draws that carry no gradient."""
    torch.manual_seed(3)
    drawn = [poutine.trace(guide).get_trace(image) for _ in range(particles)]
    log_w, log_q = [], []
    for trace in drawn:
        trace.detach_()
        proposed = poutine.trace(poutine.replay(guide, trace=trace)).get_trace(image)
        joint = poutine.trace(poutine.replay(model, trace=trace)).get_trace(image)
        log_q.append(proposed.log_prob_sum())
        log_w.append((joint.log_prob_sum() - log_q[-1]).detach())
    (-(torch.stack(log_w).softmax(0) * torch.stack(log_q)).sum()).backward()
    return gradients(guide)


@pairs("VAE", "CST-VAE", "AIR")
def test_wake_sleep_is_right_where_no_latent_depends_on_another(pair):
    model, guide = pair
    batch = images(model, 1)
    expected = wake_gradients(model, guide, batch)
    torch.manual_seed(3)
    WAKE.loss_and_grads(*pair, batch)
    both = zip(gradients(guide), expected, strict=True)
    close = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in both)
    assert close == isinstance(model, VAE)


@pairs("AIR")
def test_networks_take_one_batch_dimension(pair):
    elbo = infer.ReweightedWakeSleep(num_particles=2, max_plate_nesting=1)
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        elbo.loss(*pair, images(pair[0]))


@pairs("VAE")
def test_fit_takes_neither_two_losses_nor_pyros_optimisers(pair, unchecked):
    batches = [images(pair[0])]
    with pytest.raises(TypeError, match="ReweightedWakeSleep has no loss that is one number"):
        next(fit(*pair, batches, elbo=WAKE))
    with pytest.raises(TypeError, match="optim must be a torch optimiser"):
        next(fit(*pair, batches, optim=pyro.optim.Adam({"lr": 1e-3})))


@pairs(*PAIRS)
def test_asleep_a_guide_learns_from_what_its_model_draws(pair):
    model, guide = pair
    with pytest.raises(TypeError, match="observations"):
        infer.ReweightedWakeSleep(2, 0.0, vectorize_particles=False).loss(*pair, images(model))
    with torch.no_grad():
        dream = poutine.trace(model).get_trace(size=8)
    asleep = poutine.trace(poutine.replay(guide, trace=dream))
    trace = asleep.get_trace(dream.nodes["image"]["value"])
    assert all(trace.nodes[n]["value"] is dream.nodes[n]["value"] for n in model.latents())
    (-trace.log_prob_sum()).backward()
    assert any(grad.any() for grad in gradients(guide))


# Posteriors.


def potential(model, batch):
    return initialize_model(model, (batch,), max_plate_nesting=1)[:2]


def sampled(program, batch):
    kernel = infer.NUTS(program, max_plate_nesting=1, max_tree_depth=2)
    chain = infer.MCMC(kernel, 2, warmup_steps=1, disable_progbar=True)
    chain.run(batch)
    return {*chain.get_samples()}


@pairs(*CONTINUOUS)
def test_nuts_takes_the_joint_density(pair):
    model, batch = pair[0], images(pair[0])
    start, energy = potential(model, batch)
    joint = poutine.trace(poutine.condition(model, data=start)).get_trace(batch)
    torch.testing.assert_close(energy(start), -joint.log_prob_sum())
    assert sampled(model, batch) == {*model.latents()}


@pairs("AIR")
def test_nuts_takes_the_sum_over_counts(pair):
    """Equal to a sum by hand, in which poses and codes of absent objects have their priors."""
    model, batch = pair[0], images(pair[0], 1)
    summed = infer.config_enumerate(unmasked()(model))
    start, energy = potential(summed, batch)
    priors, terms = model.latents(), []
    for counts in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)):
        known = start | presences(*([value] for value in counts))
        term = poutine.trace(poutine.condition(model, data=known)).get_trace(batch).log_prob_sum()
        absent = [n for n in start if not counts[int(n[-1])]]
        terms.append(term + sum(priors[name].log_prob(start[name]).sum() for name in absent))
    by_hand = -torch.stack(terms).logsumexp(0)
    torch.testing.assert_close(energy(start), by_hand, rtol=1e-5, atol=1e-3)
    assert sampled(summed, batch) == {*priors} - {*PRESENCES}


@pairs("AIR")
def test_under_masks_the_posterior_is_improper(pair):
    """Far away, where no prior has mass, the density must fall. Under masks it does not."""
    model, batch = pair[0], torch.zeros(1, *SHAPE)
    for program, falls in ((model, False), (unmasked()(model), True)):
        start, energy = potential(infer.config_enumerate(program), batch)
        near, far = ({n: torch.full_like(v, x) for n, v in start.items()} for x in (0.0, 1e3))
        assert (energy(far) > energy(near) + 1e3) == falls


@pairs("AIR")
def test_under_masks_an_autoguide_has_no_bound(pair):
    """Wider and wider proposals for empty images must cost more and more. Under masks they gain."""
    model, batch = pair[0], torch.zeros(2, *SHAPE)
    for program, bounded in ((model, False), (unmasked()(model), True)):
        summed, losses = infer.config_enumerate(program), []
        guide = AutoNormal(poutine.block(summed, hide=PRESENCES))
        guide(batch)
        for width in (1.0, 50.0):
            for scale in guide.scales.parameters():
                scale.data.fill_(width).expm1_().log_()  # before softplus
            losses.append(EXACT.loss(summed, guide, batch))
        assert (losses[1] > losses[0]) == bounded


@pairs(*CONTINUOUS)
@pytest.mark.parametrize("kind", AUTO)
def test_autoguides_train(pair, kind):
    model, batch = pair[0], images(pair[0])
    guide = kind(model)
    optim = pyro.optim.Adam({"lr": 0.05})
    svi = infer.SVI(model, guide, optim, infer.Trace_ELBO())
    losses = [svi.step(batch) for _ in range(12)]
    assert sum(losses[-4:]) < sum(losses[:4])


@pairs("AIR")
@pytest.mark.parametrize("kind", AUTO)
def test_autoguides_train_with_counts_summed_out(pair, kind):
    summed = infer.config_enumerate(unmasked()(pair[0]))
    guide = kind(poutine.block(summed, hide=PRESENCES))
    records = [*fit(summed, guide, [images(pair[0])] * 2, elbo=EXACT)]
    assert all(math.isfinite(record.loss) and record.norm > 0 for record in records)


@pairs(*PAIRS)
def test_importance_has_the_weights_of_the_batch(pair):
    batch = images(pair[0], 2)
    torch.manual_seed(1)
    log_w = evaluation.log_weights(*pair, batch, particles=3).detach()
    torch.manual_seed(1)
    found = torch.stack(infer.Importance(*pair, num_samples=3).run(batch).log_weights).detach()
    torch.testing.assert_close(found, log_w.sum(1), rtol=1e-4, atol=1e-2)


@pairs(*PAIRS)
def test_predictive_draws_and_replays(pair):
    model, guide = pair
    batch, shape = images(model), model.image_shape
    prior = infer.Predictive(model, num_samples=2)(size=3)
    draws = infer.Predictive(guide, num_samples=2)(batch)
    replicates = infer.Predictive(model, draws)(size=3)
    for found in (prior, replicates):  # ECON's plate of pixels leaves a dimension more
        assert found["image"].shape[-4:] == found["canvas"].shape[-4:] == (3, *shape)
        assert found["image"].shape[0] == 2


@pairs("VAE", "CST-VAE", "AIR")
def test_predictive_with_a_guide_returns_what_is_observed(pair):
    batch = images(pair[0])
    found = infer.Predictive(pair[0], guide=pair[1], num_samples=2)(batch)["image"]
    assert torch.equal(found.reshape(2, *batch.shape), batch.expand(2, *batch.shape))


# Handlers.


@pairs("AIR")
@pytest.mark.parametrize("handler", [poutine.condition, poutine.do])
def test_condition_scores_a_pose_and_do_does_not(pair, handler):
    """Both put the object on the right; under ``do`` the site is drawn and scored elsewhere."""
    pose = torch.tensor([[3.0, -1.5, 0.0]]).expand(3, 3)
    known = poutine.condition(pair[0], data=presences([1.0] * 3, [0.0] * 3))
    nodes = poutine.trace(handler(known, data={"z_where_0": pose})).get_trace(size=3).nodes
    ink = nodes["canvas"]["value"].sum((0, 1, 2))
    assert ink[6:].sum() > 2 * ink[:6].sum()
    assert torch.equal(nodes["z_where_0"]["value"], pose) == (handler is poutine.condition)


@pairs("AIR")
def test_an_object_that_was_seen_is_moved(pair):
    model, guide = pair
    guide.presence = 20.0  # both objects, certainly
    seen = poutine.trace(guide).get_trace(images(model))
    pose = {"z_where_0": seen.nodes["z_where_0"]["value"] + torch.tensor([0.0, 0.5, 0.0])}
    programs = [poutine.replay(m, trace=seen) for m in (model, poutine.do(model, data=pose))]
    still, moved = (poutine.trace(program).get_trace(size=3).nodes for program in programs)
    for name in ("z_what_0", "z_where_1", "z_what_1"):
        assert torch.equal(still[name]["value"], moved[name]["value"])
    assert not torch.allclose(still["canvas"]["value"], moved["canvas"]["value"])


@pairs("AIR")
def test_known_counts_train_what_is_left(pair):
    model, guide = pair
    known = presences([1.0] * 3, [0.0] * 3)
    observed, told = (poutine.condition(program, data=known) for program in pair)
    batches = [images(model)]
    with pytest.raises(ValueError, match="guide observes z_pres_0"):
        next(fit(observed, told, batches))
    assert math.isfinite(next(fit(observed, poutine.block(told, hide=PRESENCES), batches)).loss)
    assert not any(grad.any() for grad in gradients(guide.z_pres))
    assert any(grad.any() for grad in gradients(guide.z_where))


# Torch.


@pairs("VAE", "CST-VAE", "AIR")
def test_autocast_has_about_the_same_loss(pair):
    elbo, losses, batch = infer.Trace_ELBO(num_particles=2), [], images(pair[0])
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(elbo.loss(*pair, batch))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] != losses[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert next(fit(*pair, [batch])).norm > 0


@pairs("VAE")
@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_network_trains_alike(pair, in_place):
    model, guide = pair
    names, elbo, batch = [*model.state_dict()], infer.Trace_ELBO(), images(model)
    network = model.decoder.layers  # of torch alone: a compiler is slow on checks of shapes
    losses = []
    for turn in range(2):
        if turn and in_place:
            network.compile(backend="eager")
        elif turn:
            model.decoder.layers = torch.compile(network, backend="eager")
        torch.manual_seed(0)
        losses.append(elbo.loss(model, guide, batch))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert next(fit(model, guide, [batch])).norm > 0
    assert ([*model.state_dict()] == names) == in_place


@pairs(*PAIRS)
def test_pyro_draws_the_plate_diagram(pair):
    relations = get_model_relations(pair[0], model_args=(images(pair[0]),))
    graph = generate_graph_specification(relations)
    assert {*pair[0].latents(), "image"} <= {*graph["node_data"]}
    assert {*pair[0].latents(), "image"} <= {*relations["plate_sample"]["images"]}


# ArviZ.


@pytest.fixture(scope="module")
def drawn():
    torch.manual_seed(0)
    model, guide = pair_of("AIR")
    return to_arviz(model, guide, images(model), draws=5, seed=0)


@pytest.fixture(scope="module")
def arviz():
    matplotlib.use("Agg")
    with warnings.catch_warnings(action="ignore"):
        import arviz
    return arviz


def test_a_summary_skips_what_is_absent(arviz, drawn):
    names = ["z_where"]
    present = (drawn["posterior"]["z_pres"].sum("draw") > 0).values.ravel().repeat(3)
    for skipna in (True, False):
        table = arviz.summary(drawn, var_names=names, kind="stats", skipna=skipna)
        finite = table["mean"].notna().values
        assert (finite == present).all() == skipna


def test_arviz_plots(arviz, drawn):
    checks, first = statistics(drawn), {"image_id": [0], "step": [0]}
    drawings = [
        arviz.plot_posterior(drawn, var_names=["count"]),
        arviz.plot_forest(drawn, var_names=["z_where"], coords=first),
        arviz.plot_pair(drawn, var_names=["z_where"], coords=first),
        arviz.plot_ppc(checks, var_names=["total_ink"]),
        arviz.plot_bpv(checks, var_names=["total_ink"]),
    ]
    assert all(any(ax.has_data() for ax in np.ravel(axes)) for axes in drawings)


@pytest.mark.parametrize("name", ["loo", "waic"])
def test_pointwise_likelihoods_are_not_there(arviz, drawn, name):
    with pytest.raises(TypeError, match="log likelihood not found"):
        getattr(arviz, name)(drawn)
