"""Parts with weights, swapped inside a running training for parts whose weights have the same names."""

import pytest
import torch

from pyro_scenes import VAE, VAEGuide, adam, fit
from pyro_scenes.networks import GlimpseDecoder


def swapped_decoder(hidden):
    return GlimpseDecoder(2, (1, 6, 6), hidden=hidden)


@pytest.mark.parametrize("hidden", [(16,), (16, 16, 16)], ids=["same names", "some new names"])
@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: lambda x: m(x)], ids=["module", "function"]
)
def test_a_part_with_the_names_of_the_one_before_is_trained(hidden, wrap):
    """Pyro's store keeps the weights of the part before under those names."""
    model = VAE((1, 6, 6), 2, decoder=swapped_decoder((16,)))
    pair = wrap(model), wrap(VAEGuide(model, hidden=8))
    images = torch.rand(4, 1, 6, 6).round()
    for record in fit(*pair, [images] * 5):
        if record.step == 2:
            model.decoder = swapped_decoder(hidden)
            before = [value.detach().clone() for value in model.decoder.parameters()]
    after = [*model.decoder.parameters()]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))


def test_functions_are_trained_again_after_a_swap_between_two_fits():
    model = VAE((1, 6, 6), 2, decoder=swapped_decoder((16,)))
    guide = VAEGuide(model, hidden=8)
    pair = (lambda x: model(x)), (lambda x: guide(x))
    images = torch.rand(4, 1, 6, 6).round()
    list(fit(*pair, [images] * 2))
    model.decoder = swapped_decoder((16,))
    before = [value.detach().clone() for value in model.decoder.parameters()]
    list(fit(*pair, [images] * 3))
    assert all((a != b).any() for a, b in zip(model.decoder.parameters(), before, strict=True))


def test_a_part_of_the_same_names_is_refused_under_the_callers_optimiser():
    model = VAE((1, 6, 6), 2, decoder=swapped_decoder((16,)))
    guide = VAEGuide(model, hidden=8)
    images = torch.rand(4, 1, 6, 6).round()
    steps = fit(model, guide, [images] * 5, optim=adam(model, guide))
    next(steps)
    model.decoder = swapped_decoder((16,))
    with pytest.raises(RuntimeError, match="decoder.* new since the first step"):
        list(steps)
