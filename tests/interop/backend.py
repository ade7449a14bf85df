"""The local service and a cutting proxy in front of it, in a thread of their own: the packages under test may block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from holdfast._proxy import CuttingProxy
from holdfast.service import Service, ServiceOptions
from holdfast_core.service import Connection

WAIT = 15.0
T = TypeVar("T")


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = WAIT) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there and wait for its result."""

        async def calling() -> T:
            return function()

        return self.run(calling())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()


class Backend:
    """A service on a free port, reached directly or over `proxy`."""

    def __init__(self, background: Background, options: ServiceOptions | None = None) -> None:
        self.background = background
        self.service = Service(options)
        background.run(self.service.start())
        self.proxy = CuttingProxy("127.0.0.1", self.service.port)
        background.run(self.proxy.start())

    @property
    def connection_string(self) -> str:
        """All that the official packages are told."""
        return self.service.connection_string

    def over_proxy(self, url: str) -> str:
        """The same URL, over the proxy."""
        return url.replace(f":{self.service.port}/", f":{self.proxy.port}/", 1)

    def stop(self) -> None:
        self.background.run(self.proxy.stop())
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

    def until(self, true: Callable[[], object], timeout: float = WAIT) -> None:
        """Wait until something is true of the service."""
        end = time.monotonic() + timeout
        while not self.background.call(true):
            assert time.monotonic() < end, f"did not become true in {timeout} s"
            time.sleep(0.005)
