"""What check_guide refuses and what it lets pass: for our pairs, and for models and guides of users."""

import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule
from test_contract import PAIRS

from pyro_scenes import AIR, VAE, AIRGuide, Persist, Prior, VAEGuide, check_guide, fit
from pyro_scenes.evaluation import log_weights
from pyro_scenes.pairs import TrainingModeWarning, warn_training_mode

N, STEPS, CODE = 6, 2, 4
IMAGES = torch.rand(N, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def air(**settings):
    return AIR((1, 16, 16), (1, 8, 8), STEPS, CODE, **settings)


class Written:
    """A guide of AIR as users write them, a plain function; each argument is one fault."""

    def __init__(self, **faults):
        self.faults = faults

    def __call__(self, images):
        n, faults = len(images), self.faults
        plate = pyro.plate(faults.get("plate", "images"), n, dim=-1)
        z_pres = torch.ones(n)
        with plate:
            for t in range(faults.get("steps", STEPS)):
                z_pres = pyro.sample(f"z_pres_{t}", dist.Bernoulli(0.5 * z_pres))
                with poutine.mask(mask=faults.get("mask", lambda z: z.bool())(z_pres)):
                    pyro.sample(f"z_where_{t}", faults.get("z_where", normal)(n, 3))
                    pyro.sample(f"z_what_{t}", faults.get("z_what", normal)(n, CODE))


def normal(n, size):
    return dist.Normal(torch.zeros(n, size), 1.0).to_event(1)


def everywhere(z_pres):
    return torch.ones_like(z_pres).bool()


# What passes.


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_passes_and_is_left_as_it_was(name):
    build, guide, settings = PAIRS[name]
    model = build(**settings)
    guide = guide(model)
    batch = torch.rand(N, *model.image_shape).round()
    before = [value.clone() for part in (model, guide) for value in part.state_dict().values()]
    state = torch.get_rng_state()
    for mode in (True, False):
        check_guide(model.train(mode), guide.train(mode), batch)
        check_guide(model, config_enumerate(guide), batch[:1])
    assert torch.equal(torch.get_rng_state(), state)
    after = [value for part in (model, guide) for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_guide_written_by_hand_passes():
    check_guide(air(), Written(), IMAGES)
    check_guide(lambda images: air()(images), config_enumerate(Written()), IMAGES)


def test_masks_may_be_written_in_other_ways():
    """By dist.mask, before and after .to_event, or as a scale for each image: all mean the same."""

    def inside(images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres = torch.ones(len(images))
            for t in range(STEPS):
                z_pres = pyro.sample(f"z_pres_{t}", dist.Bernoulli(0.5 * z_pres))
                there = z_pres.bool()
                pose = dist.Normal(torch.zeros(N, 3), 1.0).mask(there[:, None]).to_event(1)
                pyro.sample(f"z_where_{t}", pose)
                with poutine.scale(scale=z_pres):
                    pyro.sample(f"z_what_{t}", normal(len(images), CODE).mask(there))

    check_guide(air(), inside, IMAGES)


def test_a_conditioned_model_with_a_blocked_guide_passes():
    model, present = air(), {"z_pres_0": torch.ones(N)}
    guide = poutine.block(poutine.condition(AIRGuide(model), data=present), hide=["z_pres_0"])
    check_guide(poutine.condition(model, data=present), guide, IMAGES)


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoDiagonalNormal])
def test_pyros_own_guides_pass(auto):
    model = VAE((1, 16, 16), CODE)
    check_guide(model, auto(model), IMAGES.round())
    assert len(list(fit(model, auto(model), [IMAGES.round()] * 2, elbo=Trace_ELBO()))) == 2


class Two(PyroModule):
    """A latent of any prior and one of any proposal, in a plate of images."""

    def __init__(self, prior, event=0, infer=None):
        super().__init__()
        self.prior, self.infer = prior, infer or {}

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", self.prior, infer=self.infer)
            pyro.sample("image", dist.Normal(torch.zeros(()), 1.0), obs=images.mean((1, 2, 3)))


def proposing(proposal):
    def guide(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", proposal)

    return guide


ONE = torch.tensor(1.0)


def test_what_the_model_sums_over_is_not_the_guides():
    def nothing(images):
        pass

    check_guide(Two(dist.Bernoulli(0.5 * ONE), infer={"enumerate": "parallel"}), nothing, IMAGES)


def regions(images, shown=True, name="pixels", obs=None):
    """A region of each pixel, of those that are shown (pixels, n): a model with obs, a guide without."""
    with pyro.plate("images", len(images), dim=-1), pyro.plate(name, 256, dim=-2):
        with poutine.mask(mask=shown):
            pyro.sample("z_region", dist.Categorical(torch.ones(256, len(images), 3)))
        if obs is not None:
            pyro.sample("image", dist.Normal(0.0, 1.0), obs=obs)


def test_pixels_in_a_plate_of_their_own_are_compared():
    pixels = IMAGES.flatten(1).T
    seen = pixels > 0.5

    def model(images):
        regions(images, seen, obs=pixels)

    check_guide(model, lambda images: regions(images, seen), IMAGES)
    with pytest.raises(ValueError, match="z_region where the model masks it out"):
        check_guide(model, regions, IMAGES)
    with pytest.raises(ValueError, match=r'z_region inside pyro.plate\("pixels", 256, dim=-2\)'):
        check_guide(model, lambda images: regions(images, seen, "cells"), IMAGES)


# What is refused.


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (
            {"mask": everywhere},
            r"z_where_0 where .* \(z_pres_0 = 0\).*poutine.mask\(mask=z_pres.bool",
        ),
        ({"mask": lambda z: (0 * z).bool()}, "guide masks z_where_0 out"),
        ({"steps": 1}, r"do not belong together.*z_pres_1.*pyro\.sample"),
        ({"steps": 3}, "do not belong together.*z_what_2"),
        ({"plate": "batch"}, r'z_pres_0 inside pyro.plate\("images", 6, dim=-1\).*put'),
        ({"z_what": lambda n, size: normal(n, size + 1)}, "z_what_0 has event shape.*new guide"),
        (
            {"z_where": lambda n, size: dist.Dirichlet(torch.ones(n, 2)).mask(False)},
            "z_where_0 has event shape",
        ),
        (
            {"z_what": lambda n, size: dist.Bernoulli(torch.ones(n, size)).to_event(1)},
            "z_what_0 has support.*new guide",
        ),
    ],
)
def test_a_fault_of_a_guide_is_named_by_the_checker_and_in_fit(faults, words):
    model, guide = air(), Written(**faults)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        check_guide(model, guide, IMAGES)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        next(fit(model, guide, [IMAGES], elbo=TraceEnum_ELBO(max_plate_nesting=1)))


def test_an_unmasked_guide_has_no_bound():
    """Where the draws of absent objects are spread without end, so does the objective rise."""
    model = air()
    wide = Written(
        mask=everywhere, z_what=lambda n, size: dist.Normal(torch.zeros(n, size), 1e6).to_event(1)
    )
    with pytest.raises(ValueError, match="no upper bound"):
        log_weights(model, wide, IMAGES, particles=20)


def test_masks_are_compared_where_a_guide_is_all_but_sure():
    """Of a prior that has nearly all objects present, absent ones are tried as well."""
    model = air(z_pres=Persist(0.9999))

    def sure(images):
        with pyro.plate("images", len(images), dim=-1):
            for t in range(STEPS):
                pyro.sample(f"z_pres_{t}", dist.Bernoulli(torch.ones(len(images)) - 1e-6))
                pyro.sample(f"z_where_{t}", normal(len(images), 3))
                pyro.sample(f"z_what_{t}", normal(len(images), CODE))

    with pytest.raises(ValueError, match="where the model masks it out"):
        check_guide(model, sure, IMAGES)


def test_a_guide_without_plates_is_refused():
    def alone(images):
        pyro.sample("z", dist.Normal(torch.zeros(len(images)), 1.0))

    with pytest.raises(
        ValueError, match='put `with pyro.plate\\("images", 6, dim=-1\\):` around it'
    ):
        check_guide(Two(dist.Normal(torch.tensor(0.0), 1.0)), alone, IMAGES)


@pytest.mark.parametrize("proposal", [dist.Normal(ONE, ONE), dist.Delta(2 * ONE)])
def test_a_point_of_the_model_is_proposed_as_that_point(proposal):
    with pytest.raises(ValueError, match="z is a point in the model.*same dist.Delta"):
        check_guide(Two(dist.Delta(ONE)), proposing(proposal), IMAGES)


def heads(event):
    """Heads of a code, and of a pose, that are no proposals of this event shape."""
    wide = dist.Normal(torch.zeros(N, event + 1), 1.0).to_event(1)
    return {
        "wide": lambda features: wide,
        "no distribution": lambda features: features[:, :event],
        "no event": lambda features: dist.Normal(torch.zeros(N, event), 1.0),
        "of torch": lambda features: torch.distributions.Normal(torch.zeros(N, event), 1.0),
    }


@pytest.mark.parametrize("head", heads(3))
@pytest.mark.parametrize(("site", "event"), [("z_what", CODE), ("z_where", 3)])
def test_a_head_that_is_no_proposal_is_named(site, event, head):
    """Where the guide fails before the model can be compared with it."""
    model = air()
    guide = AIRGuide(model, **{site: heads(event)[head]})
    with pytest.raises(ValueError, match=rf"{site}_0 .*event\s+shape \({event},\).*see .to_event"):
        check_guide(model, guide, IMAGES)


def test_other_errors_of_a_guide_stay_what_they_are():
    model = air()
    guide = AIRGuide(model, z_what=lambda features: features @ features)
    with pytest.raises(RuntimeError, match="^mat1 and mat2 shapes cannot be multiplied"):
        check_guide(model, guide, IMAGES)


def test_observed_sites_of_a_guide_are_not_counted():
    model, present = air(), {"z_pres_0": torch.ones(N)}
    guide = AIRGuide(model).eval()
    both = poutine.condition(model, data=present), poutine.condition(guide, data=present)
    for check in (check_guide, log_weights, lambda *pair: next(fit(*pair[:2], [IMAGES]))):
        for pair in (both, (model, both[1])):
            with pytest.raises(ValueError, match=r"observes z_pres_0.*hide=\['z_pres_0'\]"):
                check(*pair, IMAGES)


def test_a_guide_of_another_model_is_refused_through_wrappers_too():
    model, other = air(), air()
    guide = AIRGuide(other)
    for wrong in (model, poutine.condition(model, data={}), poutine.scale(model, 0.5)):
        for proposal in (guide, config_enumerate(guide)):
            with pytest.raises(ValueError, match="of another model"):
                check_guide(wrong, proposal, IMAGES)
    with pytest.raises(ValueError, match="of another model"):
        log_weights(model, guide.eval(), IMAGES)


def test_a_guide_of_a_part_of_the_model_passes():
    class Wrapped(PyroModule):
        def __init__(self, inner):
            super().__init__("wrapped")
            self.inner = inner

        def forward(self, images):
            return self.inner(images)

    model = air()
    check_guide(Wrapped(model), AIRGuide(model), IMAGES)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"z_where": Prior(dist.LogNormal, loc=[0.0] * 3, scale=[1.0] * 3)}, "new guide"),
        (
            {"z_where": Prior(dist.Beta, concentration1=[1.0] * 3, concentration0=[1.0] * 3)},
            "new guide",
        ),
        ({"z_what": Prior(dist.Normal, loc=[0.0], scale=[1.0])}, "cannot decode"),
        ({"z_where": Prior(dist.Normal, loc=[0.0], scale=[1.0])}, "z_where must return"),
        (
            {"z_pres": lambda scene: dist.Bernoulli(torch.full_like(scene.z_pres, 0.5))},
            "0 after a 0",
        ),
    ],
)
def test_parts_swapped_after_the_guide_was_built_are_checked(part, words):
    model = air()
    guide = AIRGuide(model)
    for name, value in part.items():
        setattr(model, name, value)
    with pytest.raises(ValueError, match=words):
        next(fit(model, guide, [IMAGES]))


def test_a_code_of_another_size_asks_for_a_new_guide():
    model = VAE((1, 16, 16), CODE)
    guide = VAEGuide(model)
    model.z_what, model.decoder = Prior(dist.Normal, loc=[0.0] * 2, scale=[1.0] * 2), lambda z: (
        torch.zeros(*z.shape[:-1], 1, 16, 16)
    )
    with pytest.raises(ValueError, match="event shape.*build a new guide"):
        check_guide(model, guide, IMAGES)


class Normed(PyroModule):
    def __init__(self):
        super().__init__("normed")
        self.norm = torch.nn.BatchNorm1d(256)

    def forward(self, images):
        features = self.norm(images.flatten(1))
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Normal(features.mean(1), 1.0))


def shared(images):
    """A function that calls a global, as functions of scripts do."""
    GLOBAL(images)


GLOBAL = AIRGuide(air())
HOLDERS = {
    "itself": lambda g: g,
    "partial": lambda g: partial(g),
    "method": lambda g: g.forward,
    "module": lambda g: torch.nn.Sequential(g),
    "lambda": lambda g: lambda images: g(images),
    "two lambdas": lambda g: HOLDERS["lambda"](HOLDERS["lambda"](poutine.scale(g, 1.0))),
    "global": lambda g: lambda images: shared(images),
}


@pytest.mark.parametrize("holder", [name for name in HOLDERS if name != "global"])
def test_running_means_are_left_as_they_were(holder):
    guide = Normed()
    check_guide(Two(dist.Normal(torch.tensor(0.0), 1.0)), HOLDERS[holder](guide), IMAGES)
    assert not guide.norm.running_mean.any() and guide.norm.num_batches_tracked == 0


def test_a_models_own_check_changes_nothing_either():
    norm = torch.nn.BatchNorm2d(1)
    decoder = torch.nn.Sequential(torch.nn.Linear(CODE, 64), torch.nn.Unflatten(1, (1, 8, 8)), norm)

    def noisy(scene):
        return dist.Normal(scene.canvas, 1 + torch.rand(())).to_event(3)

    guide = AIRGuide(air(decoder=decoder, image=noisy))
    before, state = [value.clone() for value in norm.buffers()], torch.get_rng_state()
    check_guide(guide.model, guide, IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(before, norm.buffers(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("holder", [name for name in HOLDERS if name != "module"])
def test_training_mode_is_seen_in_what_holds_a_module(holder):
    program = HOLDERS[holder](GLOBAL)
    with pytest.warns(TrainingModeWarning, match="^AIRGuide in training mode"):
        warn_training_mode(program, program)
    GLOBAL.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_training_mode(program)
    GLOBAL.train()


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_guide_of_another_model_is_seen_in_what_holds_it(holder):
    guide, model = HOLDERS[holder](GLOBAL), air()
    for wrong in (model, HOLDERS["lambda"](model)):
        for check in (check_guide, log_weights, lambda *pair: next(fit(*pair[:2], [IMAGES]))):
            with pytest.raises(ValueError, match="of another model"):
                check(wrong, guide, IMAGES)
    for right in (GLOBAL.model, HOLDERS["lambda"](GLOBAL.model)):
        check_guide(right, guide, IMAGES)


def test_a_scaled_guide_has_no_bound():
    def scaled(images):
        with poutine.scale(scale=100.0):
            Written()(images)

    with pytest.raises(ValueError, match="scale both alike"):
        check_guide(air(), scaled, torch.rand(N, 1, 16, 16))


def test_a_point_outside_the_prior_is_refused():
    model = air(z_where=Prior(dist.Exponential, rate=[1.0] * 3))
    outside = Written(z_where=lambda n, size: dist.Delta(-torch.ones(n, size), event_dim=1))
    with pytest.raises(ValueError, match="outside the support"):
        check_guide(model, outside, torch.rand(N, 1, 16, 16))


def warned_of(likelihood, images, name="image"):
    """What is warned of where images have a likelihood given the canvas, which is grey."""

    def model(images):
        with pyro.plate("images", len(images), dim=-1):
            pyro.sample("z", dist.Normal(ONE, 1.0))
            pyro.factor("known", ONE)
            pyro.sample(name, likelihood(0.5 * torch.ones_like(images)), obs=images)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_guide(model, proposing(dist.Normal(ONE, 1.0)), images)
    return [str(warning.message) for warning in caught]


def bernoulli(canvas):
    return dist.Bernoulli(canvas).to_event(3)


def test_grey_images_of_a_bernoulli_are_warned_of():
    (words,) = warned_of(bernoulli, IMAGES)
    assert "log density is not defined: round the images" in words
    (words,) = warned_of(bernoulli, IMAGES, "depth")
    assert words.startswith("depth has values") and words.endswith("is not defined")


class Unsaid(dist.TorchDistribution):
    """A user's likelihood without a support."""

    arg_constraints = {}

    def __init__(self, canvas):
        super().__init__(canvas.shape[:1], canvas.shape[1:], validate_args=False)

    def log_prob(self, value):
        return -value.square().sum((1, 2, 3))


@pytest.mark.parametrize(
    ("likelihood", "images"),
    [
        (bernoulli, IMAGES.round()),
        (lambda canvas: dist.ContinuousBernoulli(canvas).to_event(3), IMAGES),
        (lambda canvas: dist.Beta(canvas, canvas).to_event(3), IMAGES.round()),
        (lambda canvas: dist.Delta(IMAGES, event_dim=3), IMAGES),
        (lambda canvas: bernoulli(canvas).mask(False), IMAGES),
        (lambda canvas: dist.Bernoulli(canvas).mask(IMAGES == 0).to_event(3), IMAGES),
        (Unsaid, IMAGES),
    ],
)
def test_other_images_are_not_warned_of(likelihood, images):
    assert not warned_of(likelihood, images)
