"""What a socket of asyncio's has received when its transport is lost. No event loop in here."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket

_CHUNK = 256 * 1024


def unread(transport: asyncio.BaseTransport) -> bytes:
    """Return the bytes that wait in the socket of ``transport``; to be called in its ``connection_lost``.

    A transport whose write fails reads no more, though the peer's last messages and its close may wait there: those
    of this turn of the loop, or all since reading was paused.
    """
    found = bytearray()
    sock: socket.socket | None = transport.get_extra_info("socket")
    # OSError: nothing waits, or the connection is reset.
    with suppress(OSError), nullcontext() if sock is None else sock.dup() as copy:
        if copy is not None:
            copy.setblocking(False)
            while data := copy.recv(_CHUNK):
                found += data
    return bytes(found)
