"""What is known of a stream that a client writes; no event loop in here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from limpet import (
    InvalidValue,
    NoSuchStream,
    Outcome,
    Session,
    StreamClosed,
    StreamError,
    StreamOpened,
    StreamProgress,
    StreamTimeout,
)
from limpet_core.errors import restated

NOT_WRITTEN = "nothing was written: the service has not acknowledged enough"
NOT_FLUSHED = "the service has not acknowledged everything"
NOT_CLOSED = "the service has not closed the stream"

OF_STREAMS = (StreamOpened, StreamProgress, StreamClosed)


class Woken(Protocol):
    """Something to be done, once, when there is news of a stream."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class StreamRecord:
    """What is known of one stream: the ``user_data`` of its events, which change it.

    Attributes:
        stream_id: the stream's id; empty before it is opened.
        opened: whether the service has accepted the start.
        written: how many fragments were written.
        acknowledged: how many of them the service has for certain.
        ending: how the writer has ended the stream; empty: not yet.
        closed: whether the stream is over.
        writable: whether it is open, and neither ended nor over.
        error: why, unless it was ended or aborted.
        waiters: get a result whenever something of this has changed.
    """

    __slots__ = ("acknowledged", "closed", "ending", "error", "opened", "stream_id", "waiters", "writable", "written")

    def __init__(self) -> None:
        self.stream_id: str = ""
        self.opened: bool = False
        self.written: int = 0
        self.acknowledged: int = 0
        self.ending: Literal["", "Ended", "Aborted"] = ""
        self.closed: bool = False
        self.writable: bool = False
        self.error: StreamError | None = None
        self.waiters: list[Woken] = []

    def __repr__(self) -> str:
        state = "closed" if self.closed else self.ending.lower() or ("open" if self.opened else "not open yet")
        return f"<OutgoingStream {self.stream_id!r}: {state}, {self.acknowledged} of {self.written} acknowledged>"

    def told(self, event: StreamOpened | StreamProgress | StreamClosed) -> None:
        """Note what an event says, and wake all who wait for it."""
        if isinstance(event, StreamOpened):
            self.opened = True
            self.writable = not self.ending
        else:
            self.acknowledged = event.acknowledged
            if isinstance(event, StreamClosed):
                self.closed = True
                self.writable = False
                self.error = event.error
        for waiter in tuple(self.waiters):
            if not waiter.done():
                waiter.set_result(None)

    def finish(self, how: Literal["Ended", "Aborted"], call: Callable[..., None], now: float) -> None:
        """End or abort the stream by ``call`` of the session; repeats do nothing."""
        try:
            call(now=now)
        except NoSuchStream:
            return  # it is over, and the event that says so is on its way
        self.ending = self.ending or how
        self.writable = False

    def give_up(self, session: Session, message: str, now: float) -> None:
        """Abort the stream, unless it is over or its writer has ended it."""
        if not self.stream_id or self.closed or self.ending:
            return
        try:
            self.finish("Aborted", partial(session.abort_stream, self.stream_id, message), now)
        except InvalidValue:  # max_request_size has no room for the text
            self.finish("Aborted", partial(session.abort_stream, self.stream_id, ""), now)

    def check(self) -> None:
        """Raise the error that the stream has failed with."""
        error = self.error
        if error is not None:
            raise restated(error, error.acknowledged)

    def late(self, late: str, timeout: float | None, outcome: Outcome) -> StreamTimeout:
        """Return the error of a call that has waited for ``timeout`` seconds; ``late`` says what has not happened."""
        return StreamTimeout("Timeout", f"{late} within timeout ({timeout or 0:g} s)", self.acknowledged, outcome)

    def check_writable(self) -> None:
        """Raise StreamError unless fragments may be written."""
        self.check()
        if self.ending or self.closed:
            how = "aborted" if self.ending == "Aborted" else "ended"
            text = f"the stream has been {how}: nothing can follow"
            raise StreamError(self.ending or "Ended", text, self.acknowledged)
