"""TCP connections for the driver's selector."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress

from limpet._transports.pipeline import Pipeline
from limpet_core.text import reason_of

_CHUNK = 256 * 1024
"""Bytes of one read."""

_SMALL_CHUNK = 4096
"""The same after a read of fewer: room that is not used takes 3 KiB in the end, among the memory of many threads."""


class TcpConnection:
    """One TCP connection, and the pipeline that makes messages of its bytes. No method waits.

    Attributes:
        closed: whether nothing has to be waited for at its end.
    """

    closed = True

    __slots__ = (
        "_chunk",
        "_pipeline",
        "_registered",
        "_selector",
        "_socket",
        "_unsent",
    )

    def __init__(self, pipeline: Pipeline, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):  # gone already: the next receive() reports it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipeline = pipeline
        self._socket = sock
        self._selector = selector
        self._registered = 0
        self._unsent = b""
        self._chunk = _SMALL_CHUNK

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
                self._pipeline.send_failed(reason_of(error), time.monotonic())
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
            data = self._socket.recv(self._chunk)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._pipeline.transport_lost(reason_of(error), time.monotonic())
        else:
            self._chunk = _SMALL_CHUNK if len(data) < _SMALL_CHUNK else _CHUNK
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
