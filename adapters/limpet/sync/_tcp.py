"""TCP connections for the threads of a driver."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from limpet._transports.pipeline import Pipeline
from limpet.sync._waits import READ, WRITE
from limpet_core.text import reason_of

_CHUNK = 256 * 1024
"""Bytes of one read."""

_SMALL_CHUNK = 4096
"""The same after a read of fewer: room that is not used takes 3 KiB in the end, among the memory of many threads."""


class TcpConnection:
    """One TCP connection, and the pipeline that makes messages of its bytes. No method waits.

    Attributes:
        closed: whether nothing has to be waited for at its end.
        opening: whether the thread that has dialled still waits for the socket, and not the driver's.
    """

    closed = True

    __slots__ = (
        "_chunk",
        "_pipeline",
        "_reading",
        "_socket",
        "_unsent",
        "opening",
    )

    def __init__(self, pipeline: Pipeline, sock: socket.socket) -> None:
        with suppress(OSError):  # gone already: the next receive() reports it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipeline = pipeline
        self._socket = sock
        self.opening: bool = True
        self._reading = True
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
        """Read on, or pause; the thread that waits for the socket does not notice before its next wait."""
        self._reading = wanted

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def events(self) -> int:
        """Return what to wait for at the socket, for :func:`limpet.sync._waits.wait`."""
        return (READ if self._reading else 0) | (WRITE if self._unsent else 0)

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
        if not self._unsent:
            with suppress(OSError):  # it may be gone already
                self._socket.send(self._pipeline.close_notify())
        if self.opening:  # Linux closes no socket for which another thread waits: this tells the peer, and that thread
            with suppress(OSError):  # as above
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def abort(self) -> None:
        """Close the socket and nothing else."""
        self._socket.close()
