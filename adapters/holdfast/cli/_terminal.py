"""Text of others on a terminal: it must not move the cursor, change colours or pretend to be a line of ours."""

from __future__ import annotations

import logging
from typing import Any

from holdfast_core._text import escape

__all__ = ["SafeFormatter", "printable"]


def printable(text: str) -> str:
    """Return a text in one line, with escapes as in JSON for what a terminal would take for orders."""
    return escape(text)


class SafeFormatter(logging.Formatter):
    """Formats log records whose messages and exceptions quote others."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))
