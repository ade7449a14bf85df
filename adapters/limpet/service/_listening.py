"""The end of asyncio servers, without sockets left open."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def stop_listening(server: asyncio.Server) -> None:
    """Close ``server`` after every accepted connection has its protocol.

    ``close()`` alone loses a connection that was accepted one turn of the event loop before (seen with CPython 3.11):
    the closed server refuses its transport, and its socket stays open.
    """
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # event loops of Windows have no readers
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()
