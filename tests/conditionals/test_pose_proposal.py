"""Where something is in a picture: looks written by hand; and ST-VAE's guide, which reads what is there."""

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_scenes import STVAE, STVAEGuide
from pyro_scenes.conditionals import PoseProposal
from pyro_scenes.conditionals.pose import LOOK_FEATURES, WIDER
from pyro_scenes.handlers import point_estimate
from pyro_scenes.render import inverse, warp

PICTURE, WINDOW, ZOOM = (2, 12, 15), (5, 4), 3.0


def pose(z_where):
    """T of z_where = (x, y): a window of a third of the canvas, its centre at (x, y)."""
    linear = ZOOM * torch.eye(2, dtype=z_where.dtype).expand(*z_where.shape[:-1], 2, 2)
    return torch.cat([linear, -ZOOM * z_where[..., None]], -1)


class Asked:
    """A pose that keeps the codes that it is asked for."""

    def __init__(self):
        self.codes = []

    def __call__(self, z_where):
        self.codes.append(z_where)
        return pose(z_where)


def normal(size):
    return dist.Normal(torch.zeros(size), torch.ones(size)).to_event(1)


def propose(**settings):
    return PoseProposal(PICTURE, WINDOW, normal(2), **{"hidden": 16, **settings})


def moments(distribution):
    return distribution.mean, distribution.stddev


def glimpse_at(picture, centre, zoom):
    """A window of the canvas, 1 / zoom of it wide and high, by interpolation between pixels."""
    rows, columns = ((2 * torch.arange(n) + 1) / n - 1 for n in WINDOW)
    y, x = torch.meshgrid(rows / zoom, columns / zoom, indexing="ij")
    grid = torch.stack([x, y], -1) + centre[:, None, None]
    return torch.nn.functional.grid_sample(picture, grid, align_corners=False)


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_looks_add_up_at_windows_wider_than_expected(looks):
    """By hand: the first look at the whole, then closer ones where the one before expects something."""
    proposal, picture, asked = propose(looks=looks), torch.rand(6, *PICTURE), Asked()
    proposed = proposal(picture, asked)
    first, offset, codes = proposal.embed(picture), torch.zeros(6, LOOK_FEATURES), []
    for _ in range(looks):
        expected = proposal.head(torch.cat([first, offset], -1))
        codes.append(expected.mean)  # a Normal's median
        offset = offset + proposal.look(glimpse_at(picture, expected.mean, ZOOM / WIDER))
    by_hand = proposal.head(torch.cat([first, offset], -1))
    torch.testing.assert_close(moments(proposed), moments(by_hand), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(asked.codes, codes, rtol=1e-4, atol=1e-5)


def test_no_closer_look_is_the_first_look_alone():
    proposal, picture, asked = propose(looks=0), torch.rand(6, *PICTURE), Asked()
    proposed = proposal(picture, asked)
    by_hand = proposal.head(proposal.embed(picture))
    torch.testing.assert_close(moments(proposed), moments(by_hand))
    assert not asked.codes and not hasattr(proposal, "look")


@pytest.mark.parametrize("looks", [-1, 1.0, True, None])
def test_a_wrong_number_of_looks_is_refused(looks, unchecked):
    with pytest.raises(ValueError, match="looks must be a whole number from 0 up"):
        propose(looks=looks)


@pytest.mark.parametrize("looks", [0, 2])
def test_each_picture_is_read_on_its_own(looks):
    proposal, pictures = propose(looks=looks), torch.rand(5, *PICTURE)
    together = moments(proposal(pictures, pose))
    for i in range(5):
        alone = moments(proposal(pictures[i : i + 1], pose))
        torch.testing.assert_close(
            [part[0] for part in alone], [part[i] for part in together], rtol=1e-4, atol=1e-5
        )


def test_gradients_reach_all_looks_and_the_picture():
    proposal, picture = propose(), torch.rand(6, *PICTURE, requires_grad=True)
    proposal(picture, pose).rsample().square().sum().backward()
    without = [n for n, p in proposal.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without and picture.grad.any()


def test_it_starts_about_the_prior_and_narrower():
    """A pose is soon known much better than by its prior, and is proposed so from the start."""
    prior = dist.Uniform(torch.tensor([-1.0, 4.0]), torch.tensor([1.0, 5.0])).to_event(1)
    proposal = PoseProposal(PICTURE, WINDOW, prior, hidden=16)
    proposed = proposal(torch.rand(50, *PICTURE), lambda z: pose(z - z.mean(0)))
    drawn = proposed.sample()
    assert prior.support.check(drawn).all()
    offset = drawn.mean(0) - torch.tensor([0.0, 4.5])
    assert (offset.abs() < torch.tensor([0.5, 0.25])).all()
    assert (drawn.std(0) < 0.5 * torch.tensor([2.0, 1.0]) / 12**0.5).all()


# ST-VAE's guide: where, and then what.


def st_vae():
    shape = (1, *PICTURE[1:])
    model = STVAE(shape, (1, *WINDOW), 4, z_where=prior_of, pose=pose)
    return model, STVAEGuide(model, hidden=16, pose_hidden=16)


def prior_of(scene):
    return dist.Normal(scene.canvas.new_zeros(len(scene.canvas), 2), 1.0).to_event(1)


def proposals(guide, images, **z):
    """Moments of q(z_where) and of q(z_what), given z_where."""
    nodes = poutine.trace(poutine.condition(guide, z)).get_trace(images).nodes
    return [moments(nodes[name]["fn"]) for name in ("z_where", "z_what")]


def test_the_guide_reads_the_window_for_the_content():
    model, guide = st_vae()
    images, z_where = torch.rand(6, *model.image_shape), 0.3 * torch.randn(6, 2)
    where, what = proposals(guide, images, z_where=z_where)
    glimpse = warp(images, inverse(pose(z_where)), guide.window)
    torch.testing.assert_close(glimpse, glimpse_at(images, z_where, ZOOM))
    torch.testing.assert_close(what, moments(guide.z_what(guide.encode(glimpse))))
    torch.testing.assert_close(where, moments(guide.z_where(images, pose)))
    assert where[0].shape == (6, 2) and what[0].shape == (6, 4)


def test_content_is_recognised_wherever_it_stands():
    """Move the image by whole pixels, and the window with it: the same content is proposed."""
    model, guide = st_vae()
    images = torch.zeros(6, *model.image_shape)
    images[..., 3:7, 4:9] = torch.rand(6, 1, 4, 5)
    moved = images.roll((3, 4), (-2, -1))
    here = torch.tensor([(2 * 6.5 / 15) - 1, (2 * 5 / 12) - 1]).expand(6, 2)
    there = here + torch.tensor([2 * 4 / 15, 2 * 3 / 12])
    where, what = proposals(guide, images, z_where=here)
    _, followed = proposals(guide, moved, z_where=there)
    torch.testing.assert_close(followed, what, rtol=1e-4, atol=1e-5)
    elsewhere, missed = proposals(guide, moved, z_where=here)
    assert (missed[0] - what[0]).abs().max() > 1e-2
    assert (elsewhere[0] - where[0]).abs().max() > 1e-3


def test_expected_poses_are_the_medians():
    """Of another support, too: the median is a point of it."""
    prior = dist.LogNormal(torch.zeros(2), torch.ones(2)).to_event(1)
    proposal = PoseProposal(PICTURE, WINDOW, prior, hidden=16, looks=1)
    picture, asked = torch.rand(6, *PICTURE), Asked()
    proposal(picture, asked)
    first = torch.cat([proposal.embed(picture), torch.zeros(6, LOOK_FEATURES)], -1)
    torch.testing.assert_close(asked.codes, [point_estimate(proposal.head(first))])
    below = (proposal.head(first).sample((4000,)) < asked.codes[0]).float().mean(0)
    torch.testing.assert_close(below, torch.full((6, 2), 0.5), rtol=0, atol=0.04)
