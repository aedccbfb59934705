"""Plain arrays out of an ``.npz``: sizes are checked before anything is allocated, nothing is unpickled."""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import IO
from zipfile import ZipFile, is_zipfile

import numpy as np
from numpy.lib import format as npy

from .limits import check_memory

__all__ = ["read_arrays"]

#: Copies of an array that exist at once while it is checked and converted.
COPIES = 3


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of an npz that have one of these names.

    Raises:
        PermissionError: The file must not be read.
        ValueError: It is no npz, it is damaged, an array holds Python objects, or the arrays are larger than
            memory.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be read: its permissions do not allow it") from error
    if not is_zipfile(path):
        raise ValueError(_no_zip(path, start))
    try:
        return _read(path, names)
    except (_Refused, MemoryError) as error:
        raise ValueError(f"{path}: {error or 'memory is too small for its arrays'}") from error
    except Exception as error:  # there is no saying what a damaged file raises
        raise ValueError(_damaged(path, error)) from error


class _Refused(ValueError):
    """Something that is wrong with the content, said in words."""


def _read(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    arrays = {}
    with ZipFile(path) as archive:
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        _check_sizes(archive, list(members.values()))
        for name, member in members.items():
            with archive.open(member) as file:
                arrays[name] = npy.read_array(file, allow_pickle=False)
    return arrays


def _check_sizes(archive: ZipFile, members: list[str]) -> None:
    """Checks that memory holds what the archive declares, and that the arrays are of the sizes declared."""
    sizes = {member: archive.getinfo(member).file_size for member in members}
    try:
        check_memory(COPIES * sum(sizes.values()), "what it holds|save fewer scenes, or uint8")
    except ValueError as error:
        raise _Refused(error) from error
    for member, size in sizes.items():
        with archive.open(member) as file:
            declared, plain = _declared(file)
            header = file.tell()
        if not plain:
            raise _Refused(f"{member} holds Python objects: save arrays of plain numbers")
        if declared + header != size:
            raise ValueError(f"{member} declares {declared} bytes and holds {size - header}")


def _declared(file: IO[bytes]) -> tuple[int, bool]:
    """The bytes that an array has by its header, and whether it is of plain values."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = readers[npy.read_magic(file)](file)
    return prod(shape) * dtype.itemsize, not dtype.hasobject


def _no_zip(path: Path, start: bytes) -> str:
    if start == b"\x93NUMPY":
        return f"{path} is a single array, no .npz: save it with numpy.savez(path, images=...)"
    if start.startswith(b"PK"):
        return _damaged(path, "its end is missing")
    return f"{path} is no .npz: save it with numpy.savez(path, images=...)"


def _damaged(path: Path, reason: object) -> str:
    return f"{path} is damaged ({reason}): save it again"
