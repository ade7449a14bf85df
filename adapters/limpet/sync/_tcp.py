"""A TCP connection as a driver with a selector wants it: it never blocks."""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from limpet import Session
from limpet._transports.pipeline import Pipeline

_CHUNK = 256 * 1024


_LOOK = 0.1
"""Seconds between two looks whether a connection is still wanted that is being made."""

_PATIENCE = 2.0
"""Seconds that one address of several may take before the next has its turn."""

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0))


def connect(address: tuple[str, int], wanted: Callable[[], bool]) -> socket.socket:
    """Connect to the first address of a host that answers; waits, but not longer than that is ``wanted``.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up.
        ExceptionGroup: what was wrong with each address.
    """
    errors: list[OSError] = []
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, place) in enumerate(found, 1):
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                code = sock.connect_ex(place)
                if code in _UNDER_WAY:
                    code = _connected(sock, wanted, _PATIENCE if number < len(found) else math.inf)
                if code:
                    raise OSError(code, os.strerror(code))
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            errors.append(error)
        else:
            return sock
        if not wanted():
            break
    if not errors:
        raise OSError("the name has no address")
    raise ExceptionGroup("no address answers", errors)


def _connected(sock: socket.socket, wanted: Callable[[], bool], patience: float) -> int:
    """Wait for the end of an attempt to connect; return its error number, 0 for success."""
    end = time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while not selector.select(_LOOK):
            if not wanted():
                return errno.ECANCELED
            if time.monotonic() > end:
                return errno.ETIMEDOUT
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class ByteTransport:
    """One TCP connection and the Pipeline that makes messages of its bytes.

    Attributes:
        closed: nothing has to be waited for at its end.
    """

    closed = True

    def __init__(
        self, session: Session, pipeline: Pipeline, sock: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        with suppress(OSError):  # it is gone already, which reading will tell
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._session = session
        self._pipeline = pipeline
        self._socket = sock
        self._selector = selector
        self._watched = 0
        self._unsent = b""

    @property
    def writable(self) -> bool:
        """Whether a message would not have to wait for others."""
        return not self._unsent

    def read(self, wanted: bool) -> None:
        """Tell the selector what to wait for; its key's data is this object."""
        events = (selectors.EVENT_READ if wanted else 0) | (selectors.EVENT_WRITE if self._unsent else 0)
        if events != self._watched:
            if self._watched:
                self._selector.unregister(self._socket)
            if events:
                self._selector.register(self._socket, events, self)
            self._watched = events

    def write(self) -> None:
        """Write what there is, as far as the socket takes it."""
        unsent = self._unsent or self._pipeline.data_to_send()
        while unsent:
            try:
                sent = self._socket.send(unsent)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                unsent = b""
                self._pipeline.transport_lost(str(error), time.monotonic())
                break
            unsent = unsent[sent:] or self._pipeline.data_to_send()
        self._unsent = unsent

    def receive(self) -> None:
        """Take in what has arrived."""
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._pipeline.transport_lost(str(error), time.monotonic())
        else:
            self._pipeline.receive_data(data, time.monotonic())

    def close(self) -> None:
        """Say goodbye if the session wants that, and close; never waits for a peer that does not read."""
        if self._watched:
            self._selector.unregister(self._socket)
        if not self._unsent:
            with suppress(OSError):  # it may be gone already
                self._socket.send(self._pipeline.close_notify())
        self._socket.close()

    def abort(self) -> None:
        """Close the socket and nothing else."""
        self._socket.close()


class Bell:
    """Wakes a thread that waits with a selector.

    Args:
        pair: connected to each other.

    Attributes:
        sleeper: for the selector.
    """

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.sleeper, self._other = pair
        self.sleeper.setblocking(False)
        self._other.setblocking(False)

    def ring(self) -> None:
        """Wake the thread."""
        with suppress(OSError):  # it has not heard the last thousand yet
            self._other.send(b"!")

    def heard(self) -> None:
        """The thread is awake."""
        with suppress(BlockingIOError):
            self.sleeper.recv(4096)

    def close(self) -> None:
        """Close the sockets; nobody may be about to ring, whose byte could get into somebody else's new file."""
        self.sleeper.close()
        self._other.close()
