"""
3. Criticise: ask what a model gets wrong
=========================================

If the fitted model were true, would it make images like those it saw? For
each image the guide draws what is in it, the model draws a new image, a
*replicate*, from that, and a statistic of the replicates is compared with that
of the image. No label is needed.
"""

import pyro
import torch

from pyro_scenes import evaluation, load_pretrained, to_arviz, viz
from pyro_scenes.data import digits, multi_digits

pyro.set_rng_seed(0)
model, guide = load_pretrained("air")
test = digits().test
usual = multi_digits(test, 100, counts=(1, 2), seed=1).floats()
data = to_arviz(model, guide, usual, draws=40, seed=0)
print(data["posterior"]["z_where"].dims)

# %%
# ``data`` is what ArviZ takes: ``posterior``, ``posterior_predictive``,
# ``prior`` and so on, under the model's names. Pictures have groups of their
# own, so that tables list latents alone. An absent object's latents are NaN.

import arviz

print(arviz.summary(data, var_names=["count"], kind="stats").head(4))

# %%
# The guide's draws are independent, so there is no ``r_hat``: it could not see
# that the guide is wrong.
#
# A p-value for each image
# ------------------------
#
# ``p`` is the share of replicates whose statistic is at least the image's.
# Near 0 this image's replicates have too little of it, near 1 too much. Of a
# calibrated model a tenth of the images lies outside [.05, .95].

from pyro_scenes.criticism import p_values, statistics, tail_shares


def check(images):
    # The brightest 5 x 5 pixels that a draw leaves unexplained.
    def unexplained_spot(images, draw):
        rest = (images - draw["canvas"]).reshape(-1, 10, 5, 10, 5)
        return rest.mean((2, 4)).max((1, 2))

    drawn = to_arviz(model, guide, images, draws=40, seed=0)
    checks = statistics(
        drawn,
        total_ink=lambda images: images.sum((-3, -2, -1)),
        unexplained_spot=unexplained_spot,
    )
    return checks, p_values(checks)


checks, p = check(usual)
viz.predictive_checks(
    checks["observed_data"], checks["posterior_predictive"], p, tail_shares(p)
).savefig("usual.png")

# %%
# Few images are in the tails of total ink, so digits are neither missed nor
# invented: each has some 60 units, several times what the likelihood's noise
# adds up to. The unexplained spots of most images are weaker than those of
# their replicates: the likelihood's noise is a tolerance, and these images have
# none. So p gathers at one side, which is no misfit.
#
# Images that the model was not made for
# --------------------------------------
#
# It was trained on up to two digits. Give it three:

unusual = multi_digits(test, 100, counts=(3,), seed=1)
checks, p = check(unusual.floats())
viz.predictive_checks(
    checks["observed_data"], checks["posterior_predictive"], p, tail_shares(p)
).savefig("unusual.png")
tail = tail_shares(p)["total_ink"]
print("outside:", tail.share, "too little:", tail.low, "too much:", tail.high)

# %%
# Most images have more ink than their replicates, and a spot that no draw
# explains: something is left out. Sorted by p-value, the images that need a
# look come first.

worst = p["total_ink"].values.argsort(kind="stable")[:6]
images, counts = unusual.floats()[worst], unusual.counts[worst]
with torch.no_grad():
    found = evaluation.interpret(model, guide, images)
viz.counted(images, found.boxes, found.counts, counts).savefig("worst.png")

# %%
# Prior and aggregate posterior
# -----------------------------
#
# Were the model true, the guide's counts averaged over images would be the
# prior's. They are not: the prior is a price, not a belief.
# :doc:`2_swap` learns one that agrees.

import numpy as np

draws = {name: data[name]["count"].values for name in ("prior", "posterior")}
shares = {
    name.replace("posterior", "guide"): np.bincount(n.ravel(), minlength=4)
    / n.size
    for name, n in draws.items()
}
viz.bars(shares, x="count", y="share of scenes").savefig("counts.png")

# %%
# Compare two models
# ------------------
#
# ``arviz.loo`` does not apply: a scene has latents of its own, and without its
# image they are back at the prior. Compare bounds on held-out images, of as
# many particles: here image by image, with the standard error of the mean.

from pyro_scenes import Persist

images = multi_digits(test, 100, seed=2).floats()


def bound():  # IWAE-20 of each image
    with torch.no_grad():
        weights = evaluation.log_weights(model, guide, images, particles=20)
    return evaluation.importance_bound(weights)


before = bound()
model.z_pres = Persist([0.68, 0.5, 0.03])  # about as learned in tutorial 2
gain = bound() - before
error = gain.std() / len(gain) ** 0.5
print(f"{before.mean():.1f} nats, and {gain.mean():.1f} +- {error:.1f} more")

# %%
# Where to go
# -----------
#
# * How to read a check, what a tail share does not say, memory, files:
#   :doc:`/criticise`.
# * ``python examples/posterior_predictive_check.py`` does this for a
#   checkpoint of yours.
# * Figures of trained models, with their floors: :doc:`/results`.
