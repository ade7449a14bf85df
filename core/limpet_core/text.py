"""Text of the peer for a log, an error or a terminal: in one line, short, and without secrets."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

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

# Control characters (C0, C1, line separators), halves of surrogate pairs, changes of the text's direction, and all
# that takes no room or is blank without being a space (Unicode: Default_Ignorable_Code_Point, annotations, fillers).
_UNSEEN: Final = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Emoji are sequences: of pictographs, variation selectors (U+FE0F), and joiners (U+200D) between them.
_PICTOGRAPH: Final = "[\xa9\xae\u203c-\u2049\u2122-\u3299\U0001f000-\U0001faff]"
_SELECTOR: Final = f"(?<!{_PICTOGRAPH})(?<![#*0-9](?=\ufe0f\u20e3))\ufe0f"
_JOINER: Final = f"(?<!{_PICTOGRAPH})(?<!{_PICTOGRAPH}\ufe0f)\u200d|\u200d(?!{_PICTOGRAPH})"
# Marks that are stacked on a letter reach into other lines. Four are enough for any language written with them.
_MARK: Final = "[\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_UNSAFE: Final = re.compile(f"[{_UNSEEN}]|{_SELECTOR}|{_JOINER}|(?<={_MARK}{{4}}){_MARK}")
_NOTE: Final = re.compile(r"\.\.\. \(([0-9]{1,15}) characters\)\Z")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return ``text`` in one line, with control characters and all that cannot be seen escaped as in JSON.

    Emoji stay as they are. A letter keeps four of the marks on it.
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT.get(char) or "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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
    # A cut inside an emoji leaves no joiner or selector behind, which would have to be escaped.
    return text[: max(0, limit - len(note))].rstrip("\u200d\ufe0f") + note


CLOSED_BY_PEER: Final = "the peer closed the connection"
CLOSED_BY_SERVICE: Final = "the service closed the connection"

_OWN: Final = frozenset({"", CLOSED_BY_PEER, CLOSED_BY_SERVICE})
"""Reasons that quote nobody. Each of a thousand connections that end at once has one of them."""


def without_secrets(text: str, limit: int = LONGEST_REASON, secrets: Secrets | None = None) -> str:
    """Return ``text`` for an event or an error's attribute: short, without secrets, and not escaped."""
    return text if text in _OWN else _cut(text, limit, secrets, escaped=False)


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


def reason_of(error: BaseException | str) -> str:
    """Return why something failed: the text of ``error``, or its type where that says nothing. Never raises."""
    if isinstance(error, str):
        return error
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code; there is always a type
        return name
    return f"{name}: {text}" if isinstance(error, KeyError) else text or name


def error_text(text: str) -> str:
    """Return the text of an error, which may quote the peer: in one line of limited length."""
    return one_line(text, LONGEST_ERROR) if len(text) > LONGEST_ERROR else shorten(escape(text), LONGEST_ERROR)


_LONGEST_INT: Final = 1024
"""Bits of an int that is shown with its digits."""


def shown_number(value: int | float) -> str:
    """Return a number for people. Python does not write every int: more than some thousand digits are an error."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


_SHOWN: Final = 100
"""Characters of each text within a ``repr``."""

_SHOWN_BYTES: Final = 32
"""Bytes of each value of bytes within a ``repr``."""

_NOTHING: Final = object()


class _Short(reprlib.Repr):
    """Shows values of any size in a few characters, without secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxstring = self.maxother = _SHOWN

    def repr_str(self, x: str, level: int) -> str:
        return repr(without_secrets(x, self.maxstring))

    def repr_bytes(self, x: bytes, level: int) -> str:
        rest = f"... ({len(x)} bytes)" if len(x) > _SHOWN_BYTES else ""
        return one_line(repr(x[:_SHOWN_BYTES]), 4 * _SHOWN_BYTES) + rest

    def repr_int(self, x: int, level: int) -> str:
        return shorten(shown_number(x), self.maxother)

    def repr_instance(self, x: object, level: int) -> str:
        if isinstance(x, msgspec.Struct) and type(x).__repr__ is msgspec.Struct.__repr__ and level > 0:
            fields = [(name, getattr(x, name)) for name in x.__struct_fields__[: self.maxdict]]
            shown = [f"{name}={self.repr1(field, level - 1)}" for name, field in fields if field is not None]
            return f"{type(x).__name__}({', '.join(shown)})"
        try:
            text = repr(x)
        except Exception:  # noqa: BLE001 - foreign code
            text = object.__repr__(x)
        return one_line(text, self.maxother)


_short: Final = _Short()


def short_repr(value: object) -> str:
    """Return a ``repr`` of a few hundred characters at most, without secrets, whatever ``value`` is."""
    return one_line(_short.repr(value), LONGEST_QUOTE)


def shown_fields(value: object, names: Iterable[str], defaults: Mapping[str, object]) -> str:
    """Return ``Type(name=value, ...)`` with short values; fields that have their default are left out."""
    fields = [(name, getattr(value, name)) for name in names]
    shown = [f"{name}={short_repr(field)}" for name, field in fields if field != defaults.get(name, _NOTHING)]
    return f"{type(value).__name__}({', '.join(shown)})"
