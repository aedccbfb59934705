"""Checks of images, sizes, tensors and parts, where they enter."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

__all__ = [
    "check_conditional",
    "check_decoder",
    "check_experts",
    "check_images",
    "check_regions",
    "check_seen",
    "check_sizes",
    "check_tensors",
    "is_integer",
    "is_whole",
]


def check_images(images: Tensor, blank: Tensor) -> Tensor:
    """Returns a batch of images; raises unless it has a model's shape, dtype and device, and an image.

    A pixel that is NaN is not seen. The range is not checked, since a likelihood may draw any number. Data
    are checked where they enter (:func:`pyro_scenes.data.as_images`).
    """
    if not isinstance(images, Tensor):
        hint = "torch.as_tensor(images), or of a batch of images and labels the images alone"
        raise TypeError(f"images must be a float tensor, got {type(images).__name__}: give {hint}")
    if not images.is_floating_point():
        hint = "images.float()" if images.dtype == torch.bool else "images / 255 if they are 0..255"
        raise TypeError(f"images must be a float tensor, got {images.dtype}: give {hint}")
    if images.dim() != 4 or images.shape[1:] != blank.shape:
        wanted = ", ".join(map(str, blank.shape))
        raise ValueError(f"images must have shape (n, {wanted}), got {tuple(images.shape)}")
    if (images.dtype, images.device) != (blank.dtype, blank.device):
        raise ValueError(
            f"images are {images.dtype} on {images.device}, the model is {blank.dtype} on "
            f"{blank.device}: give images.to(model.blank)"
        )
    if len(images) == 0:
        raise ValueError("images is an empty batch: give at least one image")
    return images


def check_sizes(**sizes: Any) -> None:
    """Raises a ValueError unless each is a whole number from 1 up, or, of a shape, three of them."""
    for name, size in sizes.items():
        length = 3 if "shape" in name or name == "window" else 1
        numbers = size if isinstance(size, list | tuple) else [size]
        if len(numbers) != length or not all(is_whole(n, 1) for n in numbers):
            kind = "(channels, height, width)" if length == 3 else "a whole number"
            raise ValueError(f"{name} must be {kind}, from 1 up, got {size!r}")


def is_whole(number: Any, least: int) -> bool:
    """Whether it is a whole number from ``least`` up, also one of numpy."""
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= least


def check_tensors(valid: object, wanted: str, *tensors: Tensor) -> None:
    """Raises a ValueError with what is wanted and the dtypes and shapes of the tensors, unless valid."""
    if not valid:
        got = " and ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors)
        raise ValueError(f"needs {wanted}, got {got}")


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor's dtype is an integer type, which bool is not."""
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_decoder(
    name: str, decoder: Callable[[Tensor], Tensor], codes: Tensor, *shapes: tuple[int, ...]
) -> Tensor:
    """Returns the decoder's result for codes (1, size); raises a ValueError if it has none of the shapes."""
    try:
        result = decoder(codes)
    except (RuntimeError, TypeError) as error:
        wanted = f"codes of shape {tuple(codes.shape)}: build it for them, or change code="
        raise ValueError(f"{name} cannot decode {wanted}: {error}") from error
    got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if got not in [(1, *shape) for shape in shapes]:
        wanted = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
        raise ValueError(f"{name} must make {wanted} of n codes, got {got} of one")
    return result


def check_conditional(
    name: str, conditional: Any, scene: Any, event: tuple[int, ...] | int
) -> Distribution:
    """Returns a conditional's distribution; raises a ValueError unless it has this event shape.

    ``event`` is the shape or its number of dimensions; ``name`` is the site's.
    """
    if not callable(conditional) or isinstance(conditional, TorchDistributionMixin):
        raise ValueError(f"{name} must be a function of the scene, got {conditional!r}")
    result = conditional(scene)
    if not isinstance(result, TorchDistributionMixin):
        raise ValueError(f"{name} must return a distribution of pyro.distributions, got {result!r}")
    shape = tuple(result.event_shape)
    if shape != event and len(shape) != event:
        wanted = f"event shape {event}" if isinstance(event, tuple) else f"{event} event dimension"
        raise ValueError(
            f"{name} must return a distribution of {wanted}, got batch shape "
            f"{tuple(result.batch_shape)} and event shape {shape}: see .to_event"
        )
    return result


def check_experts(name: str, parts: Sequence[Any], experts: int) -> Sequence[Any]:
    """Returns the parts if there is one for each expert; raises a ValueError otherwise."""
    if len(parts) != experts:
        raise ValueError(f"{name} must be {experts}, one for each expert, got {len(parts)}")
    return parts


def check_regions(regions: Tensor | None, images: Tensor, layers: int) -> None:
    """Raises a ValueError unless regions, if any, are bool (n, layers, H, W), one layer for each pixel."""
    if regions is None:
        return
    if not isinstance(regions, Tensor):
        raise TypeError(f"regions must be a bool tensor, got {type(regions).__name__}")
    shape = len(images), layers, *images.shape[2:]
    if regions.dtype != torch.bool or tuple(regions.shape) != shape:
        raise ValueError(
            f"regions must be bool (n, layers, H, W) = {shape}, got {regions.dtype} {tuple(regions.shape)}"
        )
    if not (regions.sum(1) == 1).all():
        raise ValueError("regions must assign each pixel to exactly one layer: see Scenes.regions")


def check_seen(
    images: Tensor | None, seen: Tensor | None, blank: Tensor, size: int
) -> Float[Tensor, "n c h w"]:
    """Returns what a model of completions is given: the pixels that are seen, and NaN elsewhere.

    Args:
        images: Complete images, if they are known.
        seen: A bool mask (n, 1 or C, H, W) of the images, True where a pixel is seen; or a picture
            (n, C, H, W), NaN where nothing is seen; or None: nothing is.
        blank: The model's.
        size: How many pictures, if there are neither images nor such a picture.

    Raises:
        TypeError: No tensor.
        ValueError: Another shape, dtype or device, another number than of images, or a mask without images.
    """
    check_sizes(size=size)
    size = size if images is None else len(check_images(images, blank))
    if seen is None:
        return torch.full_like(blank, torch.nan).expand(size, *blank.shape)
    if not isinstance(seen, Tensor):
        raise TypeError(
            f"seen must be a bool mask or a picture, a tensor, got {type(seen).__name__}"
        )
    if seen.dtype != torch.bool:
        known = check_images(seen, blank)
    elif images is None:
        raise ValueError(
            "seen is a mask of images, and none are given: give what is seen as a picture, "
            "images.masked_fill(~seen, torch.nan)"
        )
    else:
        shapes = [(size, channels, *blank.shape[1:]) for channels in (1, blank.shape[0])]
        if tuple(seen.shape) not in shapes or seen.device != blank.device:
            raise ValueError(
                f"seen must be a bool mask of shape {shapes[0]} on {blank.device}, True where a pixel is "
                f"seen, got {tuple(seen.shape)} on {seen.device}"
            )
        known = images.masked_fill(~seen, torch.nan)
    if images is not None and len(known) != size:
        raise ValueError(f"seen must be of {size} pictures, as images are, got {len(known)}")
    return known
