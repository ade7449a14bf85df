"""A file of options whose changes a running service takes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from limpet._extras import MissingExtra
from limpet.service.config import load_options
from limpet.service.options import ServiceOptions
from limpet.service.server import Service
from limpet_core.text import one_line

_LOGGER: Final = logging.getLogger("limpet.service")

# Seconds between two looks. Systems have faster ways to learn of a change, each one another, and none for every disk.
_PAUSE: Final = 0.5


async def follow_options(
    service: Service,
    path: str | os.PathLike[str],
    *,
    read: Callable[[], ServiceOptions] | None = None,
    on_change: Callable[[], object] | None = None,
) -> NoReturn:
    """Have a running service take the options in a file whenever the file changes, until this is cancelled.

    The file is looked at twice a second. What cannot be used is a warning in the log, once, and changes nothing; the
    service goes on with what it has until the file is in order again. An option that needs a new service
    (:meth:`Service.reload`) is a warning, too; at a node of a cluster each one does.

    Args:
        service: the service, started or not.
        path: the TOML file, as for :func:`load_options`.
        read: returns the options; by default :func:`load_options` of the file. It raises ValueError for unusable ones,
            and OSError if the file cannot be read.
        on_change: called after the service has taken other options.
    """
    name = os.fspath(path)
    known: bytes | OSError | None = None
    before: bytes | OSError | None = None
    while True:
        found = _content(path)
        # An editor may be in the middle of it: the file has to be the same twice.
        if _same(found, before) and not _same(found, known):
            known = found
            _take(service, name, found, read or (lambda: load_options(path)), on_change)
        before = found
        await asyncio.sleep(_PAUSE)


def _content(path: str | os.PathLike[str]) -> bytes | OSError:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return error


def _same(one: bytes | OSError | None, other: bytes | OSError | None) -> bool:
    if isinstance(one, OSError) and isinstance(other, OSError):
        return one.errno == other.errno
    return one == other


def _take(
    service: Service,
    name: str,
    found: bytes | OSError,
    read: Callable[[], ServiceOptions],
    on_change: Callable[[], object] | None,
) -> None:
    try:
        if isinstance(found, OSError):
            raise found
        options = read()
        before = service.options
        left = service.reload(options)
    except (OSError, ValueError, MissingExtra) as error:
        text = f"{name}: {error.strerror}" if isinstance(error, OSError) else str(error)
        _LOGGER.warning("a change is not taken, and the service goes on as before: %s", one_line(text, 1000))
        return
    if left and service.cluster is not None:
        _LOGGER.warning("%s: a node of a cluster takes a change of %s at its next start", name, ", ".join(left))
    elif left:
        _LOGGER.warning("%s: start the service again for a change of %s", name, ", ".join(left))
    if service.options != before:
        _LOGGER.info("%s was read again", name)
        if on_change is not None:
            on_change()
