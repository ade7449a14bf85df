"""The local service and a cutting proxy in front of it, in a thread of their own: the packages under test may block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from tests.helpers import waiting
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions
from limpet.testing.network import ChaosProxy
from limpet_core.service import Connection

T = TypeVar("T")


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._begun: list[Future[Any]] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there and wait for its result."""

        async def calling() -> T:
            return function()

        return self.run(calling())

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine there; `stop` waits for it."""
        self._begun.append(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def stop(self) -> None:
        for begun in self._begun:
            begun.result(LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()


class Backend:
    """A service on a free port, reached directly, over `proxy`, which cuts, or over `detour`, which only delays.

    The blocking Python client does not notice an answer that comes before it waits for it, which happens on
    loopback; so it takes the detour.
    """

    def __init__(self, background: Background, options: ServiceOptions | None = None) -> None:
        self.background = background
        self.service = Service(options)
        background.run(self.service.start())
        self.proxy = ChaosProxy("127.0.0.1", self.service.port)
        self.detour = ChaosProxy("127.0.0.1", self.service.port)
        for proxy in (self.proxy, self.detour):
            proxy.delay = 0.01
            background.run(proxy.start())

    @property
    def connection_string(self) -> str:
        """All that the official packages are told."""
        return self.service.connection_string

    def over(self, proxy: ChaosProxy, url: str) -> str:
        """The same URL, over a proxy."""
        return url.replace(f":{self.service.port}/", f":{proxy.port}/", 1)

    def stop(self) -> None:
        for proxy in (self.proxy, self.detour):
            self.background.run(proxy.stop())
        self.background.run(self.service.stop())

    # ---- What happens to connections

    def cut(self) -> None:
        """End every connection over the proxy, and let the service notice; new ones get stuck until `resume`.

        With FIN: the official aio client takes a reset for a refusal and does not recover.
        """

        def cut() -> None:
            self.proxy.stall()
            self.proxy.cut(reset=False)

        self.background.call(cut)

    def resume(self) -> None:
        """Let the connections over the proxy pass again."""
        self.background.call(self.proxy.resume)

    def swallow_answers(self) -> None:
        """Let what clients send over the proxy arrive, and cut the connection that carries the next answer."""
        self.background.call(lambda: self.proxy.cut_after(0, "to_client", reset=False))

    def swallow_requests(self) -> None:
        """Let nothing that clients send over the proxy arrive until `resume`."""
        self.background.call(lambda: self.proxy.stall("to_service"))

    def drop(self, connection_id: str, *, for_good: bool = False) -> None:
        """Cut the transport of one connection at the service; ``for_good``: end the connection as well."""

        def drop() -> bool:
            dropped = self.service.core.drop(connection_id, for_good=for_good)
            self.service.flush()
            return dropped

        assert self.background.call(drop)

    # ---- What the service knows

    def connection(self, connection_id: str) -> Connection | None:
        return self.service.core.connection(connection_id)

    def connected(self, connection_id: str) -> bool:
        """Whether the connection has a transport."""
        connection = self.connection(connection_id)
        return connection is not None and connection.transport is not None

    def retained(self, connection_id: str) -> int:
        """How many messages a connection has not acknowledged."""
        connection = self.connection(connection_id)
        assert connection is not None
        return connection.retained

    def until(self, true: Callable[[], object]) -> None:
        """Wait until a condition of the service is true."""
        waiting.until(lambda: self.background.call(true))
