"""The file of ``limpet serve --ready-file``: that the service listens, and where."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class ReadyFile:
    """A file that is there, whole, while the service listens, and at no other time.

    Args:
        path: of the file; what is there from an earlier start is removed at once.

    Raises:
        OSError: no file can be written there.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._written: str | None = None
        try:
            self._path.unlink(missing_ok=True)
            if not os.access(self._path.parent, os.W_OK):
                raise PermissionError(f"no file can be written to the folder {self._path.parent}")
        except OSError as error:
            raise OSError(f"--ready-file {path}: {error.strerror or error}") from error

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the file in one step: who sees it can read all of it. Only this user can, since it holds a key."""
        written = json.dumps(content, indent=2) + "\n"
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(written)
            os.replace(name, self._path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        self._written = written

    def remove(self) -> None:
        """Remove the file, if it was written here and no other service has put its own there since."""
        with suppress(OSError, UnicodeError):  # it was removed, or its folder was, or it is something else now
            if self._written is not None and self._path.read_text("utf-8") == self._written:
                self._path.unlink()


@contextmanager
def kept_while_listening(path: str | None) -> Generator[ReadyFile | None]:
    """Give a file for the block, and remove it behind the block; None without a path."""
    file = None if path is None else ReadyFile(path)
    try:
        yield file
    finally:
        if file is not None:
            file.remove()
