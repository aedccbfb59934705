"""What the codes of images tell: read at the guide's medians, and classified by a small network."""

import re
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import TransformedDistribution

from ..networks import mlp
from ..scene import forked

__all__ = ["Expected", "Probe", "codes", "probe"]


class Expected(Messenger):
    """Makes a program take each continuous latent's median instead of drawing it, one after another.

    Of a vector carried to another support it takes the image of the vector of medians; of a family whose
    median is not known, the mean.
    """

    def __init__(self, active: bool = True) -> None:
        super().__init__()
        self.active = active

    def _pyro_sample(self, msg: Any) -> None:
        known = msg["is_observed"] or msg["value"] is not None or site_is_subsample(msg)
        if self.active and not known and not msg["fn"].support.is_discrete:
            msg["value"] = _expected(msg["fn"])


def _expected(found: Any) -> Tensor:
    while hasattr(found, "base_dist") and not isinstance(found, TransformedDistribution):
        found = found.base_dist
    try:
        return found.icdf(torch.tensor(0.5))
    except NotImplementedError:
        pass
    if not isinstance(found, TransformedDistribution):
        return found.mean
    value = _expected(found.base_dist)
    for transform in found.transforms:
        value = transform(value)
    return value


def codes(
    guide: nn.Module, images: Float[Tensor, "n c h w"], *, site: str = "z_what"
) -> Float[Tensor, "n code"]:
    """The medians of ``z_what`` (or of ``z_what_0``, ``z_what_1``, ... side by side) for images."""
    trace = poutine.trace(Expected()(guide)).get_trace(images)
    names = [name for name in trace.nodes if re.fullmatch(rf"{re.escape(site)}(_\d+)?", name)]
    if not names:
        known = sorted({*trace.stochastic_nodes} - {"images"})
        raise ValueError(f"this guide has no site {site}: it has {known}")
    return torch.cat([trace.nodes[name]["value"] for name in names], -1)


class Probe(NamedTuple):
    """Accuracies in [0, 1] of a classifier on the codes it was trained on, and on others."""

    train: float
    test: float


def probe(
    train: tuple[Float[Tensor, "n code"], Int[Tensor, " n"]],
    test: tuple[Float[Tensor, "m code"], Int[Tensor, " m"]],
    *,
    hidden: tuple[int, ...] = (32, 32),
    epochs: int = 20,
    batch_size: int = 100,
    lr: float = 2e-3,
    seed: int = 0,
) -> Probe:
    """Trains a multilayer perceptron of rectifiers on frozen codes (Huang and Murphy, 2016, Sec. 4).

    Codes are standardised by the training codes. Adam, its learning rate falling linearly to 0.

    Args:
        train, test: Codes, and labels from 0 up.
    """
    (codes, labels), (others, truth) = train, test
    if len(codes) != len(labels) or len(others) != len(truth) or len(codes) < 2 or not len(others):
        raise ValueError("needs a label for each code, and codes to train (2 or more) and to test")
    if not (codes.isfinite().all() and others.isfinite().all()):
        raise ValueError("codes must be finite")
    codes, others = codes.detach(), others.detach()
    middle, spread = codes.mean(0), codes.std(0) + 1e-6
    codes, others = (codes - middle) / spread, (others - middle) / spread
    with forked(), torch.enable_grad():
        torch.manual_seed(seed)
        network = mlp(codes.shape[1], *hidden, int(labels.max()) + 1).to(codes)
        _train(network, codes, labels.to(codes.device), epochs, batch_size, lr)
    return Probe(*(_accuracy(network, x, y) for x, y in ((codes, labels), (others, truth))))


def _train(
    network: nn.Module, codes: Tensor, labels: Tensor, epochs: int, batch_size: int, lr: float
) -> None:
    optim = torch.optim.Adam(network.parameters(), lr)
    batches = [i for _ in range(epochs) for i in torch.randperm(len(codes)).split(batch_size)]
    for step, index in enumerate(batches):
        optim.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        optim.zero_grad()
        nn.functional.cross_entropy(network(codes[index]), labels[index]).backward()
        optim.step()


@torch.no_grad()
def _accuracy(network: nn.Module, codes: Tensor, labels: Tensor) -> float:
    return (network(codes).argmax(1).cpu() == labels.cpu()).double().mean().item()
