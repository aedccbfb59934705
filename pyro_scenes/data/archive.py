"""Plain arrays of an ``.npz`` or ``.npy``: sizes are checked first, and nothing is unpickled."""

from collections.abc import Callable, Iterable
from functools import partial
from io import BufferedIOBase
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import numpy as np
from numpy.lib import format as npy

from .limits import check_memory

__all__ = ["read_arrays"]

#: Copies of an array that exist at once while it is checked and converted.
COPIES = 3


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of an npz that have one of these names; of an npy its array, under the first name.

    Raises:
        PermissionError: The file must not be read.
        ValueError: It is neither, it is damaged, an array holds Python objects, or the arrays are larger than
            memory.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be read: its permissions do not allow it") from error
    single = start.startswith(npy.MAGIC_PREFIX)
    if not single and not is_zipfile(path):
        raise ValueError(_neither(path, start))
    try:
        return _read_one(path, *names) if single else _read_archive(path, names)
    except _Refused:
        raise
    except MemoryError as error:
        raise ValueError(f"{path}: memory is too small ({error}): save fewer scenes") from error
    except Exception as error:  # there is no saying what a damaged file raises
        raise ValueError(_damaged(path, error)) from error


class _Refused(ValueError):
    """Something that is wrong with the content, said in words."""


class _Member(NamedTuple):
    """A stored array."""

    name: str
    size: int  # bytes, with the header
    open: Callable[[], Any]  # a context that yields the file


def _read_one(path: Path, name: str, *_: str) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    return _read(path, {name: _Member(path.name, size, lambda: path.open("rb"))})


def _read_archive(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    with ZipFile(path) as archive:
        files = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        members = {
            name: _Member(file, archive.getinfo(file).file_size, partial(archive.open, file))
            for name, file in files.items()
        }
        return _read(path, members)


def _read(path: Path, members: dict[str, _Member]) -> dict[str, np.ndarray]:
    needed = COPIES * sum(member.size for member in members.values())
    try:
        check_memory(needed, str(path), "save fewer scenes, or uint8")
    except ValueError as error:
        raise _Refused(error) from error
    for member in members.values():
        _check_size(path, member)
    arrays = {}
    for name, member in members.items():
        with member.open() as file:
            arrays[name] = npy.read_array(file, allow_pickle=False)
    return arrays


def _check_size(path: Path, member: _Member) -> None:
    """Checks that the array is of the size that its header declares."""
    with member.open() as file:
        declared, plain = _declared(file)
        header = file.tell()
    if not plain:
        raise _Refused(f"{path}: {member.name} holds Python objects: save arrays of plain numbers")
    if declared + header != member.size:
        raise ValueError(
            f"{member.name} declares {declared} bytes and holds {member.size - header}"
        )


def _declared(file: BufferedIOBase) -> tuple[int, bool]:
    """The bytes that an array has by its header, and whether it is of plain values."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = readers[npy.read_magic(file)](file)
    return prod(shape) * dtype.itemsize, not dtype.hasobject


def _neither(path: Path, start: bytes) -> str:
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return f"{path} is one picture: give the folder of pictures"
    if start.startswith(b"PK"):
        return _damaged(path, "its end is missing")
    return (
        f"{path} is no .npz and no .npy: save it with numpy.savez(path, images=...), or give a folder of "
        "PNG or JPEG files"
    )


def _damaged(path: Path, reason: object) -> str:
    return f"{path} is damaged ({reason}): save it again"
