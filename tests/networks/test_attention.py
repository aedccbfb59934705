"""Attention from a seed, and what overrules it. U-Nets and encoders of regions."""

import pytest
import torch

from pyro_scenes.networks import RegionEncoder, SeededAttention, UNet, settle

SHAPE = (3, 16, 12)
WHOLE = torch.ones(5, 1, 16, 12)


def images_of(n=5):
    return torch.rand(n, *SHAPE)


def seeded():
    return SeededAttention(SHAPE, widths=(8, 8))


def test_each_image_has_a_seed_of_its_own():
    attention, images, seeds = seeded(), images_of(), torch.tensor([0, 191, 5, 100, 101])
    scope = torch.rand_like(WHOLE)
    whole = attention(images, scope, seeds)
    assert whole.shape == (5, 1, 16, 12)
    for i in range(5):
        alone = attention(images[i : i + 1], scope[i : i + 1], seeds[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i], atol=1e-5, rtol=1e-4)


def test_a_seed_is_compared_with_all_pixels():
    """In colour, and in place: the squared distance in half widths of the image."""
    attention, images = seeded(), images_of(2)
    colour, distance = attention.compare(images, torch.tensor([0, 3 * 12 + 7]))
    torch.testing.assert_close(colour[0], images[0] - images[0, :, :1, :1])
    torch.testing.assert_close(colour[1], images[1] - images[1, :, 3:4, 7:8])
    assert distance[1, 0, 3, 7] == 0 and distance[0, 0, 0, 0] == 0
    expected = torch.tensor((2 * 4 / 12) ** 2 + (2 * 2 / 16) ** 2)
    torch.testing.assert_close(distance[1, 0, 5, 3], expected)


def test_an_untrained_one_takes_what_is_near_and_alike():
    images = torch.zeros(2, *SHAPE)
    images[..., 6:] = 1.0
    logits = seeded()(images, WHOLE[:2], torch.tensor([8 * 12 + 3, 8 * 12 + 9]))[:, 0]
    near = logits[:, 7:10]
    assert (near[0, :, 2:5].mean() > near[0, :, 6:].mean()) and near[0, :, 2:5].min() > 0
    assert (near[1, :, 8:10].mean() > near[1, :, :6].mean()) and near[1, :, 8:10].min() > 0
    assert logits[0, :, 6:].max() < 0 and logits[1, :, :6].max() < 0


def test_a_seed_may_ask_for_no_network():
    """What is alike in colour within reach, and nothing else, whatever the network has learned."""
    images = torch.full((2, 3, 16, 16), 0.2)
    for column in (1, 11):  # two squares of one colour, too far apart to be one object
        images[..., 5:9, column : column + 4] = 0.9
    attention = SeededAttention((3, 16, 16), widths=(8, 8), near=0.4)
    torch.nn.init.normal_(attention.network.last.weight, 0, 100)
    seeds = torch.tensor([6 * 16 + 2, 6 * 16 + 12])
    without = attention(images, torch.ones_like(images[:, :1]), seeds + 256)
    for found, column in zip(without[:, 0], (1, 11), strict=True):
        expected = torch.zeros(16, 16, dtype=torch.bool)
        expected[5:9, column : column + 4] = True
        assert torch.equal(found > 0, expected) and (found.abs() > 5).all()
    learned = attention(images, torch.ones_like(images[:, :1]), seeds)
    assert (learned - without).abs().max() > 1


def test_attention_learns():
    attention = seeded()
    attention(images_of(), WHOLE, torch.arange(5)).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in attention.parameters())


@pytest.mark.parametrize("bad", [{"near": 0.0}, {"alike": -1.0}], ids=str)
def test_no_reach_is_refused(bad):
    with pytest.raises(ValueError, match="near and alike must be above 0"):
        SeededAttention(SHAPE, widths=(8, 8), **bad)


def test_a_sure_opacity_overrules_attention():
    """It takes what is covered and explained so, leaves what is not covered; else nothing changes."""
    logits, background = torch.rand(4, 1, 16, 12), torch.full((4, 1, 16, 12), 12.0)
    sure, unsure, none = (torch.full_like(logits, value) for value in (9.0, 2.0, 0.0))
    assert (settle(logits, sure, none, background, 5.0) > 5).all()
    assert (settle(logits, -sure, none, background, 5.0) < -5).all()
    for excess, behind in ((background, background), (none, none), (background / 2, background)):
        assert torch.equal(settle(logits, sure, excess, behind, 5.0), logits)
    for opacity in (unsure, -unsure):
        assert torch.equal(settle(logits, opacity, none, background, 5.0), logits)
    for opacity in (sure, -sure):
        never = settle(logits, opacity, none, background, float("inf"))
        assert torch.equal(never, logits)


def test_maps_of_several_experts_are_settled_at_once():
    attention, opacity = torch.randn(3, 1, 1, 16, 12), 9 * torch.randn(1, 4, 1, 16, 12)
    excess, background = torch.rand(3, 4, 1, 16, 12), 20 * torch.rand(3, 1, 1, 16, 12)
    found = settle(attention, opacity, excess, background, 5.0)
    assert found.shape == (3, 4, 1, 16, 12)
    for k in range(4):
        one = settle(attention[:, 0], opacity[:, k], excess[:, k], background[:, 0], 5.0)
        assert torch.equal(found[:, k], one)


# U-Nets and encoders.


@pytest.mark.parametrize(
    ("size", "fold"), [((16, 16), 1), ((16, 12), 2), ((15, 9), 1), ((17, 23), 1), ((27, 21), 3)]
)
def test_a_u_net_keeps_the_size(size, fold):
    network = UNet(3, (8, 8, 8), outputs=2, fold=fold)
    images = torch.rand(4, 3, *size, requires_grad=True)
    maps = network(images)
    assert maps.shape == (4, 2, *size)
    (maps * torch.rand_like(maps)).sum().backward()
    assert images.grad.any() and all(p.grad.any() for p in network.parameters())


def test_a_u_net_sees_each_image_on_its_own_and_whole():
    network, images = UNet(3, (8, 8, 8)), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-4)
    changed = images.clone()
    changed[:, :, -1, -1] += 1
    assert (network(images) - network(changed))[:, :, 0, 0].abs().min() > 1e-7


def test_a_region_becomes_features():
    encoder = RegionEncoder((3, 16, 12), 7, channels=8, blocks=2, fold=2)
    images, regions = images_of(), torch.rand(5, 1, 16, 12)
    features = encoder(images, regions)
    assert features.shape == (5, 7) and (features >= 0).all()
    assert (features - encoder(images, 1 - regions)).abs().max() > 1e-4


def test_images_too_small_for_an_encoder_are_refused():
    for shape in ((3, 17, 19), (3, 4, 4)):
        with pytest.raises(ValueError, match="give the encoder fewer blocks"):
            RegionEncoder(shape, 6, blocks=3, fold=2)
