"""Pose networks: maps with an inverse, bounded where they say so, and windows about the canvas at first."""

from math import exp, log

import pytest
import torch

from pyro_scenes.networks import FreePoseDecoder, PoseDecoder, PoseEncoder
from pyro_scenes.render import centre, inverse, warp

LEADING = [(), (5,), (2, 5)]
CANVAS = (1, 24, 36)


def parts(transform):
    """Across, down, turn and shear of linear = [[across, -shear * down], [0, down]] @ rotation."""
    (a, b), (c, d) = (row.unbind(-1) for row in transform[..., :2].unbind(-2))
    down = (c.square() + d.square()).sqrt()
    sine, cosine = -c / down, d / down
    across = a * cosine + b * sine
    shear = (a * sine - b * cosine) / down
    return across, down, torch.atan2(sine, cosine), shear


@pytest.mark.parametrize("leading", LEADING)
def test_a_code_becomes_a_map(leading):
    for decoder in (PoseDecoder(), FreePoseDecoder()):
        assert decoder(torch.randn(*leading, 6)).shape == (*leading, 2, 3)


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e6])
def test_a_map_always_has_an_inverse(size):
    decoder = PoseDecoder(zoom=(1.5, 2.5))
    z_where = (size * torch.randn(200, 6)).requires_grad_()
    transform = decoder(z_where)
    back = inverse(transform)
    assert (torch.linalg.det(transform[..., :2]) > 0.5).all()
    assert back.isfinite().all()
    product = back[..., :2] @ transform[..., :2]
    torch.testing.assert_close(product, torch.eye(2).expand(200, 2, 2), rtol=0, atol=1e-4)
    back.sum().backward()
    assert z_where.grad.isfinite().all()


@pytest.mark.parametrize("reach", [0.2, 0.7])
def test_size_turn_and_shear_keep_within_reach(reach):
    decoder = PoseDecoder(zoom=(1.5, 2.5), reach=reach)
    across, down, turn, shear = parts(decoder(50 * torch.randn(500, 6)))
    for found, start in ((across, 1.5), (down, 2.5)):
        away = (found.log() - log(start)).abs()
        assert away.max() < reach + 1e-4 and away.max() > 0.95 * reach
    for found in (turn, shear):
        assert found.abs().max() < reach + 1e-4 and found.abs().max() > 0.95 * reach


def test_each_of_the_first_four_numbers_has_its_meaning():
    decoder = PoseDecoder(zoom=(1.5, 2.5), reach=0.5)
    for parameter in decoder.layers.parameters():
        torch.nn.init.zeros_(parameter)
    start = torch.stack(parts(decoder(torch.zeros(6))))
    torch.testing.assert_close(start, torch.tensor([1.5, 2.5, 0.0, 0.0]))
    moved = torch.stack(parts(decoder(torch.eye(6)[:4])), -1)
    changed = (moved - start).abs() > 1e-5
    assert torch.equal(changed, torch.eye(4).bool())
    # Wider and higher windows are smaller numbers of a map from the canvas.
    assert moved[0, 0].item() == pytest.approx(1.5 * exp(-0.1), rel=0.01)
    assert moved[1, 1].item() == pytest.approx(2.5 * exp(-0.1), rel=0.01)


def test_a_positive_turn_is_clockwise():
    decoder = PoseDecoder(zoom=(1.0, 1.0))
    for parameter in decoder.layers.parameters():
        torch.nn.init.zeros_(parameter)
    picture = torch.zeros(1, 1, 11, 11)
    picture[..., 5, 9] = 1  # to the right of the middle
    z_where = torch.zeros(1, 6)
    z_where[:, 2] = 20.0
    ink = warp(picture, decoder(z_where), (1, 11, 11))[0, 0]
    rows = (ink.sum(1) * torch.arange(11)).sum() / ink.sum()
    assert rows > 6  # it has moved down


@pytest.mark.parametrize("spread", [(0.4, 0.4), (0.2, 0.6)])
def test_standard_normal_draws_spread_over_the_canvas_at_the_start(spread):
    decoder = PoseDecoder(zoom=(1.5, 2.5), spread=spread)
    transform = decoder(torch.randn(4000, 6))
    # In pixels of a canvas of 2 by 2: canvas coordinates, plus 1.
    middle = centre(transform, (1, 2, 2)) - 1
    torch.testing.assert_close(middle.mean(0), torch.zeros(2), rtol=0, atol=0.06)
    torch.testing.assert_close(middle.std(0), torch.tensor(spread), rtol=0.25, atol=0)
    across, down, turn, shear = parts(transform)
    assert across.median().item() == pytest.approx(1.5, rel=0.08)
    assert down.median().item() == pytest.approx(2.5, rel=0.08)
    assert across.log().std() < 0.2 and turn.std() < 0.2 and shear.std() < 0.2


def test_the_centre_is_free_of_size_and_turn():
    decoder = PoseDecoder(zoom=(1.5, 2.5))
    for z_where in (torch.randn(100, 6), 20 * torch.randn(100, 6)):
        raw = (decoder.unit * z_where + decoder.layers(z_where))[:, 4:]
        expected = (raw + 1) / 2 * torch.tensor([36.0, 24.0])
        torch.testing.assert_close(centre(decoder(z_where), CANVAS), expected, rtol=1e-4, atol=1e-2)


def test_the_free_decoder_starts_about_the_identity():
    transform = FreePoseDecoder()(torch.randn(500, 6))
    assert (transform - torch.eye(2, 3)).abs().max() < 0.3
    assert transform.std(0).min() > 1e-3  # about it, and not stuck there


def test_the_free_decoder_reaches_any_map():
    decoder = FreePoseDecoder()
    wanted = torch.tensor([[0.0, 2.0, 0.5], [-3.0, 0.0, -0.5]])
    with torch.no_grad():
        decoder.layers[-1].bias.copy_((wanted - torch.eye(2, 3)).flatten())
        decoder.layers[-1].weight.zero_()
    torch.testing.assert_close(decoder(torch.randn(3, 6)), wanted.expand(3, 2, 3))


@pytest.mark.parametrize("leading", LEADING)
def test_an_image_becomes_features(leading):
    image = torch.rand(*leading, 3, 5, 8)
    features = PoseEncoder((3, 5, 8), 9)(image)
    assert features.shape == (*leading, 9) and features.abs().max() < 1


def test_each_image_is_encoded_on_its_own():
    encoder, images = PoseEncoder((3, 5, 8), 9), torch.rand(4, 3, 5, 8)
    for image, features in zip(images, encoder(images), strict=True):
        torch.testing.assert_close(encoder(image), features)


@pytest.mark.parametrize("build", [PoseDecoder, FreePoseDecoder, lambda: PoseEncoder((1, 2, 3), 4)])
def test_double_precision_and_gradients(build):
    network = build().double()
    shape = (7, 1, 2, 3) if isinstance(network, PoseEncoder) else (7, 6)
    inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    outputs = network(inputs)
    outputs.square().sum().backward()
    found = [inputs.grad, *(parameter.grad for parameter in network.parameters())]
    assert outputs.dtype == torch.float64
    assert all(grad is not None and grad.any() for grad in found)


@pytest.mark.parametrize("build", [PoseDecoder, FreePoseDecoder])
def test_a_checkpoint_keeps_the_constants_that_are_not_trained(build):
    decoder = build()
    trained = {name for name, _ in decoder.named_parameters()}
    assert all(name.startswith("layers.") for name in trained)
    constants = decoder.state_dict().keys() - trained
    assert constants == {name for name, _ in decoder.named_buffers()} != set()
