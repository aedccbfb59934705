"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

__all__ = ["write_whole"]


@contextmanager
def write_whole(path: str | PathLike[str]) -> Iterator[Path]:
    """Yields the path of a part file to write; it replaces the file in one move when the block ends.

    A program killed at any moment leaves the older file or the new one. After an error the part file is
    removed and the older file is as it was. Two processes must not write the same file at once.

    Args:
        path: The file to write. The part file lies beside it, as ``.NAME.part``.

    Raises:
        OSError: The file cannot be written, or there is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # What torch and h5py raise is a plain RuntimeError, and does not name the cause.
        if type(error) is RuntimeError:
            reason = str(error).partition("\n")[0]
            raise OSError(
                f"cannot write {path} (is the disk full, or the folder closed to writing?): {reason}"
            ) from error
        raise
