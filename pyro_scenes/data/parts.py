"""Images of which a part is seen: masks, and digits of black and white pixels."""

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from .limits import check_whole, seeded

__all__ = ["binary", "quadrants", "random_masks"]

#: Shares of the pixels that random masks hide where they hide single ones.
SCATTERED = 0.5, 0.9


def binary(digits: UInt8[Tensor, "m h w"], seed: int = 0) -> UInt8[Tensor, "m 1 h w"]:
    """Digits of pixels 0 and 255: each is ink with a probability that is its grey level.

    So a Bernoulli likelihood is one of the data, and its expectation over such draws is the cross entropy
    with the grey levels.

    Args:
        digits: From 0, background, to 255, ink.
        seed: Of the draws.
    """
    levels = torch.randint(255, digits.shape, generator=seeded(seed), dtype=torch.uint8)
    return 255 * (levels < digits).to(torch.uint8).unsqueeze(1)


def quadrants(count: int, size: tuple[int, int] = (28, 28)) -> Bool[Tensor, "1 h w"]:
    """The mask of the quadrants that are seen: True where a pixel is.

    Args:
        count: 1: the lower left. 2: the left half. 3: all but the lower right.
        size: Height and width.

    Raises:
        ValueError: Another count.
    """
    if count not in (1, 2, 3):
        raise ValueError(f"1, 2 or 3 quadrants can be seen, got {count!r:.60}")
    height, width = size
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, height // 2 :, : width // 2] = True
    if count > 1:
        mask[:, :, : width // 2] = True
    if count > 2:
        mask[:, : height // 2] = True
    return mask


def random_masks(
    number: int, size: tuple[int, int] = (28, 28), seed: int = 0
) -> Bool[Tensor, "n 1 h w"]:
    """Masks of four kinds in turn, True where a pixel is seen.

    1. One to three of the four quadrants are seen, any of them.
    2. A rectangle is hidden, between two random rows and two random columns.
    3. Pixels are hidden at random, a share of them between 0.5 and 0.9.
    4. A band of rows, or of columns, is seen, at most half of the image.

    Args:
        number: How many.
        size: Height and width, at least 2.
        seed: The masks are a function of the arguments alone.
    """
    height, width = size
    check_whole(number=number)
    check_whole(2, height=height, width=width)
    generator, n = seeded(seed), -(-number // 4)
    low, high = SCATTERED
    share = low + (high - low) * torch.rand(n, 1, 1, generator=generator)
    kinds = [
        _some_quadrants(n, height, width, generator),
        ~(_between(n, height, generator)[:, :, None] & _between(n, width, generator)[:, None]),
        torch.rand(n, height, width, generator=generator) > share,
        _band(n, height, width, generator),
    ]
    return torch.stack(kinds, 1).flatten(0, 1)[:number].unsqueeze(1)


def _some_quadrants(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    code = torch.randint(1, 15, (n,), generator=generator)  # neither none nor all of the four
    seen = (code[:, None] >> torch.arange(4) & 1).bool().unflatten(1, (2, 2))
    rows, columns = (torch.arange(side) * 2 // side for side in (height, width))
    return seen[:, rows][:, :, columns]


def _between(n: int, side: int, generator: torch.Generator) -> Tensor:
    """From one random place to another, never all of it: bool (n, side)."""
    ends = torch.randint(side, (n, 2), generator=generator)
    low, high = ends.amin(1, keepdim=True), ends.amax(1, keepdim=True)
    place = torch.arange(side)
    inside = (place >= low) & (place <= high)
    return inside & ~(inside.all(1, keepdim=True) & (place == 0))


def _band(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    place = torch.arange(max(height, width))
    bands = []
    for side in (height, width):
        thick = torch.randint(1, side // 2 + 1, (n, 1), generator=generator)
        first = (torch.rand(n, 1, generator=generator) * (side - thick + 1)).long()
        bands.append((place[:side] >= first) & (place[:side] < first + thick))
    rows = torch.rand(n, 1, 1, generator=generator) < 0.5
    return torch.where(rows, bands[0][:, :, None], bands[1][:, None])
