"""Drives a Session with a thread: one selector, one socket, one lock."""

from __future__ import annotations

import errno
import math
import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, cast

from holdfast import Connected, Dial, Event, Options, Session, State, Stopped
from holdfast._route import Route
from holdfast._wire import Wire

_CHUNK = 256 * 1024

_SENDS = 64
"""Messages to send without waiting for anything before the thread gets its turn: whoever sends without end holds the
lock nearly all the time."""

_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0))


Answer = Future[Any]
"""One result for one waiting thread."""


class Driver:
    """Keeps one Session's transport, timer and outputs going in a thread of its own.

    Everything is done with :attr:`lock` held, except waiting and what is the application's (its URL provider).

    Args:
        deliver: called with the events, in order and with the lock held; must not block.

    Attributes:
        turn: notified when the thread has had its turn.
    """

    def __init__(
        self,
        route: Route,
        options: Options | None,
        deliver: Callable[[list[Event]], None],
    ) -> None:
        self.session: Session = Session(options, random=random.random)
        self.lock: threading.RLock = threading.RLock()
        self.turn: threading.Condition = threading.Condition(self.lock)
        self._route = route
        self._deliver = deliver
        self._thread: threading.Thread | None = None
        self._pumping = False
        self._armed = math.inf
        self._sends = 0
        self._starting: Answer | None = None
        self._dial: Dial | None = None
        self._wire: Wire | None = None
        self._socket: socket.socket | None = None
        self._is_open = False
        self._addresses: list[Any] = []
        self._unsent = b""
        self._mask = 0

    # ---- What the client asks for

    def now(self) -> float:
        """The session's time."""
        return time.monotonic()

    def start(self) -> Connected | Stopped:
        """Start the session; the result is the first Connected or Stopped."""
        with self.turn:
            # Whoever starts as soon as it is told of the stop is ahead of the thread that has to end.
            self.turn.wait_for(lambda: self._thread is None or self.session.state is not State.STOPPED)
            self.session.start(self.now())
            starting: Answer = Future()
            self._starting = starting
            self._selector = selectors.DefaultSelector()
            self._alarm, self._bell = socket.socketpair()
            self._alarm.setblocking(False)
            self._bell.setblocking(False)
            self._selector.register(self._alarm, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._run, name="holdfast", daemon=True)
            self._thread.start()
        return cast("Connected | Stopped", starting.result())

    def stop(self) -> None:
        """Stop the session and wait until it has stopped, and its thread as well."""
        thread = self._thread
        if thread is not None and not thread.is_alive():
            return  # this is a forked child: the connection, and perhaps the lock, are the parent's
        with self.lock:
            thread = self._thread
            if thread is None:
                return
            self.session.stop(self.now())
            self.flush()
            self._ring()
        if thread is not threading.current_thread():
            thread.join()

    def flush(self) -> None:
        """Something was added to the session (lock held): write it from here, if the socket takes it."""
        self._sends += 1
        if threading.current_thread() is not self._thread:
            self._pump()
            # Answers have to be read, whatever else has to wait.
            deaf = self._is_open and self.session.reading and not self._mask & selectors.EVENT_READ
            if deaf or self.session.dial is not self._dial or self._unsent or self.session.deadline < self._armed:
                self._ring()

    def takes(self, publish: bool) -> bool:
        """Whether another message without an ack, perhaps a publish, can go out (lock held)."""
        taken = self._sends < _SENDS or self._thread is None
        if taken and not self._unsent and (not publish or self.session.publishing):
            return True
        self._ring()  # for the thread to have its turn, and to read if it did not
        return False

    def consumers_ready(self, ready: bool) -> None:
        """Consumers have caught up, or are too far behind (lock held)."""
        if ready:
            self.session.reading_resumed(self.now())
        else:
            self.session.reading_paused(self.now())
        self._ring()

    def settle(self, event: Connected | Stopped) -> None:
        """The session stands or has stopped: tell the one who waits for it."""
        if self._starting is not None:
            self._starting.set_result(event)
            self._starting = None

    def _ring(self) -> None:
        """Wake the thread."""
        with suppress(OSError):  # it has not heard the last thousand yet, or has ended
            self._bell.send(b"!")

    # ---- The thread

    def _run(self) -> None:
        while True:
            with self.lock:
                self._pump()
                self._sends = 0
                self.turn.notify_all()
                if self.session.dial is not self._dial:
                    self._redial()
                if self.session.state is State.STOPPED:
                    self._end()
                    return
                self._watch()
                self._armed = self.session.deadline
                timeout = None if self._armed == math.inf else max(0.0, self._armed - self.now())
            ready = self._selector.select(timeout)
            with self.lock:
                self._armed = math.inf
                if self.now() >= self.session.deadline:
                    self.session.wake(self.now())
                for key, _ in ready:
                    if key.fileobj is self._alarm:
                        with suppress(BlockingIOError):
                            self._alarm.recv(4096)
                    elif key.fileobj is self._socket:
                        self._receive() if self._is_open else self._opened()

    def _end(self) -> None:
        self._thread = None
        self.turn.notify_all()
        self._selector.close()
        self._alarm.close()
        self._bell.close()

    # ---- After every call to the session

    def _pump(self) -> None:
        """Do what the session wants done: the one rule, drain before you wait."""
        if self._pumping:
            return  # a consumer got us here: the pump below us goes on
        self._pumping = True
        try:
            self._write()
            while events := self.session.events():
                self._deliver(events)
                self._write()
        finally:
            self._pumping = False

    def _write(self) -> None:
        """Write what there is, as far as the socket takes it."""
        if self._socket is None or self._wire is None or not self._is_open:
            return
        if not self._unsent:
            self._unsent = self._wire.data_to_send()
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._unsent = b""
                self._wire.transport_lost(str(error), self.now())
                return
            self._unsent = self._unsent[sent:] or self._wire.data_to_send()

    def _watch(self) -> None:
        """Tell the selector what the socket is waited for."""
        mask = 0
        if self._socket is not None:
            if not self._is_open or self._unsent:
                mask |= selectors.EVENT_WRITE
            if self._is_open and self.session.reading:
                mask |= selectors.EVENT_READ
            if mask != self._mask:
                if self._mask:
                    self._selector.unregister(self._socket)
                if mask:
                    self._selector.register(self._socket, mask)
                self._mask = mask

    def _receive(self) -> None:
        assert self._socket is not None
        assert self._wire is not None
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._wire.transport_lost(str(error), self.now())
        else:
            self._wire.receive_data(data, self.now())

    # ---- Transports

    def _redial(self) -> None:
        """The session wants another transport than the one it has, or none."""
        if self._is_open and self._socket is not None and self._wire is not None and not self._unsent:
            with suppress(OSError):  # it may be gone already
                self._socket.send(self._wire.farewell())
        self._drop()
        self._wire, self._addresses = None, []
        self._dial = dial = self.session.dial
        if dial is not None:
            # The application's function and the name look-up may block: not here.
            threading.Thread(target=self._resolve, args=(dial,), name="holdfast-dial", daemon=True).start()

    def _drop(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            if self._mask:
                self._selector.unregister(self._socket)
            self._socket.close()
        self._socket, self._is_open, self._unsent, self._mask = None, False, b"", 0

    def _resolve(self, dial: Dial) -> None:
        """Find out where to connect; in a thread of its own."""
        if dial.url is None:
            answer = self._route.ask_blocking()
            with self.lock:
                self._route.tell(self.session, dial, answer, self.now())
        with self.lock:
            if self.session.dial is not dial or dial.url is None:
                self._ring()
                return
            wire = self._route.wire(self.session, dial)
        addresses: list[Any] = []
        failure: Exception | None = None
        try:
            addresses = socket.getaddrinfo(*wire.address(), type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            failure = error
        with self.lock:
            if self.session.dial is dial:
                self._wire, self._addresses = wire, addresses
                if failure is not None:
                    wire.failed(failure, self.now())
                else:
                    self._try_next(OSError("the name has no address"))
            self._ring()

    def _try_next(self, error: OSError) -> None:
        """Connect to the next address; ``error`` is what became of the one before."""
        assert self._wire is not None
        while self._addresses:
            family, kind, protocol, _, address = self._addresses.pop(0)
            try:
                self._socket = socket.socket(family, kind, protocol)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = self._socket.connect_ex(address)
            except OSError as caught:  # a name may have addresses of a family that this machine does not speak
                error = caught
            else:
                if code in _UNDER_WAY:
                    return
                error = OSError(code, os.strerror(code))
            self._drop()
        self._wire.failed(error, self.now())

    def _opened(self) -> None:
        """The attempt to connect has come to an end."""
        assert self._socket is not None
        if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop()
            self._try_next(OSError(code, os.strerror(code)))
        else:
            self._is_open = True
