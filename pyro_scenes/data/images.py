"""Images where they enter: what is accepted, and fingerprints that recognise an image again."""

from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Integer, Shaped, UInt8
from torch import Tensor

from ..checks import is_integer

__all__ = ["Images", "LabelledImages", "as_images", "check_digits", "fingerprints", "is_flat"]

#: Images as the library keeps them, and small ones with a label each, such as digits.
Images = UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
LabelledImages = tuple[UInt8[Tensor, "m h w"], Integer[Tensor, " m"]]


def as_images(images: np.ndarray | Tensor) -> Images:
    """Checks images: uint8, bool, or float in [0, 1]; not empty, no NaN.

    Args:
        images: (n, H, W), (n, C, H, W) or (n, H, W, C), where C is 1 or 3. Where both of these could be
            meant, the second axis has the channels.

    Returns:
        The images as a tensor (n, C, H, W): uint8 as they were, bool as uint8 0 and 255, or float32.

    Raises:
        ValueError: Another rank, type or range, an empty batch, NaN, or a range that cannot be meant (uint8
            up to 1 of 255, floats up to 1/255).
    """
    images = _channels_second(_as_tensor(images))
    _check_shape(images)
    if images.dtype == torch.bool:
        images = 255 * images.to(torch.uint8)
    elif images.dtype == torch.uint8:
        _check_bytes(images)
    elif images.is_floating_point():
        images = _check_floats(images).float()
    else:
        raise ValueError(_other_type(images))
    return images if images.dim() == 4 else images.unsqueeze(1)


def _as_tensor(images: np.ndarray | Tensor) -> Shaped[Tensor, "*shape"]:
    if isinstance(images, Tensor):
        return images
    images = np.asarray(images)
    if images.dtype.kind not in "buif":
        raise ValueError(
            f"images must be uint8, bool, or float in [0, 1], got an array of {images.dtype}"
        )
    # A copy: torch refuses arrays that are flipped, big-endian or of long doubles.
    kind = {"f": np.dtype(np.float32)}.get(images.dtype.kind, images.dtype.newbyteorder("="))
    return torch.as_tensor(np.array(images, kind, order="C"))


def _channels_second(images: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*_"]:
    if images.dim() == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return images.movedim(3, 1).contiguous()
    return images


def _check_shape(images: Shaped[Tensor, "*shape"]) -> None:
    shape = tuple(images.shape)
    if len(shape) not in (3, 4):
        raise ValueError(f"images must be (n, H, W), (n, C, H, W) or (n, H, W, C), got {shape}")
    if images.numel() == 0:
        raise ValueError(f"images is empty, its shape is {shape}")
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise ValueError(
            f"images {shape} may be one colour picture (H, W, C) or grey ones {shape[-1]} pixels wide: "
            "give images.transpose(2, 0, 1)[None] for one picture, images[:, None] for grey ones"
        )
    if len(shape) == 4 and shape[1] not in (1, 3):
        raise ValueError(
            f"images must be (n, C, H, W) or (n, H, W, C) with 1 channel or 3, got {shape}: leave out an "
            "alpha channel"
        )


def _check_bytes(images: UInt8[Tensor, "*shape"]) -> None:
    if images.max() == 1:
        raise ValueError(
            "images of uint8 are 0..255, and these are 0 and 1, nearly black: give 255 * images if they "
            "are black and white"
        )


def _check_floats(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    if images.isnan().any():
        raise ValueError("images have pixels that are NaN: images of floats must lie in [0, 1]")
    low, high = (float(end) for end in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images of floats must lie in [0, 1], and these go from {low:.9g} to {high:.9g}: clip them, "
            "divide by their maximum, or give uint8"
        )
    if 0 < high <= 1 / 255 + 1e-6:
        raise ValueError(
            f"images of floats must lie in [0, 1], and these go up to {high:.3g} alone, nearly black: "
            "were they divided by 255 twice?"
        )
    return images


def _other_type(images: Shaped[Tensor, "*shape"]) -> str:
    start = f"images must be uint8 (0..255), bool, or float in [0, 1], got {images.dtype}"
    if images.is_complex():
        return f"{start}: give their absolute values, as floats in [0, 1]"
    low, high = (int(end) for end in images.long().aminmax())
    if low >= 0 and high <= 1:
        return f"{start} of 0 and 1: convert them to bool"
    if low >= 0 and high <= 255:
        return f"{start} from {low} to {high}: convert them to uint8"
    return f"{start} from {low} to {high}: scale them to [0, 1] as floats, uint8 would wrap around"


def fingerprints(images: Shaped[Tensor, "n _ ..."]) -> Int64[Tensor, " n"]:
    """Content hashes, one for each image: equal for images of equal values, shape and dtype alone.

    They are 64 bits of BLAKE2b, the same in every process, so that a run can keep them and recognise an
    image that it has been trained on.
    """
    key = f"{images.dtype} {tuple(images.shape[1:])}".encode()
    content = images.detach().cpu().flatten(1).contiguous().view(torch.uint8).numpy()
    hashes = [
        int.from_bytes(blake2b(image.tobytes(), digest_size=8, key=key[:64]).digest(), signed=True)
        for image in content
    ]
    return torch.tensor(hashes, dtype=torch.int64)


def is_flat(images: Shaped[Tensor, "n c h w"]) -> Bool[Tensor, " n"]:
    """Which images are of one colour all over."""
    pixels = images.flatten(2)
    return (pixels == pixels[..., :1]).flatten(1).all(1)


def check_digits(digits: LabelledImages, background: int = 0) -> None:
    """Checks digits where they enter: images uint8 (m, h, w) and whole labels (m,), of one digit at least.

    Args:
        digits: Images and labels.
        background: The brightest grey level that is no ink.

    Raises:
        TypeError: Not a pair of tensors.
        ValueError: Another type or rank, not one label for each image, no digits, or one without ink.
    """
    wanted = "digits must be images uint8 (m, h, w) and integer labels (m,)"
    pair = digits if isinstance(digits, tuple | list) else (digits,)
    if len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
        kinds = " and ".join(type(part).__name__ for part in pair)
        raise TypeError(f"{wanted}, a pair of tensors as of data.strokes, got {kinds or 'none'}")
    images, labels = digits
    right = is_integer(labels) and images.dtype == torch.uint8 and images.dim() == 3
    if not right or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{wanted}, got {images.dtype} {tuple(images.shape)} and {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    if len(images) == 0:
        raise ValueError("there are no digits to make scenes of")
    blank = len(images) - int((images > background).flatten(1).any(1).sum())
    if blank:
        raise ValueError(
            f"{blank} of {len(images)} digits have no pixel above {background}: leave them out"
        )
