"""Encoding of messages as WebSocket frames (RFC 6455 5.2)."""

from __future__ import annotations

from collections.abc import Iterable

from limpet_core.service import Binary

# First bytes of an unfragmented frame.
_TEXT = 0x81
_BINARY = 0x82

_SHORT = [bytes((_TEXT, length)) for length in range(126)]


def encode_frames(messages: Iterable[bytes], *, mixed: bool) -> bytes:
    """Return each message as one frame, unmasked as RFC 6455 5.1 requires of a server.

    Messages go into text frames; with ``mixed`` a :class:`Binary` goes into a binary frame.
    """
    parts: list[bytes] = []
    for message in messages:
        length = len(message)
        if length < 126:
            parts.append(_SHORT[length])
        elif length < 65536:
            parts.append(b"\x81\x7e" + length.to_bytes(2, "big"))
        else:
            parts.append(b"\x81\x7f" + length.to_bytes(8, "big"))
        if mixed and isinstance(message, Binary):
            parts[-1] = bytes((_BINARY,)) + parts[-1][1:]
        parts.append(message)
    return b"".join(parts)
