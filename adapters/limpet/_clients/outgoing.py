"""Streams that a client writes, for the clients whose methods are async."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self

from limpet import DataType, LocalProtocolError, Outcome
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.misuse import OnlyAsync
from limpet._clients.stream_record import NOT_CLOSED, NOT_FLUSHED, NOT_WRITTEN, StreamRecord
from limpet._clients.waiters import AsyncWaiter
from limpet_core.protocol.rules import check_timeout
from limpet_core.text import reason_of


class OutgoingStream(OnlyAsync):
    """A stream of fragments to a group; made by ``client.open_stream(group)``.

    Use it as ``async with client.open_stream("group1") as stream:``. Leaving the block ends the stream, and
    waits until the service has closed it, at most for the ``timeout`` of ``open_stream``; an exception aborts it with
    its text, which readers get as an error, and waits for nothing. Or open it with
    ``stream = await client.open_stream(...)``, and call :meth:`end` or :meth:`abort`.

    Each fragment reaches the group exactly once and in order, over any number of recoveries, or a method raises
    :class:`limpet.StreamError`: the service has closed the stream, or the connection was lost for good.
    """

    def __init__(self, driver: AsyncDriver[Any], opening: Callable[..., str], timeout: float | None) -> None:
        self._timeout = timeout
        self._driver = driver
        self._session = driver.session
        self._opening = opening
        self._record = StreamRecord()

    def __repr__(self) -> str:
        return repr(self._record)

    @property
    def stream_id(self) -> str:
        """The stream's id; empty before it is opened."""
        return self._record.stream_id

    @property
    def acknowledged(self) -> int:
        """How many fragments the service has for certain."""
        return self._record.acknowledged

    @property
    def closed(self) -> bool:
        """Whether the stream is over: ended, aborted, or failed."""
        return self._record.closed

    # ---- Open

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def _open(self) -> Self:
        record, driver = self._record, self._driver
        if record.stream_id:
            record.check()
            return self  # `async with await client.open_stream(...)`
        driver.check_home()
        record.stream_id = self._opening(now=driver.now(), user_data=record)
        driver.delivery.write(record)
        driver.flush()
        try:
            while not (record.opened or record.closed):
                await self._news()
        except BaseException as error:
            self._give_up(error)
            raise
        record.check()
        return self

    # ---- Write

    async def write(self, data: Any, *, data_type: DataType | None = None, timeout: float | None = None) -> None:
        """Write one fragment. Return when it is taken over; wait while too many are unacknowledged.

        A call that is cancelled has written nothing. Fragments of several tasks have no order among each other.

        Args:
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            timeout: seconds, 0 or more, to wait for room; None: as long as it takes.

        Raises:
            StreamError: the stream is over, or was ended or aborted before.
            StreamTimeout: there was no room in time; nothing was written, and the stream goes on.
            LocalProtocolError: an argument cannot be used, or the fragment is above ``max_request_size``.
        """
        record, driver = self._record, self._driver
        await driver.checkpoint()
        now = driver.now()
        limit = math.inf if timeout is None else self._limit(timeout)
        if not record.writable:
            self._check_writable()
        while not self._session.stream_has_room(record.stream_id):
            await self._news(limit, timeout, NOT_WRITTEN, "unsent")
            now = driver.now()
            if not record.writable:
                self._check_writable()
        record.written = self._session.write_stream(record.stream_id, data, now, data_type=data_type)
        driver.flush_soon()

    async def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the service has all fragments that were written before the call.

        Args:
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed.
            StreamTimeout: there was no answer in time; the stream goes on.
        """
        limit = self._limit(timeout)
        record = self._record
        self._check_opened()
        await self._driver.checkpoint()
        written = record.written
        while record.acknowledged < written and not record.closed:
            await self._news(limit, timeout, NOT_FLUSHED)
        record.check()

    # ---- End

    async def end(self, *, timeout: float | None = None) -> None:
        """End the stream behind its fragments; wait until the service has closed it. Repeats wait for the same.

        Where this is cancelled or takes too long, the stream ends all the same.

        Args:
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed; ``acknowledged`` fragments are certain.
            StreamTimeout: it was not closed in time.
        """
        self._check_opened()
        limit = self._limit(timeout)
        record = self._record
        if not record.ending:
            record.finish("Ended", partial(self._session.end_stream, record.stream_id), self._driver.now())
            self._driver.drain()
        await self._over(limit, timeout)

    async def abort(self, message: str, code: str | None = None, *, timeout: float | None = None) -> None:
        """End the stream with an error, behind its fragments; wait until the service has closed it.

        On a stream that is over, nothing happens. Where this is cancelled or takes too long, the stream is aborted all
        the same.

        Args:
            message: an explanation, which readers get in an error named ``UserError``.
            code: a name or number of the error, for programs.
            timeout: seconds, 0 or more, to wait; None: as long as it takes.

        Raises:
            StreamError: the stream has failed before readers could be told.
            StreamTimeout: it was not closed in time.
            LocalProtocolError: an argument cannot be used.
        """
        self._check_opened()
        limit = self._limit(timeout)
        record = self._record
        if not record.closed:
            abort = partial(self._session.abort_stream, record.stream_id, message, code=code)
            record.finish("Aborted", abort, self._driver.now())
            self._driver.drain()
            await self._over(limit, timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._record.ending != "Aborted":
                await self.end(timeout=self._timeout)
        elif isinstance(error, Exception):
            self._abort(self._session.presentable(reason_of(error)))
        else:
            self._give_up(error)

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        record, driver = self._record, self._driver
        if record.stream_id and not (record.closed or record.ending or over()):
            driver.call_soon(partial(_drop, driver, record))  # from any thread, and amid anything

    # ---- Inside

    def _check_opened(self) -> None:
        if not self._record.stream_id:
            raise LocalProtocolError(
                "the stream is not open: `async with client.open_stream(group) as stream:` opens it, and so does "
                "`stream = await client.open_stream(group)`"
            )

    def _check_writable(self) -> None:
        self._check_opened()
        self._record.check_writable()

    def _give_up(self, error: BaseException) -> None:
        """Abort the stream because the task was cancelled (then nothing can be waited for), or is dropped."""
        if isinstance(error, GeneratorExit):
            self._driver.call_soon(partial(_drop, self._driver, self._record))  # see __del__
        else:
            self._abort("the writer was cancelled")

    def _abort(self, message: str) -> None:
        """Abort the stream, unless its writer has ended it, without waiting."""
        _drop(self._driver, self._record, message)

    def _limit(self, timeout: float | None) -> float:
        """Return the time until which a call may wait."""
        if timeout is None:
            return math.inf
        check_timeout(timeout)
        return self._driver.now() + timeout

    async def _over(self, limit: float, timeout: float | None) -> None:
        """Wait until the stream is over; raise its error."""
        await self._driver.checkpoint()
        while not self._record.closed:
            await self._news(limit, timeout, NOT_CLOSED)
        self._record.check()

    async def _news(
        self, limit: float = math.inf, timeout: float | None = None, late: str = "", outcome: Outcome = "unknown"
    ) -> None:
        """Wait until there may be news of the stream; raise StreamTimeout at ``limit``, ``timeout`` after the call."""
        driver, record = self._driver, self._record
        if driver.now() >= limit:
            raise record.late(late, timeout, outcome)
        waiter: AsyncWaiter[None] = driver.waiter()
        record.waiters.append(waiter)
        try:
            if limit == math.inf:
                await waiter
            else:
                await driver.until(limit, partial(_wait, waiter))
        finally:
            record.waiters.remove(waiter)


async def _wait(waiter: AsyncWaiter[None]) -> None:
    await waiter


def _drop(driver: AsyncDriver[Any], record: StreamRecord, message: str = "the writer was dropped") -> None:
    """Abort a stream whose writer does not go on, without waiting; in the event loop."""
    record.give_up(driver.session, message, driver.now())
    driver.drain()
