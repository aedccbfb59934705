"""Model and Guide: the two abstract bases that every paper's file builds on."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

__all__ = ["Guide", "Model", "ask", "check_decoder", "check_images", "check_sizes", "forked"]

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
            ValueError: A conditional is none, or one of another shape (see :meth:`check`).
        """
        self.check()
        trace = poutine.trace(self).get_trace(size=1)
        sites = ((name, trace.nodes[name]) for name in trace.stochastic_nodes if name != "image")
        return {name: site["fn"] for name, site in sites if not site_is_subsample(site)}


class Guide(_Named):
    """An amortised proposal for a model's latents given images, ``guide(images)``.

    It is built from a model, and the model is no part of it: a module held here would register its
    parameters a second time, under the guide's name.
    """

    def __init__(self, model: Model, kind: type[Model] = Model) -> None:
        if not isinstance(model, kind):
            found, wanted = type(model).__name__, kind.__name__
            raise TypeError(f"{type(self).__name__} is built from a model, {wanted}, got {found}")
        super().__init__(model.image_shape)

    @abstractmethod
    def forward(self, images: Tensor) -> None:
        """Draws every latent of the model for these images, (size, C, H, W)."""


@contextmanager
def forked(seed: int | None = None) -> Iterator[None]:
    """Random draws inside leave those outside as if nothing had been drawn, on the CPU and on GPUs in use.

    Args:
        seed: Of the draws inside. None: they go on from those before.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def check_images(images: Tensor, blank: Tensor) -> Tensor:
    """Returns the images if they are a batch (n, C, H, W) of floats in [0, 1], n > 0, like the canvas.

    Args:
        images: What a model or a guide was called with.
        blank: Its blank canvas (C, H, W): their shape, dtype and device.

    Raises:
        ValueError: Another rank, size, dtype, device or range, an empty batch, or NaN.
        TypeError: Not a tensor of floats.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a float tensor, got {kind}: uint8 images are divided by 255"
        )
    if images.dim() != 4 or images.shape[1:] != blank.shape:
        wanted = ", ".join(map(str, blank.shape))
        raise ValueError(f"images must have shape (n, {wanted}), got {tuple(images.shape)}")
    if (images.dtype, images.device) != (blank.dtype, blank.device):
        raise ValueError(
            f"images are {images.dtype} on {images.device}, the model is {blank.dtype} on "
            f"{blank.device}: images.to(model.blank)"
        )
    if len(images) == 0:
        raise ValueError("images is an empty batch: at least one image is needed")
    low, high = (limit.item() for limit in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also catches NaN, which compares false
        raise ValueError(f"images must lie in [0, 1] without NaN, found [{low:.4g}, {high:.4g}]")
    return images


def check_sizes(**sizes: Any) -> None:
    """Raises a ValueError unless each is a whole number from 1 up, or a shape (C, H, W) of three."""
    for name, size in sizes.items():
        shape = "shape" in name or name == "window"
        numbers = size if isinstance(size, list | tuple) else [size]
        if len(numbers) != (3 if shape else 1) or any(type(n) is not int or n < 1 for n in numbers):
            wanted = "(channels, height, width)" if shape else "a whole number"
            raise ValueError(f"{name} must be {wanted}, from 1 up, got {size!r}")


def check_decoder(
    name: str, decoder: Callable[[Tensor], Tensor], codes: Tensor, *shapes: tuple[int, ...]
) -> Tensor:
    """Decodes codes (1, size) once and returns what comes out.

    Raises:
        ValueError: It cannot decode them, or makes something of none of these shapes.
    """
    try:
        found = decoder(codes)
    except (RuntimeError, TypeError) as error:
        size = (
            f"codes {tuple(codes.shape)} (is it made for them? the default one is for size code=)"
        )
        raise ValueError(f"{name} cannot decode {size}: {error}") from error
    if not isinstance(found, Tensor) or tuple(found.shape) not in [(1, *shape) for shape in shapes]:
        wanted = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{name} must make {wanted} of n codes, got {shape} of one")
    return found


def ask(name: str, conditional: Any, scene: Any, event: tuple[int, ...] | int) -> Distribution:
    """Asks a conditional, and names it if it does not answer with a distribution as it should.

    Args:
        name: Of the site.
        event: The event shape that is wanted, or the number of event dimensions.

    Raises:
        ValueError: It is not callable, returns something else, or another event shape.
    """
    if not callable(conditional) or isinstance(conditional, TorchDistributionMixin):
        raise ValueError(
            f"{name} must be a function of the scene to a distribution, got {conditional!r}"
        )
    found = conditional(scene)
    if not isinstance(found, TorchDistributionMixin):
        raise ValueError(f"{name} must return a distribution of pyro.distributions, got {found!r}")
    shape = tuple(found.event_shape)
    if shape != event and len(shape) != event:
        wanted = f"event shape {event}" if isinstance(event, tuple) else f"{event} event dimension"
        raise ValueError(
            f"{name} must return a distribution of {wanted}, got batch shape "
            f"{tuple(found.batch_shape)} and event shape {shape}: see .to_event"
        )
    return found
