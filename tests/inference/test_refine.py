"""Refined draws against posteriors in closed form, and moves against the law that they must keep."""

import math

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from chain import IMAGES
from pyro import poutine
from test_importance import Line, LineGuide

from pyro_scenes import AIR, AIRGuide, Persist, Pixels, Prior, Product, refine
from pyro_scenes.handlers import rows_first
from pyro_scenes.inference import effective_size, pareto_k
from pyro_scenes.inference.chains import Chains
from pyro_scenes.inference.splits import Splits


def of_line(w=0.8):
    """Posterior means (3, 2) of z0 and z1 of a Line given IMAGES, and their covariance."""
    precision = torch.tensor([[1 + w**2, -w], [-w, 1 + 4.0]]).double()
    covariance = precision.inverse()
    return (covariance @ torch.tensor([0.0, 4.0]).double()) * IMAGES.flatten()[:, None], covariance


@pytest.mark.parametrize("moves", [0, ["walk", "redraw"] * 3])
def test_a_guide_too_broad_is_mended(double, moves):
    mean, covariance = of_line()
    found = refine(
        Line().eval(), LineGuide(stretch=1.5).eval(), IMAGES, draws=2000, moves=moves, step=1.0
    )
    z = torch.stack([found.values[name] for name in ("z0", "z1")], -1)
    shares = 1 / 2000 + 1 / found.ess[:, None]  # of the variance, in the error of a mean
    error = (covariance.diagonal() * shares).sqrt()
    assert ((z.mean(0) - mean).abs() < 4 * error).all()
    assert ((z.var(0) / covariance.diagonal() - 1).abs() < 4 * (2 * shares).sqrt()).all()
    products = (z - mean).prod(-1)
    error = (products.var(0) * shares[:, 0]).sqrt()
    assert ((products.mean(0) - covariance[0, 1]).abs() < 4 * error).all()
    assert (found.k_hat < 0.5).all() and (found.ess > 5000).all()


def test_a_guide_too_narrow_is_seen(double):
    found = refine(Line().eval(), LineGuide(stretch=0.5).eval(), IMAGES, draws=1000, pool=5)
    assert (found.k_hat > 0.6).all() and found.k_hat.mean() > 0.7


def test_the_exact_posterior_is_never_refused(double):
    found = refine(Line().eval(), LineGuide().eval(), IMAGES, draws=50, moves=["redraw"] * 4)
    assert (found.accepted["redraw"] == 1).all()
    torch.testing.assert_close(found.ess, torch.full((3,), 500.0).double())
    assert (found.k_hat < 0.5).all()


def test_weights_of_their_own_law():
    weights = torch.distributions.StudentT(torch.tensor([0.8, 2.0, 9.0])).sample((900,)).abs().log()
    expected = [arviz.psislw(each.double().numpy())[1] for each in weights.unbind(1)]
    torch.testing.assert_close(
        pareto_k(weights).tolist(), [float(k) for k in expected], atol=1e-4, rtol=0
    )
    constant = torch.full((50, 1), -1600.0)
    assert pareto_k(constant).item() == -math.inf and effective_size(constant).item() == 50
    one = constant.index_fill(0, torch.tensor(3), 5.0)
    assert pareto_k(one).item() == math.inf and effective_size(one).item() == pytest.approx(1)


def bounded(images=None, *, size=1):
    """z0 > 0, z1 in 0 .. z0, and a pixel that knows little of them."""
    size = size if images is None else len(images)
    with pyro.plate("images", size, dim=-1):
        z0 = pyro.sample("z0", dist.LogNormal(torch.zeros(size), 0.7))
        z1 = pyro.sample("z1", dist.Uniform(torch.zeros(size), z0))
        pixel = dist.Normal((z0 + z1)[:, None, None, None], 1.0).to_event(3)
        return pyro.sample("image", pixel, obs=images)


def rough(images):
    """A guide of it."""
    with pyro.plate("images", len(images), dim=-1):
        z0 = pyro.sample("z0", dist.LogNormal(0.3 * images.flatten(), 0.8))
        pyro.sample("z1", dist.Uniform(torch.zeros(len(images)), z0))


def counting_pair():
    """An AIR whose objects vary, under noise that hides much, and a guide that knows nothing yet."""
    pose = Product(
        scale=Prior(dist.LogNormal, loc=[0.7], scale=[0.3]),
        shift=Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.0, 1.0]),
    )
    parts = {"z_pres": Persist(0.6), "z_where": pose, "image": Pixels(dist.Normal, scale=2.0)}
    model = AIR((1, 8, 8), (1, 4, 4), steps=3, code=2, **parts)
    return model.eval(), AIRGuide(model, hidden=16, presence=0.3).eval()


def statistics(state):
    """Numbers of each row, of its present objects, whatever their order."""
    z_pres = torch.stack([v for n, v in state.values.items() if "pres" in n] or [torch.ones(())])
    found = {"log_p": state.log_p}
    for kind in ("z_where", "z_what", "z0", "z1"):
        each = [v for name, v in state.values.items() if name.startswith(kind)]
        if each:
            values = torch.stack(each).reshape(len(each), len(state.log_p), -1)
            values = torch.where(z_pres.reshape(len(z_pres), -1, 1).bool(), values, 0.0)
            found |= {f"{kind} {i}": v for i, v in enumerate(values.sum(0).unbind(-1))}
            found |= {f"{kind} {i}^2": v for i, v in enumerate(values.square().sum(0).unbind(-1))}
    if z_pres.dim() > 1:
        found |= {f"n = {k}": (z_pres.sum(0) == k).float() for k in range(4)}
    return found


@torch.no_grad()
def moved(model, guide, kind, rows, times):
    """Statistics of scenes drawn with their images, and of the same scenes after moves; share accepted."""
    drawn = poutine.trace(model).get_trace(size=rows)
    chains = Chains(model, guide, (drawn.nodes["image"]["value"],))
    start = state = chains.draw({name: rows_first(drawn.nodes[name]) for name in chains.names})
    scale = {name: 0.4 * u.std(0) for name, u in state.line.items()}
    accepted = []
    for _ in range(times):
        if kind == "walk":
            state, yes = chains.walk(state, scale)
        elif kind == "count":
            state, yes = chains.count(state)
        elif kind == "split":
            state, yes = Splits(chains).move(state)
        else:
            sites = torch.ones(rows, len(chains.names), dtype=torch.bool)
            if kind == "step":
                sites = chains.steps[torch.randint(len(chains.steps), (rows,))]
            state, yes = chains.redraw(state, sites)
        accepted.append(yes.float().mean())
    return statistics(start), statistics(state), sum(accepted).item() / times


PAIRS = {"bounded": lambda: (bounded, rough), "AIR": counting_pair}


@pytest.mark.parametrize(
    ("pair", "kind"),
    [("bounded", "walk"), ("bounded", "redraw")]
    + [("AIR", kind) for kind in ("redraw", "walk", "step", "count", "split")],
)
def test_moves_keep_the_joint_law_of_scenes_and_images(pair, kind):
    """Of images drawn with their scenes, the scenes are exact draws of the posterior, and must stay so."""
    model, guide = PAIRS[pair]()
    before, after, accepted = moved(model, guide, kind, 800, 4)
    assert accepted > 0.05
    for name in before:
        change = after[name] - before[name]
        z = change.mean() / (change.std() / len(change) ** 0.5).clamp(min=1e-9)
        assert abs(z) < 4, (name, z)
