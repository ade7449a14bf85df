"""Drives a Session with a thread: one selector, one socket, one mailbox."""

from __future__ import annotations

import logging
import math
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from limpet import (
    Acked,
    ClientStopped,
    Connected,
    ConnectError,
    Dial,
    Options,
    State,
    Stopped,
)
from limpet._transports.messages import MessageConnection
from limpet._transports.pipeline import Pipeline
from limpet._transports.route import Route
from limpet.sync._calls import Answer, Call
from limpet.sync._desk import RUNNING, Desk, no_start
from limpet.sync._messages import MessageThreads
from limpet.sync._tcp import Bell, ByteTransport, connect

log: logging.Logger = logging.getLogger("limpet")

_LONG = 3600.0
"""Seconds to wait for anything at most: the system's calls do not take every number."""


class Driver(Desk):
    """Keeps one Session's transport, timer and outputs going in a thread of its own.

    Everything is done with :attr:`lock` held, except waiting and what is the application's (its URL provider, its
    transports). An application's thread never holds that lock; see :class:`Desk`.

    Attributes:
        turn: of the same lock, for the driver's threads among themselves: a transport has changed.
        run_callbacks: called when events wait for their callbacks, with the lock held; must not block.
        keep_house: called now and then, with the lock held; returns when to call it again at the latest.
    """

    run_callbacks: Callable[[], None]
    keep_house: Callable[[], float]

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(options)
        self.turn: threading.Condition = threading.Condition(self.lock)
        self._route = route
        self._ended: threading.Thread | None = None  # kept: Python's bookkeeping of a dropped one can be interrupted
        self._live = False  # from a start until all is over that it began
        self._resources = ExitStack()
        self._fault: BaseException | None = None
        self._patience = math.inf
        self._start: Call | None = None
        self._starting: Answer | None = None
        self._later: list[Callable[[], None]] = []  # to start again, when all is over
        self._stops: list[Answer] = []
        self._leaving: list[ByteTransport | MessageThreads] = []

    # ---- The life of the thread

    def _boot(self, call: Call, begin: Callable[[], None]) -> None:
        """Have a thread that starts the session; in one of its own, which nothing interrupts."""
        with self.lock:
            if self._thread is None:
                try:
                    self._process = os.getpid()
                    self._thread = threading.Thread(target=self._run, name="limpet", daemon=True)
                    self._thread.start()
                    RUNNING.add(self)
                except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits
                    self._thread = None
                    if call.claim():
                        call.set_exception(no_start(error))
                    self._serve()  # of whoever has thought that there is a thread
                    self._tell_told()
                    return
            self.post(partial(self._do, call, partial(self._begin, begin)))

    def _run(self) -> None:
        while self._started():
            try:
                self._keep()
            except BaseException as error:
                log.exception("the client stops: its own thread has failed, which is a fault of Limpet's")
                try:
                    self._fail(error)
                except BaseException:
                    log.exception("not even the end goes as it should")
            finally:
                self._end()

    def _started(self) -> bool:
        """Do what is asked for while the session is stopped; return whether it was started."""
        with self.lock:
            while True:
                self._mailbox.extendleft(reversed(self._later))
                self._later.clear()
                self._serve()
                self._tell_told()
                if self._live or not self._mailbox:
                    thread = self._thread
                    if not self._live:
                        RUNNING.discard(self)
                        self._ended = thread
                        self._thread = None  # before a last look: who comes later sees that there is nobody
                        if self._mailbox:
                            self._thread = thread
                            RUNNING.add(self)
                            continue
                    stops, self._stops = self._stops, []
                    for answer in stops:
                        answer.set_result(not self._live)
                    return self._live

    def _prepare(self) -> None:
        """Get what a life needs; where the system has none left, nothing has happened."""
        with ExitStack() as resources:
            try:
                self._selector = resources.enter_context(selectors.DefaultSelector())
                bell = Bell(socket.socketpair())
            except OSError as error:
                raise no_start(error) from error
            self._selector.register(bell.sleeper, selectors.EVENT_READ)
            self._resources = resources.pop_all()
        self._bell = bell
        self._fault, self._patience = None, math.inf
        self._live = True

    def _keep(self) -> None:
        """Keep the session going until it has stopped."""
        while True:
            with self.lock:
                self._serve()
                self.drain()
                self._go_on()
                while self.session.dial is not self._dial:
                    self.drain()
                if self.session.state is State.STOPPED:
                    return
                self._armed = self.session.deadline
                timeout = min(self._armed, self.keep_house()) - self.now()
                self._asleep = True  # before a last look: who comes later rings
            ready = self._selector.select(0.0 if self._mailbox else max(0.0, min(timeout, _LONG)))
            self._asleep = False
            with self.lock:
                self._armed = math.inf
                if self._fault is not None:
                    raise self._fault
                now = self.now()
                if now >= self.session.deadline:
                    self.session.wake(now)
                for key, _ in ready:
                    if key.data is None:
                        if self._bell is not None:
                            self._bell.heard()
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
            self.delivery.deliver([Stopped(failure) if type(event) is Stopped else event for event in events])
            self.run_callbacks()

    def _end(self) -> None:
        with self.lock:
            self._asleep = self._flowing = False
            self._serve()
            self._keep_promises()
            senders, self._senders = self._senders, []
            for call in senders:
                self.session.sender_goes_on()
                self._send(call)  # to be told that it is too late
            self._tell_told()
            patience = min(self.session.options.close_timeout, self._patience - self.now(), _LONG)
            self.turn.wait_for(lambda: all(one.closed for one in self._leaving), max(0.0, patience))
            self._dial = None
            self.settle(Stopped(ConnectError("the client's own thread has failed")))  # if nobody else could
            self.keep_house()
            self._live, self._start = False, None
            self._resources.close()
            self._put_away_bell()

    # ---- Start and stop, in the thread (lock held)

    def _begin(self, begin: Callable[[], None], call: Call) -> None:
        for one in self._to_start.copy():
            if one is call or one.unwanted:
                self._to_start.remove(one)
        if call.unwanted:
            raise ClientStopped("the client was stopped while it started")
        if self.session.state is State.STOPPED:
            if self._live:
                # Whoever starts as soon as it is told of the stop is ahead of what has to end.
                self._later.append(lambda: self._do_later(call, begin))
                return
            self._prepare()
        self.session.start(self.now())
        begin()
        self._start = self._starting = call

    def _do_later(self, call: Call, begin: Callable[[], None]) -> None:
        try:
            self._begin(begin, call)
        except BaseException as error:  # noqa: BLE001 - as above
            call.set_exception(error)

    def _stop(self, start: Call | None, call: Call) -> None:
        if not self._live or (start is not None and start is not self._start):
            call.set_result(False)
            return
        self._patience = min(self._patience, self.now() + self.session.options.close_timeout)
        self._stops.append(call)
        self.session.stop(self.now())

    # ---- What a consumer wants, and what becomes of a fork

    def consumers_ready(self, ready: bool) -> None:
        """Consumers have caught up, or are too far behind (lock held)."""
        if ready:
            self.session.reading_resumed(self.now())
        else:
            self.session.reading_paused(self.now())
        self._called_meanwhile = True
        self._ring()

    def settle(self, event: Connected | Stopped) -> None:
        """The session stands or has stopped: tell the one who waits for it (lock held)."""
        if self._starting is not None:
            self._starting.set_result(event)
            self._starting = None

    def flush(self) -> None:
        """Something was added to the session (lock held): the thread is about to send it."""

    def forked(self) -> None:
        """This is a forked child now: thread and connection are the parent's, our copies of our own sockets are
        closed. Those of somebody else's transport are out of reach.
        """
        self._forget()
        self.turn = threading.Condition(self.lock)
        if self._thread is not None:
            if isinstance(self._transport, ByteTransport):
                self._transport.abort()
                self._transport = None
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
        """Something has happened in another thread of the driver's (lock held)."""
        self.drain()
        self.turn.notify_all()

    def _run_callbacks(self) -> None:
        self.run_callbacks()

    def wake_senders(self) -> None:
        """Wake the driver's thread, where they go on."""
        if self._asleep:
            self._ring()

    def _arm(self, deadline: float) -> None:
        if self._asleep:
            self._ring()

    # ---- Transports

    def _redial(self) -> None:
        """The session wants another transport than the one it has, or none."""
        if threading.current_thread() is not self._thread:
            self._ring()  # it is for the driver's own thread to do
            return
        if self._transport is not None:
            self._transport.close()
            self._leaving = [one for one in (*self._leaving, self._transport) if not one.closed]
            self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            try:
                # The application's function, the name look-up and connecting may block: not here.
                self.spawn("limpet-dial", self._open, dial)
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
            if not dial.wanted or dial.url is None:
                self._ring()
                return
            if (connect := self._route.blocking_connect) is None:
                opening = partial(self._open_bytes, dial, self._route.pipeline(self.session, dial))
            else:
                self._transport = threads = MessageThreads(MessageConnection(self.session, dial, self.now), self)
                opening = partial(threads.run, connect)
        opening()

    def _open_bytes(self, dial: Dial, pipeline: Pipeline) -> None:
        try:
            sock = connect(pipeline.address(), lambda: dial.wanted)
        except (OSError, ValueError, ExceptionGroup) as error:
            with self.lock:
                pipeline.failed(error, self.now())
                self._ring()
            return
        with self.lock:
            if dial.wanted:
                self._transport = ByteTransport(self.session, pipeline, sock, self._selector)
                self._ring()
            else:
                sock.close()
