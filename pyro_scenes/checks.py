"""What is asked of images, sizes, tensors and parts, where they enter."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

__all__ = [
    "TrainingModeWarning",
    "check_conditional",
    "check_decoder",
    "check_experts",
    "check_images",
    "check_regions",
    "check_sizes",
    "check_tensors",
    "is_integer",
    "warn_training_mode",
]


class TrainingModeWarning(UserWarning):
    """A model or a guide is evaluated in training mode: dropout is active, AIR's presences are bounded."""


def warn_training_mode(*programs: Callable) -> None:
    """Warns the caller's caller, by a :class:`TrainingModeWarning`, of modules in training mode."""
    modules = [poutine.unwrap(program) for program in programs]
    names = [type(m).__name__ for m in modules if isinstance(m, nn.Module) and m.training]
    if names:
        warnings.warn(
            f"{' and '.join(names)} in training mode, so the numbers differ from those in use: call "
            "model.eval() and guide.eval() first",
            TrainingModeWarning,
            stacklevel=3,
        )


def check_images(images: Tensor, blank: Tensor) -> Tensor:
    """Returns the images; raises unless they are a batch (n, C, H, W) of floats, n > 0, like a blank canvas.

    Their range is not checked: a model accepts what it draws, and its likelihood may draw any number.
    Data are checked where they enter (:func:`pyro_scenes.data.as_images`).
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        hint = "uint8 images are divided by 255"
        if isinstance(images, list | tuple):
            hint = "of a batch of images and labels, give the images alone"
        raise TypeError(f"images must be a float tensor, got {kind}: {hint}")
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
    return images


def check_sizes(**sizes: Any) -> None:
    """Raises a ValueError unless each is a whole number from 1 up, or a shape (C, H, W) of three."""
    for name, size in sizes.items():
        shape = "shape" in name or name == "window"
        numbers = size if isinstance(size, list | tuple) else [size]
        if len(numbers) != (3 if shape else 1) or any(type(n) is not int or n < 1 for n in numbers):
            wanted = "(channels, height, width)" if shape else "a whole number"
            raise ValueError(f"{name} must be {wanted}, from 1 up, got {size!r}")


def check_tensors(valid: object, wanted: str, *given: Tensor) -> None:
    """Raises a ValueError that says what is wanted, and dtypes and shapes of what is given, unless valid."""
    if not valid:
        got = " and ".join(f"{part.dtype} {tuple(part.shape)}" for part in given)
        raise ValueError(f"needs {wanted}, got {got}")


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor's dtype is an integer one; bool is not."""
    kind = tensor.dtype
    return not (kind.is_floating_point or kind.is_complex or kind == torch.bool)


def check_decoder(
    name: str, decoder: Callable[[Tensor], Tensor], codes: Tensor, *shapes: tuple[int, ...]
) -> Tensor:
    """Decodes codes (1, size) once and returns the result; raises a ValueError if it has no such shape."""
    try:
        found = decoder(codes)
    except (RuntimeError, TypeError) as error:
        size = (
            f"codes of shape {tuple(codes.shape)}: build it for codes of this size, or change code="
        )
        raise ValueError(f"{name} cannot decode {size}: {error}") from error
    if not isinstance(found, Tensor) or tuple(found.shape) not in [(1, *shape) for shape in shapes]:
        wanted = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{name} must make {wanted} of n codes, got {shape} of one")
    return found


def check_conditional(
    name: str, conditional: Any, scene: Any, event: tuple[int, ...] | int
) -> Distribution:
    """Calls a conditional once and returns its distribution; raises a ValueError unless of this event shape.

    ``event`` is that shape, or how many dimensions it has; ``name`` is the site's, for the message.
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


def check_experts(name: str, parts: Sequence[Any], experts: int) -> Sequence[Any]:
    """Returns the parts if there is one for each expert; raises a ValueError otherwise."""
    if len(parts) != experts:
        raise ValueError(f"{name} must be {experts}, one for each expert, got {len(parts)}")
    return parts


def check_regions(regions: Tensor | None, images: Tensor, layers: int) -> None:
    """Raises a ValueError unless regions, if given, are bool (n, layers, H, W) and fit the images."""
    if regions is None:
        return
    if not isinstance(regions, Tensor):
        raise TypeError(f"regions must be a bool tensor, got {type(regions).__name__}")
    size = (len(images), *images.shape[2:])
    same = regions.dim() == 4 and (len(regions), *regions.shape[2:]) == size
    if regions.dtype != torch.bool or not same or regions.shape[1] != layers:
        raise ValueError(
            f"regions must be bool (n, layers, H, W), of {layers} layers for images "
            f"{tuple(images.shape)}, got {regions.dtype} {tuple(regions.shape)}"
        )
    if not (regions.sum(1) == 1).all():
        raise ValueError("regions must give each pixel to exactly one layer: see Scenes.regions")
