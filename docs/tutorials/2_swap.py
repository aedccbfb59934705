"""
2. Swap: change one part of a model
===================================

One rule: **site name = keyword = attribute**. The site ``z_where_0`` is drawn
from the conditional ``z_where``; give another by ``AIR(z_where=...)``, or
assign to ``model.z_where``. A conditional is any callable from ``scene``, what
has been drawn so far, to a Pyro distribution.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from pyro_scenes import Prior, Product, load_pretrained, viz

pyro.set_rng_seed(0)
model, guide = load_pretrained("air")
print(model.z_where)  # a pose: scale, x, y. A big scale is a small object
print(model.z_pres)
print(model.image)

# %%
# A prior of the pose
# -------------------
#
# Three priors, and scenes of three objects drawn from each. The first is a
# function that reads the scene: an object stands close to the one before. The
# second joins two families, as one family for all three numbers seldom fits.


def close(scene):
    loc, scale = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.1, 0.5, 0.5])
    if scene.z_where is not None:  # there is an object before
        loc = scene.z_where
    return dist.Normal(loc, scale).to_event(1)


sizes = Product(
    scale=Prior(dist.LogNormal, loc=[1.2], scale=[0.4]),
    shift=Prior(dist.Normal, loc=[0.0, 0.0], scale=[1.5, 1.5]),
)
row = Prior(dist.Normal, loc=[3.0, 0.0, 0.0], scale=[0.1, 1.0, 0.01])


def draw(count):  # scenes, given the number of objects
    present = {f"z_pres_{t}": torch.ones(6) * (t < count) for t in range(3)}
    given = poutine.condition(model, data=present)
    return poutine.trace(given).get_trace(size=6).nodes["canvas"]["value"]


rows = {}
trained = model.z_where
parts = {"as trained": trained, "close": close, "sizes": sizes, "row": row}
with torch.no_grad():
    for name, part in parts.items():
        model.z_where = part  # the swap
        rows[name] = draw(count=3)
model.z_where = trained
viz.pictures(rows).savefig("poses.png")

# %%
# A prior that is learned
# -----------------------
#
# The default prior of the count is a price, 4.6 nats an object, not a belief:
# scenes drawn from it are empty. Once objects are learned, the price can be
# made a belief. Only the new part is trained here, for 60 steps.

from itertools import islice

from pyro.infer import TraceEnum_ELBO

from pyro_scenes import Persist, evaluation, fit
from pyro_scenes.data import batches, digits, multi_digits

train = multi_digits(digits().train, 4_000)
test = multi_digits(digits().test, 500, seed=1)
exact = TraceEnum_ELBO(max_plate_nesting=1)


def prior_of_count():  # the model's presences, read as a guide's
    blank, prior = model.blank[None], lambda images: model(size=1)
    with torch.no_grad():
        return evaluation.count_probabilities(prior, blank)[0]


shares = {"prior": prior_of_count()}
model.z_pres = Persist([0.5] * model.steps, learn=True)  # the swap
optim = torch.optim.Adam(model.z_pres.parameters(), lr=0.1)
stream = islice(batches(train.images, 64), 60)
for record in fit(model, guide, stream, elbo=exact, optim=optim):
    if record.step % 20 == 0:
        print(record.step, model.z_pres)

shares["learned prior"] = prior_of_count()
with torch.no_grad():
    found = evaluation.count_probabilities(guide, test.floats())
shares["guide"] = found.mean(0)
shares["truth"] = test.counts.bincount(minlength=4) / len(test)
viz.bars(shares, x="count", y="share of scenes").savefig("counts.png")

# %%
# Now scenes drawn from the model have objects in them, but for those that are
# empty, as a third of the data are:

with torch.no_grad():
    trace = poutine.trace(model).get_trace(size=12)
canvas = trace.nodes["canvas"]["value"]
viz.pictures({"1 to 6": canvas[:6], "7 to 12": canvas[6:]}).savefig("drawn.png")

# %%
# The likelihood
# --------------
#
# ``image`` is a conditional like any other. The scale of its noise says how
# exact a redrawn object must be. It can be learned as well:

from pyro_scenes import Pixels

model.image = Pixels(dist.Normal, scale=0.2, learn=True)
optim = torch.optim.Adam(model.image.parameters(), lr=0.05)
stream = islice(batches(train.images, 64), 30)
for record in fit(model, guide, stream, elbo=exact, optim=optim):
    if record.step % 10 == 0:
        print(record.step, model.image, "ELBO:", round(-record.loss))

# %%
# The bound is the logarithm of a density, so a smaller scale raises it without
# end in sight of a perfect redrawing. Nats are comparable for the same images
# and the same likelihood only.
#
# Estimators, networks, and what does not fit
# -------------------------------------------
#
# An estimator is an argument of ``fit``, a network one of the guide. A new
# model of small size, trained for a few steps by the score function:

from pyro.infer import TraceGraph_ELBO
from torch import nn

from pyro_scenes import AIR, AIRGuide

small = AIR((1, 25, 25), window=(1, 14, 14), code=8)
small_guide = AIRGuide(small, cell=nn.GRUCell)
images = nn.functional.avg_pool2d(train.floats()[:64], 2)
for record in fit(small, small_guide, [images] * 10, elbo=TraceGraph_ELBO()):
    pass
print("ELBO:", round(-record.loss, 1))

# %%
# The guide takes sizes and supports from its model. A part of another kind
# needs a new guide, and ``fit`` says so before it takes a step:

small.z_what = Prior(dist.OneHotCategorical, probs=[1 / 8] * 8)
try:
    next(fit(small, small_guide, [images]))
except ValueError as error:
    print(error)
print(AIRGuide(small).z_what)  # the new guide's proposal: one-hot, too

# %%
# Where to go
# -----------
#
# * All parts that can be swapped, priors with weights, discrete codes, guides
#   of your own, masks, estimators: :doc:`/swap`.
# * ``python examples/swap_a_prior.py`` tries sixteen swaps.
# * Ask whether the changed model is a better one: :doc:`3_criticise`.
