"""Untrusted text on a terminal: it must not move the cursor, change colours, or imitate a line of the program."""

from __future__ import annotations

import logging
from typing import Any

from limpet_core.text import escape


class SafeFormatter(logging.Formatter):
    """Escapes the messages and exceptions of log records, which may quote untrusted text."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(escape, super().formatException(ei).split("\n")))
