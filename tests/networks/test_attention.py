"""Attention: candidates are what a seed gives again; each kind proposes as it should. U-Nets and dispatch."""

import pytest
import torch
from torch import nn

from pyro_scenes.networks import (
    ExpertAttention,
    GivenAttention,
    RegionEncoder,
    SeededAttention,
    UNet,
    dispatch,
)

SHAPE = (3, 16, 12)
WHOLE = torch.ones(5, 1, 16, 12)


def images_of(n=5):
    return torch.rand(n, *SHAPE)


def given():
    attention = GivenAttention()
    attention.regions = (torch.rand(5, 2, 16, 12) > 0.5).float()
    return attention


ATTENTION = {
    "expert": lambda: ExpertAttention([UNet(4, (8, 8)) for _ in range(3)]),
    "given": given,
    "seeded": lambda: SeededAttention(SHAPE, widths=(8, 8)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ATTENTION)
def test_a_seed_gives_its_candidate_again(name, training):
    attention = ATTENTION[name]().train(training)
    images = images_of()
    seeds, logits = attention.propose(images, WHOLE, WHOLE, 1)
    assert logits.shape == (*seeds.shape, 1, 16, 12) and seeds.shape[1] == 5
    for seed, candidate in zip(seeds, logits, strict=True):
        torch.testing.assert_close(attention(images, WHOLE, seed), candidate)


def test_in_evaluation_each_seed_has_a_candidate_without_the_network():
    """What is alike in colour within reach, and nothing else, whatever the network has learned."""
    images = torch.full((1, 3, 16, 16), 0.2)
    for column in (1, 11):  # two squares of one colour, too far apart to be one object
        images[..., 5:9, column : column + 4] = 0.9
    attention = SeededAttention((3, 16, 16), widths=(8, 8), near=0.4).eval()
    torch.nn.init.normal_(attention.network.last.weight, 0, 100)
    unexplained = (images[:, :1] > 0.5).float()
    seeds, logits = attention.propose(images, torch.ones_like(unexplained), unexplained, 0)
    assert len(seeds) == 6
    for seed, found in zip(seeds[3:, 0] % 256, logits[3:, 0, 0]):
        own = slice(1, 5) if seed % 16 < 8 else slice(11, 15)
        expected = torch.zeros(16, 16, dtype=torch.bool)
        expected[5:9, own] = True
        assert torch.equal(found > 0, expected) and (found.abs() > 5).all()
    assert len(attention.train().propose(images, unexplained, unexplained, 0)[0]) == 3


def test_each_expert_has_attention_of_its_own():
    attention = ATTENTION["expert"]()
    images, scope = images_of(), torch.rand(5, 1, 16, 12)
    seeds, logits = attention.propose(images, scope, WHOLE, 0)
    assert attention.own and seeds.tolist() == [[k] * 5 for k in range(3)]
    for network, candidate in zip(attention.networks, logits):
        torch.testing.assert_close(network(torch.cat([images, scope], 1)), candidate)
    attention(images, scope, torch.tensor([0, 2, 2, 0, 0])).sum().backward()
    trained = [any(p.grad is not None for p in net.parameters()) for net in attention.networks]
    assert trained == [True, False, True]


def test_given_regions_are_beyond_doubt():
    attention = given()
    for step in range(2):
        _, logits = attention.propose(images_of(), WHOLE, WHOLE, step)
        assert torch.equal(logits[0, :, 0].sigmoid().round(), attention.regions[:, step])
        assert (logits.abs() == 100).all()


@pytest.mark.parametrize("regions", [None, torch.ones(4, 2, 16, 12), torch.ones(5, 2, 12, 16)])
def test_regions_of_other_images_are_refused(regions):
    attention = GivenAttention()
    attention.regions = regions
    with pytest.raises(ValueError, match="set regions"):
        attention.propose(images_of(), WHOLE, WHOLE, 0)


def test_soft_regions_are_refused():
    attention = GivenAttention()
    attention.regions = torch.full((5, 2, 16, 12), 0.3)
    with pytest.raises(ValueError, match="give regions > 0.5"):
        attention.propose(images_of(), WHOLE, WHOLE, 0)


def test_attention_of_other_sizes_is_refused():
    with pytest.raises(ValueError, match=r"images of \(16, 12\) pixels, got \(12, 16\)"):
        ATTENTION["seeded"]().propose(images_of().mT, WHOLE.mT, WHOLE.mT, 0)
    for bad in ({"candidates": 0}, {"near": 0.0}, {"alike": -1.0}):
        with pytest.raises(ValueError, match="all above 0"):
            SeededAttention(SHAPE, widths=(8, 8), **bad)


def test_images_too_small_for_an_encoder_are_refused():
    for shape in ((3, 17, 19), (3, 4, 4)):
        with pytest.raises(ValueError, match="give the encoder fewer blocks"):
            RegionEncoder(shape, 6, blocks=3, fold=2)


def test_seeds_are_where_nothing_explains_the_image_yet():
    attention = ATTENTION["seeded"]()
    unexplained, scope = torch.zeros(2, 5, 1, 16, 12)
    unexplained[..., :8, :] = 20.0
    scope[..., 4:, :] = 1.0
    rows = torch.cat(
        [attention.propose(images_of(), scope, unexplained, 0)[0][0] for _ in range(40)]
    )
    rows = rows // 12
    assert ((rows >= 4) & (rows < 8)).all()


def test_later_seeds_leave_alone_what_is_proposed():
    """Each of two colours is proposed once: the second seed is of the other half."""
    attention = ATTENTION["seeded"]()
    attention.spread.data[1] = 1.0  # near and far alike
    images = torch.zeros(5, *SHAPE)
    images[..., 6:] = 1.0
    seeds, logits = attention.propose(images, WHOLE, 20 * WHOLE, 0)
    right = seeds % 12 >= 6
    assert (right[0] != right[1]).float().mean() > 0.7
    inside = logits[0, :, 0].sigmoid()
    halves = torch.stack([inside[..., :6].mean((1, 2)), inside[..., 6:].mean((1, 2))])
    assert (halves.argmax(0) == right[0]).all()


def test_attention_learns():
    attention = ATTENTION["seeded"]()
    images = images_of()
    seeds, logits = attention.propose(images, WHOLE, WHOLE, 0)
    assert not logits.requires_grad
    attention(images, WHOLE, seeds[0]).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in attention.parameters())


# U-Net.


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


# Dispatch.


def test_each_module_sees_its_own_part():
    modules = [nn.Linear(4, 3) for _ in range(4)]
    choice, inputs = torch.tensor([2, 0, 0, 2, 3]), torch.randn(5, 4)
    found = dispatch(choice, modules, inputs)
    for row, k, one in zip(found, choice.tolist(), inputs):
        torch.testing.assert_close(row, modules[k](one))
    found.sum().backward()
    assert [module.weight.grad is not None for module in modules] == [True, False, True, True]


def test_no_module_for_a_choice_is_refused():
    with pytest.raises(ValueError, match=r"no module for some of \[7\]"):
        dispatch(torch.tensor([7, 7]), [nn.Linear(4, 3)], torch.randn(2, 4))


def test_a_sure_opacity_overrules_attention():
    """It takes what is covered and explained so, leaves what is not covered; else nothing changes."""
    attention = SeededAttention(SHAPE, widths=(8, 8), margin=5.0)
    logits, ground = torch.rand(4, 1, 16, 12), torch.full((4, 1, 16, 12), 12.0)
    sure, unsure, none = (torch.full_like(logits, value) for value in (9.0, 2.0, 0.0))
    assert (attention.settle(logits, sure, none, ground) > 5).all()
    assert (attention.settle(logits, -sure, none, ground) < -5).all()
    for lacks, behind in ((ground, ground), (none, none), (ground / 2, ground)):
        assert torch.equal(attention.settle(logits, sure, lacks, behind), logits)
    for opacity in (unsure, -unsure):
        assert torch.equal(attention.settle(logits, opacity, none, ground), logits)
    for other in ("expert", "given"):
        assert torch.equal(ATTENTION[other]().settle(logits, -sure, none, ground), logits)
