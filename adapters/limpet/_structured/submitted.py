"""The futures of ``client.submit`` under structured concurrency, which has none of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any

from limpet import Ack, Outcome, SendError
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.instruments import ObservedRequest
from limpet._clients.submit import ended, take_back, tell_unseen
from limpet._structured.backend import Backend
from limpet._transports.held import Signal


class Submitted:
    """The answer of a request; made by the methods of ``client.submit``.

    ``await`` it, or call :meth:`wait`: as often as you like, in any task of the client's event loop. The cancellation
    of a task that waits only ends the wait; :meth:`cancel` takes the request back. It belongs to no nursery: an error
    cancels nothing, and one that nobody looks at is logged.

    Attributes:
        driver, key, observed: for the client, see :class:`limpet._clients.submit.AsyncAnswer`.
    """

    __slots__ = ("_ack", "_backend", "_error", "_seen", "_signal", "driver", "key", "observed")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ack: Ack | None = None
        self._error: BaseException | None = None
        self._seen = True  # there is no error yet
        self._signal: Signal | None = None  # made when somebody waits
        self.driver: AsyncDriver[Any]
        self.key: int
        self.observed: ObservedRequest[Any] | None

    def __repr__(self) -> str:
        state = "waits" if not self.done() else "answered" if self._error is None else repr(self._error)
        return f"<Submitted: {state}>"

    def done(self) -> bool:
        """Return whether the answer is here, an error, or the request was given up."""
        return self._ack is not None or self._error is not None

    async def wait(self) -> Ack:
        """Wait for the answer.

        This is a checkpoint. If the answer is here already, it raises a cancellation, but lets other tasks run only at
        one call in 64.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``. The name is ``Cancelled``
                after :meth:`cancel`.
            SendTimeout: the time is over; a SendError and a TimeoutError, with the outcome ``unsent`` or ``unknown``.
        """
        if self.done():
            await self.driver.checkpoint()
        else:
            self.driver.check_home()
            if self._signal is None:
                self._signal = self._backend.signal()
            await self._signal.wait()
            await self._backend.waited()
        if self._error is not None:
            self._seen = True
            raise self._error.with_traceback(None)  # that of another wait does not belong here
        assert self._ack is not None
        return self._ack

    def __await__(self) -> Generator[Any, Any, Ack]:
        return self.wait().__await__()

    def cancel(self) -> bool:
        """Give the request up; return False if it is done already.

        Waits for it raise a SendError named ``Cancelled``. Its outcome is ``unsent`` if the request was taken back,
        and is never sent; ``unknown`` if it was on its way.
        """
        if self.done():
            return False
        self.driver.check_home()
        outcome: Outcome = "unsent" if take_back(self) else "unknown"
        text = "the request was taken back" if outcome == "unsent" else "the request was given up, but it was sent"
        self.set_exception(SendError(self.key, "Cancelled", text, outcome))
        self._seen = True
        return True

    # ---- For the session's answers

    def set_result(self, ack: Ack, /) -> None:
        self._ack = ack
        self._end(None)

    def set_exception(self, error: BaseException, /) -> None:
        self._error, self._seen = error, False
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        ended(self, error)
        if self._signal is not None:
            self._signal.set()

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not (self._seen or over()):
            tell_unseen(self.driver, self._error)
