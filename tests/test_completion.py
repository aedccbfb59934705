"""What models of completions share: log p of the pixels that are not seen, masks, what is refused."""

import pyro.distributions as dist
import pytest
import torch

from pyro_scenes.checks import check_seen
from pyro_scenes.conditionals import Completion, Pixels
from pyro_scenes.data import binary, quadrants, random_masks

SHAPE = (2, 3, 4)
CANVAS = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
IMAGES = CANVAS.flip(0).round()
SEEN = torch.rand(5, 1, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5
KNOWN = IMAGES.masked_fill(~SEEN, torch.nan)
FAMILIES = {
    "Bernoulli": lambda: dist.Bernoulli(CANVAS).to_event(3),
    "Normal": lambda: dist.Normal(CANVAS, 0.3).to_event(3),
}


@pytest.fixture(params=FAMILIES)
def pixels(request):
    return FAMILIES[request.param]()


def test_log_p_is_that_of_the_unseen_pixels(pixels):
    each = pixels.base_dist.log_prob(IMAGES)
    expected = torch.stack([row[~seen.expand(SHAPE)].sum() for row, seen in zip(each, SEEN)])
    torch.testing.assert_close(Completion(pixels, KNOWN).log_prob(IMAGES), expected)


def test_what_is_seen_and_the_rest_are_the_whole(pixels):
    """log p(rest | seen) + log p(seen) = log p(image), as pixels are independent given the canvas."""
    both = [
        Completion(pixels, IMAGES.masked_fill(hidden, torch.nan)).log_prob(IMAGES)
        for hidden in (SEEN, ~SEEN)
    ]
    torch.testing.assert_close(sum(both), pixels.log_prob(IMAGES))


def test_a_pixel_of_the_image_that_is_not_known_is_not_scored(pixels):
    gone = torch.rand(5, *SHAPE) > 0.7
    found = Completion(pixels, KNOWN).log_prob(IMAGES.masked_fill(gone, torch.nan))
    each = pixels.base_dist.log_prob(IMAGES)
    expected = torch.where(gone | SEEN, 0.0, each).sum((1, 2, 3))
    torch.testing.assert_close(found, expected)


def test_gradients_are_finite_and_none_is_of_what_is_seen():
    canvas = CANVAS.clone().requires_grad_()
    gone = IMAGES.masked_fill(torch.rand(5, *SHAPE) > 0.7, torch.nan)
    Completion(Pixels(dist.Normal, scale=0.1)(Canvas(canvas)), KNOWN).log_prob(
        gone
    ).sum().backward()
    counted = ~SEEN & ~gone.isnan()
    assert canvas.grad.isfinite().all() and (canvas.grad != 0).equal(counted & (canvas != gone))


class Canvas:
    def __init__(self, canvas):
        self.canvas = canvas


def test_draws_keep_what_is_seen_and_draw_the_rest(pixels):
    completion = Completion(pixels, KNOWN)
    drawn = completion.sample((4000,))
    shown = SEEN.expand(5, *SHAPE)
    assert torch.equal(drawn[:, shown], IMAGES[shown].expand(4000, -1))
    torch.testing.assert_close(drawn.mean(0), completion.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.var(0), completion.variance, rtol=0, atol=0.05)


def test_a_draw_has_a_density():
    completion = Completion(dist.Normal(CANVAS, 0.3).to_event(3), KNOWN)
    assert completion.log_prob(completion.sample()).isfinite().all()
    wide = completion.expand(torch.Size([3, 5]))
    assert wide.sample().shape == (3, 5, *SHAPE) and wide.log_prob(IMAGES).shape == (3, 5)


def test_pixels_that_depend_on_each_other_are_refused():
    joint = dist.MultivariateNormal(torch.zeros(5, 3, 4), torch.eye(4)).to_event(2)
    for wrong in (joint, dist.Normal(0.0, 1.0)):
        with pytest.raises(ValueError, match="image must return .* independent pixels"):
            Completion(wrong, KNOWN)


def test_what_is_seen_is_a_mask_or_a_picture_or_nothing():
    blank = torch.zeros(SHAPE)
    for seen in (SEEN, SEEN.expand(5, *SHAPE), KNOWN):
        torch.testing.assert_close(check_seen(IMAGES, seen, blank, 1), KNOWN, equal_nan=True)
    assert check_seen(None, KNOWN, blank, 1) is KNOWN
    assert check_seen(IMAGES, None, blank, 1).isnan().all()
    assert check_seen(None, None, blank, 7).shape == (7, *SHAPE)


@pytest.mark.parametrize(
    ("images", "seen", "error", "match"),
    [
        (None, SEEN, ValueError, "give what is seen as a picture"),
        (IMAGES, SEEN[:4], ValueError, r"seen must be a bool mask of shape \(5, 1, 3, 4\)"),
        (IMAGES, SEEN[..., :3], ValueError, "seen must be a bool mask"),
        (IMAGES, KNOWN[:4], ValueError, "seen must be of 5 pictures"),
        (IMAGES, KNOWN.double(), ValueError, "float64"),
        (IMAGES, SEEN.long(), TypeError, "float tensor"),
        (IMAGES, [1], TypeError, "seen must be a bool mask or a picture"),
    ],
)
def test_what_is_seen_wrongly_is_refused(images, seen, error, match, unchecked):
    with pytest.raises(error, match=match):
        check_seen(images, seen, torch.zeros(SHAPE), 1)


def test_quadrants():
    areas = [quadrants(n).double().mean().item() for n in (1, 2, 3)]
    assert areas == [0.25, 0.5, 0.75]
    assert quadrants(1)[0, 14:, :14].all() and quadrants(2)[0, :, :14].all()
    assert not quadrants(3)[0, 14:, 14:].any()
    assert (quadrants(1) <= quadrants(2)).all() and (quadrants(2) <= quadrants(3)).all()
    with pytest.raises(ValueError, match="1, 2 or 3"):
        quadrants(4)


def test_random_masks_are_of_four_kinds():
    masks = random_masks(2000, (28, 20))
    assert masks.shape == (2000, 1, 28, 20) and torch.equal(masks, random_masks(2000, (28, 20)))
    assert not torch.equal(masks, random_masks(2000, (28, 20), seed=1))
    seen = masks.flatten(1).double().mean(1)
    assert (seen > 0).all() and (seen < 1).all()
    blocks, holes, scattered, bands = (masks[kind::4, 0] for kind in range(4))
    assert (blocks[:, :14, :10].flatten(1).double().mean(1) % 1 == 0).all()
    # A hole is a product of rows and columns; so is a band, of which one is all.
    outside = ~holes
    assert (outside == outside.any(2, keepdim=True) & outside.any(1, keepdim=True)).all()
    assert (bands == bands.any(2, keepdim=True) & bands.any(1, keepdim=True)).all()
    assert (bands.any(2).all(1) | bands.any(1).all(1)).all()
    shares = scattered.flatten(1).double().mean(1)
    assert 0.05 < shares.min() < 0.2 and 0.4 < shares.max() < 0.6


def test_a_digit_is_binarised_by_its_grey_levels():
    grey = torch.tensor([0, 51, 128, 255], dtype=torch.uint8).expand(20_000, 1, 4)
    drawn = binary(grey, seed=1)
    assert drawn.shape == (20_000, 1, 1, 4) and set(drawn.unique().tolist()) == {0, 255}
    share = (drawn == 255).double().mean((0, 1, 2))
    torch.testing.assert_close(share, grey[0, 0].double() / 255, rtol=0, atol=0.015)
    assert share[0] == 0 and share[3] == 1
    assert torch.equal(drawn, binary(grey, seed=1))
