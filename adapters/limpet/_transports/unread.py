"""What a socket of asyncio's has received when its transport is lost. No event loop in here."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_CHUNK = 256 * 1024


def unread(transport: asyncio.BaseTransport) -> bytes:
    """Return the bytes that wait in the socket of ``transport``; to be called in its ``connection_lost``.

    A transport whose write fails reads no more, though the peer's last messages and its close may wait there: those
    of this turn of the loop, or all since reading was paused.
    """
    found = bytearray()
    with suppress(OSError, AttributeError):  # nothing waits, or the connection is reset; a transport without a socket
        with transport.get_extra_info("socket").dup() as sock:
            sock.setblocking(False)
            while data := sock.recv(_CHUNK):
                found += data
    return bytes(found)
