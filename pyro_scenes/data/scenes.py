"""Scenes: images with what is known about them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from .images import Images, fingerprints, is_flat
from .limits import check_whole, seeded

__all__ = ["Scenes", "Split"]


@dataclass(frozen=True, repr=False)
class Scenes:
    """Images and, where known, the truth about them. Objects beyond a scene's count are padding.

    Attributes:
        images: In 0..255, or floats in [0, 1].
        counts: The number of objects.
        labels: The class of each object; -1 is padding.
        boxes: Each object's tight ``(left, top, right, bottom)`` in pixels (0 is the outer edge of the
            first pixel); NaN is padding.
        masks: Each object's full shape, hidden parts included; padding is all False. Where scenes have
            depth, object 0 is the front, here and in the other parts.
        centres: The ``(x, y)`` of the centre of each object's frame, in pixels as the boxes are; NaN is
            padding.
    """

    images: Images
    counts: Int64[Tensor, " n"] | None = None
    labels: Int64[Tensor, "n objects"] | None = None
    boxes: Float[Tensor, "n objects 4"] | None = None
    masks: Bool[Tensor, "n objects h w"] | None = None
    centres: Float[Tensor, "n objects 2"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape, dtype = tuple(self.images.shape[1:]), str(self.images.dtype).removeprefix("torch.")
        known = [name for name, part in vars(self).items() if name != "images" and part is not None]
        return f"Scenes({', '.join([f'{len(self)} images {shape} {dtype}', *known])})"

    def __getitem__(self, index: slice | Tensor) -> "Scenes":
        parts: dict[str, Any] = {
            name: None if part is None else part[index] for name, part in vars(self).items()
        }
        return replace(self, **parts)

    def split(self) -> "Split":
        """Divides the scenes into three sets: 80 % training, 10 % validation, 10 % test.

        The division depends on the images alone: on no seed, and not on their order. At least one scene
        goes into each set, in random order, and copies of one image into the same set (but for images
        of one colour all over: an empty scene is the same one everywhere).

        Raises:
            ValueError: There are fewer than three scenes of different images.
        """
        prints, numbers = fingerprints(self.images), torch.arange(len(self))
        groups = numbers.where(is_flat(self.images).cpu(), prints).unique(return_inverse=True)[1]
        size = int(groups.max()) + 1 if len(self) else 0
        if size < 3:
            raise ValueError(
                f"{len(self)} scenes, {size} of them different, are too few to divide into training, "
                "validation and test sets: needs at least 3"
            )
        place = torch.randperm(size, generator=seeded(0))[groups]
        order = place.argsort(stable=True)
        tenth = max(1, size // 10)
        ends = torch.tensor([tenth, 2 * tenth])
        test, validation, train = order.tensor_split(torch.searchsorted(place[order], ends))
        return Split(self[train], self[validation], self[test])

    def unseen(self, known: Int64[Tensor, " m"]) -> "Scenes":
        """The scenes whose images have none of these :func:`fingerprints`: those of training, say.

        Images of one colour all over are kept: an empty scene is the same one in every set.
        """
        copies = torch.isin(fingerprints(self.images), known) & ~is_flat(self.images).cpu()
        return self[~copies]

    def empty(self) -> Bool[Tensor, " n"]:
        """Which scenes have no object: by their counts or, without these, images of one colour all over."""
        return is_flat(self.images) if self.counts is None else self.counts == 0

    def chunks(self, size: int) -> Iterator["Scenes"]:
        """The scenes in order, so many at a time; the last chunk may be smaller.

        Raises:
            ValueError: The size is not a whole number from 1 up.
        """
        check_whole(size=size)
        return (self[first : first + size] for first in range(0, len(self), size))

    def floats(self, device: str | torch.device | None = None) -> Float32[Tensor, "n c h w"]:
        """The images as floats in [0, 1], on a device."""
        images = self.images.to(device)
        return images / 255 if images.dtype == torch.uint8 else images.float()

    def visible(self) -> Bool[Tensor, "n objects h w"]:
        """What those in front leave to be seen of each object.

        A pixel belongs to one object at most: the first whose mask has it.

        Raises:
            ValueError: The scenes have no masks.
        """
        if self.masks is None:
            raise ValueError("these scenes have no masks: what is hidden of an object is unknown")
        regions = self.masks.clone()
        covered = torch.zeros_like(regions.any(1))
        # Views, the front first.
        for region in regions.unbind(1):
            region &= ~covered
            covered |= region
        return regions

    def regions(self, layers: int) -> Bool[Tensor, "n layers h w"]:
        """The visible parts of the objects, front to back, then the background, then empty layers.

        Each pixel belongs to exactly one layer.

        Raises:
            ValueError: The scenes have no masks, or more objects than ``layers - 1``.
        """
        check_whole(layers=layers)
        visible = self.visible()
        objects = visible.shape[1]
        if objects >= layers:
            raise ValueError(
                f"{layers} layers are too few for {objects} objects and a background: needs {objects + 1}"
            )
        regions = torch.cat([visible, ~visible.any(1, keepdim=True)], 1)
        return torch.nn.functional.pad(regions, (0, 0, 0, 0, 0, layers - objects - 1))


class Split(NamedTuple):
    """Three sets of scenes; ``train`` is for weights, ``validation`` for choices, ``test`` for tables."""

    train: Scenes
    validation: Scenes
    test: Scenes
