"""Drives a Session with a thread: one selector, one socket, one lock."""

from __future__ import annotations

import logging
import math
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from typing import cast

from holdfast import Acked, Connected, ConnectError, Dial, Event, LocalProtocolError, Options, Session, State, Stopped
from holdfast._blocking import Answer
from holdfast._channels import Channel
from holdfast._route import Route
from holdfast._sockets import ByteTransport, connect
from holdfast._wire import Wire
from holdfast.connect._threads import MessageThreads

log: logging.Logger = logging.getLogger("holdfast")

_LONG = 3600.0
"""Seconds to wait for anything at most: the system's calls do not take every number."""

_SENDS = 64
"""Messages to send without waiting for anything before the thread gets its turn: whoever sends without end holds the
lock nearly all the time."""


class Driver:
    """Keeps one Session's transport, timer and outputs going in a thread of its own.

    Everything is done with :attr:`lock` held, except waiting and what is the application's (its URL provider, its
    transports).

    Args:
        deliver: called with the events, in order and with the lock held; must not block.

    Attributes:
        turn: notified when the thread has had its turn.
    """

    def __init__(self, route: Route, options: Options | None, deliver: Callable[[list[Event]], None]) -> None:
        self.session: Session = Session(options, random=random.random)
        self.lock: threading.RLock = threading.RLock()
        self.turn: threading.Condition = threading.Condition(self.lock)
        self._route = route
        self._deliver = deliver
        self._thread: threading.Thread | None = None
        self._resources = ExitStack()
        self._foreign = False
        self._fault: BaseException | None = None
        self._pumping = False
        self._armed = math.inf
        self._sends = 0
        self._patience = math.inf
        self._delivering: list[Event] = []
        self._starting: Answer | None = None
        self._dial: Dial | None = None
        self._transport: ByteTransport | MessageThreads | None = None
        self._leaving: list[ByteTransport | MessageThreads] = []

    # ---- What the client asks for

    def now(self) -> float:
        """The session's time."""
        return time.monotonic()

    def answer(self) -> Answer:
        """A new thing to wait for. Raises LocalProtocolError in a forked child."""
        self.check_process()
        return Future()

    def check_process(self) -> None:
        """Raise LocalProtocolError if this process only inherited the client."""
        if self._foreign:
            raise LocalProtocolError(
                "the client's connection belongs to the parent process: make a new client in the forked child"
            )

    def start(self, begin: Callable[[], None]) -> Connected | Stopped:
        """Start the session; the result is the first Connected or Stopped. ``begin`` is called as soon as it starts."""
        self.check_process()
        with self.turn:
            # Whoever starts as soon as it is told of the stop is ahead of the thread that has to end.
            self.turn.wait_for(lambda: self._thread is None or self.session.state is not State.STOPPED)
            if self.session.state is State.STOPPED:
                self._prepare()
            self.session.start(self.now())
            begin()
            starting: Answer = Future()
            self._starting = starting
        return cast("Connected | Stopped", starting.result())

    def _prepare(self) -> None:
        """Get the thread and what it needs; where the system has none left, nothing has happened."""
        with ExitStack() as resources:
            try:
                self._selector = resources.enter_context(selectors.DefaultSelector())
                self._alarm, self._bell = socket.socketpair()
                for end in (self._alarm, self._bell):
                    resources.enter_context(end).setblocking(False)
                self._selector.register(self._alarm, selectors.EVENT_READ)
                thread = threading.Thread(target=self._run, name="holdfast", daemon=True)
                thread.start()  # has to wait for the lock
            except (OSError, RuntimeError) as error:
                raise ConnectError(f"the client can not start: {error}") from error
            self._thread = thread
            self._resources = resources.pop_all()
        self._fault, self._patience = None, math.inf

    def stop(self) -> None:
        """Stop the session and wait until it has stopped, and its thread as well."""
        with self.lock:
            thread = self._thread
            if thread is None:
                return
            self._patience = min(self._patience, self.now() + self.session.options.close_timeout)
            self.session.stop(self.now())
            self.flush()
            self._ring()
        if thread is not threading.current_thread():
            thread.join()

    def flush(self) -> None:
        """Something was added to the session (lock held): write it from here, if the transport takes it."""
        self._sends += 1
        if threading.current_thread() is not self._thread:
            self._pump()
            # Answers have to be read, whatever else has to wait.
            deaf = self._transport is not None and self._transport.deaf
            if deaf or self.session.dial is not self._dial or self.session.deadline < self._armed:
                self._ring()

    def takes(self, publish: bool) -> bool:
        """Whether another message without an ack, perhaps a publish, can go out (lock held)."""
        turned = self._sends < _SENDS or self._thread is None
        writable = self._transport is None or self._transport.writable
        if turned and writable and (not publish or self.session.publishing):
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

    def forked(self) -> None:
        """This is a forked child now (lock held): thread and connection are the parent's, our copies of our own sockets
        are closed. Those of somebody else's transport are out of reach.
        """
        self.turn = threading.Condition(self.lock)  # in the old one, threads of the parent wait
        if self._thread is not None:
            self._foreign, self._thread = True, None
            if isinstance(self._transport, ByteTransport):
                self._transport.abort()
                self._transport = None
            self._resources.close()

    def _ring(self) -> None:
        """Wake the thread."""
        with suppress(OSError):  # it has not heard the last thousand yet, or has ended
            self._bell.send(b"!")

    # ---- The thread

    def _run(self) -> None:
        try:
            self._keep()
        except BaseException as error:
            log.exception("the client stops: its own thread has failed, which is a fault of Holdfast's")
            self._fail(error)
        finally:
            self._end()

    def _keep(self) -> None:
        """Keep the session going until it has stopped."""
        while True:
            with self.lock:
                self._pump()
                self._sends = 0
                self.turn.notify_all()
                while self.session.dial is not self._dial:
                    self._redial()
                    self._pump()
                if self.session.state is State.STOPPED:
                    return
                if self._transport is not None:
                    self._transport.watch()
                self._armed = self.session.deadline
                timeout = min(self._armed - self.now(), _LONG)
            ready = self._selector.select(max(0.0, timeout))
            with self.lock:
                self._armed = math.inf
                if self._fault is not None:
                    raise self._fault
                if self.now() >= self.session.deadline:
                    self.session.wake(self.now())
                for key, _ in ready:
                    if key.data is None:
                        with suppress(BlockingIOError):
                            self._alarm.recv(4096)
                    elif isinstance(key.data, ByteTransport) and key.data is self._transport:
                        key.data.receive()

    def _fail(self, error: BaseException) -> None:
        """Nobody foresaw ``error``: stop, and tell everybody who waits."""
        failure = ConnectError(f"the client's own thread has failed, see the log: {type(error).__name__}")
        failure.__cause__ = error
        with self.lock:
            try:
                self.session.stop(self.now())
                self.session.disconnected(self.now())  # the answer to its close is not waited for
            finally:
                if self._transport is not None:
                    self._transport.abort()
                    self._leaving.append(self._transport)
                    self._transport = None
            # Whoever waits for the answer to a request must get it, whatever else was lost on the way.
            lost = [event for event in self._delivering if type(event) is Acked or type(event) is Stopped]
            events = [*lost, *self.session.events()]
            self._deliver([Stopped(failure) if type(event) is Stopped else event for event in events])

    def _end(self) -> None:
        with self.lock:
            patience = min(self.session.options.close_timeout, self._patience - self.now(), _LONG)
            self.turn.wait_for(lambda: all(one.closed for one in self._leaving), max(0.0, patience))
            self._dial = self._thread = None
            self.settle(Stopped(ConnectError("the client's own thread has failed")))  # if nobody else could
            self.turn.notify_all()
            self._resources.close()

    def spawn(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Start a thread that nobody waits for. Raises RuntimeError where the system has none left."""

        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                with self.lock:
                    if self._thread is None:
                        raise
                    self._fault = error
                    self._ring()

        threading.Thread(target=run, name=name, daemon=True).start()

    # ---- After every call to the session

    def pump(self) -> None:
        """Something has happened in another thread (lock held)."""
        self.flush()
        self.turn.notify_all()

    def _pump(self) -> None:
        """The one rule: drain before you wait."""
        if self._pumping:
            return  # a consumer got us here: the pump below us goes on
        self._pumping = True
        try:
            self._write()
            while events := self.session.events():
                self._delivering = events
                self._deliver(events)
                self._delivering = []
                self._write()
        finally:
            self._pumping = False

    def _write(self) -> None:
        if self._transport is not None:
            self._transport.write()

    # ---- Transports

    def _redial(self) -> None:
        """The session wants another transport than the one it has, or none."""
        if self._transport is not None:
            self._transport.close()
            self._leaving = [one for one in (*self._leaving, self._transport) if not one.closed]
            self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            try:
                # The application's function, the name look-up and connecting may block: not here.
                self.spawn("holdfast-dial", self._open, dial)
            except RuntimeError as error:
                self.session.url_failed(error, self.now())  # counts where a URL is asked for, the other where not
                self.session.dial_failed(error, self.now())

    def _open(self, dial: Dial) -> None:
        """Open a transport; in a thread of its own, which nothing waits for."""
        if dial.url is None:
            answer = self._route.ask_blocking()
            with self.lock:
                self._route.tell(self.session, dial, answer, self.now())
        with self.lock:
            if self.session.dial is not dial or dial.url is None:
                self._ring()
                return
            if (connect := self._route.blocking_connect) is None:
                opening = partial(self._open_bytes, dial, self._route.wire(self.session, dial))
            else:
                self._transport = threads = MessageThreads(Channel(self.session, dial, self.now), self)
                opening = partial(threads.run, connect)
        opening()

    def _open_bytes(self, dial: Dial, wire: Wire) -> None:
        try:
            sock = connect(wire.address(), lambda: self.session.dial is dial)
        except (OSError, ValueError, ExceptionGroup) as error:
            with self.lock:
                wire.failed(error, self.now())
                self._ring()
            return
        with self.lock:
            if self.session.dial is dial:
                self._transport = ByteTransport(self.session, wire, sock, self._selector)
                self._ring()
            else:
                sock.close()
