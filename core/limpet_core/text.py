"""Text of the peer for a log, an error or a terminal: in one line, short, and without secrets."""

from __future__ import annotations

import re
from typing import Final

from limpet_core.redaction import Secrets, hide

LONGEST_QUOTE: Final = 300
"""Characters of a quotation in a line of a log."""

LONGEST_REASON: Final = 1000
"""Characters of a reason that is kept as data. A close frame holds 123 bytes, but a connector may bring more."""

LONGEST_ERROR: Final = 2000
"""Characters of the text of an error, quotations included."""

_SEARCHED: Final = 8192
"""Characters of a text that are searched for secrets; the rest is not shown."""

_NOT_SHOWN: Final = 1024
"""Characters before that limit that are not shown either: a secret that is cut off there cannot be recognized."""

# Control characters (C0, C1, line separators), halves of surrogate pairs, and changes of the text's direction.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOTE: Final = re.compile(r"\.\.\. \(([0-9]{1,15}) characters\)\Z")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return ``text`` in one line, with control characters escaped as in JSON."""
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def shorten(text: str, limit: int, length: int | None = None) -> str:
    """Return at most ``limit`` characters of ``text``; a shortened text ends with a note of its length.

    Args:
        length: the length of the whole text, if ``text`` is only its beginning.
    """
    if length is None:
        if len(text) <= limit:
            return text
        length = _length(text)
    note = f"... ({length} characters)"
    return text[: max(0, limit - len(note))] + note


def without_secrets(text: str, limit: int = LONGEST_REASON, secrets: Secrets | None = None) -> str:
    """Return ``text`` for an event or an error's attribute: short, without secrets, and not escaped."""
    return _cut(text, limit, secrets, escaped=False)


def one_line(text: str, limit: int = LONGEST_QUOTE, secrets: Secrets | None = None) -> str:
    """Return ``text`` for a line of a log or an error: escaped, short, and without secrets."""
    return _cut(text, limit, secrets, escaped=True)


def _cut(text: str, limit: int, secrets: Secrets | None, *, escaped: bool) -> str:
    # Secrets first: they could not be recognized in a text that is cut.
    end = None if len(text) <= _SEARCHED else _SEARCHED - _NOT_SHOWN
    hidden = hide(text if end is None else text[:_SEARCHED], secrets, end)
    shown = escape(hidden[: limit + 1]) if escaped else hidden
    whole = end is None and len(hidden) <= limit and len(shown) <= limit
    return shown if whole else shorten(shown, limit, _length(text))


def _length(text: str) -> int:
    # A text that was shortened before has its length in its note.
    before = _NOTE.search(text[-40:])
    return len(text) if before is None else max(len(text), int(before[1]))


def error_text(text: str) -> str:
    """Return the text of an error, which may quote the peer: in one line of limited length."""
    return one_line(text, LONGEST_ERROR) if len(text) > LONGEST_ERROR else shorten(escape(text), LONGEST_ERROR)
