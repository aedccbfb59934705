"""Sets the experts of sprite scenes apart, by the shapes and the colours that their guide finds."""

import warnings
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from pyro import poutine
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..checks import check_images, check_sizes
from ..handlers import expected
from ..models import ECON, SpritesGuide
from ..networks import FlatDecoder, SpriteDecoder, typical_colour
from ..render import centroid, warp

__all__ = ["colour_experts", "separate_experts"]

#: How far from 0 and 1 an expert's opacity starts.
OPACITY_MARGIN = 0.02
#: Logits of an expert's colours differ by this standard deviation at least: else no code could make another.
LEAST_DEVIATION = 0.1
#: A colour further than so many robust deviations from the median is an outlier, if fewer than a share are.
FAR_DEVIATIONS, OUTLIER_SHARE = 3.5, 0.25
#: With fewer objects than these an expert keeps its colours.
LEAST_OBJECTS = 10
#: Images that are explained at a time, to bound memory.
CHUNK = 100


def separate_experts(
    model: ECON,
    guide: SpritesGuide,
    images: Float[Tensor, "n c h w"],
    optim: Optimizer | None = None,
    *,
    steps: int = 300,
    tries: int = 10,
) -> Int[Tensor, " sprites"]:
    """Gives each expert one cluster of the shapes in front.

    Left alone, experts break their symmetry by chance (the paper picks the best of 512 trainings). So once
    attention finds objects, the regions of front layers are centred and clustered by k-means. Each
    expert's opacity is fitted to the mean of a cluster, its colours as by :func:`colour_experts`; all else is
    copied from the expert that wins most. No label is seen.

    Args:
        model: Of ``sprite_scenes``, with sprites of one shape each (``shape=0``).
        guide: Its guide, trained for a hundred steps or so.
        images: Some hundreds.
        optim: Forgets its state of the parameters that are replaced.
        steps: Steps of Adam, for each expert.
        tries: Starts of k-means; the best result is taken.

    Returns:
        The sizes of the clusters.

    Raises:
        TypeError: Model, guide, experts or ``optim`` are of another kind.
        ValueError: Bad images or sizes, a guide of another model; fewer objects, or kinds of them, than
            experts. Nothing is changed.
    """
    check_sizes(steps=steps, tries=tries)
    sprites = _sprites(model, guide, images, optim)
    front = explain_fronts(guide, images)
    if len(front.shapes) < len(sprites):
        raise ValueError(
            f"found {len(front.shapes)} objects in {len(images)} images, for {len(sprites)} experts: "
            "give more images, or train longer first"
        )
    means, labels = _clusters(front.shapes, len(sprites), tries)
    sizes = labels.bincount(minlength=len(sprites))
    if not sizes.all():
        raise ValueError(
            f"found {int(sizes.count_nonzero())} kinds of shapes, for {len(sprites)} experts: give more "
            "images, train longer first, or take fewer experts"
        )
    best = int(front.winners.bincount(minlength=len(sprites)).argmax())
    copies = [
        (part, deepcopy(part[best].state_dict())) for part in (model.decoders, guide.proposals)
    ]
    for k, mean in enumerate(means):
        for part, state in copies:
            part[k].load_state_dict(state)
        _fit_opacity(sprites[k], mean, steps)
    coloured = _fit_colours(model, front.colours, labels, front.backgrounds)
    _forget(optim, *coloured, *model.decoders, *guide.proposals)
    return sizes


def colour_experts(
    model: ECON,
    guide: SpritesGuide,
    images: Float[Tensor, "n c h w"],
    optim: Optimizer | None = None,
) -> Int[Tensor, " sprites"]:
    """Gives each expert, and the background, the colours of what it wins, so that the prior draws such.

    Gradients hardly teach that a class has no other colours. So this fits the mean and the principal axes of
    the colours' logits. Outliers, if fewer than a quarter, are taken for other classes and left out.

    Args:
        model: Of ``sprite_scenes``.
        guide: Its guide, once each expert has a class.
        images: Some hundreds.
        optim: Forgets its state of the colours that are fitted.

    Returns:
        How many objects in front each expert wins. With fewer than ten it keeps its colours; so does the
        background with fewer than ten images.

    Raises:
        TypeError: Model, guide, experts or ``optim`` are of another kind.
        ValueError: Bad images, or a guide of another model.
    """
    sprites = _sprites(model, guide, images, optim)
    front = explain_fronts(guide, images)
    _forget(optim, *_fit_colours(model, front.colours, front.winners, front.backgrounds))
    return front.winners.bincount(minlength=len(sprites))


class Fronts(NamedTuple):
    """The objects of front layers, and the backgrounds behind them."""

    shapes: Float[Tensor, "objects h w"]  # their regions, centred
    colours: Float[Tensor, "objects c"]  # that most of each region has
    winners: Int[Tensor, " objects"]  # their experts
    backgrounds: Float[Tensor, "n c"]  # the colours of the last layers, of each image


def _sprites(
    model: ECON, guide: SpritesGuide, images: Tensor, optim: Optimizer | None
) -> list[SpriteDecoder]:
    """The experts of objects, if all is as it must be."""
    if not isinstance(model, ECON) or not isinstance(guide, SpritesGuide):
        given = f"{type(model).__name__} and {type(guide).__name__}"
        raise TypeError(f"needs a model ECON, then its guide SpritesGuide, got {given}")
    check_images(images, model.blank)
    if guide.model is not model:
        raise ValueError("the guide was built from a different model: give that model")
    if not isinstance(optim, Optimizer | None):
        raise TypeError(f"optim must be an optimiser of torch, or None, got {optim!r}")
    sprites = [*model.decoders][: guide.sprites]
    if any(sprite.shape for sprite in sprites):
        raise TypeError("needs sprites of one shape each: SpriteDecoder(shape=0)")
    return sprites


@torch.no_grad()
def explain_fronts(guide: SpritesGuide, images: Tensor) -> Fronts:
    """What the guide takes for the first layer of each image, in evaluation mode."""
    training = guide.training
    guide.eval()
    try:
        parts = [_explain(guide, chunk) for chunk in images.split(CHUNK)]
    finally:
        guide.train(training)
    return Fronts(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _explain(guide: SpritesGuide, images: Tensor) -> Fronts:
    with poutine.trace() as recorded, expected():
        guide(images)
    nodes = recorded.trace.nodes
    shares = nodes["z_region"]["fn"].probs.permute(1, 2, 0).unflatten(2, images.shape[2:])
    regions, backgrounds = shares[:, :1], shares[:, -2, None]  # the very last is "no layer"
    winners = nodes["z_expert_0"]["value"]
    objects = winners < guide.sprites
    regions = regions[objects]
    transform = torch.eye(2, 3).to(regions).repeat(len(regions), 1, 1)
    transform[:, :, 2] = centroid(regions)
    shapes = warp(regions, transform, regions.shape[-2:])[:, 0]
    colours = typical_colour(images[objects], regions)
    return Fronts(shapes, colours, winners[objects], typical_colour(images, backgrounds))


def _clusters(shapes: Tensor, number: int, tries: int) -> tuple[Tensor, Tensor]:
    """Means (number, H, W) of clusters, and the cluster (objects,) of each shape."""
    from scipy.cluster.vq import kmeans2  # here, as importing it changes warning filters

    flat = shapes.flatten(1).cpu().double().numpy()
    results = []
    for seed in range(tries):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster is an error of the caller's
            means, labels = kmeans2(flat, number, minit="++", seed=seed)
        results.append((((flat - means[labels]) ** 2).sum(), means, labels))
    _, means, labels = min(results, key=lambda result: result[0])
    means = torch.as_tensor(means).to(shapes).unflatten(1, shapes.shape[1:])
    return means, torch.as_tensor(labels).to(shapes.device)


def _fit_opacity(sprite: SpriteDecoder, mean: Tensor, steps: int) -> None:
    """Fits a sprite's opacity to a picture (H, W) of it in the middle."""
    wanted = mean.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    optim = Adam(sprite.opacity.parameters(), lr=1e-2)
    middle = sprite.grid.new_zeros(1, sprite.code)
    for _ in range(steps):
        optim.zero_grad()
        logits = sprite(middle)[0, -1]
        nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum").backward()
        optim.step()
    sprite.zero_grad()


def _fit_colours(
    model: ECON, colours: Tensor, owners: Tensor, backgrounds: Tensor
) -> list[nn.Module]:
    """Fits experts to the colours (objects, C) that they own, and the background. Returns what was fitted."""
    fitted: list[nn.Module] = []
    for k, expert in enumerate(model.decoders):
        if isinstance(expert, SpriteDecoder | FlatDecoder):
            flat = isinstance(expert, FlatDecoder)
            own = backgrounds if flat else _without_outliers(colours[owners == k])
            if len(own) >= LEAST_OBJECTS:
                _fit_moments(expert.colour, own)
                fitted.append(expert.colour)
    return fitted


def _forget(optim: Optimizer | None, *parts: nn.Module) -> None:
    if optim is not None:
        for part in parts:
            for value in part.parameters():
                optim.state.pop(value, None)


def _without_outliers(colours: Tensor) -> Tensor:
    """These colours (n, C) without outliers, by the modified z-score (Iglewicz and Hoaglin, 1993)."""
    if not len(colours):
        return colours
    logits = torch.logit(colours, eps=0.01)
    distance = (logits - logits.median(0).values).abs()
    deviation = (1.4826 * distance.median(0).values).clamp(min=LEAST_DEVIATION)
    typical = (distance <= FAR_DEVIATIONS * deviation).all(1)
    return colours[typical] if typical.float().mean() > 1 - OUTLIER_SHARE else colours


@torch.no_grad()
def _fit_moments(layer: Any, colours: Tensor) -> None:
    """Colours (n, C) of standard Normal codes get the mean and the principal axes of these, as logits."""
    logits = torch.logit(colours, eps=0.01)
    distance = logits - logits.mean(0)
    variances, axes = torch.linalg.eigh(distance.mT @ distance / len(distance))
    spreads, number = variances.clamp(min=LEAST_DEVIATION**2).sqrt(), min(layer.weight.shape)
    layer.weight.zero_()
    layer.weight[:, :number] = (axes * spreads).flip(1)[:, :number]
    layer.bias.copy_(logits.mean(0))
