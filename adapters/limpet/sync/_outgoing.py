"""Streams that the blocking client writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from limpet import ClientStopped, DataType, Outcome
from limpet._clients.misuse import OnlyBlocking
from limpet._clients.stream_record import NOT_CLOSED, NOT_FLUSHED, NOT_WRITTEN, StreamRecord
from limpet.sync._attempts import Attempt
from limpet.sync._portal import Portal
from limpet.sync.driver import Driver
from limpet_core.text import reason_of


class OutgoingStream(OnlyBlocking):
    """A stream of fragments to a group; made by ``client.open_stream(group)``. Any thread may call its methods.

    Use it as ``with client.open_stream("group1") as stream:``. Leaving the block ends the stream, and waits
    until the service has closed it, at most for the ``timeout`` of ``open_stream``; an exception aborts it with its
    text, which readers get as an error, and waits for nothing. Or call :meth:`end` or :meth:`abort`.

    Each fragment reaches the group exactly once and in order, over any number of recoveries, or a method raises
    :class:`limpet.StreamError`: the service has closed the stream, or the connection was lost for good.
    """

    def __init__(self, driver: Driver, portal: Portal, opening: Callable[..., str], timeout: float | None) -> None:
        self._driver = driver
        self._portal = portal
        self._session = driver.session
        self._timeout = timeout
        self._record = record = StreamRecord()

        def step() -> bool:
            if not record.stream_id:
                record.stream_id = opening(now=driver.now(), user_data=record)
                driver.delivery.write(record)
                return False
            record.check()
            return record.opened

        self._session.check_running()
        give_up = partial(_give_up, driver, record)
        portal.streams.add(self, lambda: portal.post(partial(give_up, "the writer was dropped")))
        # Not for ever: the session has the timeout, and closes the stream then.
        portal.attempt(Attempt(record, step, abandon=partial(give_up, "the writer was interrupted")), None)

    def __repr__(self) -> str:
        return repr(self._record)

    @property
    def stream_id(self) -> str:
        """The stream's id."""
        return self._record.stream_id

    @property
    def acknowledged(self) -> int:
        """How many fragments the service has for certain."""
        return self._record.acknowledged

    @property
    def closed(self) -> bool:
        """Whether the stream is over: ended, aborted, or failed."""
        return self._record.closed

    # ---- Write

    def write(self, data: Any, *, data_type: DataType | None = None, timeout: float | None = None) -> None:
        """Write one fragment. Return when it is taken over; wait while too many are unacknowledged.

        Fragments of several threads have no order among each other.

        Args:
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            timeout: seconds, 0 or more, to wait for room; None: as long as it takes.

        Raises:
            StreamError: the stream is over, or was ended or aborted before.
            StreamTimeout: there was no room in time; nothing was written, and the stream goes on.
            LocalProtocolError: an argument cannot be used, or the fragment is above ``max_request_size``.
        """
        record, session, driver = self._record, self._session, self._driver

        def step() -> bool:
            record.check_writable()
            if not session.stream_has_room(record.stream_id):
                return False
            record.written = session.write_stream(record.stream_id, data, driver.now(), data_type=data_type)
            driver.called()
            return True

        self._attempt(step, NOT_WRITTEN, timeout, "unsent")

    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the service has all fragments that were written before the call.

        Args:
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed.
            StreamTimeout: there was no answer in time; the stream goes on.
        """
        record, written = self._record, self._record.written

        def step() -> bool:
            record.check()
            return record.acknowledged >= written or record.closed

        self._attempt(step, NOT_FLUSHED, timeout)

    # ---- End

    def end(self, *, timeout: float | None = None) -> None:
        """End the stream behind its fragments; wait until the service has closed it. Repeats wait for the same.

        Where this is interrupted or takes too long, the stream ends all the same.

        Args:
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed; ``acknowledged`` fragments are certain.
            StreamTimeout: it was not closed in time.
        """
        self._finish("Ended", partial(self._session.end_stream, self._record.stream_id), timeout)

    def abort(self, message: str, code: str | None = None, *, timeout: float | None = None) -> None:
        """End the stream with an error, behind its fragments; wait until the service has closed it.

        On a stream that is over, nothing happens. Where this is interrupted or takes too long, the stream is aborted
        all the same.

        Args:
            message: an explanation, which readers get in an error named ``UserError``.
            code: a name or number of the error, for programs.
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed before readers could be told.
            StreamTimeout: it was not closed in time.
            LocalProtocolError: an argument cannot be used.
        """
        if not self._record.closed:
            self._finish(
                "Aborted", partial(self._session.abort_stream, self._record.stream_id, message, code=code), timeout
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._record.ending != "Aborted":
                self.end(timeout=self._timeout)
        else:  # nothing is waited for
            message = "the writer was interrupted"
            if isinstance(error, Exception):
                message = self._session.presentable(reason_of(error))
            self._portal.post(partial(_give_up, self._driver, self._record, message))

    # ---- Inside

    def _attempt(
        self, step: Callable[[], bool], late: str, timeout: float | None, outcome: Outcome = "unknown"
    ) -> None:
        try:
            self._portal.attempt(Attempt(self._record, step, late, outcome), timeout)
        except ClientStopped:
            if not self._record.closed:
                raise
            step()  # it is over: this only tells how

    def _finish(self, how: Literal["Ended", "Aborted"], call: Callable[..., None], timeout: float | None) -> None:
        record, driver = self._record, self._driver
        begun = False

        def step() -> bool:
            nonlocal begun
            if not (begun or record.closed):
                begun = True
                record.finish(how, call, driver.now())
                driver.called()
            record.check()
            return record.closed

        self._attempt(step, NOT_CLOSED, timeout)


def _give_up(driver: Driver, record: StreamRecord, message: str) -> None:
    """Abort a stream in the driver's thread, unless its writer has ended it. No reference to the writer's object."""
    record.give_up(driver.session, message, driver.now())
    driver.called()
