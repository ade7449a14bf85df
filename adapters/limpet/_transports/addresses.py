"""The addresses of a host: look-ups that nothing has to wait for, in the order in which to try the addresses."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import Future
from itertools import chain, zip_longest
from typing import Any, Final

Address = tuple[int, int, int, str, Any]
"""Family, kind, protocol, canonical name and socket address, as in the result of ``getaddrinfo``."""

DELAY: Final = 0.25
"""Seconds that an address has to itself before the next one is tried as well (RFC 8305 5: Connection Attempt Delay)."""

_SHARED_FOR: Final = 1.0
"""Seconds for which others may join a look-up: one that hangs for longer may belong to a network that is gone."""

_under_way: dict[tuple[int, str, int], tuple[float, Future[list[Address]]]] = {}


def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, the families in turn (RFC 8305 4); this may block for long.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up.
    """
    return _in_turn(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def numeric(host: str, port: int) -> list[Address]:
    """Return the addresses of a host that is an IP address already, without blocking; ``[]`` if it is a name."""
    try:
        return _in_turn(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, ValueError):
        return []


def look_up_aside(host: str, port: int) -> Future[list[Address]]:
    """Return the coming result of :func:`look_up` in a daemon thread, which holds up neither a loop nor the process.

    The threads of an executor would: the interpreter waits for them at its end, and ``asyncio.run`` waits, too. Callers
    that ask for the same name at about the same time share a look-up: a thousand clients need one thread.

    Raises:
        OSError: the system has no threads left.
    """
    key, now = (os.getpid(), host, port), time.monotonic()  # a forked child has no thread that would finish it
    began, future = _under_way.get(key, (-_SHARED_FOR, None))
    if future is not None and now - began < _SHARED_FOR:
        return future
    made: Future[list[Address]] = Future()
    made.set_running_or_notify_cancel()  # a caller that is cancelled does not cancel it for the others
    entry = _under_way[key] = now, made

    def run() -> None:
        try:
            found: list[Address] | BaseException = look_up(host, port)
        except BaseException as error:  # noqa: BLE001 - raised in the callers
            found = error
        forget()
        if isinstance(found, list):
            made.set_result(found)
        else:
            made.set_exception(found)

    def forget() -> None:
        if _under_way.get(key) is entry:
            _under_way.pop(key, None)

    try:
        threading.Thread(target=run, name="limpet-look-up", daemon=True).start()
    except RuntimeError as error:
        forget()
        raise OSError(f"the name cannot be looked up: {error}") from error
    return made


def _in_turn(found: list[Any]) -> list[Address]:
    if not found:
        raise OSError("the name has no address")
    families: dict[int, list[Address]] = {}
    for address in found:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]
