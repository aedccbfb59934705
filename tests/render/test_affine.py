"""The affine transformer: what `place` and `glance` do, for any map, and what holds for all maps."""

from math import cos, pi, sin

import pytest
import torch

from pyro_scenes.render import box, centre, centroid, glance, inverse, place, warp
from pyro_scenes.render.affine import MIN_DETERMINANT

CANVAS = (1, 24, 36)


def pose_matrix(pose):
    """T of a pose (scale, x, y): rows (scale, 0, x) and (0, scale, y)."""
    scale, x, y = pose.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([scale, zero, x, zero, scale, y], -1).unflatten(-1, (2, 3))


def random_maps(*batch, shift=0.5):
    """Turned, sheared, of different scales along x and y: determinants from 1.2 to 7, of either sign."""
    turn = pi * (2 * torch.rand(*batch) - 1)
    rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], -1)
    across, down = 1.1 + 1.5 * torch.rand(2, *batch)
    shear = torch.rand(*batch) - 0.5
    zero = torch.zeros(*batch)
    stretch = torch.stack([across, shear, zero, down * torch.randn(*batch).sign()], -1)
    linear = stretch.unflatten(-1, (2, 2)) @ rotation.unflatten(-1, (2, 2))
    return torch.cat([linear, shift * (2 * torch.rand(*batch, 2, 1) - 1)], -1)


def square(transform):
    """As a matrix (3, 3) of homogeneous coordinates."""
    last = transform.new_tensor([0.0, 0.0, 1.0]).expand(*transform.shape[:-2], 1, 3)
    return torch.cat([transform, last], -2)


def blob(height, width):
    return torch.outer(torch.hann_window(height, False), torch.hann_window(width, False))


def test_a_pose_is_the_map_of_its_rows():
    pose = torch.cat([1.2 + 2 * torch.rand(6, 1), 2 * torch.rand(6, 2) - 1], -1)
    glimpse, picture = torch.rand(6, 2, 7, 9), torch.rand(6, 2, 24, 36)
    transform = pose_matrix(pose)
    placed = warp(glimpse, transform, CANVAS)
    torch.testing.assert_close(placed, place(glimpse, pose, CANVAS), rtol=0, atol=1e-5)
    read = warp(picture, inverse(transform), (2, 7, 9))
    torch.testing.assert_close(read, glance(picture, pose, (2, 7, 9)), rtol=0, atol=1e-5)
    middle = box(pose, CANVAS).unflatten(-1, (2, 2)).mean(-2)
    torch.testing.assert_close(centre(transform, CANVAS), middle)


def test_the_identity_changes_nothing():
    picture = torch.rand(2, 3, 9, 11)
    torch.testing.assert_close(warp(picture, torch.eye(2, 3)[None], (3, 9, 11)), picture)


@pytest.mark.parametrize("mirrored", [False, True])
def test_rows_and_columns_are_not_swapped(mirrored):
    """A pixel of a wide picture lands in the row and the column of a tall one that T names."""
    picture = torch.zeros(1, 1, 4, 10)
    picture[..., 0, 8] = 1  # the top row, far on the right
    side = -1.0 if mirrored else 1.0
    transform = torch.tensor([[[side, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    found = warp(picture, transform, (1, 12, 5))[0, 0]
    row, column = divmod(found.argmax().item(), 5)
    assert found.shape == (12, 5) and row in (0, 1) and column == (0 if mirrored else 4)


def test_a_quarter_turn_turns_clockwise():
    """The convention: rows (cos, sin) and (-sin, cos), y being down, turn the picture clockwise."""
    picture = torch.rand(2, 3, 5, 8)
    for quarters in (1, 2, 3):
        a, b = cos(quarters * pi / 2), sin(quarters * pi / 2)
        transform = torch.tensor([[[a, b, 0.0], [-b, a, 0.0]]])
        expected = torch.rot90(picture, -quarters, (-2, -1))  # rot90 is anticlockwise
        found = warp(picture, transform, expected.shape[1:])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_inverse_of_the_inverse_and_the_composition():
    transform = random_maps(4, 25)
    back = inverse(transform)
    torch.testing.assert_close(inverse(back), transform, rtol=1e-4, atol=1e-4)
    whole = torch.eye(3).expand(4, 25, 3, 3)
    for product in (square(back) @ square(transform), square(transform) @ square(back)):
        torch.testing.assert_close(product, whole, rtol=0, atol=1e-5)


SINGULAR = {
    "zero": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "zero, shifted": [[0.0, 0.0, 0.4], [0.0, 0.0, -3.0]],
    "rank one": [[1.0, 2.0, 0.3], [2.0, 4.0, -0.3]],
    "one row": [[0.0, 0.0, 0.3], [2.0, 4.0, -0.3]],
    "tiny": [[1e-20, 0.0, 0.3], [0.0, 1e-20, 0.2]],
    "just below": [[1e-2, 0.0, 0.3], [0.0, -0.99e-1, 0.2]],
    "huge": [[1e8, 0.0, 1e8], [0.0, 1e8, 0.2]],
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_map_has_a_finite_inverse_with_finite_gradients(name):
    transform = torch.tensor([SINGULAR[name]], requires_grad=True)
    picture = torch.rand(1, 1, 6, 9, requires_grad=True)
    back = inverse(transform)
    (warp(picture, back, (1, 5, 4)).square().sum() + back.square().sum()).backward()
    assert back.isfinite().all() and transform.grad.isfinite().all()
    assert picture.grad.isfinite().all() and centre(transform, CANVAS).isfinite().all()


def test_the_guard_keeps_the_sign_of_the_determinant_and_is_continuous():
    shrink = torch.linspace(0.2, 2.0, 19)[:, None, None] * MIN_DETERMINANT**0.5
    for sign in (1.0, -1.0):
        transform = torch.tensor([[1.0, 0.2, 0.0], [0.1, sign, 0.0]]) * shrink
        back = inverse(transform)[..., :2]
        assert (torch.linalg.det(back).sign() == sign).all()
        assert (torch.linalg.det(transform[..., :2]).sign() == sign).all()
        guarded = transform[..., :2].det().abs() < MIN_DETERMINANT
        assert guarded.any() and not guarded.all()
        exact = torch.linalg.inv(transform[..., :2])
        torch.testing.assert_close(back[~guarded], exact[~guarded], rtol=1e-4, atol=1e-4)
        assert (back[guarded].abs() < exact[guarded].abs()).all()
        assert back.diff(dim=0).abs().max() < 0.25 * back.abs().max()


def test_what_was_placed_is_read_back():
    picture = blob(18, 26).expand(10, 1, 18, 26)
    transform = random_maps(10, shift=0.2)
    transform[:, :, :2] *= 1.4  # all of it stands on the canvas, but for corners, which are dark
    back = warp(warp(picture, transform, (1, 120, 160)), inverse(transform), (1, 18, 26))
    torch.testing.assert_close(back, picture, rtol=0, atol=0.06)


def test_centre_is_where_the_ink_is():
    height, width = 40, 64
    transform = random_maps(20, shift=0.25)
    transform[:, :, :2] *= 1.5
    ink = warp(blob(16, 22).expand(20, 1, 16, 22), transform, (1, height, width))[:, 0]
    share = ink / ink.sum((1, 2), keepdim=True)
    x = (share.sum(1) * (torch.arange(width) + 0.5)).sum(1)
    y = (share.sum(2) * (torch.arange(height) + 0.5)).sum(1)
    found = centre(transform, (1, height, width))
    torch.testing.assert_close(found, torch.stack([x, y], -1), rtol=0, atol=0.1)


def test_any_leading_dimensions():
    picture, transform = torch.rand(4, 3, 2, 5, 7), random_maps(4, 3)
    whole = warp(picture, transform, CANVAS)
    assert whole.shape == (4, 3, 2, 24, 36)
    torch.testing.assert_close(whole[2], warp(picture[2], transform[2], CANVAS))
    assert inverse(transform).shape == (4, 3, 2, 3) and centre(transform, CANVAS).shape == (4, 3, 2)


def test_pictures_and_maps_broadcast():
    one, many = torch.rand(1, 2, 5, 7), random_maps(4, 3)
    shared = warp(one, many, CANVAS)
    assert shared.shape == (4, 3, 2, 24, 36)
    torch.testing.assert_close(shared[2], warp(one.expand(3, -1, -1, -1), many[2], CANVAS))
    pictures, same = torch.rand(4, 3, 2, 5, 7), random_maps(3)
    torch.testing.assert_close(
        warp(pictures, same, CANVAS)[1], warp(pictures[1], same, CANVAS), rtol=0, atol=1e-6
    )
    alone = warp(pictures, random_maps(1)[0], CANVAS)  # a map of no batch
    assert alone.shape == (4, 3, 2, 24, 36)


def test_a_picture_and_a_map_of_no_batch():
    """As `place` takes them."""
    picture, transform = torch.rand(2, 5, 7), random_maps(1)[0]
    found = warp(picture, transform, CANVAS)
    torch.testing.assert_close(found, warp(picture[None], transform[None], CANVAS)[0])


def test_beyond_its_edge_a_picture_is_zero():
    far = torch.tensor([[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]])
    assert not warp(torch.ones(1, 1, 5, 7), far, CANVAS).any()
    assert warp(torch.ones(1, 1, 5, 7), 3 * torch.eye(2, 3)[None], CANVAS).mean() < 0.2


def test_gradients_are_right():
    # Away from the grid's own pixels, where bilinear sampling has kinks.
    transform = (random_maps(2).double() + 0.0137).requires_grad_()
    picture = torch.rand(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    sample = torch.autograd.gradcheck(lambda g, t: warp(g, t, (1, 6, 7)), (picture, transform))
    assert sample and torch.autograd.gradcheck(inverse, (transform,))


def test_the_centroid_is_the_centre_of_mass():
    """In the picture's coordinates, from -1 to 1; of no ink, the middle; brightness does not matter."""
    pictures = torch.zeros(3, 2, 6, 9)
    pictures[0, 1, 4, 7], pictures[1, :, 1, 2:4] = 0.7, 1
    pixels = torch.tensor([[7.5, 4.5], [3.0, 1.5], [4.5, 3.0]])
    expected = 2 * pixels / torch.tensor([9.0, 6.0]) - 1
    torch.testing.assert_close(centroid(pictures), expected, rtol=0, atol=2e-3)
    ink = blob(8, 10).expand(6, 1, 8, 10)
    transform = random_maps(6, shift=0.25)
    transform[:, :, :2] *= 1.5
    found = (centroid(warp(ink, transform, (1, 40, 64))) + 1) / 2 * torch.tensor([64.0, 40.0])
    torch.testing.assert_close(found, centre(transform, (1, 40, 64)), rtol=0, atol=0.15)
