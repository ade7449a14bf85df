"""The access key of ``limpet serve`` from a file, as containers get their secrets."""

from __future__ import annotations

from pathlib import Path

import click


def key_or_content(key: str | None, path: str | None) -> str | None:
    """Return the key, or what is in the file; None without both. Raises click.UsageError for both, and for a bad file.

    White space around the key in the file is no part of it: editors and ``echo`` end a file with a line break.
    """
    if path is None:
        return key
    if key is not None:
        raise click.UsageError("--key-file is in place of --key: give one of them (or of their variables)")
    try:
        content = Path(path).read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"--key-file {path}: the file is not text in UTF-8") from None
    except OSError as error:
        raise click.UsageError(f"--key-file {path}: {error.strerror or error}") from None
    if not content:
        raise click.UsageError(f"--key-file {path}: the file has no key")
    return content
