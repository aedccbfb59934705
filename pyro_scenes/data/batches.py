"""Minibatches that can be resumed."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from .limits import check_whole, seeded

__all__ = ["batches"]

Parts = tuple[Shaped[Tensor, "n ..."], ...]


def batches(
    data: Tensor | tuple[Tensor, ...],
    size: int,
    *,
    seed: int = 0,
    start: int = 0,
    device: str | torch.device | None = None,
) -> Iterator[Any]:
    """Minibatches for ever, each epoch in an order of its own.

    Batch number i is a function of (seed, i) alone, so that an interrupted training can go on where it
    stopped. The last, smaller batch of an epoch is left out.

    Args:
        data: Images, as :func:`as_images` returns them; or a tuple of tensors of one length, images first,
            such as ``(images, regions)``.
        size: Images in a batch; a smaller data set gives batches of all of it.
        seed: Of the order; less than 2**40.
        start: Number of the first batch.
        device: Where the batches go.

    Returns:
        Batches of images as floats (size, C, H, W) in [0, 1]; or tuples of such images and the other parts
        of the same scenes, as they are.

    Raises:
        TypeError: The data are not a tensor or a tuple of tensors.
        ValueError: No images or of another type, parts of different lengths, or other numbers.
    """
    parts = data if isinstance(data, tuple) else (data,)
    _check(parts)
    check_whole(size=size)
    check_whole(0, seed=seed, start=start)
    if seed >= 2**40:
        raise ValueError(f"seed must be less than 2**40, got {seed}")
    stream = _stream(parts, min(size, len(parts[0])), seed, start, device)
    return stream if isinstance(data, tuple) else (images for (images,) in stream)


def _check(parts: tuple[Any, ...]) -> None:
    others = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if others or not parts:
        raise TypeError(
            "batches are taken from a tensor or a tuple of tensors, images first, got "
            f"{' and '.join(others) or 'none'}: of scenes, give scenes.images"
        )
    images = parts[0]
    if not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"images must be uint8 (0..255) or float in [0, 1], got {images.dtype}: data.as_images says "
            "how to convert them, and makes uint8 of bool"
        )
    lengths = [len(part) if part.dim() else 0 for part in parts]
    if len(set(lengths)) > 1:
        raise ValueError(f"all parts must be of as many scenes, got {lengths}")
    if lengths[0] == 0:
        raise ValueError("a batch needs at least one image, got none")


def _stream(
    parts: Parts, size: int, seed: int, start: int, device: str | torch.device | None
) -> Iterator[tuple[Tensor, ...]]:
    length = len(parts[0])
    per_epoch = length // size
    step = start
    while True:
        epoch = step // per_epoch
        order = torch.randperm(length, generator=seeded(1_000_003 * seed + epoch))
        for i in range(step % per_epoch, per_epoch):
            chosen = order[i * size : (i + 1) * size]
            images, *others = (part[chosen.to(part.device)].to(device) for part in parts)
            images = images / 255 if images.dtype == torch.uint8 else images
            yield (images, *others)
        step = (epoch + 1) * per_epoch
