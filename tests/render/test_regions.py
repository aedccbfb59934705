"""Regions: which layer a pixel shows, in logarithms; and maps as a batch of pixels."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from pyro_scenes.render import behind, log_visibility, opacity_logits, to_pixels, under

SIZE = (6, 9)


@pytest.fixture(params=[(), (4,), (2, 4)], ids=str)
def logits(request):
    return 3 * torch.randn(*request.param, 3, 1, *SIZE, dtype=torch.float64)


def test_a_pixel_shows_one_layer_or_none(logits):
    log_visible = log_visibility(logits)
    assert log_visible.shape == (*logits.shape[:-4], 4, *SIZE)
    total = log_visible.exp().sum(-3)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_what_is_seen_is_what_the_over_operator_leaves(logits):
    masks, log_visible = logits.sigmoid(), log_visibility(logits)
    scope = torch.ones_like(masks[..., 0, :, :, :])
    for i in range(3):
        mask = masks[..., i, :, :, :]
        seen = (scope * mask)[..., 0, :, :]
        torch.testing.assert_close(log_visible[..., i, :, :].exp(), seen)
        _, scope = under(torch.zeros_like(scope), scope, mask, mask)
    torch.testing.assert_close(log_visible[..., 3, :, :].exp(), scope[..., 0, :, :])


def test_the_divergence_of_regions_is_one_of_each_layer_within_its_scope():
    """The chain rule: KL(Cat(r) || Cat(pi)) = sum_t s_t KL(Ber(alpha_t) || Ber(m_t))."""
    attention, masks = 4 * torch.randn(2, 5, 3, 1, *SIZE, dtype=torch.float64)
    whole = kl_divergence(
        *(Categorical(logits=log_visibility(x).movedim(1, -1)) for x in (attention, masks))
    )
    scope, total = 1.0, 0.0
    for i in range(3):
        alpha, mask = attention[:, i, 0], masks[:, i, 0]
        total = total + scope * kl_divergence(Bernoulli(logits=alpha), Bernoulli(logits=mask))
        scope = scope * alpha.neg().sigmoid()
    torch.testing.assert_close(whole, total)


def test_saturated_opacities_have_finite_logarithms():
    logits = (200 * (torch.rand(5, 3, 1, *SIZE) > 0.5) - 100.0).requires_grad_()
    log_visible = log_visibility(logits)
    log_visible.sum().backward()
    assert log_visible.isfinite().all() and logits.grad.isfinite().all()


def test_opacities_are_read_off_again():
    logits = 3 * torch.randn(3, 1, *SIZE, dtype=torch.float64)
    log_visible = log_visibility(logits)
    torch.testing.assert_close(opacity_logits(log_visible), logits[:, 0])
    torch.testing.assert_close(
        opacity_logits(log_visible.movedim(0, -1), -1), logits[:, 0].movedim(0, -1)
    )


def test_behind_is_the_rest():
    logs = torch.randn(4, 5, dtype=torch.float64)
    expected = torch.stack([logs[i:].exp().sum(0).log() for i in range(4)])
    torch.testing.assert_close(behind(logs), expected)
    torch.testing.assert_close(behind(logs.mT, 1), expected.mT)


@pytest.mark.parametrize("events", [(), (4,), (4, 3)], ids=str)
@pytest.mark.parametrize("batch", [(5,), (2, 1, 5), (3, 2, 1, 5)], ids=str)
def test_pixels_are_a_batch_dimension_before_the_images(batch, events):
    """Row after row; in the place that Pyro has kept for them, if it has."""
    maps = torch.randn(*batch, *events, *SIZE)
    pixels = to_pixels(maps, len(events))
    free = batch[:-2] if len(batch) > 1 else ()
    assert pixels.shape == (*free, 54, 5, *events)
    for row, column in ((0, 0), (2, 7), (5, 8)):
        expected = maps[..., row, column].reshape(*free, 5, *events)
        torch.testing.assert_close(pixels.select(len(free), row * SIZE[1] + column), expected)
