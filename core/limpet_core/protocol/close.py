"""The end of a WebSocket connection: a close code and a reason (RFC 6455 7.4)."""

from __future__ import annotations

from typing import Final

import msgspec

from limpet_core.errors import InvalidType
from limpet_core.text import one_line

NO_CLOSE_FRAME: Final = 1006
"""The close code of a connection that ended without a close frame (RFC 6455 7.1.5); it is never sent."""

_MAX_REASON: Final = 123
"""Bytes of a reason that fit into a close frame (RFC 6455 5.5)."""


class Close(msgspec.Struct, frozen=True, gc=False):
    """How a WebSocket connection is to be closed, or has ended.

    Attributes:
        code: the WebSocket close code; 1006 (the default): no close frame.
        reason: the close reason, at most 123 bytes of UTF-8 where it is to be sent; or the text of an error.
    """

    code: int = NO_CLOSE_FRAME
    reason: str = ""

    @classmethod
    def because(cls, code: int, reason: str) -> Close:
        """Return a Close whose reason is cut to the bytes that fit into a close frame."""
        return cls(code, reason.encode("utf-8", "replace")[:_MAX_REASON].decode("utf-8", "ignore"))


def check_close(code: object, reason: object) -> None:
    """Raise InvalidType unless ``code`` is an int and ``reason`` a str, as a driver has to report them."""
    if not isinstance(code, int):
        raise InvalidType(f"code must be a close code such as 1006, not {type(code).__name__}")
    if not isinstance(reason, str):
        raise InvalidType(f"reason must be a str, not {type(reason).__name__}")


def describe_close(code: int, reason: str) -> str:
    """Return a text for people: the reason, if there is one, and the code."""
    return f"{one_line(reason)} (close code {code})" if reason else f"close code {code}"
