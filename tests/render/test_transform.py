import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from pyro_scenes.render import box, glance, place

SHAPE = (1, 20, 30)


def poses(*batch):
    scale = 1.2 + 2 * torch.rand(*batch, 1)
    return torch.cat([scale, 2 * torch.rand(*batch, 2) - 1], -1)


def test_place_is_bilinear_sampling():
    pose, glimpse = poses(6), torch.rand(6, 2, 7, 9)
    matrix = torch.zeros(6, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = pose[:, 0]
    matrix[:, :, 2] = pose[:, 1:]
    grid = affine_grid(matrix, [6, 2, *SHAPE[1:]], align_corners=False)
    expected = grid_sample(glimpse, grid, align_corners=False)
    torch.testing.assert_close(place(glimpse, pose, SHAPE), expected, rtol=0, atol=1e-5)


def test_glance_undoes_place():
    smooth = torch.outer(torch.hann_window(16), torch.hann_window(16))[None, None].expand(
        8, 1, 16, 16
    )
    pose = torch.cat([torch.full((8, 1), 1.5), 0.6 * torch.rand(8, 2) - 0.3], -1)
    back = glance(place(smooth, pose, (1, 64, 64)), pose, (1, 16, 16))
    torch.testing.assert_close(back, smooth, rtol=0, atol=0.03)


def test_the_identity_pose_changes_nothing():
    picture = torch.rand(2, 3, 9, 11)
    pose = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(place(picture, pose, (3, 9, 11)), picture)
    torch.testing.assert_close(glance(picture, pose, (3, 9, 11)), picture)


def test_any_leading_dimensions():
    pose, glimpse = poses(4, 3), torch.rand(4, 3, 1, 5, 5)
    whole = place(glimpse, pose, SHAPE)
    assert whole.shape == (4, 3, *SHAPE)
    torch.testing.assert_close(whole[2, 1], place(glimpse[2, 1], pose[2, 1], SHAPE))
    assert place(glimpse[0, 0], pose, SHAPE).shape == (4, 3, *SHAPE)


def test_a_big_scale_is_a_small_object_centred_at_minus_shift_over_scale():
    ink = place(torch.ones(1, 8, 8), torch.tensor([3.0, 1.0, -1.5]), (1, 60, 60))[0]
    rows, columns = (ink.sum(axis) / ink.sum() for axis in (1, 0))
    centres = (2 * torch.arange(60) + 1) / 60 - 1
    torch.testing.assert_close((columns * centres).sum(), torch.tensor(-1 / 3), rtol=0, atol=0.01)
    torch.testing.assert_close((rows * centres).sum(), torch.tensor(0.5), rtol=0, atol=0.01)
    assert abs(ink.sum().item() / 3600 - 1 / 9) < 0.01


def test_box_surrounds_what_is_placed():
    pose = torch.cat([2.5 + torch.rand(20, 1), 2 * torch.rand(20, 2) - 1], -1)
    canvas = place(torch.ones(20, 1, 8, 8), pose, SHAPE)[:, 0]
    for corners, layer in zip(box(pose, SHAPE), canvas, strict=True):
        left, top, right, bottom = corners.tolist()
        rows, columns = layer.amax(1).nonzero()[:, 0], layer.amax(0).nonzero()[:, 0]
        # Bilinear edges reach half a pixel of the glimpse beyond the window.
        margin_x, margin_y = (right - left) / 16 + 1, (bottom - top) / 16 + 1
        assert abs(columns.min() - left) <= margin_x and abs(columns.max() + 1 - right) <= margin_x
        assert abs(rows.min() - top) <= margin_y and abs(rows.max() + 1 - bottom) <= margin_y


def test_the_box_of_the_identity_is_the_canvas():
    assert box(torch.tensor([1.0, 0.0, 0.0]), SHAPE).tolist() == [0, 0, 30, 20]


@pytest.mark.parametrize("scale", [0.0, 1e-30, -1e-30, 1e-3, -2.0, 1e6])
@pytest.mark.parametrize("transform", [place, glance])
def test_gradients_are_finite_at_any_scale(transform, scale):
    pose = torch.tensor([[scale, 0.3, -0.2]], requires_grad=True)
    picture = torch.rand(1, 1, 12, 12, requires_grad=True)
    result = transform(picture, pose, (1, 10, 10))
    result.square().sum().backward()
    assert result.isfinite().all() and pose.grad.isfinite().all() and picture.grad.isfinite().all()
    assert box(pose.detach(), SHAPE).isfinite().all()


@pytest.mark.parametrize("transform", [place, glance])
def test_gradients_are_right(transform):
    pose = (poses(2).double() + torch.tensor([0.0, 0.013, 0.017])).requires_grad_()
    picture = torch.rand(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g, p: transform(g, p, (1, 6, 7)), (picture, pose))
