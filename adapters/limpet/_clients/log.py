"""The log of a program that sets up no logging: ``LIMPET_LOG_LEVEL`` in the environment turns it on."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Any, Final

from limpet_core.text import escape, one_line

VARIABLE: Final = "LIMPET_LOG_LEVEL"

LEVELS: Final = {
    "verbose": logging.DEBUG,  # with the messages on the wire
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_log: logging.Logger = logging.getLogger("limpet")
_first = threading.Lock()  # held by the first client for ever


class SafeFormatter(logging.Formatter):
    """Escapes the messages and exceptions of log records, which may quote untrusted text.

    On a terminal it must not move the cursor, change colours, or imitate a line of the program.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(escape, super().formatException(ei).split("\n")))


class _Stderr(logging.StreamHandler[Any]):
    """Writes to standard error, until the program sets up logging after all."""

    def filter(self, record: logging.LogRecord) -> Any:
        others = logging.getLogger().handlers or any(each is not self for each in _log.handlers)
        return False if others else super().filter(record)

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(ValueError):  # the program has closed its standard error, where this would be told
            super().handleError(record)


def log_as_environment_says() -> None:
    """Turn the log on if :data:`VARIABLE` asks for it; to be called by each client, of which the first one does it.

    A program that has set up logging is left alone. A value that cannot be used is told once; nothing is raised.
    """
    if not _first.acquire(blocking=False):
        return
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return
    level = LEVELS.get(value.lower())
    if level is None:
        levels = ", ".join(LEVELS)
        _log.warning("%s is %s, which is no level: use one of %s", VARIABLE, one_line(repr(value), 100), levels)
        return
    if _log.hasHandlers() or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - pythonw.exe has none
        return
    handler = _Stderr(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(level)
    if value.lower() != "verbose":
        logging.getLogger("limpet.frames").setLevel(max(level, logging.INFO))
