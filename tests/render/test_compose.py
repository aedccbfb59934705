"""Layers, front to back: what is in front hides what is behind."""

from itertools import permutations

import pytest
import torch

from pyro_scenes.render import scopes, under

SIZE = (4, 3, 6, 9)


def stack(layers, masks):
    """Canvas and scope after each of the layers, the front one first."""
    canvas, scope = torch.zeros_like(layers[0]), torch.ones_like(masks[0])
    found = []
    for layer, mask in zip(layers, masks, strict=True):
        canvas, scope = under(canvas, scope, layer, mask)
        found.append((canvas, scope))
    return found


def random_layers(n, channels=1):
    """Premultiplied: no layer is brighter than its mask is opaque."""
    masks = torch.rand(n, SIZE[0], channels, *SIZE[2:])
    return torch.rand(n, *SIZE) * masks, masks


def test_the_front_hides_the_back_where_it_is_opaque():
    layers, masks = random_layers(2)
    hole = (torch.rand_like(masks[0]) > 0.5).float()
    front = torch.rand(SIZE) * hole
    canvas, scope = stack([front, layers[1]], [hole, masks[1]])[-1]
    torch.testing.assert_close(canvas, torch.where(hole.bool(), front, layers[1]))
    torch.testing.assert_close(scope, torch.where(hole.bool(), 0.0, 1 - masks[1]))


def test_of_two_opaque_colours_the_front_one_is_seen():
    red, blue = torch.zeros(2, *SIZE)
    red[:, 0], blue[:, 2] = 1, 1
    opaque = [torch.ones(SIZE[0], 1, *SIZE[2:])] * 2
    assert torch.equal(stack([red, blue], opaque)[-1][0], red)
    assert torch.equal(stack([blue, red], opaque)[-1][0], blue)


def test_it_is_the_over_operator_from_the_back():
    layers, masks = random_layers(5)
    expected = torch.zeros(SIZE)
    for layer, mask in zip(layers.flip(0), masks.flip(0), strict=True):
        expected = layer + (1 - mask) * expected
    torch.testing.assert_close(stack(layers, masks)[-1][0], expected)


def test_layers_as_opaque_as_they_are_bright_have_no_order():
    layers = torch.rand(3, *SIZE)
    expected = 1 - (1 - layers).prod(0)
    for order in permutations(range(3)):
        canvas, scope = stack(layers[list(order)], layers[list(order)])[-1]
        torch.testing.assert_close(canvas, expected)
        torch.testing.assert_close(scope, 1 - expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_scopes_shrink_and_a_canvas_stays_an_image(channels):
    layers, masks = random_layers(6, channels)
    found = stack(layers, masks)
    scopes = torch.stack([scope for _, scope in found])
    canvases = torch.stack([canvas for canvas, _ in found])
    assert scopes.shape == (6, SIZE[0], channels, *SIZE[2:]) and canvases.shape == (6, *SIZE)
    assert (scopes[1:] <= scopes[:-1]).all() and scopes.min() >= 0
    assert (canvases[1:] >= canvases[:-1]).all() and canvases.min() >= 0
    assert (canvases <= 1 - scopes + 1e-6).all()  # what is left has no light in it


def test_the_regions_and_what_is_left_sum_to_one():
    _, masks = random_layers(6)
    ones = torch.ones(6, SIZE[0], 1, *SIZE[2:])
    before = torch.ones_like(masks[0])
    regions = torch.zeros_like(before)
    for _, scope in stack(ones, masks):
        regions, before = regions + (before - scope), scope
    torch.testing.assert_close(regions + before, torch.ones_like(before))


def test_a_background_is_one_more_opaque_layer():
    layers, masks = random_layers(3)
    background = torch.rand(SIZE)
    canvas, scope = stack(layers, masks)[-1]
    whole = [*layers, background], [*masks, torch.ones_like(masks[0])]
    behind, left = stack(*whole)[-1]
    torch.testing.assert_close(behind, canvas + scope * background)
    assert not left.any()


def test_gradients_reach_all_that_is_seen():
    layers, masks = random_layers(2)
    layers.requires_grad_(), masks.requires_grad_()
    canvas, _ = stack(layers, masks)[-1]
    canvas.sum().backward()
    torch.testing.assert_close(layers.grad[0], torch.ones(SIZE))
    torch.testing.assert_close(layers.grad[1], (1 - masks[0]).detach().expand(SIZE))
    assert masks.grad[0].any() and not masks.grad[1].any()  # there is nothing behind the last


def test_scopes_are_what_the_layers_in_front_leave():
    layers, masks = random_layers(3)
    left = [scope for _, scope in stack(layers, masks)]
    torch.testing.assert_close(scopes(masks.movedim(0, 1))[:, 1:], torch.stack(left[:-1], 1))
    assert (scopes(masks.movedim(0, 1))[:, 0] == 1).all()
