"""The access key of ``limpet serve`` from a file: a secret of a container, or the key that a project keeps."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from limpet.service.options import MIN_ACCESS_KEY_BYTES

PROJECT_KEY: Final = os.path.join(".limpet", "access-key")
"""The file with the key of a project, in the folder in which the command runs."""

_SHOWN: Final = 4


def key_or_content(key: str | None, path: str | None) -> str | None:
    """Return the key, or what is in the file; None without both. Raises click.UsageError for both, and for a bad file.

    White space around the key in the file is no part of it: editors and ``echo`` end a file with a line break.
    """
    if path is None:
        return key
    if key is not None:
        raise click.UsageError("--key-file is in place of --key: give one of them (or of their variables)")
    return _content(path, f"--key-file {path}")


def project_key() -> str:
    """Return the key of the project, which is made at the first call, for the own user alone.

    Raises click.UsageError for a bad file.
    """
    path = Path(PROJECT_KEY)
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _keep_out_of_git(path.parent)
            _make(path)
    except OSError as error:
        raise click.UsageError(f"--key: no key can be written to {path}: {error.strerror or error}") from None
    return _content(PROJECT_KEY, f"--key: {path}")


def shown(key: str) -> str:
    """Return so much of a key that people can tell it from another one."""
    return f"{key[:_SHOWN]}..."


def _keep_out_of_git(folder: Path) -> None:
    """Have Git ignore the folder, which holds a secret, unless somebody has decided otherwise."""
    with suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("*\n")


def _make(path: Path) -> None:
    """Write a new key, unless another process has just done so: both have the same one then."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    key = secrets.token_urlsafe(48) + "\n"
    _write(draft, key)
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    except OSError:
        # Not every disk has links. For a moment the file is there without its key, which another process would tell.
        with suppress(FileExistsError):
            _write(path, key)
    finally:
        draft.unlink()


def _write(path: Path, key: str) -> None:
    """Write a new file for the own user alone."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(key)


def _content(path: str, source: str) -> str:
    try:
        content = Path(path).read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"{source}: the file is not text in UTF-8") from None
    except OSError as error:
        raise click.UsageError(f"{source}: {error.strerror or error}") from None
    if content.startswith("\ufeff"):
        # Other readers of the file, such as a shell, would have another key.
        raise click.UsageError(f"{source}: the file begins with a byte order mark; save it as UTF-8 without one")
    if not content:
        raise click.UsageError(f"{source}: the file has no key")
    if (length := len(content.encode())) < MIN_ACCESS_KEY_BYTES:
        needed = f"and needs at least {MIN_ACCESS_KEY_BYTES}"
        raise click.UsageError(f"{source}: the key in the file has {length} bytes, {needed}")
    return content
