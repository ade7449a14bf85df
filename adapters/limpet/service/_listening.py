"""Servers of asyncio that end without leaving anything open."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def stop_listening(server: asyncio.Server) -> None:
    """Close ``server``, whose every connection has its protocol when this is done.

    ``close()`` alone loses one that was accepted a turn of the loop ago (seen with CPython 3.11): its transport is
    refused by the closed server, and its socket stays open.
    """
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # loops of Windows have no readers
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()
