"""The way from the application's threads into the driver's thread."""

from __future__ import annotations

from _thread import start_new_thread
from contextlib import suppress
from functools import partial
from typing import Any, cast

from limpet import ClientStopped, Connected, LocalProtocolError, Stopped
from limpet._clients.waiters import no_room
from limpet.sync._attempts import Attempt
from limpet.sync._calls import Call, Request
from limpet.sync._mailbox import Work
from limpet.sync._open_streams import OpenStreams
from limpet.sync._worker import cannot_start
from limpet.sync.driver import Driver
from limpet_core.protocol.rules import check_timeout

_MAX_AHEAD = 64
"""Messages without an ack by which senders may be ahead of the driver's thread: a wait for it each time takes three
times as long as to send one."""

_MAX_ACCEPTED_SIZE = 16384
"""Bytes of a message that may wait for the driver's thread while its sender goes on."""

_JOIN_TIMEOUT = 1.0
"""Seconds to wait at most for a thread that has nothing left to do."""


class Portal:
    """Starts, stops, requests and waits, for the application's threads.

    Such a thread can be interrupted between any two steps. It never holds the driver's lock and never touches the
    session: it leaves work in the driver's mailbox, and waits for the result.

    Attributes:
        streams: the open streams.
    """

    __slots__ = (
        "_driver",
        "_session",
        "_worker",
        "streams",
    )

    def __init__(self, driver: Driver) -> None:
        self.streams: OpenStreams = driver.streams
        self._driver = driver
        self._worker = driver.worker
        self._session = driver.session

    @property
    def running(self) -> bool:
        """Whether the driver's thread is there."""
        return self._worker.running

    def check_may_wait(self) -> None:
        """Raise LocalProtocolError in a forked child, and in a thread that would wait for itself."""
        self.check_inherited()
        if self._worker.inside():
            raise LocalProtocolError(
                "the client's own thread cannot wait for itself: something that it calls (a logging handler, a "
                "__del__) made a request that waits"
            )

    def check_inherited(self) -> None:
        """Raise LocalProtocolError in a forked child."""
        if self._worker.inherited:
            raise LocalProtocolError(
                "the client's connection belongs to the parent process: make a new client in the forked child"
            )

    def post(self, work: Work) -> None:
        """Have the driver's thread do ``work`` soon, lock held; at the next start where there is no thread."""
        self._worker.mailbox.post(work)

    def perform(self, work: Work) -> None:
        """Have the driver's thread do ``work``, and wait until that is done; nothing is done without a thread."""

        def perform(call: Call) -> None:
            work()
            self._driver.unacked.complete_when_written(call)

        call = Call()
        self._worker.submit(call, perform)
        call.wait()

    # ---- Requests

    def request(self, request: partial[Any]) -> Any:
        """Make a request or an invocation, and wait for its answer; its timeout is the session's."""
        if (instruments := self._driver.delivery.instruments) is not None:
            with instruments.request(request) as observed:
                return self._request(observed.call)
        return self._request(request)

    def _request(self, request: Request) -> Any:
        call, driver = Call(request), self._driver
        try:
            self.check_may_wait()
            self._session.check_running()
            self._worker.submit(call, driver.request)
            call.wait()
        except BaseException:  # Ctrl-C, too
            self.post(partial(driver.withdraw, call))
            raise
        return call.result()

    def send(self, request: partial[Any], timeout: float | None, *, publish: bool) -> None:
        """Make a request without an ack, and wait until there is room for it.

        The driver's own threads do not wait.
        """
        if (instruments := self._driver.delivery.instruments) is not None:
            with instruments.request(request) as observed:
                self._send(observed.call, timeout, publish=publish)
        else:
            self._send(request, timeout, publish=publish)

    def _send(self, request: Request, timeout: float | None, *, publish: bool) -> None:
        check_timeout(timeout)
        call, driver = Call(request, publish=publish), self._driver
        try:
            inside = self._worker.inside()
            if not inside:
                self.check_may_wait()
            self._session.check_running()
            self._worker.submit(call, driver.unacked.send)
            if inside:
                return
            if not call.wait(timeout):
                self.perform(partial(driver.withdraw, call))
        except BaseException:  # as above
            self.post(partial(driver.withdraw, call))
            raise
        if not call.done():
            raise no_room(timeout)
        call.result()

    def send_prepared(self, message: bytes | None, timeout: float | None, *, publish: bool) -> bool:
        """Hand a prepared message to the driver's thread without waiting.

        Return False if there is no room: nothing was sent. After True, Ctrl-C in the caller no longer stops the
        message.
        """
        check_timeout(timeout)
        driver = self._driver
        if (
            message is None
            or len(message) > _MAX_ACCEPTED_SIZE
            or not driver.unacked.accepting
            or len(self._worker.mailbox) >= _MAX_AHEAD
        ):
            return False
        self.post(partial(driver.unacked.accept, message, publish))
        return True

    def attempt(self, attempt: Attempt, timeout: float | None) -> None:
        """Make an attempt, again and again, until it has succeeded or raised.

        Raises:
            StreamTimeout: that took more than ``timeout`` seconds; the attempt was given up.
        """
        check_timeout(timeout)
        call = attempt.call
        try:
            self.check_may_wait()
            self._worker.submit(call, attempt.begin)
            if not call.wait(timeout):
                self.perform(attempt.give_up)
        except BaseException:  # as above
            self.post(attempt.give_up)
            raise
        if not call.done():
            raise attempt.timed_out(timeout)
        call.result()

    # ---- Start and stop

    def start(self, timeout: float | None) -> None:
        """Start the session and wait until it is connected; an interrupt stops it again."""
        self.check_may_wait()
        driver, call = self._driver, Call()
        try:
            driver.starts.append(call)
            try:
                # One step, while Thread.start() waits for a lock that an interrupt would leave locked for ever.
                start_new_thread(self._worker.boot, (call, partial(driver.begin, timeout)))
            except RuntimeError as error:
                raise cannot_start(error) from error
            call.wait()
            event = cast("Connected | Stopped", call.result())
        except BaseException:
            call.unwanted = True
            self.stop(call)
            raise
        if type(event) is Stopped:
            self.stop(call)  # not a later start, of another thread
            raise event.error or ClientStopped("the client was stopped while it started")

    def stop(self, start: Call | None = None) -> None:
        """Stop the session; wait until it has stopped and the thread has ended. An interrupt does not undo the stop.

        Args:
            start: stop the session only if this call has started it; None: in any case.
        """
        driver = self._driver
        if start is None:
            for waiting in driver.starts.copy():
                waiting.unwanted = True  # it did not even begin
        thread = self._worker.thread
        if thread is None or self._worker.inherited:
            return
        call = Call()
        self._worker.submit(call, partial(driver.stop, start))
        if not self._worker.inside():
            call.wait()
            with suppress(ClientStopped):  # it has ended by itself
                if call.result():
                    thread.join(_JOIN_TIMEOUT)
