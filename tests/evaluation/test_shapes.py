"""True shapes wherever they lie, by brute force, and what is none."""

import pytest
import torch

from pyro_scenes.data import shape_masks
from pyro_scenes.evaluation import SingleShapes, floors, shape_fit, single_shapes

STENCILS = shape_masks(4)


def laid(stencil, top, left, size=(14, 17)):
    """A shape on a canvas; what is outside is cut off."""
    canvas = torch.zeros(60, 60)
    canvas[20 + top : 20 + top + stencil.shape[0], 20 + left : 20 + left + stencil.shape[1]] = (
        stencil
    )
    return canvas[20 : 20 + size[0], 20 : 20 + size[1]]


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (6, 9), (-3, 2), (8, 3), (-1, -1)])
def test_a_true_shape_fits_wherever_it_is(label, top, left):
    fit = shape_fit(0.6 * laid(STENCILS[label].float(), top, left)[None], STENCILS)
    assert fit.iou.item() == 1
    inside = 0 <= top <= 6 and 0 <= left <= 9
    assert fit.label.item() == label or not inside  # a corner may be of two classes


def test_fits_are_the_best_of_all_places():
    stencils = STENCILS[:, ::2, 1::2]
    masks = torch.rand(4, 6, 5).round()
    fit = shape_fit(masks, stencils, least=0.6)
    for mask, iou in zip(masks, fit.iou, strict=True):
        best = 0.0
        for stencil in stencils.float():
            for top in range(-4, 7):
                for left in range(-4, 6):
                    there = laid(stencil, top, left, (6, 5))
                    if there.sum() < 0.6 * stencil.sum():
                        continue  # too little of it is on the canvas
                    either = torch.maximum(there, mask).sum()
                    best = max(best, ((there * mask).sum() / either).item())
        assert iou.item() == pytest.approx(best)


def test_shapes_that_are_none(unchecked):
    masks = torch.zeros(3, 14, 17)
    masks[1] = 0.5  # half is not covered
    masks[2] = 1.0
    fit = shape_fit(masks, STENCILS)
    assert fit.iou[:2].tolist() == [0, 0] and fit.label[:2].tolist() == [-1, -1]
    assert fit.iou[2] == STENCILS.sum((1, 2)).max() / (14 * 17) and fit.label[2] >= 0
    for wrong in ((masks[0], STENCILS), (masks > 0.5, STENCILS), (masks, STENCILS.float())):
        with pytest.raises(ValueError, match="(masks|stencils) must be"):
            shape_fit(*wrong)


def test_a_corner_or_a_strip_is_no_shape():
    masks = torch.zeros(3, 14, 17)
    masks[0, 0, 0] = 1
    masks[1, :, 0] = 1
    masks[2, 0, 4:12] = 1
    assert (shape_fit(masks, STENCILS, least=0.0).iou >= 0.5).all()
    assert (shape_fit(masks, STENCILS).iou < 0.4).all()


def test_experts_of_one_class_each_make_all():
    samples = [
        torch.stack([laid(stencil.float(), top, 3) for top in (0, 2, 5)]) for stencil in STENCILS
    ]
    assert single_shapes(torch.stack(samples), STENCILS) == (1, 1)
    samples[1][0] = 0
    assert single_shapes(torch.stack(samples), STENCILS) == pytest.approx((8 / 9, 1))
    samples[1] = samples[0]
    assert single_shapes(torch.stack(samples), STENCILS) == pytest.approx((1, 2 / 3))


def test_floors_of_single_shapes():
    assert floors.single_shape_floors(STENCILS, experts=4) == {
        "blank images": SingleShapes(0, 0),
        "one class for all": SingleShapes(1, 1 / 3),
    }
