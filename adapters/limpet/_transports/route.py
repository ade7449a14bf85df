"""The route to the service: URL, TLS settings, proxy, transport; all as the application gave them, checked."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from limpet import ConnectError, Dial, InvalidType, InvalidValue, Link, Session, parse_url
from limpet._transports.cancellation import is_failure
from limpet._transports.messages import (
    BlockingConnect,
    Connect,
    ConnectManager,
    check_blocking_connect,
    check_connect,
)
from limpet._transports.pipeline import Pipeline
from limpet._transports.proxies import ProxySetting, check_proxy
from limpet._transports.tls import TlsSetting, tls_context
from limpet._version import __version__
from limpet_core.client.headers import Headers, HeadersSetting, check_headers

Provider = str | Callable[[], str | Awaitable[str] | Coroutine[Any, Any, str]]
"""A Client Access URL, or a function that returns one, directly or to be awaited."""

_HEADERS = (("User-Agent", f"limpet/{__version__}"),)


class Route:
    """The way to the service.

    Attributes:
        connect: opens message transports; None: the client opens TCP connections.
        blocking_connect: the same for the blocking client.
        headers: the application's for the handshake.

    Raises:
        InvalidType, InvalidValue: an argument cannot be used; the message names it.
    """

    __slots__ = ("_proxy", "_tls", "_url", "blocking_connect", "connect", "headers")

    def __init__(
        self,
        url: Provider,
        tls: TlsSetting,
        proxy: ProxySetting,
        connect: Connect | ConnectManager | None = None,
        blocking_connect: BlockingConnect | None = None,
        headers: HeadersSetting | None = None,
    ) -> None:
        if isinstance(url, str):
            parse_url(url)
        elif not callable(url):
            raise InvalidType(f"url must be a str or a function that returns one, not {type(url).__name__}")
        check_proxy(proxy)
        check_connect(connect)
        check_blocking_connect(blocking_connect)
        if (connect is not None or blocking_connect is not None) and (tls is not None or proxy):
            raise InvalidValue("connect opens the transport: ssl and proxy are for it to use, not for the client")
        self.headers: Headers = check_headers(headers)
        self.connect: Connect | ConnectManager | None = connect
        self.blocking_connect: BlockingConnect | None = blocking_connect
        self._url: Provider = url
        self._tls = tls_context(tls)
        self._proxy: ProxySetting = proxy

    async def ask(self) -> object:
        """Ask the application for a URL. Return the URL or the exception that it raised, for :meth:`tell`."""
        try:
            url: Any = self._url if isinstance(self._url, str) else self._url()
            return await url if inspect.isawaitable(url) else url
        except BaseException as error:
            if not is_failure(error):
                raise
            return error  # whatever was raised, there is no URL

    def ask_blocking(self) -> object:
        """Ask as :meth:`ask` does, for a function that may block and must not be async."""
        try:
            url: Any = self._url if isinstance(self._url, str) else self._url()
        except BaseException as error:  # noqa: BLE001 - as above; sys.exit() in the client's thread ends nothing else
            return error
        if inspect.iscoroutine(url):
            url.close()
            return ConnectError(f"{self._name()} is async; this client needs a plain function")
        return url

    def tell(self, session: Session, dial: Dial, answer: object, now: float) -> None:
        """Pass the answer to the session, if the session still wants the dial."""
        if not dial.wanted:
            return
        if isinstance(answer, BaseException):
            session.url_failed(answer, now)
        elif isinstance(answer, str):
            session.url_ready(answer, now, fixed=isinstance(self._url, str))
        else:
            got = "None" if answer is None else type(answer).__name__
            text = f"{self._name()} must return a str, the client URL (wss://...), and returned {got}"
            session.url_failed(ConnectError(text), now)

    def _name(self) -> str:
        return f"the function {getattr(self._url, '__name__', type(self._url).__name__)!r} that was given as url"

    def pipeline(self, session: Session, dial: Dial) -> Pipeline:
        """Return a pipeline for one TCP connection."""
        return Pipeline(Link(session, dial, random_bytes=os.urandom, headers=_HEADERS), self._tls, self._proxy)
