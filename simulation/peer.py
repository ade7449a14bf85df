"""The service's end of a WebSocket, as much of it as a Link can ask for; written apart from what Link uses."""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1

from limpet_core.service import Close

_KEY = re.compile(rb"\r\nsec-websocket-key: ([^\r]+)\r\n", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


class Peer:
    """Reads the handshake and masked frames (RFC 6455 4.2, 5.2)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._accepted = False

    def receive(self, data: bytes) -> Iterator[bytes | Close]:
        """The messages and the close that are complete now; first of all the handshake."""
        buffer = self._buffer
        buffer += data
        if not self._accepted:
            end = buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            self._accepted = True
            yield bytes(buffer[:end])
            del buffer[:end]
        while len(buffer) >= 6:
            start, size = 6, buffer[1] - 0x80
            assert size >= 0, "frames of a client are masked"
            if size == 126:
                start, size = 8, int.from_bytes(buffer[2:4])
            else:
                assert size < 126, "no message here is that long"
            if len(buffer) < start + size:
                return
            mask = bytes(buffer[start - 4 : start]) * (size // 4 + 1)
            masked = int.from_bytes(buffer[start : start + size])
            payload = (masked ^ int.from_bytes(mask[:size])).to_bytes(size)
            first = buffer[0]
            del buffer[: start + size]
            assert first in (0x81, 0x88), "a Link sends whole texts and closes"
            yield payload if first == 0x81 else Close(int.from_bytes(payload[:2]) or 1005, payload[2:].decode())


def accept(request: bytes, subprotocol: str) -> bytes:
    """The answer to a handshake."""
    key = _KEY.search(request)
    assert key is not None
    assert subprotocol.encode() in request
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
    ) % (b64encode(sha1(key[1] + _GUID).digest()), subprotocol.encode())


def rejection(status: int) -> bytes:
    """Another answer to a handshake."""
    return b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """An unmasked frame, of text by default."""
    size = len(payload)
    return (b"%c%c" % (first, size) if size < 126 else b"%c\x7e" % first + struct.pack("!H", size)) + payload


def close_frame(code: int, reason: str) -> bytes:
    return frame(struct.pack("!H", code) + reason.encode(), 0x88)
