"""
1. Run: find objects in images
==============================

A trained model and its guide are one line away. The **model** says how an
image comes about: how many objects, where, what they look like. The **guide**
goes the other way, from an image to its objects.
"""

import pyro
import torch

from pyro_scenes import evaluation, load_pretrained, viz
from pyro_scenes.data import digits, multi_digits

pyro.set_rng_seed(0)
model, guide = load_pretrained("air")
scenes = multi_digits(digits().test, 500, seed=1)  # 0, 1 or 2 digits
images = scenes.floats()  # (500, 1, 50, 50) in [0, 1]

with torch.no_grad():
    found = evaluation.interpret(model, guide, images[:12])
figure = viz.counted(
    images[:12], found.boxes, found.counts, scenes.counts[:12]
)
figure.savefig("found.png")

# %%
# ``digits()`` are drawn by a built-in pen, so nothing is downloaded, and the
# test digits are not those of the training. Nobody labelled anything: AIR
# learned from images alone what an object is. Windows are where the guide
# looked; ``found.canvas`` is the image as the model redraws it.
#
# How well, and how sure?
# -----------------------
#
# Every figure comes with its floor: here, the share of right counts if each
# image were given the commonest count.

with torch.no_grad():
    counting = evaluation.counting(guide, images, scenes.counts)
    probabilities = evaluation.count_probabilities(guide, images[:3])
print("right counts:", counting.count_accuracy)
print("floor:       ", counting.count_accuracy_floor)
print(probabilities.round(decimals=3))  # of 0, 1, 2 and 3 objects

# %%
# Bounds on ``log p(image)`` are in nats per image. ``iwae``, the
# importance-weighted one, is tighter.

with torch.no_grad():
    weights = evaluation.log_weights(model, guide, images[:100], particles=20)
bounds = evaluation.estimate(weights)
print(f"ELBO    {bounds.elbo:.1f} +- {bounds.elbo_error:.1f}")
print(f"IWAE-20 {bounds.iwae:.1f} +- {bounds.iwae_error:.1f}")

# %%
# Take overlapping digits apart
# -----------------------------
#
# CST-VAE explains an image as layers. Each is a whole digit, with the parts
# that the other one hides.

from pyro_scenes.data import layered_digits

model, guide = load_pretrained("cst_vae")
pairs = layered_digits(digits().test, 6, seed=3).floats()
layers = evaluation.see_layers(model, guide, pairs)
viz.taken_apart(pairs, layers).savefig("layers.png")

# %%
# Take coloured shapes apart, and paint new ones
# ----------------------------------------------
#
# In ECON every expert learns one class of objects. So a scene can be taken
# apart object by object, front to back, hidden parts included.

from pyro_scenes.data import coloured_shapes

model, guide = load_pretrained("econ")
shapes = coloured_shapes(6, colours="random", seed=1).floats()
scene = evaluation.decompose(model, guide, shapes)
viz.layer_by_layer(shapes, scene, index=0).savefig("shapes.png")

# %%
# And a scene can be requested, front first; expert 3 paints the background.

with torch.no_grad():
    requested = {
        f"experts {experts}": evaluation.paint(model, [*experts, 3], 6).images
        for experts in ([0, 1], [1, 0], [2, 2, 2])
    }
viz.pictures(requested).savefig("requested.png")

# %%
# Train
# -----
#
# ``fit`` is a generator: it takes one step for each batch and hands control
# back, so printing, stopping and evaluating are your loop. Here training goes
# on from the shipped weights for 20 steps; from nothing AIR needs some 2,000.
# So the bound hardly changes: what is printed is the spread between batches.

from itertools import islice

from pyro.infer import TraceEnum_ELBO

from pyro_scenes import adam, fit
from pyro_scenes.data import batches

model, guide = load_pretrained("air")
model.train(), guide.train()
train = multi_digits(digits().train, 2_000)
stream = islice(batches(train.images, 64), 20)
elbo = TraceEnum_ELBO(max_plate_nesting=1)  # sums over the count, exactly
optim = adam(model, guide, lr=1e-4)
for record in fit(model, guide, stream, elbo=elbo, optim=optim):
    if record.step % 5 == 0:
        print(record.step, "ELBO per image:", round(-record.loss, 1))
model.eval(), guide.eval()  # evaluate in evaluation mode: see below

# %%
# The ELBO above is that of the training mode, in which the guide is never
# quite sure whether there is an object: some 10 nats lower than in evaluation
# mode. Who evaluates in training mode is warned.
#
# Where to go
# -----------
#
# * Whole trainings, with checkpoints, curves and numbers, are one command
#   each: :doc:`/gallery`.
# * Your own images, going on after a stop, what to do when it does not train:
#   :doc:`/train`.
# * Change a part: :doc:`2_swap`. Ask what the model gets wrong:
#   :doc:`3_criticise`.
