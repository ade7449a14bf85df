"""The HTTP calls to event handlers."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import monotonic
from typing import Protocol, TypeAlias

import httpx

from limpet._version import __version__
from limpet_core.service import MAX_ANSWER, FailureKind, HandlerCall, Headers
from limpet_core.text import one_line

_LOGGER = logging.getLogger("limpet.service")

# Concurrent calls to one host, invocations and others; further calls wait.
_CONCURRENCY = 100

# Seconds, fewer than on servers: a request on a connection that the server is closing fails.
_KEEPALIVE = 2.0

# These libraries log URLs, which may have secrets, and headers. The application may use them, too: only the calls of
# the service are not logged.
_SILENT = ("httpx", "httpcore.connection", "httpcore.http11")
_in_call: ContextVar[bool] = ContextVar("limpet.service.webhooks", default=False)


def _is_outside_call(record: logging.LogRecord) -> bool:
    return not _in_call.get()


for _name in _SILENT:
    logging.getLogger(_name).addFilter(_is_outside_call)

_HEADERS = {"User-Agent": f"limpet/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


# Called with the name of each step of a request, such as "http11.send_request_headers.started".
_Trace: TypeAlias = Callable[[str, object], Awaitable[None]]


class _TooLargeError(Exception):
    """The body of an answer is larger than the service reads."""


class Called(Protocol):
    """Is told the ends of calls; see :class:`ServiceCore`."""

    def handler_answered(self, call: HandlerCall, status: int, headers: Headers, body: bytes, now: float) -> None:
        """Handle the answer to a call."""
        ...

    def handler_failed(self, call: HandlerCall, kind: FailureKind, text: str, now: float) -> None:
        """Handle the end of a call without an answer."""
        ...


class WebhookClient:
    """Makes the calls and reports their ends to the service's logic; calls ``flush`` after each report.

    Belongs to one event loop until it is closed; then it may be used in another one.

    Attributes:
        observer: called with the outcome and the seconds of each request; the outcome is the class of its status, such
            as ``2xx``, or the kind of its failure.
    """

    def __init__(self, called: Called, flush: Callable[[], None]) -> None:
        self._called = called
        self._flush = flush
        self._clients: dict[bool, httpx.AsyncClient] = {}  # by whether it speaks TLS
        self._tasks: dict[HandlerCall, asyncio.Task[None]] = {}
        self._slots: dict[tuple[str, bool], asyncio.Semaphore] = {}
        self.observer: Callable[[str, float], None] | None = None

    def carry_out(self, calls: Iterable[HandlerCall]) -> None:
        """Start calls, and stop cancelled ones."""
        for call in calls:
            if call.cancelled:
                task = self._tasks.get(call)
                if task is not None:
                    task.cancel()
                continue
            task = self._tasks[call] = asyncio.create_task(self._run(call))
            task.add_done_callback(partial(self._discard, call))

    async def close(self) -> None:
        """Stop all calls and close all connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._slots.clear()
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _discard(self, call: HandlerCall, task: asyncio.Task[None]) -> None:
        # The call may have been started again, for another attempt.
        if self._tasks.get(call) is task:
            del self._tasks[call]

    async def _run(self, call: HandlerCall) -> None:
        _in_call.set(True)  # in this task
        began = monotonic()
        begun = False  # whether the request was sent on a connection

        async def trace(event: str, info: object) -> None:
            nonlocal begun
            begun = begun or event.endswith(".send_request_headers.started")

        try:
            async with asyncio.timeout(max(call.deadline - monotonic(), 0.0)):
                status, headers, body = await self._request(call, trace)
        except TimeoutError:
            if begun:
                self._failed(call, began, "timeout", "there was no answer in time")
            else:
                self._failed(call, began, "unreachable", f"no connection to {call.address} in time")
        except _TooLargeError:
            self._failed(call, began, "too large", f"the answer has more than {MAX_ANSWER} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # The error may quote megabytes of the answer, and its text goes to clients.
            text = one_line(f"{type(error).__name__}: {error}".rstrip(": "))
            if begun:
                self._failed(call, began, "broken", text)
            else:
                self._failed(call, began, "unreachable", f"no connection to {call.address}: {text}")
        else:
            _LOGGER.debug("event handler %s answered %s with %d", call.address, call.event, status)
            self._observe(f"{status // 100}xx", began)
            self._called.handler_answered(call, status, headers, body, monotonic())
            self._flush()

    def _failed(self, call: HandlerCall, began: float, kind: FailureKind, text: str) -> None:
        self._observe(kind, began)
        self._called.handler_failed(call, kind, text, monotonic())
        self._flush()

    def _observe(self, outcome: str, began: float) -> None:
        if self.observer is not None:
            self.observer(outcome, monotonic() - began)

    async def _request(self, call: HandlerCall, trace: _Trace) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        url = httpx.URL(call.url)
        secure = url.scheme == "https"
        client = self._clients.get(secure)
        if client is None:
            client = self._clients[secure] = _new_client(secure)
        slots: AbstractAsyncContextManager[object] = nullcontext()
        # A validation does not wait for slots: it must be answered in time, and there is at most one for each URL.
        if call.validation_url is not None:
            key = (url.netloc.decode(), call.is_invocation)
            slots = self._slots.setdefault(key, asyncio.Semaphore(_CONCURRENCY))
        # Each character of a header stands for one byte.
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in call.headers]
        async with (
            slots,
            client.stream(
                call.method, url, headers=headers, content=call.body or None, extensions={"trace": trace}
            ) as response,
        ):
            chunks: list[bytes] = []
            size = 0
            # As it came: a few bytes that are compressed may stand for gigabytes, and none were asked for.
            async for chunk in response.aiter_raw():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER:
                    raise _TooLargeError
            answered = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
            return response.status_code, tuple(answered), b"".join(chunks)


def _new_client(secure: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=_HEADERS,
        # The authorities of the system are read for 10 ms: not for handlers without TLS.
        verify=ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        # Cookies are kept for each client of the service, not for all of them.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        timeout=None,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=_KEEPALIVE),
        # Handlers are near: the proxies and the .netrc of the environment are for other hosts.
        trust_env=False,
    )
