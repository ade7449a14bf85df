"""Drives a session with a thread: one transport, one mailbox."""

from __future__ import annotations

import math
import threading
import time
from _thread import get_ident
from functools import partial
from typing import Any, Protocol, cast

from limpet import ClientStopped, Connected, ConnectError, Options, SendError, State, Stopped
from limpet._clients.driver import BaseDriver
from limpet._clients.waiters import answers
from limpet._transports.route import Route
from limpet.sync._callbacks import RETRY, CallbackThread
from limpet.sync._calls import Call
from limpet.sync._dialer import Dialer, Transport
from limpet.sync._mailbox import Work
from limpet.sync._open_streams import OpenStreams
from limpet.sync._tcp import TcpConnection
from limpet.sync._unacked import UnackedQueue
from limpet.sync._waits import make_wakeup, wait
from limpet.sync._worker import Worker, cannot_start, do


class Future(Protocol):
    """The answer of a request of ``client.submit``."""

    key: int | None

    def set_exception(self, exception: BaseException, /) -> None:
        """Set the error."""
        ...

    def tell(self) -> None:
        """Tell those who wait by means of their own, in the thread that calls callbacks."""
        ...


_MAX_WAIT = 3600.0
"""Seconds to wait at most: the system's calls do not take every number."""

_STREAMS_INTERVAL = 0.1
"""Seconds between two looks for streams that were dropped, while consumers hold up the connection."""


class Driver(BaseDriver[Transport]):
    """Runs one session in a thread of its own.

    All work is done with :attr:`lock` held, except waiting and the application's functions (its URL provider, its
    transports). An application's thread never holds that lock; see :class:`limpet.sync._portal.Portal`.

    Attributes:
        worker: the thread and its mailbox.
        alive: whether a start has acquired resources that are not released yet.
        unacked: messages without an ack.
        streams: the open streams.
        callbacks: the thread that calls callbacks.
        starts: calls that have not started the session yet.
        submitted: the futures of ``client.submit`` that are not done.
    """

    __slots__ = (
        "_close_by",
        "_closing",
        "_dialer",
        "_restarts",
        "_run",
        "_starting",
        "_transport_closed",
        "alive",
        "callbacks",
        "starts",
        "streams",
        "submitted",
        "unacked",
        "worker",
    )

    _start_hint = "`with client:`"

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(route, options, elsewhere=True)
        self.worker: Worker = Worker(self)
        self.alive: bool = False
        self._dialer = Dialer(route, self)
        self._transport_closed: threading.Condition | None = None
        self.unacked: UnackedQueue = UnackedQueue(self)
        self._senders = self.unacked
        self.streams: OpenStreams = OpenStreams()
        self.callbacks: CallbackThread = CallbackThread(self.delivery.callbacks, self)
        self.starts: list[Call] = []
        self.submitted: dict[Future, None] = {}
        self._close_by = math.inf
        self._run = 0  # the number of the last start
        self._starting: Call | None = None  # the call that has made it, until that has its result
        # Tuples: an empty list takes 56 bytes.
        self._restarts: tuple[Work, ...] = ()  # starts that wait until all of this one is over
        self._closing: tuple[Transport, ...] = ()

    @property
    def lock(self) -> threading.RLock:
        """The lock that the threads of the client hold while they work."""
        return self.worker.lock

    @property
    def transport_closed(self) -> threading.Condition:
        """A condition on the lock: a transport that was given up is closed (lock held)."""
        if self._transport_closed is None:
            self._transport_closed = threading.Condition(self.lock)
        return self._transport_closed

    def now(self) -> float:
        """Return the session's time."""
        return time.monotonic()

    # ---- The life of the session, in the driver's thread

    def serve(self) -> None:
        """Keep the session going until it has stopped."""
        mailbox = self.worker.mailbox
        while True:
            with self.lock:
                mailbox.do_all()
                self.drain()
                self.unacked.send_waiting()
                if self.session.state is State.STOPPED:
                    return
                timeout = self._tidy() - self.now()
                self._armed = self.session.deadline
                timeout = max(0.0, min(timeout, self._armed - self.now(), _MAX_WAIT))
                transport, sock, events = self._transport, -1, 0
                if isinstance(transport, TcpConnection) and not transport.opening:
                    sock, events = transport.fileno(), transport.events()
                mailbox.asleep = True  # before the last look: threads that come later wake this one
            woken, ready = wait(0.0 if mailbox else timeout, mailbox.reader, sock, events)
            mailbox.asleep = False
            with self.lock:
                if self.worker.fault is not None:
                    raise self.worker.fault
                now = self.now()
                if now >= self.session.deadline:
                    self._wake_session(now)
                if woken:
                    mailbox.woken()
                if ready and isinstance(transport, TcpConnection) and transport is self._transport:
                    transport.receive()

    def _tidy(self) -> float:
        """Close dropped streams and look after the callbacks; return when the driver is to look again."""
        self.streams.close_dropped()
        now = self.now()
        if now >= self.callbacks.due:
            self.callbacks.tend(now)
        again = self.callbacks.due
        if self.delivery.held:  # nothing is read, and nothing wakes the driver: a dropped stream may be the cause
            again = min(again, now + _STREAMS_INTERVAL)
        if self.session.dial is not self._dial:  # no thread could be started for the last one
            again = min(again, now + RETRY)
        return again

    def fail(self, error: BaseException) -> None:
        """Stop after a fault of Limpet's own; every waiting thread gets an error."""
        failure = ConnectError(f"the client's own thread has failed, see the log: {type(error).__name__}")
        failure.__cause__ = error
        with self.lock:
            try:
                self.session.stop(self.now())
                self.session.disconnected(self.now())  # the answer to its close is not waited for
            finally:
                if self._transport is not None:
                    self._transport.abort()
                    self._closing += (self._transport,)
                    self._transport = None
            events = [*answers(self._delivering), *self.last_events()]
            self.delivery.deliver([Stopped(failure) if type(event) is Stopped else event for event in events])
            self.callbacks.wake()

    def end(self) -> None:
        """Release everything that the start has acquired; wait for transports until ``_close_by``."""
        with self.lock:
            self.worker.mailbox.asleep = self.unacked.accepting = False
            self.worker.mailbox.do_all()
            self.unacked.close()
            timeout = min(self.session.options.close_timeout, self._close_by - self.now(), _MAX_WAIT)
            if self._closing:
                self.transport_closed.wait_for(lambda: all(one.closed for one in self._closing), max(0.0, timeout))
            self._dial = None
            for future in tuple(self.submitted):
                if future.key is not None:  # the session has forgotten it: the thread has failed
                    future.set_exception(SendError(future.key, "Stopped", "the client has stopped", "unknown"))
            self.settle(Stopped(ConnectError("the client's own thread has failed")))  # if nothing else did
            self._tidy()
            self.callbacks.watch()
            self.alive = False
            self.worker.mailbox.close()
            self.worker.mailbox.put_first(self._restarts)
            self._restarts = ()

    # ---- Work of the thread (lock held)

    def prepare(self) -> None:
        """Have a thread wait for the first dial."""
        self._dialer.prepare()

    def begin(self, timeout: float | None, call: Call) -> None:
        """Start the session; ``call`` gets the first Connected or Stopped."""
        for one in self.starts.copy():
            if one is call or one.unwanted:
                self.starts.remove(one)
        if call.unwanted:
            raise ClientStopped("the client was stopped while it started")
        if self.session.state is State.STOPPED:
            if self.alive:  # started by a callback for the stop, which is not over
                self._restarts += (lambda: do(call, partial(self.begin, timeout)),)
                return
            self._acquire()
        self.start_session(self.now(), timeout)
        self._run += 1
        self._starting, call.key = call, self._run
        if self._dialer.takes(self.session.dial):
            self._dial = self.session.dial

    def _acquire(self) -> None:
        """Acquire what wakes the thread."""
        try:
            wakeup = make_wakeup()
        except OSError as error:
            raise cannot_start(error) from error
        self.worker.mailbox.open(wakeup)
        self.worker.fault, self._close_by = None, math.inf
        self.alive = True

    def request(self, call: Call) -> None:
        """Make the request of ``call``, whose waiter gets the answer."""
        assert call.request is not None
        self.unacked.send_accepted()
        call.key = call.request(self.now(), user_data=call)

    def withdraw(self, call: Call) -> None:
        """Withdraw the request of ``call``, if possible, or cancel its invocation."""
        if call in self.unacked.waiting:
            self.unacked.withdraw(call)
        elif call.key is not None and not call.done():
            if isinstance(call.key, str):
                self.session.cancel_invocation(call.key, self.now(), user_data=call)
            else:
                self.session.withdraw(call.key, user_data=call)

    def call_back(self, future: Future) -> None:
        """Have the thread that calls callbacks ``tell()`` who waits for ``future``."""
        callbacks = self.delivery.callbacks
        # As an event whose callback is tell(): so it is one thread that calls the application, with one bounded queue.
        callbacks.registered.setdefault(type(future), (type(future).tell,))
        callbacks.put(cast("Any", future))
        self._run_callbacks()

    def stop(self, start: Call | None, call: Call) -> None:
        """Stop the session; the result of ``call`` is whether the thread ends after the stop.

        Args:
            start: stop the session only if this call has started it; None: in any case.
        """
        if not self.alive or (start is not None and start.key != self._run):
            call.set_result(False)
            return
        self._close_by = min(self._close_by, self.now() + self.session.options.close_timeout)
        self.worker.waiting_for_end += (call,)
        self.session.stop(self.now())

    def check_now(self) -> None:
        """Look at once whether the connection is still there; the thread drains afterwards."""
        self.session.check(self.now())

    # ---- Hooks of the drain (lock held)

    def request_turn(self) -> None:
        """Wake the driver's thread, if it sleeps; for the other threads of the client."""
        if self.worker.mailbox.asleep:
            self.worker.mailbox.wake()

    def flush(self) -> None:
        """Wake the thread, which sends the session's messages."""
        self.request_turn()

    def called(self) -> None:
        """Note that work has called the session, perhaps amid a drain: the thread drains afterwards."""
        self._called_meanwhile = True
        self.request_turn()

    def consumers_ready(self, ready: bool) -> None:
        """Pause or resume reading; the thread does the rest, since callers may be other threads."""
        if ready:
            self.session.reading_resumed(self.now())
        else:
            self.session.reading_paused(self.now())
        self.called()

    def settle(self, event: Connected | Stopped) -> None:
        """Wake the thread that waits for the start."""
        if self._starting is not None:
            self._starting.set_result(event)
            self._starting = None

    def _run_callbacks(self) -> None:
        due = self.callbacks.due
        self.callbacks.wake()
        if self.callbacks.due < due:
            self.request_turn()  # else a thread that reads messages would not wake the one that keeps time

    def wake_senders(self) -> None:
        """Wake the thread, which sends the messages that wait for room."""
        self.request_turn()

    def _arm(self, deadline: float) -> None:
        self.request_turn()

    # ---- Transports

    def _redial(self) -> None:
        thread = self.worker.thread
        if thread is None or thread.ident != get_ident():
            self.request_turn()  # the driver's thread may be waiting for the socket
            return
        if self._transport is not None:
            self._transport.close()
            self._closing = tuple(one for one in (*self._closing, self._transport) if not one.closed)
            self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            try:
                # The application's function, the name look-up and connecting may block: not here.
                self._dialer.dial(dial)
            except RuntimeError as error:
                self.session.url_failed(error, self.now())  # counts where a URL is asked for, the other where not
                self.session.dial_failed(error, self.now())  # a dial wanted at once has to wait: see _tidy()

    def adopt(self, transport: Transport) -> None:
        """Have a transport, which is being opened."""
        self._transport = transport

    def has(self, transport: Transport) -> bool:
        """Return whether this transport is not given up."""
        return self._transport is transport

    # ---- A fork

    def after_fork(self) -> None:
        """In a forked child: close its copies of the sockets, and replace all that threads of the parent may hold.

        The sockets of a transport of messages are out of reach.
        """
        self.worker.after_fork()
        self._transport_closed = None
        self.unacked.accepting = False
        self.submitted.clear()
        self.streams.readers.clear()
        self.callbacks.after_fork()
        for buffer in (*self.delivery.buffers, self.delivery.inbox):
            buffer.forget()
        if self.worker.running and isinstance(self._transport, TcpConnection):
            self._transport.abort()
            self._transport = None
