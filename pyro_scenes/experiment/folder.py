"""The folder of a run: one process writes to it, files whole, and none that it does not own."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from filelock import FileLock, Timeout

from ..atomic import write_whole
from ..inference.processes import is_first

__all__ = ["Folder"]

#: The kinds of files that runs write: beside these, a user's own files are in nobody's way.
KINDS = (".pt", ".csv", ".json", ".png", ".nc")


class Folder:
    """A folder that is made, locked as long as this object lives, and marked.

    The marker, ``.run``, lists the files that runs have written there, a name in each line. Only these are
    ever replaced or removed. Of several processes that train together the first one writes; to the others
    the folder is closed.

    Raises:
        ValueError: It cannot be written, another process writes to it, or it holds files of the kinds that
            runs write, which no run has written.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path, self.is_open = Path(path), is_first()
        self.names: list[str] = []
        if self.is_open:
            self._open()

    def _open(self) -> None:
        self.marker = self.path / ".run"
        self.lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
            marked = self.marker.read_text(encoding="utf-8") if self.marker.exists() else ""
        except Timeout as error:
            raise ValueError(
                f"another process writes to {self.path}: give another --out"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot write to the output folder {self.path}: {reason}") from error
        self.names = marked.splitlines()

    def check(self) -> None:
        """Raises a ValueError that names the files that a run might replace and does not own."""
        foreign = sorted(
            file.name
            for file in self.path.iterdir()
            if file.suffix in KINDS and file.name[0] != "."
            if file.name not in self.names or not file.is_file()
        )
        if foreign:
            more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            raise ValueError(
                f"{self.path} holds files that no run has written ({', '.join(foreign[:5])}{more}): "
                "move them, or give another --out"
            )

    def adopt(self, name: str) -> None:
        """Takes a file for a run's: it may be replaced from now on."""
        if name not in self.names:
            self.names.append(name)
            with write_whole(self.marker) as part:
                part.write_text("\n".join(self.names) + "\n", encoding="utf-8")

    @contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """Yields the path of a part file, which replaces the file of that name when the block ends.

        Raises:
            ValueError: There is a file of that name which no run has written.
            OSError: The file cannot be written. The older one is left as it was.
            SystemExit: In a process that is not the first, whose work is done.
        """
        if not self.is_open:
            raise SystemExit
        if name not in self.names and (self.path / name).exists():
            raise ValueError(f"{self.path / name} was not written by a run: move it")
        self.adopt(name)
        try:
            with write_whole(self.path / name) as part:
                yield part
        except OSError as error:
            if error.errno is None or error.filename:
                raise
            raise OSError(f"cannot write {self.path / name}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Removes a file, if a run has written it."""
        if name in self.names:
            (self.path / name).unlink(missing_ok=True)
