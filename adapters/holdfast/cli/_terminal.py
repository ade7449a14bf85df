"""Text of others on a terminal: it must not move the cursor, change colours or pretend to be a line of ours."""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["SafeFormatter", "printable"]

# Control characters, C1 and line separators among them, and what changes the direction of text.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return a text in one line, with escapes as in JSON for what a terminal would take for orders."""
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


class SafeFormatter(logging.Formatter):
    """Formats log records whose messages quote others."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = printable(record.message)
        return super().formatMessage(record)
