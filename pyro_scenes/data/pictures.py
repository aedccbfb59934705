"""A folder of PNG and JPEG files as images, read by Pillow, with which torchvision reads data sets too."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .limits import check_memory

__all__ = ["read_pictures"]

#: How the names of files end that are read, in capitals or not.
SUFFIXES = (".png", ".jpg", ".jpeg")
#: Copies of the pictures that exist at once while they are read and divided.
COPIES = 3
#: Orientations of EXIF that turn a picture by a quarter.
QUARTERS = (5, 6, 7, 8)


def read_pictures(folder: Path) -> UInt8[Tensor, "n c h w"]:
    """The PNG and JPEG files of a folder, grey (C = 1) or colour (C = 3): see :func:`load_scenes`.

    Raises:
        FileNotFoundError: The folder has no such files, or one of them is gone.
        PermissionError: A file must not be read.
        ValueError: A file is damaged, no PNG or JPEG, of 16 bits a channel, or larger than others; or all
            are larger than memory. The file is named.
    """
    paths = _paths(folder)
    sizes = [_size(path) for path in paths]
    _check_sizes(paths, sizes)
    width, height = sizes[0]
    needed = COPIES * 3 * height * width * len(paths)
    check_memory(needed, f"{len(paths)} pictures in {folder}", "give fewer, or smaller ones")
    images = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)
    grey = True
    for image, path in zip(images, paths, strict=True):
        image.copy_(torch.from_numpy(_pixels(path)).movedim(-1, 0))
        grey = grey and bool((image == image[:1]).all())
    return images[:, :1].clone() if grey else images


def _paths(folder: Path) -> list[Path]:
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    paths = [path for path in entries if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    if not paths:
        inside = [path.name for path in entries if path.is_dir()]
        other = f" (its sub-folders are not read: {', '.join(inside[:3])})" if inside else ""
        raise FileNotFoundError(
            f"no scenes at {folder}: there are no PNG or JPEG files in it{other}: give the folder in "
            "which they lie"
        )
    strange = [path for path in paths if not path.is_file()]
    if strange:
        raise ValueError(f"{strange[0]} is no file, or a link to none: remove it")
    return paths


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture of which the header has been read; what goes wrong with it is told with its name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                yield picture
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be read: its permissions do not allow it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is no PNG or JPEG, whatever its name says: save it as one, or remove it"
        ) from error
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # there is no saying what a damaged file raises
        raise ValueError(f"{path} is damaged ({error}): save it again, or remove it") from error


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is shown."""
    with _opened(path) as picture:
        width, height = picture.size
        quarter = _is_turned(picture) and picture.getexif().get(ExifTags.Base.Orientation)
        deep = picture.format == "PNG" and _bits(path) == 16
    if deep:
        raise ValueError(
            f"{path} has 16 bits a channel: save it with 8, or give an .npy of floats in [0, 1]"
        )
    return (height, width) if quarter in QUARTERS else (width, height)


def _is_turned(picture: Image.Image) -> bool:
    """Whether the header has EXIF data. What follows the pixels is no more asked: it would decode them."""
    return "exif" in picture.info


def _bits(path: Path) -> int:
    """Bits a channel of a PNG, which Pillow does not tell: a byte of its header, always the first chunk."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _check_sizes(paths: list[Path], sizes: list[tuple[int, int]]) -> None:
    if len(set(sizes)) == 1:
        return
    usual = Counter(sizes).most_common(1)[0][0]
    other = next(i for i, size in enumerate(sizes) if size != usual)
    number = sum(size != usual for size in sizes)
    texts = [f"{height} x {width}" for width, height in (sizes[other], usual)]
    raise ValueError(
        f"pictures must be of one size: {paths[other]} is {texts[0]} pixels (height x width), most are "
        f"{texts[1]}, such as {paths[sizes.index(usual)].name}; {number} of {len(paths)} differ: crop, "
        "pad or remove them"
    )


def _pixels(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with _opened(path) as picture:
        shown = ImageOps.exif_transpose(picture) if _is_turned(picture) else picture
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            black = Image.new("RGBA", shown.size, (0, 0, 0, 255))
            shown = Image.alpha_composite(black, shown)
        return np.array(shown.convert("RGB"))
