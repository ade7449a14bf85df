"""A transport of messages whose methods block, run by threads that nothing waits for."""

from __future__ import annotations

import logging
import threading
from enum import Enum, auto
from typing import Protocol

from limpet import Close
from limpet._clients.driver import Owner
from limpet._transports.messages import BlockingConnect, BlockingTransport, MessageConnection, check_blocking_transport
from limpet.sync._worker import Worker
from limpet_core.text import reason_of

log: logging.Logger = logging.getLogger("limpet")


class MessageOwner(Owner, Protocol):
    """The driver, whose methods are called with its lock held.

    Attributes:
        worker: its threads and the lock.
    """

    worker: Worker

    @property
    def transport_closed(self) -> threading.Condition:
        """A condition on that lock."""
        ...


class _State(Enum):
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class MessageThreads:
    """One transport of messages: the thread that opens it then reads from it, a second thread writes to it.

    The writer also closes it. Two other threads close in its place: the opening thread where there is no writer yet,
    and one more where the writer hangs in ``send``. The step from OPEN to CLOSING decides which of them does.

    The transport's methods are called without the driver's lock, so that one that hangs holds up nothing else.
    """

    def __init__(self, connection: MessageConnection, owner: MessageOwner) -> None:
        self._connection = connection
        self._owner = owner
        self._changed = threading.Condition(owner.worker.lock)
        self._transport: BlockingTransport | None = None
        self._state = _State.OPENING
        self._unsent: list[str | bytes] = []
        self._close_behind: Close | None = None  # how to close behind the messages above, if they are the last
        self._sending = False  # the writer has something to do
        self._paused = False  # the reader waits until the session reads on

    # ---- For the driver (lock held)

    @property
    def closed(self) -> bool:
        """Whether there is nothing to close: any more, or yet."""
        return self._state in (_State.OPENING, _State.CLOSED)

    @property
    def writable(self) -> bool:
        """Whether a message would not have to wait behind others."""
        return not self._sending

    def write(self) -> None:
        """Hand the session's messages over to the writer."""
        if self._state is not _State.OPENING and not self._sending:
            self._unsent, self._close_behind = self._connection.take()
            if self._unsent or self._close_behind is not None:
                self._sending = True
                self._changed.notify_all()

    def read(self, wanted: bool) -> None:
        """Have the reader go on, or pause after its next message."""
        if wanted and self._paused:
            self._changed.notify_all()

    def close(self) -> None:
        """Have the transport closed by one of its threads; it is not wanted any more."""
        self._changed.notify_all()
        if self._sending and self._state is _State.OPEN:
            try:
                self._owner.worker.spawn("limpet-close", self._close)
            except RuntimeError as error:
                log.warning("a transport cannot be closed before it has sent what it has: %s", error)

    abort = close

    # ---- The threads

    def run(self, connect: BlockingConnect) -> None:
        """Open the transport, and read from it to its end."""
        transport = self._open(connect)
        while transport is not None and self._may_read():
            message: object
            try:
                message = transport.receive()
            except BaseException as error:  # noqa: BLE001 - whatever it raises, the transport is at its end
                message = error
            with self._changed:
                self._connection.received(message)
                self._owner.drain()

    def _open(self, connect: BlockingConnect) -> BlockingTransport | None:
        """Open the transport and start the writer; return the transport if it is still wanted then."""
        connection = self._connection
        try:
            transport = check_blocking_transport(connect(connection.dial))
        except BaseException as error:  # noqa: BLE001 - whatever it raises, there is no transport
            with self._changed:
                connection.failed(error)
                self._owner.drain()
            return None
        with self._changed:
            self._transport, self._state = transport, _State.OPEN
            if wanted := connection.dial.wanted:
                try:
                    self._owner.worker.spawn("limpet-write", self._write, transport)
                    connection.opened()
                except RuntimeError as error:
                    wanted = False
                    connection.failed(error)
                self._owner.drain()
        if not wanted:
            self._close()
            return None
        return transport

    def _may_read(self) -> bool:
        """Wait until the session reads; return False if the transport is not wanted any more."""
        connection = self._connection
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: connection.session.reading or not connection.dial.wanted)
            self._paused = False
            return connection.dial.wanted

    def _write(self, transport: BlockingTransport) -> None:
        """Send the messages handed over, as long as the transport is wanted; then close it."""
        connection = self._connection
        try:
            while self._may_write():
                try:
                    for message in self._unsent:
                        transport.send(message)
                except BaseException as error:  # noqa: BLE001 - as above
                    with self._changed:
                        connection.send_failed(error)
                if self._close_behind is not None:
                    self._close()
                with self._changed:
                    if self._close_behind is not None:
                        connection.closed(self._close_behind)
                    self._sending = False
                    self._owner.drain()
        finally:
            self._close()

    def _may_write(self) -> bool:
        """Wait for something to send; return False if the transport is not wanted any more."""
        connection = self._connection
        with self._changed:
            self._changed.wait_for(lambda: self._sending or not connection.dial.wanted)
            return connection.dial.wanted

    def _close(self) -> None:
        """Close the transport, unless another thread does or has done so."""
        with self._changed:
            if self._state is not _State.OPEN:
                return
            self._state = _State.CLOSING
            transport, close = self._transport, self._connection.final_close
        assert transport is not None
        try:
            transport.close(close.code, close.reason)
        except BaseException as error:  # noqa: BLE001 - it is gone, one way or the other
            log.debug("closing a transport failed: %s", self._connection.session.presentable(reason_of(error)))
        with self._changed:
            self._state = _State.CLOSED
            self._owner.transport_closed.notify_all()
