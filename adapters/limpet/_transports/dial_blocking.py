"""TCP connections for code that blocks: a race of the addresses."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from limpet._transports.addresses import DELAY, Address, look_up

_POLL_INTERVAL = 0.1
"""Seconds between two checks whether a connection that is being made is still wanted."""

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0))


def dial(host: str, port: int, wanted: Callable[[], bool]) -> socket.socket:
    """Return a socket, which does not block, that is connected to the first address of a host that answers.

    An address that has not answered after :data:`~limpet._transports.addresses.DELAY` goes on, and the next one is
    tried as well. Gives up when ``wanted`` returns False.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up.
        ExceptionGroup: the error of each address.
    """
    addresses = look_up(host, port)
    with _Race() as race:
        while addresses or race.runners:
            if not wanted():
                race.errors.append(OSError(errno.ECANCELED, os.strerror(errno.ECANCELED)))
                break
            wait = race.next_at - time.monotonic()
            if addresses and (wait <= 0 or not race.runners):
                race.add(addresses.pop(0))
                wait = 0.0
            winner = race.run(min(wait, _POLL_INTERVAL) if addresses else _POLL_INTERVAL)
            if winner is not None:
                return winner
        raise ExceptionGroup("no address answers", race.errors)


class _Race:
    """Sockets that are being connected; as a context manager it closes all but the winner.

    Attributes:
        errors: the errors of the addresses that have failed.
        next_at: when to try another address.
    """

    def __init__(self) -> None:
        self.errors: list[OSError] = []
        self.next_at: float = 0.0
        self._resources = ExitStack()
        self._selector = self._resources.enter_context(selectors.DefaultSelector())
        self.runners: set[socket.socket] = set()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        for sock in self.runners:
            sock.close()

    def add(self, address: Address) -> None:
        """Begin to connect to one more address."""
        family, kind, protocol, _, place = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # this machine does not speak that family
            self.errors.append(error)
            return
        self.runners.add(sock)
        self.next_at = time.monotonic() + DELAY
        try:
            sock.setblocking(False)
            code = sock.connect_ex(place)
            if code and code not in _IN_PROGRESS:
                raise OSError(code, os.strerror(code))
            self._selector.register(sock, selectors.EVENT_WRITE)
        except OSError as error:
            self._failed(sock, error)

    def run(self, seconds: float) -> socket.socket | None:
        """Wait so long at most; return the first socket that is connected, if there is one."""
        if not self.runners:
            return None
        for key, _ in self._selector.select(max(0.0, seconds)):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                self.runners.discard(sock)
                return sock
            self._failed(sock, OSError(code, os.strerror(code)))
        return None

    def _failed(self, sock: socket.socket, error: OSError) -> None:
        self.runners.discard(sock)
        sock.close()
        self.errors.append(error)
        self.next_at = 0.0  # an address that fails gives its turn to the next
