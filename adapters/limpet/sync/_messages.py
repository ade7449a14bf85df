"""A transport of messages whose methods block, as a driver with threads wants it: to be told what to do, never to be
waited for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from limpet import Close
from limpet._transports.messages import BlockingConnect, BlockingTransport, MessageConnection, check_blocking_transport

log: logging.Logger = logging.getLogger("limpet")


class Owner(Protocol):
    """The driver that keeps the session."""

    lock: threading.RLock
    turn: threading.Condition

    def pump(self) -> None:
        """To be called after every call to the session (lock held)."""
        ...

    def spawn(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Start a thread that nobody waits for. Raises RuntimeError where the system has none left."""
        ...


class MessageThreads:
    """One transport of messages: the thread that opens it goes on to read from it, a second one writes to it.

    Session and channel are touched with the driver's lock held; the transport is called without, so that whatever
    hangs there holds up nobody else.

    Attributes:
        closed: there is nothing to be closed (any more, or yet).
    """

    def __init__(self, channel: MessageConnection, owner: Owner) -> None:
        self.closed: bool = True
        self._channel = channel
        self._owner = owner
        self._news = threading.Condition(owner.lock)
        self._transport: BlockingTransport | None = None
        self._closing = False
        self._reading = False  # may wait until the session reads on
        self._sending = False  # what was handed over is not sent yet
        self._unsent: list[bytes] = []
        self._asked_close: Close | None = None

    # ---- For the driver (lock held)

    @property
    def writable(self) -> bool:
        """Whether a message would not have to wait for others."""
        return not self._sending

    def write(self) -> None:
        """There may be something to send, and reading may go on."""
        if self._transport is not None and not self._sending:
            self._unsent, self._asked_close = self._channel.take()
            self._sending = bool(self._unsent) or self._asked_close is not None
        if self._sending or self._reading:
            self._news.notify_all()

    def read(self, wanted: bool) -> None:
        """Pause or resume reading: the reader looks at the session itself."""

    def abort(self) -> None:
        """It is not wanted any more, whatever the session says."""
        self.close()

    def close(self) -> None:
        """It is not wanted any more: close it, whatever its threads are at."""
        self._news.notify_all()
        if self._sending and not self._closing:
            try:
                self._owner.spawn("limpet-close", self._close)
            except RuntimeError as error:
                log.warning("a transport cannot be closed before it has sent what it has: %s", error)

    # ---- The threads

    def run(self, connect: BlockingConnect) -> None:
        """Open the transport, and read from it to its end."""
        channel = self._channel
        try:
            transport = check_blocking_transport(connect(channel.dial))
        except BaseException as error:  # noqa: BLE001 - whatever it raises, there is no transport
            with self._news:
                channel.failed(error)
                self._owner.pump()
            return
        with self._news:
            self._transport, self.closed = transport, False
            if open_ := channel.dial.wanted:
                try:
                    self._owner.spawn("limpet-write", self._write, transport)
                    channel.opened()
                except RuntimeError as error:
                    open_ = False
                    channel.failed(error)
                self._owner.pump()
        if not open_:
            self._close()
        while open_ and self._may_read():
            message: object
            try:
                message = transport.receive()
            except BaseException as error:  # noqa: BLE001 - whatever it raises, it is at an end
                message = error
            with self._news:
                channel.received(message)
                self._owner.pump()

    def _may_read(self) -> bool:
        """Wait until the session reads, or does not want this transport any more."""
        with self._news:
            self._reading = True
            self._news.wait_for(lambda: self._channel.session.reading or not self._channel.dial.wanted)
            self._reading = False
            return self._channel.dial.wanted

    def _write(self, transport: BlockingTransport) -> None:
        """Send what is handed over, as long as the transport is wanted; then close it."""
        channel = self._channel
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._sending or not channel.dial.wanted)
                    if not channel.dial.wanted:
                        return
                try:
                    for message in self._unsent:
                        transport.send(message.decode())
                except BaseException as error:  # noqa: BLE001 - as above
                    with self._news:
                        channel.lost(error)
                if self._asked_close is not None:
                    self._close()
                with self._news:
                    if self._asked_close is not None:
                        channel.closed(self._asked_close)
                    self._sending = False
                    self._owner.pump()
        finally:
            self._close()

    def _close(self) -> None:
        """Close the transport, unless somebody does already."""
        with self._news:
            if self._transport is None or self._closing:
                return
            self._closing = True
            close = self._channel.final_close
        try:
            self._transport.close(close.code, close.reason)
        except BaseException as error:  # noqa: BLE001 - it is gone, one way or the other
            log.debug("closing a transport failed: %s", self._channel.session.presentable(str(error)))
        with self._news:
            self.closed = True
            self._owner.turn.notify_all()
