"""Model and Guide: the abstract bases of all models and guides."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import Distribution
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from .checks import check_images, check_sizes
from .networks.unseen import with_mask
from .random import fork_rng

__all__ = ["Guide", "Model"]

_instance = count()


class _Abstract(type(PyroModule), ABCMeta):  # type: ignore[misc]  # PyroModule has a metaclass
    pass


class _Named(PyroModule, metaclass=_Abstract):
    blank: Tensor

    # Pyro's global parameter store is keyed by name: of two modules with one name, one silently does not
    # train. So each instance has its own name, which does not enter ``state_dict``.
    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__(f"{type(self).__name__}_{next(_instance)}")
        self.image_shape = tuple(image_shape)
        self.register_buffer("blank", torch.zeros(self.image_shape), persistent=False)

    def __setattr__(self, name: str, value: Any) -> None:
        # torch refuses to replace a module by a function; here a conditional may be either.
        if name in self.__dict__.get("_modules", ()) and not isinstance(value, nn.Module):
            delattr(self, name)
        if isinstance(value, nn.Module) and "blank" in self.__dict__.get("_buffers", ()):
            value.to(self.blank)  # a new part takes the model's device and dtype
        super().__setattr__(name, value)


class Model(_Named):
    """A generative process of images: ``model(images)`` scores images, ``model(size=n)`` draws n.

    Attributes:
        image_shape: (C, H, W) of an image.
        blank: The empty canvas, a buffer of zeros, whose device and dtype are the model's.
    """

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        check_sizes(image_shape=image_shape)
        super().__init__(image_shape)

    @abstractmethod
    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        """The generative process. Returns the images (n, C, H, W): the argument, or ``size`` draws."""

    @abstractmethod
    def check_parts(self) -> None:
        """Calls each part once and raises a ValueError that names a wrong one."""

    def check(self) -> None:
        """The same in evaluation mode, without gradients, and with torch's random state restored."""
        with torch.no_grad(), fork_rng(), _evaluating(self):
            self.check_parts()

    @torch.no_grad()
    def latents(self) -> dict[str, Distribution]:
        """Each latent site's prior, by name, in one draw of the model, in evaluation mode.

        Raises:
            ValueError: A conditional returns no distribution, or one of the wrong shape.
        """
        self.check()
        with _evaluating(self):
            trace = poutine.trace(self).get_trace(size=1)
        sites = ((name, trace.nodes[name]) for name in trace.stochastic_nodes if name != "image")
        return {name: site["fn"] for name, site in sites if not site_is_subsample(site)}


class Guide(_Named):
    """An amortised proposal for a model's latents given images, ``guide(images)``.

    A guide refers to its model but does not own the model's parameters. Copy both at once:
    ``deepcopy((model, guide))``.

    Attributes:
        model: The model from which the guide was built.
        missing: Whether its encoders read one more channel, 1 where a pixel is seen and 0 where it is not
            (NaN). Without it, give the guide as ``Blind(guide)`` where there are unseen pixels.
    """

    model: Any

    #: Not set where it is False: checkpoints from before it name no such setting.
    missing: bool = False

    def __init__(self, model: Model, kind: type[Model] = Model, *, missing: bool = False) -> None:
        if not isinstance(model, kind):
            raise TypeError(
                f"{type(self).__name__} must be built from a model, an instance of {kind.__name__}, got "
                f"{type(model).__name__}"
            )
        super().__init__(model.image_shape)
        self.__dict__["model"] = model  # not registered as a submodule
        if missing:
            self.missing = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "model":
            raise AttributeError("a guide keeps its model: build a new guide from the other model")
        super().__setattr__(name, value)

    def see(self, images: Tensor) -> Float[Tensor, "n d h w"]:
        """What encoders read: with ``missing``, 0 for unseen pixels, and the mask as the last channel."""
        check_images(images, self.blank)
        return with_mask(images) if self.missing else images

    def see_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (channels, height, width) in which pictures of this shape are read."""
        return (shape[0] + self.missing, *shape[1:])

    @abstractmethod
    def forward(self, images: Tensor) -> None:
        """Draws all latents of the model for images (n, C, H, W)."""


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout and running means rest; each submodule's mode is restored when the block ends."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
