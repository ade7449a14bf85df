"""TCP connections for the driver's selector."""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from limpet._transports.pipeline import Pipeline

_CHUNK = 256 * 1024

_POLL_INTERVAL = 0.1
"""Seconds between two checks whether a connection that is being made is still wanted."""

_ATTEMPT_TIMEOUT = 2.0
"""Seconds that one address of several may take before the next is tried."""

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0))


def connect(address: tuple[str, int], wanted: Callable[[], bool]) -> socket.socket:
    """Connect to the first address of a host that answers; give up when ``wanted`` returns False.

    Raises:
        OSError, ValueError: the name has no address, or cannot be looked up.
        ExceptionGroup: the error of each address.
    """
    errors: list[OSError] = []
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, socket_address) in enumerate(found, 1):
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                code = sock.connect_ex(socket_address)
                if code in _IN_PROGRESS:
                    code = _wait_connected(sock, wanted, _ATTEMPT_TIMEOUT if number < len(found) else math.inf)
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


def _wait_connected(sock: socket.socket, wanted: Callable[[], bool], timeout: float) -> int:
    """Wait for the end of an attempt to connect; return its error number, 0 for success."""
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while not selector.select(_POLL_INTERVAL):
            if not wanted():
                return errno.ECANCELED
            if time.monotonic() > end:
                return errno.ETIMEDOUT
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class TcpConnection:
    """One TCP connection, and the pipeline that makes messages of its bytes. No method waits.

    Attributes:
        closed: whether nothing has to be waited for at its end.
    """

    closed = True

    def __init__(self, pipeline: Pipeline, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):  # gone already: the next receive() reports it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipeline = pipeline
        self._socket = sock
        self._selector = selector
        self._registered = 0
        self._unsent = b""

    @property
    def writable(self) -> bool:
        """Whether a message would not have to wait behind others."""
        return not self._unsent

    def write(self) -> None:
        """Write the session's data, as far as the socket takes it."""
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

    def read(self, wanted: bool) -> None:
        """Register for reading, if ``wanted``, and for writing, if needed; the key's data is this object."""
        events = (selectors.EVENT_READ if wanted else 0) | (selectors.EVENT_WRITE if self._unsent else 0)
        if events != self._registered:
            if self._registered:
                self._selector.unregister(self._socket)
            if events:
                self._selector.register(self._socket, events, self)
            self._registered = events

    def receive(self) -> None:
        """Hand received data to the session."""
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._pipeline.transport_lost(str(error), time.monotonic())
        else:
            self._pipeline.receive_data(data, time.monotonic())

    def close(self) -> None:
        """Close the socket, after TLS's goodbye if the socket takes it at once."""
        if self._registered:
            self._selector.unregister(self._socket)
        if not self._unsent:
            with suppress(OSError):  # it may be gone already
                self._socket.send(self._pipeline.close_notify())
        self._socket.close()

    def abort(self) -> None:
        """Close the socket and nothing else."""
        self._socket.close()
