"""What the codes of images say: read at the guide's medians, and classified by a small network."""

import re
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..handlers import expected
from ..networks import mlp
from ..pairs import warn_training_mode
from ..random import fork_rng
from .arguments import checked, split
from .training import as_floats, descend

__all__ = ["CodeAccuracy", "Probe", "code_accuracy", "codes", "probe"]


@checked
def codes(
    guide: nn.Module,
    images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"],
    *,
    site: str = "z_what",
    chunk: int = 500,
) -> Float[Tensor, "n code"]:
    """The medians of ``z_what`` (or of ``z_what_0``, ``z_what_1``, ... side by side) for images.

    Args:
        images: uint8, or float in [0, 1], on the guide's device.
        site: The name, without the number of a layer.
        chunk: Images at a time, which bounds the memory.

    Raises:
        ValueError: The guide has no such site, or there are no images.
    """
    warn_training_mode(guide)
    return torch.cat([_codes(guide, part, site) for part in split(images, chunk)])


def _codes(guide: nn.Module, images: Tensor, site: str) -> Float[Tensor, "n code"]:
    images = as_floats(images)
    trace = poutine.trace(expected()(guide)).get_trace(images)
    names = [name for name in trace.nodes if re.fullmatch(rf"{re.escape(site)}(_\d+)?", name)]
    if not names:
        known = sorted({*trace.stochastic_nodes} - {"images"})
        raise ValueError(f"this guide has no site {site}: it has {known}")
    return torch.cat([trace.nodes[name]["value"] for name in names], -1)


class Probe(NamedTuple):
    """Accuracies in [0, 1] of a classifier of codes; the commonest label's share is the floor."""

    train: float  # on the codes it was trained on
    test: float  # on others


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

    Raises:
        ValueError: Not a label for each code, too few codes, or codes that are not finite.
    """
    (codes, labels), (others, truth) = train, test
    _check_codes(codes, labels, least=2)
    _check_codes(others, truth, least=1)
    codes, others, labels = codes.detach(), others.detach(), labels.to(codes.device)
    middle, spread = codes.mean(0), codes.std(0) + 1e-6
    codes, others = (codes - middle) / spread, (others - middle) / spread
    with fork_rng(seed), torch.enable_grad():
        network = mlp(codes.shape[1], *hidden, int(labels.max()) + 1).to(codes)
        orders = [torch.randperm(len(codes)).split(batch_size) for _ in range(epochs)]
        descend(
            torch.optim.Adam(network.parameters(), lr),
            [index for order in orders for index in order],
            lambda index: cross_entropy(network(codes[index]), labels[index]),
        )
    return Probe(*(_accuracy(network, x, y) for x, y in ((codes, labels), (others, truth))))


@checked
def _check_codes(codes: Float[Tensor, "n code"], labels: Int[Tensor, " n"], least: int) -> None:
    if len(codes) != len(labels) or len(codes) < least:
        raise ValueError("needs a label for each code, and codes to train (2 or more) and to test")
    if not codes.isfinite().all():
        raise ValueError("codes must be finite")


class CodeAccuracy(NamedTuple):
    """Shares of scenes, in [0, 1], of which a classifier reads all digits from the codes, in any order.

    Floor: codes of an untrained guide, by the same function. The commonest answer has about .1 for one digit
    and .02 for two.
    """

    code_accuracy: float  # of scenes that the classifier was not trained on
    code_accuracy_train: float  # of those that it was trained on


def code_accuracy(
    guide: nn.Module,
    train: tuple[Tensor, Int[Tensor, "n objects"]],
    test: tuple[Tensor, Int[Tensor, "m objects"]],
    *,
    epochs: int = 20,
) -> CodeAccuracy:
    """Trains a classifier of codes by :func:`probe`, as Huang and Murphy (2016, Sec. 4) do.

    It has two hidden layers of 32 for one digit, of 256 for more.

    Args:
        train, test: Images, as of :func:`codes`, and the labels from 0 to 9 of their digits.
        epochs: Of the training of the classifier.
    """
    (images, labels), (others, truth) = train, test
    numbers, true_numbers = _as_number(labels), _as_number(truth)
    one = labels.shape[1] == 1
    found = probe(
        (codes(guide, images), numbers),
        (codes(guide, others), true_numbers),
        hidden=(32, 32) if one else (256, 256),
        epochs=epochs,
        lr=2e-3 if one else 1e-3,
    )
    return CodeAccuracy(found.test, found.train)


@checked
def _as_number(labels: Int[Tensor, "n objects"]) -> Int[Tensor, " n"]:
    """The digits in a row, the least first."""
    places = 10 ** torch.arange(labels.shape[1], device=labels.device).flip(0)
    return (labels.sort(1).values * places).sum(1)


@torch.no_grad()
def _accuracy(network: nn.Module, codes: Tensor, labels: Tensor) -> float:
    return (network(codes).argmax(1).cpu() == labels.cpu()).double().mean().item()
