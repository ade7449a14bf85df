"""The futures of ``client.submit`` for code that blocks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any

from limpet import Ack, ClientStopped, LimpetError, TooManyRequests
from limpet._clients.instruments import Instruments, ObservedRequest
from limpet._clients.submit import Request, Submit, tell_unseen
from limpet.sync._calls import Waiter
from limpet.sync._portal import Portal
from limpet.sync.driver import Driver

log: logging.Logger = logging.getLogger("limpet")

_PATIENCE = 1.0
"""Seconds to wait for the lock of a future, which an interrupt may have left locked."""


class Submitted(Future[Ack]):
    """The answer of a request. To cancel it takes the request back, if it was not sent.

    The base class has a lock that a thread takes which waits for the result: one that is interrupted in it (Ctrl-C)
    leaves it locked. Here the result is set and waited for without it, so that the client's thread can never hang;
    only ``concurrent.futures.wait()`` and ``as_completed()`` use it. They, and callbacks of the future, are told by the
    client's thread for callbacks.

    Attributes:
        key: the ack id, once the request was made.
        observed: the request for the instrument; None: there is none.
    """

    _done_callbacks: list[Callable[[Future[Ack]], object]]  # of the base class, as more below that starts with `_`

    def __init__(self, driver: Driver, portal: Portal, observed: ObservedRequest[Any] | None) -> None:
        super().__init__()
        self.key: int | None = None
        self.observed: ObservedRequest[Any] | None = observed
        self._driver = driver
        self._portal = portal
        self._claims = [None]
        self._sleepers: list[Waiter] = []
        self._seen = True  # there is no error yet

    # ---- For any thread

    def done(self) -> bool:
        """Return whether the answer is here, an error, or the request was given up."""
        return self._state != "PENDING"

    def running(self) -> bool:
        """Return whether it is too late to cancel it: never, before the answer is here."""
        return False

    def cancelled(self) -> bool:
        """Return whether the request was given up."""
        return self._state == "CANCELLED_AND_NOTIFIED"

    def cancel(self) -> bool:
        """Give the request up, and take it back, if it was not sent; return False if it has an answer already."""
        if not self.done():
            self._portal.check_may_wait()
            self._portal.perform(self.give_up)
        return self.cancelled()

    def result(self, timeout: float | None = None) -> Ack:
        """Return the answer; wait for it for at most ``timeout`` seconds.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            LocalProtocolError: an argument of the request cannot be used.
            TooManyRequests: ``max_pending_requests`` wait already.
            TimeoutError: there is no answer yet.
            CancelledError: the request was given up.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error  # it refers to this frame now
        assert self._result is not None
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None; wait and raise as :meth:`result`."""
        if not self.done():
            self._wait(timeout)
        if self.cancelled():
            raise CancelledError
        self._seen = True
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        self._portal.check_may_wait()
        sleeper = Waiter()
        self._sleepers.append(sleeper)
        try:
            # Nobody wakes a sleeper that came too late.
            if not (self.done() or sleeper.wait(timeout)):
                raise TimeoutError(f"no answer within {timeout or 0:g} s; the request goes on")
        finally:
            with suppress(ValueError):  # it was woken
                self._sleepers.remove(sleeper)

    def add_done_callback(self, fn: Callable[[Future[Ack]], object]) -> None:
        """Call ``fn`` with the future when it is done, in the client's thread for callbacks; at once if it is done."""
        self._done_callbacks.append(fn)
        if self.done():
            self._call_back()

    def _call_back(self) -> None:
        """Call the callbacks that no other thread calls."""
        with suppress(IndexError):
            while True:
                callback = self._done_callbacks.pop(0)
                try:
                    callback(self)
                except Exception:
                    log.exception("a callback of %r failed", self)
                except BaseException:  # meant for the thread, but the others are to be called all the same
                    self._call_back()
                    raise

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not (self._seen or over()):
            tell_unseen(self._driver, self._exception)

    # ---- For the driver's thread, lock held

    def claim(self) -> bool:
        """Return True once: the caller is to make the request, or to refuse it."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def make(self, request: Request) -> None:
        """Make the request, unless it was given up."""
        driver = self._driver
        if self.claim() and not self.done():
            try:
                driver.unacked.send_accepted()
                self.key = request(driver.now(), user_data=self)
            except LimpetError as error:
                self.set_exception(error.with_traceback(None))  # its frames refer to this future
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                self.set_exception(error)

    def give_up(self) -> None:
        """Cancel the future, and take the request back, if it was not sent."""
        if not self.done():
            self._end("CANCELLED_AND_NOTIFIED", CancelledError())
            if self.key is not None:
                self._driver.session.withdraw(self.key, user_data=self)

    def set_result(self, result: Ack) -> None:
        self._result = result
        self._end("FINISHED", None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._exception, self._seen = exception, False
        self._end("FINISHED", exception)

    def _end(self, state: str, error: BaseException | None) -> None:
        self._driver.submitted.pop(self, None)
        if self.observed is not None:
            self.observed.ended(error)
        self._state = state  # last: other threads look at this first
        with suppress(IndexError):
            while True:
                self._sleepers.pop().set_result(None)
        if not self._condition.acquire(blocking=False):
            self._driver.call_back(self)  # a thread is about to wait
            return
        told = self._waiters or self._done_callbacks
        self._condition.release()
        if told:
            self._driver.call_back(self)

    # ---- For the thread that calls callbacks

    def tell(self) -> None:
        """Tell those who wait otherwise than by a method, and call the callbacks."""
        if self._condition.acquire(timeout=_PATIENCE):
            try:
                for waiter in self._waiters:
                    (waiter.add_cancelled if self.cancelled() else waiter.add_result)(self)
            finally:
                self._condition.release()
        self._call_back()


class BlockingSubmit(Submit[Submitted]):
    """``client.submit`` of the blocking client: requests that are made at once, each with a future for its answer.

    All but what is said below comes out of the future.

    The call itself raises only TooManyRequests, ClientStopped, and LocalProtocolError in a forked child.
    """

    __slots__ = ("_driver", "_portal")

    def __init__(self, driver: Driver, portal: Portal, instruments: Instruments | None) -> None:
        super().__init__(driver.session, instruments)
        self._driver = driver
        self._portal = portal

    def _make(self, request: Request, observed: ObservedRequest[Any] | None) -> Submitted:
        driver, portal = self._driver, self._portal
        portal.check_inherited()
        self._session.check_running()
        most = self._session.options.max_pending_requests
        if len(driver.submitted) >= most:
            raise TooManyRequests(
                f"{most} requests of client.submit wait for the service already (max_pending_requests); wait for some "
                "of them before making more"
            )
        future = Submitted(driver, portal, observed)
        driver.submitted[future] = None
        try:
            portal.post(partial(future.make, request))
            if not portal.running and future.claim():  # the thread has ended, and looks into the mailbox no more
                raise ClientStopped("the client is stopped")
        except BaseException:  # Ctrl-C, too
            driver.submitted.pop(future, None)
            future.observed = None  # the caller tells
            portal.post(future.give_up)
            raise
        return future
