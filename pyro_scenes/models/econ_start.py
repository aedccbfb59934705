"""Experts set apart, and coloured, by data: by the shapes that a guide of ECON finds."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..checks import check_images, check_sizes
from ..networks import FlatDecoder, SpriteDecoder, typical_colour
from ..render import centroid, warp
from .econ import ECON
from .econ_guide import ECONGuide, median

__all__ = ["colour_experts", "separate_experts"]

#: How far from 0 and 1 an expert's opacity starts.
MARGIN = 0.02
#: Logits of an expert's colours differ by this much at least: else no code could make another.
LEAST = 0.1
#: A cluster's colours further than this from its median, in robust deviations, are of other shapes...
FAR = 3.5
#: ... if they are fewer than this share of it.
FEW = 0.25
#: Fewer objects than these tell nothing of a class's colours.
LITTLE = 10


def separate_experts(
    model: ECON,
    guide: ECONGuide,
    images: Float[Tensor, "n c h w"],
    optim: Optimizer | None = None,
    *,
    steps: int = 300,
    tries: int = 10,
) -> Int[Tensor, " experts"]:
    """Gives each expert one cluster of the shapes in front.

    Left to themselves, experts break their symmetry by chance: one may keep two classes, and another the odds
    and ends of all. (The paper picks the best of 512 trainings.) So once attention finds objects, and before
    experts differ, their regions are centred and clustered by k-means; each expert's opacity is fitted to
    one cluster's mean, its colours as by :func:`colour_experts`, and all else of it is copied from the expert
    that wins most. No label is seen.

    Args:
        model: With a :class:`SpriteDecoder` for each expert, the background's aside, of fixed shape.
        guide: Its guide, trained for a hundred steps or so.
        images: Some hundreds.
        optim: Its state of these parts is forgotten.
        steps: Of Adam, for each expert.
        tries: Of k-means, from different starts; the best is taken.

    Returns:
        The sizes of the clusters.

    Raises:
        TypeError: Model, guide, experts or ``optim`` are of another kind.
        ValueError: Bad images or sizes, a guide of another model; fewer objects, or kinds of them, than
            experts. Nothing is changed.
    """
    check_sizes(steps=steps, tries=tries)
    sprites = _sprites(model, guide, images, optim)
    shapes, colours, grounds, winners = front_shapes(model, guide, images)
    if len(shapes) < len(sprites):
        raise ValueError(
            f"found {len(shapes)} objects in {len(images)} images, for {len(sprites)} experts: give "
            "more images, or train longer first"
        )
    means, labels = _clusters(shapes, len(sprites), tries)
    sizes = labels.bincount(minlength=len(sprites))
    if not sizes.all():
        raise ValueError(
            f"found {int(sizes.count_nonzero())} kinds of shapes, for {len(sprites)} experts: give more "
            "images, train longer first, or take fewer experts"
        )
    best = int(winners.bincount(minlength=len(sprites)).argmax())
    for k, mean in enumerate(means):
        for part in (model.decoders, guide.proposals):
            part[k].load_state_dict(part[best].state_dict())
        _fit(sprites[k], mean, steps)
    _forget(optim, *_colour(model, colours, labels, grounds), *model.decoders, *guide.proposals)
    return sizes


def colour_experts(
    model: ECON,
    guide: ECONGuide,
    images: Float[Tensor, "n c h w"],
    optim: Optimizer | None = None,
) -> Int[Tensor, " experts"]:
    """Gives each expert the colours of what it wins, and a flat background its own: the prior draws such.

    By gradients a class's colours are learned, but hardly that there are no others: a spread that is too
    wide costs little. So this fits the mean and the principal axes of the colours' logits. Outliers, if they
    are fewer than a quarter of what an expert wins, are taken for objects of other classes and left out.

    Args:
        model: With a :class:`SpriteDecoder` for each expert, the background's aside.
        guide: Its guide, once each expert has a class.
        images: Some hundreds.
        optim: Its state of the colours that are fitted is forgotten.

    Returns:
        How many objects in front each expert wins. With fewer than ten it keeps its colours; so does the
        background with fewer than ten images.

    Raises:
        TypeError: Model, guide, experts or ``optim`` are of another kind.
        ValueError: Bad images, or a guide of another model.
    """
    sprites = _sprites(model, guide, images, optim)
    _, colours, grounds, winners = front_shapes(model, guide, images)
    _forget(optim, *_colour(model, colours, winners, grounds))
    return winners.bincount(minlength=len(sprites))


class Found(NamedTuple):
    """The first layers where there is an object."""

    shapes: Float[Tensor, "found h w"]  # their regions, centred
    colours: Float[Tensor, "found c"]  # that most of each region has
    grounds: Float[Tensor, "n c"]  # those of the last layer of each image
    winners: Int[Tensor, " found"]  # their experts


def _sprites(
    model: ECON, guide: ECONGuide, images: Tensor, optim: Optimizer | None
) -> list[SpriteDecoder]:
    """The experts of objects, if all is as it must be."""
    if not isinstance(model, ECON) or not isinstance(guide, ECONGuide):
        found = f"{type(model).__name__} and {type(guide).__name__}"
        raise TypeError(f"needs a model ECON, then its guide ECONGuide, got {found}")
    check_images(images, model.blank)
    if guide.model is not model:
        raise ValueError("this guide is of another model: give the one that it was built from")
    if not isinstance(optim, Optimizer | None):
        raise TypeError(f"optim must be an optimiser of torch, or None, got {optim!r}")
    sprites = [
        part for part in model.decoders if isinstance(part, SpriteDecoder) and not part.shape
    ]
    if not model.background or len(sprites) != model.experts - 1:
        raise TypeError(
            "needs a background, and for all else SpriteDecoder of fixed shape (shape=0)"
        )
    return sprites


@torch.no_grad()
def front_shapes(model: ECON, guide: ECONGuide, images: Tensor) -> Found:
    training = guide.training
    guide.eval()
    try:
        parts = guide.explain(images, median)
    finally:
        guide.train(training)
    there = parts[0].z_expert < model.experts - 1
    regions = parts[0].log_region[there].exp()
    transform = torch.eye(2, 3).to(regions).repeat(len(regions), 1, 1)
    transform[:, :, 2] = centroid(regions)
    return Found(
        warp(regions, transform, regions.shape[-2:])[:, 0],
        typical_colour(images[there], regions),
        typical_colour(images, parts[-1].log_region.exp()),
        parts[0].z_expert[there],
    )


def _clusters(shapes: Tensor, number: int, tries: int) -> tuple[Tensor, Tensor]:
    """Means (number, H, W) of clusters, and the cluster (found,) of each shape."""
    from scipy.cluster.vq import kmeans2  # here, as importing it changes warning filters

    flat = shapes.flatten(1).cpu().double().numpy()
    found = []
    for seed in range(tries):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster is an error above
            means, labels = kmeans2(flat, number, minit="++", seed=seed)
        found.append((((flat - means[labels]) ** 2).sum(), means, labels))
    _, means, labels = min(found, key=lambda one: one[0])
    means = torch.as_tensor(means).to(shapes).unflatten(1, shapes.shape[1:])
    return means, torch.as_tensor(labels).to(shapes.device)


def _fit(sprite: SpriteDecoder, mean: Tensor, steps: int) -> None:
    """Fits a sprite's opacity to a picture (H, W) of it in the middle."""
    wanted = mean.clamp(MARGIN, 1 - MARGIN)
    optim = Adam(sprite.opacity.parameters(), lr=1e-2)
    middle = sprite.grid.new_zeros(1, sprite.code)
    for _ in range(steps):
        optim.zero_grad()
        found = sprite(middle)[0, -1]
        nn.functional.binary_cross_entropy_with_logits(found, wanted, reduction="sum").backward()
        optim.step()
    sprite.zero_grad()


def _colour(model: ECON, colours: Tensor, owners: Tensor, grounds: Tensor) -> Iterator[nn.Module]:
    """Fits experts to the colours (found, C) that they own, and a flat background; what was fitted."""
    for k, expert in enumerate(model.decoders):
        if isinstance(expert, SpriteDecoder | FlatDecoder):
            last = k == model.experts - 1
            own = grounds if last else _typical(colours[owners == k])
            if len(own) >= LITTLE:
                _paint(expert.colour.weight, expert.colour.bias, own)
                yield expert.colour


def _forget(optim: Optimizer | None, *parts: nn.Module) -> None:
    if optim is not None:
        for part in parts:
            for value in part.parameters():
                optim.state.pop(value, None)


def _typical(colours: Tensor) -> Tensor:
    """These colours (n, C) without outliers, by the modified z-score (Iglewicz and Hoaglin, 1993)."""
    if not len(colours):
        return colours
    logits = torch.logit(colours, eps=0.01)
    away = (logits - logits.median(0).values).abs()
    deviation = (1.4826 * away.median(0).values).clamp(min=LEAST)
    typical = (away <= FAR * deviation).all(1)
    return colours[typical] if typical.float().mean() > 1 - FEW else colours


@torch.no_grad()
def _paint(weight: Tensor, bias: Tensor, colours: Tensor) -> None:
    """Colours (n, C) of standard Normal codes have the mean and the principal axes of these, as logits."""
    logits = torch.logit(colours, eps=0.01)
    away = logits - logits.mean(0)
    spreads, axes = torch.linalg.eigh(away.mT @ away / len(away))
    number = min(weight.shape)
    weight.zero_()
    weight[:, :number] = (axes * spreads.clamp(min=LEAST**2).sqrt()).flip(1)[:, :number]
    bias.copy_(logits.mean(0))
