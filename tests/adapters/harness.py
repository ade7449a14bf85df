"""Runs a scenario in an event loop of its own, and checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tests.helpers.scripted import Peer

from limpet import Acked, Backoff, Event, Options
from limpet.asyncio import Client
from limpet.service import Service

GROUP = "g"
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
WAIT = 5.0
T = TypeVar("T")
E = TypeVar("E")

FAST: dict[str, Any] = {
    "connect_timeout": 2.0,
    "close_timeout": 0.3,
    "recovery_timeout": 3.0,
    "recovery_interval": 0.02,
    "sequence_ack_interval": 0.05,
    "reconnect": Backoff(initial=0.01, maximum=0.05),
    "retry": Backoff(initial=0.02, maximum=0.02, multiplier=1.0, jitter=0.0, limit=3),
    "ack_timeout": 3.0,
    "keepalive_interval": None,
    "keepalive_timeout": None,
}


def options(**changes: Any) -> Options:
    """Options with times that suit a test on one machine."""
    return Options(**(FAST | changes))


def run(scenario: Callable[[], Coroutine[Any, Any, T]], *, limit: float = 20.0, debug: bool = True) -> T:
    """Run a scenario for at most ``limit`` seconds: no task, timer or socket and no unseen error may remain."""
    unseen: list[dict[str, Any]] = []

    def unexpected(_: object, context: dict[str, Any]) -> None:
        # The service's view of a TLS handshake that the client breaks off is no fault.
        if not isinstance(context.get("protocol"), Peer):
            unseen.append(context)

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unexpected)
        try:
            async with asyncio.timeout(limit):
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
    for turn in range(200):
        if not left():
            return
        await asyncio.sleep(0 if turn < 20 else 0.005)
    raise AssertionError(f"left behind: {left()}")


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


class Log:
    """All events of the given types, in order, to look at and to wait for."""

    def __init__(self, client: Client, *types: type[Any]) -> None:
        self.events: list[Any] = []
        self._news = asyncio.Event()
        for kind in types or (kind for kind in Event.__args__ if kind is not Acked):
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
        async with asyncio.timeout(WAIT):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """The result of ``awaitable``, which must come within ``seconds``."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def soon(true: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - whatever it is, it has no event to wait for
            await asyncio.sleep(0.002)
