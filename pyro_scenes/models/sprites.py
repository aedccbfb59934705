"""Sprite scenes: ECON's generative process with other parts.

:func:`sprite_scenes` is an :class:`~pyro_scenes.models.econ.ECON` with these parts:

* all experts but two paint one shape each, at any place, in any flat colour (``SpriteDecoder``);
* the last but one paints a flat, opaque background (``FlatDecoder``), which is always the last layer;
* the last paints nothing (``EmptyDecoder``), for layers that a scene does not need; its code is masked out;
* the likelihood has heavy tails (Cauchy).

The guide is :class:`~pyro_scenes.models.sprites_guide.SpritesGuide`. In training,
``recipes.separate_experts`` assigns the sprites to classes of objects.
"""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..checks import check_sizes
from ..conditionals import Conditional, Pixels, Prior
from ..networks import EmptyDecoder, FlatDecoder, SpriteDecoder
from .econ import ECON, Scene

__all__ = ["count_sprites", "sprite_scenes"]


class BackgroundLast(nn.Module):
    """p(z_expert): uniform over sprites and the empty layer; in the last layer, the background."""

    front: Tensor
    last: Tensor

    def __init__(self, sprites: int) -> None:
        super().__init__()
        share = 1 / (sprites + 1)
        self.register_buffer("front", torch.tensor([share] * sprites + [0.0, share]))
        self.register_buffer("last", torch.tensor([0.0] * sprites + [1.0, 0.0]))

    def forward(self, scene: Scene) -> dist.Distribution:
        return dist.Categorical(self.last if scene.layer == scene.layers - 1 else self.front)


class UnlessEmpty(nn.Module):
    """p(z_what): a prior, masked out where the layer is empty."""

    def __init__(self, prior: Conditional, empty: int) -> None:
        super().__init__()
        self.prior, self.empty = prior, empty

    def forward(self, scene: Scene) -> dist.Distribution:
        prior = self.prior(scene)
        return prior if scene.z_expert is None else prior.mask(scene.z_expert != self.empty)


def sprite_scenes(
    image_shape: tuple[int, ...] = (3, 32, 32),
    sprites: int = 3,
    layers: int = 5,
    code: int = 5,
    *,
    z_what: Conditional | None = None,
    image: Conditional | None = None,
) -> ECON:
    """An ECON of sprites before a flat background.

    Args:
        image_shape: (C, H, W) of an image.
        sprites: Number of experts that paint objects; there are two more experts.
        layers: The largest number of objects, plus one for the background; one more helps training.
        code: Size of ``z_what``: 2 for the place, the rest for the colour.
        z_what: Prior of the code. Default: standard Normal.
        image: Likelihood. Default: Cauchy pixels of scale 0.05.
    """
    check_sizes(image_shape=image_shape, sprites=sprites, layers=layers, code=code)
    normal = Prior(dist.Normal, loc=[0.0] * code, scale=[1.0] * code)
    decoders: list[nn.Module] = [SpriteDecoder(code, image_shape) for _ in range(sprites)]
    model = ECON(
        image_shape,
        sprites + 2,
        layers,
        code,
        z_expert=BackgroundLast(sprites),
        z_what=UnlessEmpty(normal if z_what is None else z_what, empty=sprites + 1),
        decoders=[*decoders, FlatDecoder(code, image_shape), EmptyDecoder(image_shape)],
        image=Pixels(dist.Cauchy, scale=0.05) if image is None else image,
    )
    model.object_experts = tuple(range(sprites))
    return model


def count_sprites(model: ECON) -> int:
    """The number of sprites of a model.

    Raises:
        TypeError: Its decoders are not those of :func:`sprite_scenes`.
    """
    kinds = [SpriteDecoder] * (model.experts - 2) + [FlatDecoder, EmptyDecoder]
    if model.experts < 3 or not all(map(isinstance, model.decoders, kinds)):
        names = ", ".join(type(decoder).__name__ for decoder in model.decoders)
        raise TypeError(
            "needs a model of sprite_scenes, with the decoders SpriteDecoder (one or more), FlatDecoder, "
            f"EmptyDecoder, got {names}"
        )
    return model.experts - 2
