"""TCP connections on asyncio: a name look-up that nothing waits for, and a race of the addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType] - of a bare tuple

from limpet._transports.addresses import DELAY, Address, look_up_aside, numeric


async def find(host: str, port: int) -> list[Address]:
    """Return the addresses of a host.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up.
    """
    return numeric(host, port) or await asyncio.wrap_future(look_up_aside(host, port))


async def dial(host: str, port: int, *, make: Callable[[Address], socket.socket] | None = None) -> socket.socket:
    """Return a socket that is connected to the first address of a host that answers.

    ``loop.create_connection`` does not do: its look-ups block the end of the process, and uvloop's tries one address
    after the other.

    Args:
        make: makes the socket for an address.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up; or no address answers.
    """
    addresses = await find(host, port)
    try:
        sock = await start_connection(addresses, happy_eyeballs_delay=DELAY, socket_factory=make)
    except RuntimeError as error:  # of uvloop
        raise OSError(str(error)) from error
    with suppress(OSError):  # it has been reset, which the first read reports
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
