"""Attempts: what is tried again whenever there is news of a stream, until it can be done."""

from __future__ import annotations

from collections.abc import Callable

from limpet import Outcome, StreamTimeout
from limpet._clients.stream_record import StreamRecord
from limpet.sync._calls import Call


class Attempt:
    """Work for a waiting thread that may have to wait for the service first; done in the driver's thread, lock held.

    Args:
        record: of the stream whose news may change something.
        step: tries to do the work; returns whether it is done, or raises.
        late: what has not happened, for the text of a StreamTimeout.
        outcome: of such a call.
        abandon: undoes what a step has begun, for a thread that does not wait any more.

    Attributes:
        call: the waiting thread's.
    """

    __slots__ = ("_abandon", "_late", "_outcome", "_record", "_step", "call")

    def __init__(
        self,
        record: StreamRecord,
        step: Callable[[], bool],
        late: str = "",
        outcome: Outcome = "unknown",
        abandon: Callable[[], None] | None = None,
    ) -> None:
        self.call: Call = Call()
        self._late = late
        self._outcome: Outcome = outcome
        self._record = record
        self._step = step
        self._abandon = abandon

    def begin(self, _: Call) -> None:
        """Try for the first time, and take part in the news of the stream; also if others wait already."""
        self._record.waiters.append(self)
        self.set_result(None)

    def done(self) -> bool:
        """Whether the work was done, or has raised."""
        return self.call.done()

    def set_result(self, _: None) -> None:
        """Try again: there is news."""
        try:
            if not self._step():
                return
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the call
            self._leave()
            self.call.set_exception(error)
        else:
            self._leave()
            self.call.set_result(None)

    def give_up(self) -> None:
        """Try no more: the thread does not wait any more."""
        if self in self._record.waiters:
            self._leave()
            if self._abandon is not None:
                self._abandon()

    def timed_out(self, timeout: float | None) -> StreamTimeout:
        """Return the error of a thread that has waited for ``timeout`` seconds."""
        return self._record.late(self._late, timeout, self._outcome)

    def _leave(self) -> None:
        self._record.waiters.remove(self)
