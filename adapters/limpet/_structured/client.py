"""The client under structured concurrency: the part that trio and anyio share."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from limpet import LocalProtocolError, Message
from limpet._clients import streams as _streams
from limpet._clients.async_client import AsyncClient
from limpet._clients.buffers import Buffer
from limpet._clients.callbacks import Callback
from limpet._clients.submit import AsyncSubmit, Submit
from limpet._clients.typed import Decoder, TypedIteration
from limpet._structured.backend import Nursery, SignalWaiter
from limpet._structured.driver import StructuredDriver
from limpet._structured.submitted import Submitted

log: logging.Logger = logging.getLogger("limpet")

T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callback)


class EventStream(_streams.EventStream[T_co]):
    """Events in order, to iterate over with ``async for``; made by the methods of a client.

    The stream waits for the first start, and ends when the client stops, with the client's error if the application did
    not ask for the stop. A stream that is not read holds up the connection when ``max_buffered_messages`` events wait
    in it: close it when it is not needed any more.

    A step that has to wait is a checkpoint. Steps that need not wait let other tasks run once in a millisecond, and
    each eighth of them on trio, or each 32nd on anyio, raises a cancellation: on anyio a look for one takes as long as
    a message. So a loop that cancels its own scope goes on with up to 7 events on trio, or up to 31 on anyio; leave it
    with ``break`` or ``return``.
    """

    def __init__(self, buffer: Buffer, driver: StructuredDriver) -> None:
        super().__init__(buffer, driver.waiter)
        self._fairness = driver.fairness

    async def __anext__(self) -> T_co:
        buffer = self._buffer
        if self._closed or not buffer.items:
            await self._until_filled()
        else:
            fairness = self._fairness
            fairness.taken += 1
            if not fairness.taken & 7 and (checkpoint := fairness.due()) is not None:
                await checkpoint
                if self._closed or not buffer.items:  # another task has closed it, or was faster
                    await self._until_filled()
        item: T_co = buffer.items.popleft()
        if buffer.full and len(buffer.items) <= buffer.half:  # a call at each event would cost as much as the step
            buffer.relax()
        return item

    async def _until_filled(self) -> None:
        while self._closed or not self._buffer.items:
            try:
                await self._wait()
            except StopAsyncIteration:
                await self._fairness.checkpoint()  # a loop around a stopped client must be cancellable, too
                raise
            await self._fairness.waited()  # within the loop: another task may be faster meanwhile


class Batches(EventStream[list[Message]]):
    """All messages that wait at a time, see :meth:`batches`."""

    async def __anext__(self) -> list[Message]:
        if self._buffer.items and not self._closed:
            await self._fairness.yield_now()
        if self._closed or not self._buffer.items:  # as above
            await self._until_filled()
        return self._buffer.pop_all()


class TypedEventStream(TypedIteration, EventStream[T_co]):
    """Messages whose data is decoded, see :meth:`events`."""

    def __init__(self, buffer: Buffer, driver: StructuredDriver, decoder: Decoder) -> None:
        super().__init__(buffer, driver)
        self.decoder = decoder


class StructuredClient(AsyncClient[StructuredDriver]):
    """A client that lives in a nursery."""

    _home: AbstractAsyncContextManager[Nursery] | None = None

    @property
    def submit(self) -> Submit[Submitted]:
        """Requests that are made at once, each with a :class:`Submitted` for its answer: for thousands on their way.

        ``answer = client.submit.send_to_group("group1", "hello")``, and later ``ack = await answer``. No task waits for
        each answer, which makes it the fastest way to send much. See :class:`limpet.asyncio.Submit`. A task that
        is cancelled while it waits leaves the request alone; ``cancel()`` takes it back. An error that
        nobody looks at is logged, and cancels nothing: the first one, the tenth, the hundredth.
        """
        return AsyncSubmit(self._driver, self._instruments, self._driver.begin_submitted)

    def _register(self, event_type: type[Any], callback: F) -> F:
        wrap = self._driver.backend.protect()
        super()._register(event_type, wrap(callback) if wrap is not None and callable(callback) else callback)
        return callback

    def _iterate(self, buffer: Buffer, decoder: Decoder | None = None) -> EventStream[Any]:
        return EventStream(buffer, self._driver) if decoder is None else TypedEventStream(buffer, self._driver, decoder)

    def _iterate_batches(self, buffer: Buffer) -> EventStream[list[Message]]:
        return Batches(buffer, self._driver)

    async def stop(self) -> None:
        """Disconnect, in any state; return when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`limpet.SendError`. For a stopped client this does nothing.
        """
        await self._driver.stop()

    async def __aenter__(self) -> Self:
        self._check_loop()
        home = self._driver.backend.nursery()
        nursery = await home.__aenter__()
        started = self._driver.waiter()
        try:
            # Not start(): on trio, two interrupts would break it.
            nursery.start_soon(self._run_for, started)
            await started
        except BaseException as error:
            await _leave(home, error)
            raise
        self._home = home
        return self

    async def _run_for(self, started: SignalWaiter[None]) -> None:
        try:
            await self._driver.run(lambda: started.set_result(None))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        home, self._home = self._home, None
        assert home is not None
        # The body's own exception is kept from the nursery, which would wrap it into a group.
        try:
            with self._driver.backend.scope(
                self._driver.backend.now() + self._session.options.close_timeout + 1.0, True
            ):
                await self._driver.stop()
        except BaseException as late:  # Ctrl-C, once more
            await _leave(home, late)
            raise
        try:
            await home.__aexit__(None, None, None)
        except BaseException as late:
            if not isinstance(error, Exception) or _ends_the_program(late, self._driver.backend.cancelled()):
                raise  # the body may have failed because of that: its requests were given up
            if isinstance(late, Exception):
                # The body's own exception goes on.
                log.error("the client failed while it was left: %s", self._session.presentable(str(late)))

    async def run(self, *, timeout: float | None = None, task_status: Any = None) -> None:
        """Connect, and stay connected until the client is stopped: ``await nursery.start(client.run)``.

        ``nursery.start`` returns when the service's first message is here. Cancelling the nursery closes the
        connection and cancels async callbacks, also queued ones; plain callbacks get all events that are left,
        ``Stopped`` at the end.

        A run waits for the end of the run before. That waits for async callbacks, so no async callback may wait for the
        next run.

        Args:
            timeout: seconds, 0 or more, in which a connection must be there; None: as long as the options say. To pass
                it on: ``nursery.start(partial(client.run, timeout=5))``.
            task_status: given by ``nursery.start``.

        Raises:
            ConnectError: no connection could be made, or the URL function raised an exception, which is the
                ``__cause__``; the client is stopped, and may be started again. By default the first failed attempt
                raises; see :attr:`Options.first_connection <limpet.Options>`.
            ConnectTimeout: there was no connection in time; a ConnectError and a TimeoutError.
            LocalProtocolError: the client was started already, or is not made for this event loop.
        """
        self._check_loop()
        run = self._driver.run(task_status.started if task_status is not None else _nothing, timeout)
        del task_status  # trio's keeps the nursery in which the task began
        await run

    def _check_loop(self) -> None:
        self._driver.backend.protect()
        try:
            self._driver.backend.now()
        except RuntimeError:
            raise LocalProtocolError(
                f"{type(self).__module__}.Client does not run in this event loop: "
                "asyncio has limpet.asyncio.Client, trio limpet.trio.Client"
            ) from None


async def _leave(home: AbstractAsyncContextManager[Nursery], error: BaseException) -> None:
    """Leave a nursery because of ``error``, which the caller raises afterwards, not in a group.

    Where ``error`` is only the cancellation of the nursery, raise the exception that caused it instead.
    """
    try:
        await home.__aexit__(type(error), error, error.__traceback__)
    except BaseException as late:
        if isinstance(error, (Exception, KeyboardInterrupt, SystemExit)):
            return  # a failure of the tasks is not more urgent
        reasons: tuple[BaseException, ...] = getattr(late, "exceptions", ())  # of a group
        if len(reasons) == 1:
            raise reasons[0] from None
        raise


def _ends_the_program(error: BaseException, cancelled: type[BaseException]) -> bool:
    errors: tuple[BaseException, ...] = getattr(error, "exceptions", ())  # of a group
    if errors:
        return any(_ends_the_program(each, cancelled) for each in errors)
    return not isinstance(error, (Exception, cancelled))


def _nothing() -> None:
    """Stand in for ``task_status.started``."""
