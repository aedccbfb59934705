"""Experts set apart by data: clusters of the shapes that a guide of ECON finds."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..networks import SpriteDecoder
from ..render import centroid, warp
from .econ import ECON
from .econ_guide import ECONGuide, median

__all__ = ["separate_experts"]

#: How far from 0 and 1 an expert's opacity starts.
MARGIN = 0.02


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
    one cluster's mean, and all else of it is copied from the expert that wins most. No label is seen.

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
        TypeError: The experts are of another kind.
        ValueError: Fewer objects are found than there are experts.
    """
    sprites = [
        part for part in model.decoders if isinstance(part, SpriteDecoder) and not part.shape
    ]
    if not model.background or len(sprites) != model.experts - 1:
        raise TypeError(
            "needs a background, and for all else SpriteDecoder of fixed shape (shape=0)"
        )
    shapes, winners = front_shapes(model, guide, images)
    if len(shapes) < len(sprites):
        raise ValueError(
            f"found {len(shapes)} objects in {len(images)} images, for {len(sprites)} experts: give "
            "more images, or train longer first"
        )
    means, sizes = _clusters(shapes, len(sprites), tries)
    best = int(winners.bincount(minlength=len(sprites)).argmax())
    for k, mean in enumerate(means):
        for part in (model.decoders, guide.proposals):
            part[k].load_state_dict(part[best].state_dict())
        _fit(sprites[k], mean, steps)
    for part in (*sprites, *guide.proposals[: len(sprites)]):
        for value in part.parameters():
            if optim is not None:
                optim.state.pop(value, None)
    return sizes


@torch.no_grad()
def front_shapes(
    model: ECON, guide: ECONGuide, images: Tensor
) -> tuple[Float[Tensor, "found h w"], Int[Tensor, " found"]]:
    """The regions of the first layers where there is an object, centred; and their experts."""
    training = guide.training
    guide.eval()
    part = guide.explain(images, median)[0]
    guide.train(training)
    there = part.z_expert < model.experts - 1
    regions = part.region[there].exp()
    transform = torch.eye(2, 3).to(regions).repeat(len(regions), 1, 1)
    transform[:, :, 2] = centroid(regions)
    return warp(regions, transform, regions.shape[-2:])[:, 0], part.z_expert[there]


def _clusters(shapes: Tensor, number: int, tries: int) -> tuple[Tensor, Tensor]:
    """Means (number, H, W) of clusters, and their sizes (number,)."""
    from scipy.cluster.vq import kmeans2  # here, as importing it changes warning filters

    flat = shapes.flatten(1).cpu().double().numpy()
    found = []
    for seed in range(tries):
        means, labels = kmeans2(flat, number, minit="++", seed=seed)
        found.append((((flat - means[labels]) ** 2).sum(), means, labels))
    _, means, labels = min(found, key=lambda one: one[0])
    sizes = torch.as_tensor(labels).bincount(minlength=number)
    return torch.as_tensor(means).to(shapes).unflatten(1, shapes.shape[1:]), sizes


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
