"""ST-VAE and CST-VAE: their bounds and their guides written by hand, layers in order, parts swapped."""

from itertools import repeat

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_scenes import (
    CSTVAE,
    STVAE,
    CSTVAEGuide,
    Pixels,
    Prior,
    STVAEGuide,
    adam,
    fit,
)
from pyro_scenes.networks import FreePoseDecoder, GlimpseDecoder
from pyro_scenes.render import place

from .conftest import gradients, joint_of, placed, same, seeded, values

IMAGE, WINDOW, CODE = (1, 12, 15), (1, 7, 6), 3
COLOUR = {"image_shape": (3, 12, 15), "window": (3, 7, 6)}
IMAGES = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0)).round()


def layered(layers=2, **swaps):
    return CSTVAE(
        **{"image_shape": IMAGE, "window": WINDOW, "code": CODE, "layers": layers, **swaps}
    )


def pair(layers=2, guide=None, **swaps):
    model = layered(layers, **swaps)
    return model, CSTVAEGuide(model, hidden=16, **(guide or {}))


def images_of(model, n=5):
    return torch.rand(n, *model.image_shape).round()


def solid(size=3, opacity=1.0):
    """A decoder of one flat colour, the first numbers of the code, with an opacity."""

    def decode(z_what):
        colour = torch.sigmoid(z_what[:, :size])
        whole = torch.cat([colour, torch.full_like(colour[:, :1], opacity)], -1)
        return whole[..., None, None].expand(-1, -1, 7, 6)

    return decode


def filling(z_where):
    """A pose whose window covers the canvas and more, whatever is drawn."""
    return 0.5 * torch.eye(2, 3).to(z_where).expand(len(z_where), 2, 3) + 0.0 * z_where.sum()


def similarity(z_where):
    """T of the pose (scale, x, y), as AIR has it."""
    scale, x, y = z_where.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([scale, zero, x, zero, scale, y], -1).unflatten(-1, (2, 3))


def similarity_in_the_middle(z_where):
    return similarity(torch.tensor([2.0, 0.1, 0.2]).expand(len(z_where), 3))


# The bound.


def by_hand(model, guide, images, analytic=False):
    """KL of each latent, at one draw or in closed form, minus log p(image | z), all from formulas."""
    proposed = seeded(guide, images)
    canvas, scope, loss = torch.zeros_like(images), 1.0, 0.0
    for i in range(model.layers):
        where, what = (proposed.nodes[f"{name}_{i}"] for name in ("z_where", "z_what"))
        for site in (where, what):
            mean, scale, value = site["fn"].mean, site["fn"].stddev, site["value"]
            if analytic:
                kl = 0.5 * (scale.square() + mean.square() - 1) - scale.log()
            else:
                kl = dist.Normal(mean, scale).log_prob(value) - dist.Normal(0, 1).log_prob(value)
            loss = loss + kl.sum()
        picture = model.decoder(what["value"])
        drawn = placed(model, picture, model.pose(where["value"]))
        canvas, scope = canvas + scope * drawn, scope * (1 - drawn)
    probs = 1e-3 + (1 - 2e-3) * canvas
    return loss - (images * probs.log() + (1 - images) * torch.log1p(-probs)).sum()


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO()])
def test_the_loss_is_the_bound_written_by_hand(layers, elbo, centred):
    model, guide = pair(layers, centred=centred)
    assert len(model.latents()) == 2 * layers
    expected = by_hand(model, guide, IMAGES, isinstance(elbo, TraceMeanField_ELBO))
    expected.backward()
    written = gradients(model, guide)
    torch.manual_seed(3)
    assert elbo.loss_and_grads(model, guide, IMAGES) == pytest.approx(expected.item(), rel=1e-5)
    same(gradients(model, guide), written)


def test_both_kinds_of_kl_agree_in_the_mean():
    model, guide = pair()
    differences = []
    with torch.no_grad():
        images = IMAGES.repeat(4, 1, 1, 1)  # each seed draws four times
        for seed in range(10):
            losses = []
            for elbo in (Trace_ELBO(), TraceMeanField_ELBO()):
                torch.manual_seed(seed)
                losses.append(elbo.loss(model, guide, images))
            differences.append(losses[0] - losses[1])
    differences = torch.tensor(differences)
    assert differences.std() > 0
    assert differences.mean().abs() < 4 * differences.std() / len(differences) ** 0.5


# Layers.


DECODERS = {
    "grey": {},
    "grey with opacity": {"decoder": GlimpseDecoder(CODE, (2, 7, 6))},
    "colour": COLOUR,
    "colour without opacity": {**COLOUR, "decoder": GlimpseDecoder(CODE, (3, 7, 6))},
}


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("name", DECODERS)
def test_the_canvas_is_its_layers_the_front_one_first(name, layers):
    model = layered(layers, **DECODERS[name])
    nodes = poutine.trace(model).get_trace(size=6).nodes
    drawn, masks, canvas = (nodes[site]["value"] for site in ("layers", "masks", "canvas"))
    channels = model.image_shape[0]
    assert drawn.shape == (6, layers, *model.image_shape)
    one_mask = channels == 1 or "without" not in name
    assert masks.shape == (6, layers, 1 if one_mask else channels, *IMAGE[1:])
    expected = torch.zeros_like(canvas)
    for i in reversed(range(layers)):  # painted from the back, as a painter does
        expected = drawn[:, i] + (1 - masks[:, i]) * expected
    torch.testing.assert_close(canvas, expected)
    assert canvas.min() >= 0 and canvas.max() <= 1 + 1e-6
    assert (drawn <= masks + 1e-6).all()
    torch.testing.assert_close(nodes["image"]["fn"].base_dist.probs, canvas, rtol=0, atol=2e-3)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_a_layer_is_its_decoded_picture_where_its_pose_says(name, centred):
    model = layered(2, **DECODERS[name], centred=centred)
    nodes = poutine.trace(model).get_trace(size=6).nodes
    channels = model.image_shape[0]
    for i in range(2):
        picture = model.decoder(nodes[f"z_what_{i}"]["value"])
        transform = model.pose(nodes[f"z_where_{i}"]["value"])
        torch.testing.assert_close(nodes["transforms"]["value"][:, i], transform)
        colour, mask = picture[:, :channels], picture[:, channels:]
        if picture.shape[1] == channels:
            mask = colour
        else:
            colour = colour * mask
        torch.testing.assert_close(
            nodes["layers"]["value"][:, i], placed(model, colour, transform, mask)
        )
        torch.testing.assert_close(nodes["masks"]["value"][:, i], placed(model, mask, transform))


def test_where_a_centred_picture_is_drawn_in_its_window_does_not_matter():
    """Move the ink within the window, and the canvas stays; uncentred, the canvas moves with it."""

    def corner(column):
        ink = torch.zeros(1, 7, 6)
        ink[:, 2:4, column : column + 2] = 1
        return lambda z_what: ink.expand(len(z_what), 1, 7, 6)

    for centred in (True, False):
        found = []
        for column in (1, 3):
            model = layered(
                1, decoder=corner(column), pose=similarity_in_the_middle, centred=centred
            )
            found.append(seeded(model, size=3).nodes["canvas"]["value"])
        assert found[0].sum() > 1
        assert ((found[0] - found[1]).abs().max() < 1e-3) == centred


def test_an_st_vae_records_its_one_layer():
    nodes = poutine.trace(STVAE(**COLOUR, code=CODE)).get_trace(size=6).nodes
    layers, masks, canvas = (nodes[site]["value"] for site in ("layers", "masks", "canvas"))
    assert layers.shape == (6, 1, 3, 12, 15) and masks.shape == (6, 1, 1, 12, 15)
    torch.testing.assert_close(canvas, layers[:, 0])


def test_the_default_has_opacity_in_colour_alone():
    assert layered().decoder(torch.zeros(1, CODE)).shape[1] == 1
    assert layered(**COLOUR).decoder(torch.zeros(1, CODE)).shape[1] == 4


def test_the_front_layer_hides_the_back_one():
    model = layered(2, **COLOUR, decoder=solid(), pose=filling)
    nodes = poutine.trace(model).get_trace(size=6).nodes
    front = torch.sigmoid(nodes["z_what_0"]["value"])[..., None, None]
    torch.testing.assert_close(nodes["canvas"]["value"], front.expand(-1, -1, 12, 15))
    assert (nodes["layers"]["value"][:, 1] - front).abs().max() > 0.1  # complete, though hidden


def test_half_opaque_layers_mix():
    model = layered(2, **COLOUR, decoder=solid(opacity=0.25), pose=filling)
    nodes = poutine.trace(model).get_trace(size=6).nodes
    front, back = (torch.sigmoid(nodes[f"z_what_{i}"]["value"])[..., None, None] for i in (0, 1))
    expected = 0.25 * front + 0.75 * 0.25 * back
    torch.testing.assert_close(nodes["canvas"]["value"], expected.expand(-1, -1, 12, 15))


def test_what_lies_behind_never_changes_what_is_seen_of_the_front():
    def disc(z_what):
        """A colour, quite opaque in the left half of the window and quite clear in the right."""
        colour = torch.sigmoid(z_what)[..., None, None].expand(-1, -1, 7, 6)
        left = (torch.arange(6) < 3).float().expand(len(z_what), 1, 7, 6)
        return torch.cat([colour, left], 1)

    model = layered(2, **COLOUR, decoder=disc)
    drawn = poutine.trace(model).get_trace(size=8)
    front = {name: drawn.nodes[name]["value"] for name in ("z_where_0", "z_what_0")}
    again = poutine.trace(poutine.condition(model, data=front)).get_trace(size=8)
    hidden = (drawn.nodes["masks"]["value"][:, 0] > 1 - 1e-6).expand(-1, 3, -1, -1)
    canvases = [trace.nodes["canvas"]["value"] for trace in (drawn, again)]
    assert hidden.any() and (~hidden).any()
    torch.testing.assert_close(canvases[0][hidden], canvases[1][hidden])
    torch.testing.assert_close(
        drawn.nodes["layers"]["value"][:, 0], again.nodes["layers"]["value"][:, 0]
    )
    assert (canvases[0] - canvases[1]).abs().max() > 0.01


def test_grey_layers_as_opaque_as_bright_have_no_order():
    model = layered(2)
    drawn = poutine.trace(model).get_trace(size=6)
    swapped = {f"{name}_{i}": drawn.nodes[f"{name}_{1 - i}"]["value"]
               for name in ("z_where", "z_what") for i in (0, 1)}  # fmt: skip
    images = drawn.nodes["image"]["value"]
    found = [
        poutine.trace(poutine.condition(model, data=data)).get_trace(images)
        for data in (values(drawn), swapped)
    ]
    torch.testing.assert_close(*(trace.nodes["canvas"]["value"] for trace in found))
    torch.testing.assert_close(*(trace.log_prob_sum() for trace in found))


# Swaps.


def test_a_gaussian_likelihood():
    model, guide = pair(2, **COLOUR, image=Pixels(dist.Normal, scale=0.1))
    images = torch.rand(5, *model.image_shape)
    joint = joint_of(model, seeded(guide, images), images)
    joint.compute_log_prob()
    canvas = joint.nodes["canvas"]["value"]
    expected = dist.Normal(canvas, 0.1).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(joint.nodes["image"]["log_prob"], expected)
    assert len(list(fit(model, guide, repeat(images, 2)))) == 2


def test_another_prior_of_the_content():
    swapped = Prior(dist.Laplace, loc=[2.0] * CODE, scale=[0.1] * CODE)
    model, guide = pair(2, z_what=swapped)
    proposed = seeded(guide, IMAGES.repeat(10, 1, 1, 1))
    assert (proposed.nodes["z_what_0"]["value"].mean(0) - 2).abs().max() < 1
    joint = joint_of(model, seeded(guide, IMAGES), IMAGES)
    joint.compute_log_prob()
    for i in (0, 1):
        site = joint.nodes[f"z_what_{i}"]
        expected = dist.Laplace(2.0, 0.1).log_prob(site["value"]).sum(-1)
        torch.testing.assert_close(site["log_prob"], expected)
    assert len(list(fit(model, guide, repeat(IMAGES, 2)))) == 2


BOUNDED = dist.Uniform(torch.tensor([1.5, -1.0, -1.0]), torch.tensor([3.0, 1.0, 1.0])).to_event(1)


@pytest.mark.parametrize("kind", [STVAE, CSTVAE])
def test_the_pose_of_air_within_bounds(kind):
    """z_where of three numbers, of bounded support, with the pose (scale, x, y) of its own."""
    swaps = {"z_where": lambda scene: BOUNDED, "pose": similarity, "centred": False}
    model = kind(IMAGE, WINDOW, code=CODE, **swaps)
    guide = {STVAE: STVAEGuide, CSTVAE: CSTVAEGuide}[kind](model, hidden=16)
    proposed = seeded(guide, IMAGES.repeat(20, 1, 1, 1))
    poses = [value for name, value in values(proposed).items() if "where" in name]
    assert poses and all(BOUNDED.support.check(value).all() for value in poses)
    nodes = poutine.trace(model).get_trace(size=6).nodes
    suffix = "" if kind is STVAE else "_0"
    pose, code = (nodes[name + suffix]["value"] for name in ("z_where", "z_what"))
    expected = place(model.decoder(code), pose, IMAGE)
    torch.testing.assert_close(nodes["layers"]["value"][:, 0], expected, rtol=0, atol=1e-4)
    assert all(0 < r.norm for r in fit(model, guide, repeat(IMAGES, 3)))


def test_a_conditional_is_given_the_layers_before():
    seen = []

    def z_what(scene):
        seen.append(scene)
        return dist.Normal(torch.zeros(CODE), 1.0).to_event(1)

    model = layered(3, z_what=z_what)
    nodes = poutine.trace(model).get_trace(size=4).nodes
    assert [scene.layer for scene in seen] == [0, 1, 2]
    assert not seen[0].canvas.any() and (seen[0].scope == 1).all() and seen[0].z_what is None
    for i in (1, 2):
        assert torch.equal(seen[i].z_what, nodes[f"z_what_{i - 1}"]["value"])
        assert torch.equal(seen[i].z_where, nodes[f"z_where_{i - 1}"]["value"])
        left = (1 - nodes["masks"]["value"][:, :i]).prod(1)
        torch.testing.assert_close(seen[i].scope, left)
        torch.testing.assert_close(seen[i].canvas, 1 - left)  # grey: as opaque as bright


def test_the_papers_choices_train():
    """Any affine map, a canonical image of the image's own size, one sweep, one look."""
    model, guide = pair(
        2, window=IMAGE, pose=FreePoseDecoder(), guide={"sweeps": 1, "looks": 0, "explained": False}
    )
    assert all(0 < r.norm < float("inf") for r in fit(model, guide, repeat(IMAGES, 3)))


@pytest.mark.parametrize("kind", [STVAE, CSTVAE])
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"pose": lambda z: z}, r"pose must make \(n, 2, 3\) of n codes, got \(1, 6\)"),
        ({"pose": lambda z: torch.zeros(len(z), 3, 2)}, "pose must make"),
        ({"pose": nn.Linear(5, 6)}, "pose cannot decode"),
        ({"z_where": lambda s: dist.Normal(torch.zeros(3), 1).to_event(1)}, "pose cannot decode"),
        ({"decoder": nn.Linear(CODE, 42)}, r"decoder must make \(n, 1, 7, 6\) or \(n, 2, 7, 6\)"),
        ({"decoder": GlimpseDecoder(CODE, (1, 6, 7))}, "decoder must make"),
        ({"decoder": GlimpseDecoder(CODE, (3, 7, 6))}, "decoder must make"),
        ({"decoder": GlimpseDecoder(CODE + 1, WINDOW)}, "decoder cannot decode"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(9), 1).to_event(1)}, "decoder cannot decode"),
        ({"z_what": lambda s: dist.Normal(torch.zeros(CODE), 1)}, "z_what must return"),
        ({"z_where": dist.Normal(0.0, 1.0)}, "z_where must be a function"),
        ({"image": lambda s: dist.Normal(s.canvas, 0.1)}, "image must return"),
        ({"window": (3, 7, 6)}, "window"),
        ({"window": (7, 6)}, "window"),
        ({"window": 7}, "window|checking parameter"),
        ({"code": 0}, "code"),
        ({"image_shape": (12, 15)}, "image_shape"),
    ],
)
def test_a_wrong_part_is_named(kind, settings, error):
    guide = {STVAE: STVAEGuide, CSTVAE: CSTVAEGuide}[kind]
    with pytest.raises((ValueError, TypeError), match=error):
        guide(kind(**{"image_shape": IMAGE, "window": WINDOW, "code": CODE, **settings}))


@pytest.mark.parametrize("settings", [{"layers": 0}, {"layers": 1.5}])
def test_a_wrong_number_of_layers_is_refused(settings):
    with pytest.raises((ValueError, TypeError), match="layers"):
        CSTVAE(IMAGE, WINDOW, **settings)


def test_a_wrong_number_of_sweeps_is_refused():
    with pytest.raises(ValueError, match="sweeps"):
        CSTVAEGuide(layered(), sweeps=0)


@pytest.mark.parametrize("kind", [STVAE, CSTVAE])
def test_a_guide_takes_a_model_of_double_precision(kind):
    model = kind(IMAGE, WINDOW, code=CODE).double()
    guide = {STVAE: STVAEGuide, CSTVAE: CSTVAEGuide}[kind](model, hidden=16)
    assert all(value.dtype == torch.float64 for value in guide.parameters())
    images = IMAGES.double()
    assert all(value.dtype == torch.float64 for value in values(seeded(guide, images)).values())
    assert len(list(fit(model, guide, repeat(images, 2)))) == 2


@pytest.mark.parametrize("kind", [STVAE, CSTVAE])
def test_it_learns_to_explain_bars(kind):
    """Reconstructions come to be nearer to their image than to any other."""
    model = kind(IMAGE, WINDOW, code=CODE)
    guide = {STVAE: STVAEGuide, CSTVAE: CSTVAEGuide}[kind](model, hidden=32)
    images = torch.zeros(8, *IMAGE)
    for i in range(8):
        images[i, 0, 2 + i // 4 * 4 : 5 + i // 4 * 4, 1 + 3 * (i % 4) : 5 + 3 * (i % 4)] = 1
    optim = adam(model, guide, lr=5e-3)
    records = fit(model, guide, repeat(images, 70), elbo=TraceMeanField_ELBO(), optim=optim)
    losses = [record.loss for record in records]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    with torch.no_grad():
        proposed = poutine.trace(guide).get_trace(images)
        canvas = joint_of(model, proposed, images).nodes["canvas"]["value"]
    distance = (canvas[:, None] - images).square().flatten(2).sum(-1)
    assert (distance.argmin(1) == torch.arange(8)).float().mean() > 0.6
