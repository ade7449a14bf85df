"""The surroundings of a check: a service behind a network that can be broken, clients, and ways to wait."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import anyio

from limpet import Backoff, Instrument, Options
from limpet._clients import callbacks
from limpet.service import ServiceOptions
from limpet.testing.contract.needs import Allowed
from limpet.testing.contract.subject import Adapter, Subject
from limpet.testing.service import BackgroundService

E = TypeVar("E", bound=BaseException)

WAIT = 15.0
"""Seconds to wait for anything before that is a failure."""

_FAST: dict[str, Any] = {
    "connect_timeout": 6.0,
    "close_timeout": 1.0,
    "recovery_timeout": 20.0,
    "recovery_interval": 0.02,
    "sequence_ack_interval": 0.05,
    "reconnect": Backoff(initial=0.01, maximum=0.05),
    "retry": Backoff(initial=0.02, maximum=0.02, multiplier=1.0, jitter=0.0, limit=3),
    "ack_timeout": 5.0,
    "keepalive_interval": None,
    "keepalive_timeout": None,
}


def fast(**changes: Any) -> Options:
    """Return options with times that suit a test on one machine."""
    return Options(**(_FAST | changes))


class Harness:
    """The surroundings of one check.

    Attributes:
        service: the service; clients reach it by way of a proxy that cuts.
        service_tls: the context of the service; None: clients come without TLS.
    """

    def __init__(
        self,
        service: BackgroundService,
        adapter: Adapter,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self._allowed = allowed or Allowed()
        self.service: BackgroundService = service
        self._adapter = adapter
        self.service_tls: ssl.SSLContext | None = tls[0] if tls else None
        self._tls = tls[1] if tls else None

    def another(self, options: ServiceOptions) -> BackgroundService:
        """Return a second service, not started yet, with a network of its own."""
        return BackgroundService(options, tls=self.service_tls)

    def client(self, url: Any = None, *, instrument: Instrument | None = None, **options: Any) -> Subject:
        """Return a client, not started yet, with :func:`fast` options; by default its URL goes through the proxy."""
        where = self.service.url() if url is None else url
        self._allowed.make(where, options)
        named: dict[str, Any] = {}
        if instrument is not None:
            self._allowed.use("instrument")
            named["instrument"] = instrument
        subject = self._adapter.subject(self._adapter.make(where, fast(**options), ssl=self._tls, **named))
        subject.allowed = self._allowed
        return subject

    def undisturbed(self, **options: Any) -> Subject:
        """Return a client, not started yet, that connects without the proxy."""
        return self.client(self.service.direct_url(), **options)


class Log:
    """The events of some types, in order."""

    def __init__(self, subject: Subject, *types: type[Any]) -> None:
        self.events: list[Any] = []
        for kind in types:
            subject.on(kind, self.events.append)

    @property
    def data(self) -> list[Any]:
        """The data of these events, which are messages."""
        return [event.data for event in self.events]

    def of(self, kind: type[Any]) -> list[Any]:
        """Those of one type."""
        return [event for event in self.events if type(event) is kind]

    async def wait(self, kind: type[Any], count: int = 1) -> Any:
        """Wait for so many of one type; the result is the last of these."""
        await soon(lambda: len(self.of(kind)) >= count, f"{count} {kind.__name__}")
        return self.of(kind)[count - 1]

    async def upto(self, data: Any) -> None:
        """Wait for the message with this data."""
        await soon(lambda: self.events and self.events[-1].data == data, f"the message {data!r}")


class _Errors(logging.Handler):
    """Remembers the texts of what is logged, or of the exceptions that are."""

    def __init__(self, spared: str | None) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._spared = spared

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == self._spared or str(record.msg).startswith("Executing %s took"):  # asyncio, on a busy machine
            return
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(record.getMessage() if error is None else str(error))


@contextmanager
def logged(*, but: str | None = None) -> Generator[list[str]]:
    """Collect the texts of the warnings and exceptions that are logged within the block, by any logger ``but`` one."""
    handler = _Errors(but)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.texts
    finally:
        root.removeHandler(handler)


@contextmanager
def impatient() -> Generator[None]:
    """Have Limpet's own clients notice within the block after fractions of a second that callbacks hold up others.

    A client that is made of other parts takes the time that it always takes.
    """
    before, callbacks.STALLED_AFTER = callbacks.STALLED_AFTER, 0.3
    try:
        yield
    finally:
        callbacks.STALLED_AFTER = before


class Caught(Generic[E]):
    """An exception that was expected."""

    error: E


@contextmanager
def raises(kind: type[E]) -> Generator[Caught[E]]:
    """Fail unless the block raises ``kind`` itself, not wrapped into a group."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


async def soon(true: Callable[[], object], what: str = "what was to come", seconds: float = WAIT) -> None:
    """Wait until ``true()``; AssertionError after ``seconds``."""
    end = anyio.current_time() + seconds
    pause = 0.002
    while not true():
        if anyio.current_time() > end:
            raise AssertionError(f"waited {seconds:g} s for {what} in vain")
        await anyio.sleep(pause)
        pause = min(pause * 1.25, 0.02)  # what takes long need not be asked about often


@contextmanager
def prompt(seconds: float = 6.0) -> Generator[None]:
    """Fail if the block takes longer."""
    start = anyio.current_time()
    yield
    took = anyio.current_time() - start
    assert took < seconds, f"took {took:.2f} s, more than {seconds:g} s"
