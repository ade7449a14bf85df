"""Host names for checks: with addresses of one's choice, and with none for as long as one likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

_GIVE_UP = 60.0


@contextmanager
def name(host: str, *addresses: tuple[str, int]) -> Generator[None]:
    """Within the block, ``host`` is a name with these IPv4 addresses, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    with _resolver(host, lambda: found):
        yield


@contextmanager
def name_that_fails(host: str, error: Exception) -> Generator[None]:
    """Within the block, a look-up of ``host`` raises ``error``."""

    def fail() -> list[Any]:
        raise error

    with _resolver(host, fail):
        yield


@contextmanager
def name_that_hangs(host: str) -> Generator[threading.Event]:
    """Within the block, a look-up of ``host`` takes until the end of the block; the event tells of the first."""
    begun, over = threading.Event(), threading.Event()

    def hang() -> list[Any]:
        begun.set()
        over.wait(_GIVE_UP)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    try:
        with _resolver(host, hang):
            yield begun
    finally:
        over.set()


@contextmanager
def silent(count: int, port: int) -> Generator[list[tuple[str, int]]]:
    """Addresses that answer nothing at all, for a while: an attempt to connect is neither accepted nor refused.

    A listener whose queue is full drops what comes. (On a system that refuses in place of that, or that has one
    loopback address alone, the addresses fail at once.)

    Args:
        count: how many.
        port: the port of each: 127.0.0.2, 127.0.0.3 and so on.
    """
    with ExitStack() as stack:
        addresses = [(f"127.0.0.{number}", port) for number in range(2, 2 + count)]
        for address in addresses:
            listening = stack.enter_context(socket.socket())
            try:
                listening.bind(address)
            except OSError:
                continue
            listening.listen(0)
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
        yield addresses


@contextmanager
def _resolver(host: str, answer: Any) -> Generator[None]:
    getaddrinfo = socket.getaddrinfo

    def look_up(name: Any, *args: Any, **named: Any) -> Any:
        flags = named.get("flags", args[4] if len(args) > 4 else 0)
        asked = name.decode() if isinstance(name, bytes) else name
        if asked != host or flags & socket.AI_NUMERICHOST:
            return getaddrinfo(name, *args, **named)
        return answer()

    with patch.object(socket, "getaddrinfo", look_up):
        yield
