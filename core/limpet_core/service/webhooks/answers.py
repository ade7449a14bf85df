"""The ends of calls to event handlers: an answer, or none."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from limpet_core.service.wire.content_types import read_content_type

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer's body; an answer with more is a failure (emulator)."""

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values; each character stands for one byte (latin-1)."""


class Answer(msgspec.Struct, frozen=True):
    """The HTTP response of a handler. Names of headers are compared without case."""

    status: int
    headers: Headers
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def last(self, name: str) -> str | None:
        """Return the last value of a header (emulator)."""
        return next(iter(self.all(name)[::-1]), None)

    @property
    def encoding(self) -> str:
        """The content encoding, such as ``gzip``; empty if the body is as it is."""
        codings = ", ".join(self.all("content-encoding")).strip(" ,").lower()
        return "" if codings == "identity" else codings

    @property
    def content_type(self) -> tuple[str, str]:
        """The media type in lower case, by default empty, and the charset, by default utf-8.

        A header that is no content type is all media type.
        """
        text = self.last("content-type") or ""
        return read_content_type(text) or (text.strip(), "utf-8")


FailureKind: TypeAlias = Literal["unreachable", "broken", "timeout", "too large", "not allowed"]
"""Why there is no answer.

After ``unreachable`` and ``not allowed`` the handler certainly got nothing. ``broken`` is a network error after the
request had begun. Another attempt is made only after ``unreachable`` and ``broken``.
"""


class Failure(msgspec.Struct, frozen=True):
    """The end of a call without a usable answer; ``text`` is for people."""

    kind: FailureKind
    text: str

    @property
    def delivered(self) -> bool:
        """Whether the handler may have got the request."""
        return self.kind not in ("unreachable", "not allowed")


Outcome: TypeAlias = Answer | Failure
"""The end of a call, after all its attempts."""
