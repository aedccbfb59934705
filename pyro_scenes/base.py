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

from .checks import check_sizes

__all__ = ["Guide", "Model"]

_instance = count()


class _Abstract(type(PyroModule), ABCMeta):  # type: ignore[misc]  # PyroModule brings its own metaclass
    pass


class _Named(PyroModule, metaclass=_Abstract):
    blank: Tensor

    # Pyro finds parameters by name in one global store: two modules of one name, and one of them
    # silently does not train. Hence a fresh name per instance. It does not enter ``state_dict``.
    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__(f"{type(self).__name__}_{next(_instance)}")
        self.image_shape = tuple(image_shape)
        self.register_buffer("blank", torch.zeros(self.image_shape), persistent=False)


class Model(_Named):
    """A generative process over images: ``model(images)`` scores them, ``model(size=n)`` draws n.

    Attributes:
        image_shape: Shape (C, H, W) of one image.
        blank: The empty canvas, a buffer of zeros of that shape (so it carries device and dtype).
    """

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        check_sizes(image_shape=image_shape)
        super().__init__(image_shape)

    def __setattr__(self, name: str, value: Any) -> None:
        # A conditional is a module or a function, and either may replace either; torch alone refuses
        # a function where a module was.
        if name in self.__dict__.get("_modules", ()) and not isinstance(value, nn.Module):
            delattr(self, name)
        if isinstance(value, nn.Module) and "blank" in self.__dict__.get("_buffers", ()):
            value.to(self.blank)  # a part that is swapped in follows the model's device and dtype
        super().__setattr__(name, value)

    @abstractmethod
    def forward(self, images: Tensor | None = None, *, size: int = 1) -> Tensor:
        """The generative process. Returns the images, (size, C, H, W): drawn, or the given ones."""

    @abstractmethod
    def check(self) -> None:
        """Asks every part once, so that a wrong one is named here and not somewhere in a training."""

    @torch.no_grad()
    def latents(self) -> dict[str, Distribution]:
        """Each latent site's prior in one draw of the model: names, event shapes and supports.

        Raises:
            ValueError: A conditional returns no distribution, or one of the wrong shape.
        """
        self.check()
        trace = poutine.trace(self).get_trace(size=1)
        sites = ((name, trace.nodes[name]) for name in trace.stochastic_nodes if name != "image")
        return {name: site["fn"] for name, site in sites if not site_is_subsample(site)}


class Guide(_Named):
    """An amortised proposal for a model's latents given images, ``guide(images)``.

    It is built from a model and refers to it, but does not register it: the model's parameters are the
    model's alone. To copy both, copy them together: ``deepcopy((model, guide))``.

    Attributes:
        model: The model that it was built from.
    """

    model: Any

    def __init__(self, model: Model, kind: type[Model] = Model) -> None:
        if not isinstance(model, kind):
            found, wanted = type(model).__name__, kind.__name__
            raise TypeError(
                f"{type(self).__name__} must be built from a model, an instance of {wanted}, got {found}"
            )
        super().__init__(model.image_shape)
        self.__dict__["model"] = model  # past nn.Module, which would register it

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "model":
            raise AttributeError("a guide keeps the model it was built from: build a new guide")
        super().__setattr__(name, value)

    @abstractmethod
    def forward(self, images: Tensor) -> None:
        """Draws every latent of the model for these images, (size, C, H, W)."""
