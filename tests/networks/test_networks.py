"""Networks: sizes, ranges, and any number of leading dimensions, each element on its own."""

import pytest
import torch
from torch import nn

from pyro_scenes.networks import (
    FreePoseDecoder,
    GlimpseDecoder,
    GlimpseEncoder,
    ImageEncoder,
    PoseDecoder,
    PoseEncoder,
    RegionEncoder,
    UNet,
    mlp,
)

WINDOW = (3, 4, 6)
LEADING = [(), (5,), (2, 5), (1, 2, 5)]


@pytest.mark.parametrize("sizes", [(4, 3), (4, 7, 3), (4, 7, 5, 3)])
def test_mlp_has_the_given_sizes_and_activations_between(sizes):
    kinds = [type(layer) for layer in mlp(*sizes, activation=nn.Tanh)]
    assert kinds == ([nn.Linear, nn.Tanh] * (len(sizes) - 1))[:-1]
    linear = [layer for layer in mlp(*sizes) if isinstance(layer, nn.Linear)]
    assert tuple(layer.in_features for layer in linear) == sizes[:-1]
    assert tuple(layer.out_features for layer in linear) == sizes[1:]


@pytest.mark.parametrize("leading", LEADING)
def test_mlp_maps_the_last_dimension(leading):
    assert mlp(4, 7, 3)(torch.randn(*leading, 4)).shape == (*leading, 3)


@pytest.mark.parametrize("leading", LEADING)
def test_a_code_becomes_a_glimpse(leading):
    glimpse = GlimpseDecoder(2, WINDOW)(100 * torch.randn(*leading, 2))
    assert glimpse.shape == (*leading, *WINDOW)
    assert glimpse.min() >= 0 and glimpse.max() <= 1


def test_an_untrained_glimpse_is_dark_unless_the_bias_says_otherwise():
    dark, even, bright = (GlimpseDecoder(2, WINDOW, bias=bias) for bias in (-2.0, 0.0, 2.0))
    codes = torch.randn(100, 2)
    assert GlimpseDecoder(2, WINDOW)(codes).mean() < 0.3
    assert dark(codes).mean() < even(codes).mean() < bright(codes).mean()


def test_a_decoder_is_as_wide_as_it_is_told():
    for hidden in ((3,), (30, 7)):
        layers = GlimpseDecoder(2, WINDOW, hidden=hidden).layers
        assert tuple(layer.out_features for layer in layers[:-1:2]) == hidden


@pytest.mark.parametrize("leading", LEADING)
def test_a_glimpse_becomes_features(leading):
    assert GlimpseEncoder(WINDOW, 9)(torch.rand(*leading, *WINDOW)).shape == (*leading, 9)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 9, 14), (1, 1, 1)])
def test_an_image_becomes_features(shape):
    assert ImageEncoder(shape, 9)(torch.rand(5, *shape)).shape == (5, 9)


def test_image_features_tell_where_an_object_stands():
    images = torch.zeros(2, 1, 16, 16)
    images[0, 0, 2:5, 2:5] = images[1, 0, 10:13, 10:13] = 1
    one, other = ImageEncoder((1, 16, 16), 50)(images)
    assert (one - other).abs().max() > 1e-3


NETWORKS = {
    "mlp": (lambda: mlp(4, 7, 3), (4,)),
    "decoder": (lambda: GlimpseDecoder(4, WINDOW), (4,)),
    "encoder": (lambda: GlimpseEncoder(WINDOW), WINDOW),
    "image": (lambda: ImageEncoder(WINDOW, 9), WINDOW),
}


HOSTLESS = {
    **NETWORKS,
    "pose": (PoseDecoder, (6,)),
    "free pose": (FreePoseDecoder, (6,)),
    "pose encoder": (lambda: PoseEncoder(WINDOW, 9), WINDOW),
    "U-Net": (lambda: UNet(3, (4, 4)), WINDOW),
    "region": (lambda: Regions(RegionEncoder(WINDOW, 9, blocks=1)), WINDOW),
}


class Regions(nn.Module):
    """A region encoder of images whose first channel is the region."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, images):
        return self.encoder(images, images[:, :1])


@pytest.mark.parametrize("name", HOSTLESS)
def test_no_network_waits_for_the_host(name):
    """A meta tensor has no values: reading one, in an ``if``, an index or ``.item()``, is an error."""
    build, shape = HOSTLESS[name]
    outputs = build().to("meta")(torch.rand(6, *shape, device="meta"))
    assert outputs.is_meta and len(outputs) == 6


@pytest.mark.parametrize("name", NETWORKS)
def test_each_element_is_mapped_on_its_own(name):
    build, shape = NETWORKS[name]
    network, inputs = build(), torch.rand(6, *shape)
    for i in range(6):
        torch.testing.assert_close(network(inputs[i : i + 1])[0], network(inputs)[i])


@pytest.mark.parametrize("name", NETWORKS)
def test_double_precision_and_gradients(name):
    build, shape = NETWORKS[name]
    network = build().double()
    inputs = torch.rand(6, *shape, dtype=torch.float64, requires_grad=True)
    outputs = network(inputs)
    outputs.sum().backward()
    assert outputs.dtype == torch.float64
    found = [inputs.grad, *(parameter.grad for parameter in network.parameters())]
    assert all(grad is not None and grad.any() for grad in found)
