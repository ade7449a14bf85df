"""Messages as whole WebSocket frames, unmasked as RFC 6455 5.1 requires of a server, and back."""

from __future__ import annotations

from typing import Final

# The length of a message says how long its frame is, and the other way round (RFC 6455 5.2).
_MAX_SHORT: Final = 125
_MAX_MEDIUM: Final = 65535
SHORT_FRAME: Final = 2 + _MAX_SHORT
"""Bytes of the longest frame with a head of two bytes."""
MEDIUM_FRAME: Final = 4 + _MAX_MEDIUM
"""Bytes of the longest frame with a head of four bytes; that of a longer frame has ten."""

_TEXT: Final = 0x81
_BINARY: Final = 0x82


class Binary(bytes):
    """A message for a binary frame; all other messages are for text frames."""


_SHORT: Final = [bytes((_TEXT, length)) for length in range(_MAX_SHORT + 1)]


def frame_head(length: int) -> bytes:
    """Return what comes before a text message of so many bytes."""
    if length <= _MAX_SHORT:
        return _SHORT[length]
    if length <= _MAX_MEDIUM:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def frame_of(message: bytes) -> bytes:
    """Return a message as one frame: a :class:`Binary` as a binary one, any other as a text frame."""
    head = frame_head(len(message))
    if isinstance(message, Binary):
        return b"%c%b%b" % (_BINARY, head[1:], message)
    return head + message


def message_of(frame: bytes) -> bytes:
    """Return the message in a frame of :func:`frame_of`."""
    length = len(frame)
    message = frame[2 if length <= SHORT_FRAME else 4 if length <= MEDIUM_FRAME else 10 :]
    return Binary(message) if frame[0] == _BINARY else message
