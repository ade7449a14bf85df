"""Runs a scenario in an event loop of its own, and checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tests.helpers.scripted import Peer
from tests.helpers.waiting import LIMIT

from limpet import Acked, Event, Invoked, StreamClosed, StreamOpened, StreamProgress
from limpet.asyncio import Client
from limpet.service import Service
from limpet.testing.contract.harness import fast as options

__all__ = ["GROUP", "Log", "bounded", "closed_port", "left", "nothing_left", "options", "run", "soon", "url_of"]

GROUP = "g"
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
T = TypeVar("T")
E = TypeVar("E")


def run(scenario: Callable[[], Coroutine[Any, Any, T]], *, debug: bool = True) -> T:
    """Run a scenario in a bounded time: no task, timer or socket and no unseen error may remain."""
    unseen: list[dict[str, Any]] = []

    def unexpected(_: object, context: dict[str, Any]) -> None:
        # The service's view of a TLS handshake that the client breaks off is no fault.
        if not isinstance(context.get("protocol"), Peer):
            unseen.append(context)

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unexpected)
        loop.slow_callback_duration = 3600.0  # a busy machine is no finding
        try:
            async with asyncio.timeout(2 * LIMIT):
                result = await scenario()
            await nothing_left()
        except BaseException:
            await drop_all()
            raise
        return result

    result = asyncio.run(main(), debug=debug)
    gc.collect()
    assert not unseen, unseen
    return result


def left() -> list[object]:
    """What the running loop still has to do, apart from the task that asks."""
    loop: Any = asyncio.get_running_loop()
    rest: list[object] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    # The bounds of the waits of the test itself do not count.
    rest += [
        timer
        for timer in loop._scheduled
        if not timer.cancelled() and not isinstance(getattr(timer._callback, "__self__", None), asyncio.Timeout)
    ]
    rest += [key for key in loop._selector.get_map().values() if key.fd != loop._ssock.fileno()]
    return rest


async def nothing_left() -> None:
    """Fail unless tasks, timers and sockets are gone, the loop being given a few turns to close them."""
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        await soon(lambda: not left())
    except TimeoutError:
        raise AssertionError(f"left behind: {left()}") from None


async def drop_all() -> None:
    """A test has failed: what it leaves behind must not make others fail."""
    loop: Any = asyncio.get_running_loop()
    for transport in list(loop._transports.values()):
        transport.abort()
    await asyncio.sleep(0.01)


def url_of(service: Service, user_id: str = "ann") -> str:
    """A client's URL."""
    return service.client_url("chat", user_id=user_id, roles=ROLES)


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


_OF_METHODS = {Acked, Invoked, StreamOpened, StreamProgress, StreamClosed}


class Log:
    """All events of the given types, in order, to look at and to wait for."""

    def __init__(self, client: Client, *types: type[Any]) -> None:
        self.events: list[Any] = []
        self._news = asyncio.Event()
        for kind in types or (kind for kind in Event.__args__ if kind not in _OF_METHODS):
            client.on(kind, self._add)

    def _add(self, event: Any) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if type(event) is kind]

    def names(self) -> list[str]:
        """The types of the events, in order."""
        return [type(event).__name__ for event in self.events]

    async def wait(self, kind: type[E], count: int = 1) -> E:
        """Wait for that many events of ``kind``; the result is the last of these."""
        async with asyncio.timeout(LIMIT):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]


async def bounded(awaitable: Awaitable[T]) -> T:
    """Return the result of ``awaitable``, which must come by itself."""
    async with asyncio.timeout(LIMIT):
        return await awaitable


async def soon(true: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.002)
