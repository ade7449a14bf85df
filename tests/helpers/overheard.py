"""Text for people: log lines of Limpet, and the texts of errors and events."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from limpet import GroupMessage, ServerMessage

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a cursor, end a line, reverse text or cannot be encoded."""

LINE = 2200
"""Characters of a line in a log, or of the text of an error."""

REPR = 12_000
"""Characters of a repr, in which Python escapes each character with up to ten."""


POISON = {
    "line breaks": "forged\r\nWARNING all is well\n",
    "escapes": "forged\x1b[2J\x1b]0;title\x07\x1b[1A",
    "C1": "forged\x9b31m\x85\x90",
    "NUL and DEL": "forged\x00\x08\x7f",
    "separators": "forged\u2028WARNING\u2029",
    "directions": "forged\u202egnp.exe\u2066\u200f\u061c",
    "2 MB": "forged " + "x" * 2_000_000,
    "2 MB of escapes": "forged " + "\x1b\u202e\n" * 700_000,
}
"""Texts of a peer that are unfit for a terminal; each begins with a readable word."""

CLOSE_REASONS = {name: text.encode()[:120].decode(errors="ignore") for name, text in POISON.items()}
BODIES = {name: text[:6000].encode() for name, text in POISON.items()}


class Overheard(logging.Handler):
    """Collects the lines of all loggers of Limpet, at every level, while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._logger = logging.getLogger("limpet")
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Overheard:
        self._level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


def errors_of(events: Iterable[Any]) -> list[BaseException]:
    """The errors that events carry."""
    return [error for event in events if (error := getattr(event, "error", None)) is not None]


def told(events: Iterable[Any]) -> list[Any]:
    """The events that are not data of others."""
    return [event for event in events if not isinstance(event, GroupMessage | ServerMessage)]


def assert_fit(lines: Iterable[str], events: Iterable[Any] = (), errors: Iterable[BaseException] = ()) -> None:
    """Fail unless all of it is fit for a terminal and a log."""
    events = told(events)
    errors = [*errors, *errors_of(events)]
    for text in (*lines, *map(str, errors)):
        assert not RAW.search(text), repr(text[:300])
        assert len(text) <= LINE, f"{len(text)} characters: {text[:300]}"
    for shown in (*map(repr, errors), *map(repr, events)):
        assert not RAW.search(shown), repr(shown[:300])
        assert len(shown) <= REPR, f"{len(shown)} characters: {shown[:300]}"
    for event in events:
        assert len(getattr(event, "reason", "")) <= 1000
