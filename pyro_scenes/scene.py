"""Model and Guide: the two abstract bases that every paper's file builds on."""

from abc import ABCMeta, abstractmethod
from itertools import count
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

__all__ = ["Guide", "Model", "check_images"]

_instance = count()


class _Abstract(type(PyroModule), ABCMeta):  # type: ignore[misc]  # PyroModule brings its own metaclass
    pass


class _Named(PyroModule, metaclass=_Abstract):
    # Pyro finds parameters by name in one global store: two modules of one name, and one of them
    # silently does not train. Hence a fresh name per instance. It does not enter ``state_dict``.
    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__(f"{type(self).__name__}_{next(_instance)}")
        self.image_shape = tuple(image_shape)


class Model(_Named):
    """A generative process over images: ``model(images)`` scores them, ``model(size=n)`` draws n.

    Attributes:
        image_shape: Shape (C, H, W) of one image.
        blank: The empty canvas, a buffer of zeros of that shape (so it carries device and dtype).
    """

    blank: Tensor

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__(image_shape)
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape must be (channels, height, width), got {image_shape}")
        self.register_buffer("blank", torch.zeros(self.image_shape), persistent=False)

    def __setattr__(self, name: str, value: Any) -> None:
        # A conditional is a module or a function, and either may replace either; torch alone refuses
        # a function where a module was.
        if name in self.__dict__.get("_modules", ()) and not isinstance(value, nn.Module):
            delattr(self, name)
        if isinstance(value, nn.Module) and "blank" in self.__dict__.get("_buffers", ()):
            value.to(self.blank.device)  # a part that is swapped in follows the model
        super().__setattr__(name, value)

    @abstractmethod
    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        """The generative process. Returns the images, (size, C, H, W): drawn, or the given ones."""

    @torch.no_grad()
    def latents(self) -> dict[str, Distribution]:
        """Each latent site's prior in one draw of the model: names, event shapes and supports."""
        trace = poutine.trace(self).get_trace(size=1)
        sites = ((name, trace.nodes[name]) for name in trace.stochastic_nodes if name != "image")
        return {name: site["fn"] for name, site in sites if not site_is_subsample(site)}


class Guide(_Named):
    """An amortised proposal for a model's latents given images, ``guide(images)``.

    It is built from a model, keeps its sizes, and never the model itself: a module held here would
    register its parameters a second time, under the guide's name.
    """

    def __init__(self, model: Model) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"a guide is built from a model, got {type(model).__name__}")
        super().__init__(model.image_shape)

    @abstractmethod
    def forward(self, images: Tensor) -> None:
        """Draws every latent of the model for these images, (size, C, H, W)."""


def check_images(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns the images if they are a batch (n, C, H, W) of floats in [0, 1], n > 0, of this shape.

    Raises:
        ValueError: Another rank, size or range, an empty batch, or NaN.
        TypeError: Not a tensor of floats.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a float tensor, got {kind}: see data.as_images")
    if images.dim() != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(
            f"images must have shape (n, {', '.join(map(str, shape))}), got {tuple(images.shape)}"
        )
    if len(images) == 0:
        raise ValueError("images is an empty batch: at least one image is needed")
    low, high = (limit.item() for limit in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also catches NaN, which compares false
        raise ValueError(
            f"images must lie in [0, 1], found [{low:.4g}, {high:.4g}]: divide by their maximum, "
            "and remove NaN"
        )
    return images
