"""Text of others on a terminal: it must not move the cursor, change colours or pretend to be a line of ours."""

from __future__ import annotations

import logging
from typing import Any

from limpet_core.text import escape


class SafeFormatter(logging.Formatter):
    """Formats log records whose messages and exceptions quote others."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        return "\n".join(map(escape, super().formatException(ei).split("\n")))
