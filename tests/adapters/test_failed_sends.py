"""A TCP connection that takes no more bytes, while the service's last words wait to be read."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from tests.helpers import frames
from tests.helpers.driving import encoded, hello, news
from tests.helpers.waiting import LIMIT

import limpet.anyio.client
import limpet.trio.client
from limpet import Acked, Connected, ConnectionFailed, Disconnected, GroupMessage, Options, Session
from limpet._structured.backend import Backend
from limpet._structured.tcp import TcpConnection as StructuredTcp
from limpet._transports.route import Route
from limpet.asyncio._tcp import TcpConnection as AsyncioTcp
from limpet.sync._tcp import TcpConnection as BlockingTcp

URL = "ws://service.test/client/hubs/chat"
LAST_WORDS = (
    frames.text(encoded(news(1, "last")))
    + frames.text(encoded({"type": "system", "event": "disconnected", "message": "enough"}))
    + frames.close(1000)
)


def started(url: str, now: float) -> Session:
    session = Session(Options(), random=random.random)
    session.start(now)
    session.url_ready(url, now)
    return session


def accepted(handshake: bytes) -> bytes:
    return frames.accept(handshake) + frames.text(encoded(hello()))


def check_heard(session: Session) -> None:
    message, disconnected, lost = session.events()
    assert isinstance(message, GroupMessage)
    assert message.data == "last"
    assert isinstance(disconnected, Disconnected)
    assert (disconnected.code, disconnected.reason) == (1000, "enough")
    assert isinstance(lost, Acked)


def test_the_blocking_client_reads_on() -> None:
    session = started(URL, time.monotonic())
    assert session.dial is not None
    pipeline = Route(URL, None, False).pipeline(session, session.dial)
    pipeline.address()
    pipeline.receive_data(accepted(pipeline.data_to_send()), time.monotonic())
    assert isinstance(session.events()[0], Connected)
    ours, peers = socket.socketpair()
    with ours, peers:
        ours.setblocking(False)
        connection = BlockingTcp(pipeline, ours)
        peers.sendall(LAST_WORDS)
        peers.close()
        session.send_event("e", "x", time.monotonic())
        connection.write()
        assert connection.writable, "it does not wait for a socket that is broken"
        assert session.events() == []
        connection.receive()
        check_heard(session)


async def becomes(true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.001)


def arrive() -> None:
    """Let what was sent arrive, while the event loop sees nothing of it."""
    time.sleep(0.01)


class Owner:
    def __init__(self, session: Session) -> None:
        self.session = session

    def opened(self, transport: AsyncioTcp) -> None:
        transport.write()

    def drain(self) -> None: ...

    def failed(self, error: BaseException) -> None:
        raise error

    def wake_senders(self) -> None: ...


@pytest.mark.parametrize("reading", [True, False])
def test_the_asyncio_client_takes_what_has_arrived(reading: bool) -> None:
    async def main() -> None:
        session = started(URL, time.monotonic())
        dial = session.dial
        assert dial is not None
        pipeline = Route(URL, None, False).pipeline(session, dial)
        pipeline.address()
        owner = Owner(session)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            loop = asyncio.get_running_loop()
            made: tuple[Any, AsyncioTcp] = await loop.create_connection(
                lambda: AsyncioTcp(owner, pipeline), *listener.getsockname()
            )
            connection = made[1]
            peer, _ = listener.accept()
        with peer:
            peer.sendall(accepted(peer.recv(65536)))
            await becomes(lambda: session.connection_id is not None)
            events = session.events()
            assert isinstance(events[0], Connected)
            connection.read(reading)
            session.send_event("e", "x", loop.time())
            connection.write()
            arrive()
            peer.sendall(LAST_WORDS)  # before it has read the event: the close is a reset
        arrive()
        session.send_event("e", "y", loop.time())
        connection.write()
        await becomes(lambda: session.dial is not dial)
        message, disconnected, *_ = session.events()
        assert isinstance(message, GroupMessage)
        assert isinstance(disconnected, Disconnected)
        assert (disconnected.code, disconnected.reason) == (1000, "enough")

    asyncio.run(main())


class Stream:
    """It takes the handshake and then no more bytes."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._ready: list[bytes] = []

    async def receive(self, max_bytes: int) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self._ready.pop(0) if self._ready else LAST_WORDS

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if not data.startswith(b"GET "):
            raise self._error
        self._ready.append(accepted(data))

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("backend", "loop", "error"),
    [
        (limpet.trio.client.BACKEND, "trio", trio.BrokenResourceError()),
        (limpet.anyio.client.BACKEND, "trio", anyio.BrokenResourceError()),
        (limpet.anyio.client.BACKEND, "asyncio", anyio.BrokenResourceError()),
    ],
    ids=["trio", "anyio-trio", "anyio-asyncio"],
)
def test_the_structured_clients_read_on(backend: Backend, loop: str, error: Exception) -> None:
    async def main() -> None:
        session = started(URL, backend.now())
        assert session.dial is not None

        async def dial(host: str, port: int) -> Stream:
            return Stream(error)

        route = Route(URL, None, False)
        drained: list[float] = []
        connection = StructuredTcp(
            dataclasses.replace(backend, open_tcp=dial),
            route,
            session,
            session.dial,
            lambda: drained.append(session.deadline),
        )
        assert await connection.open()
        await connection.send()
        await connection.receive()
        assert isinstance(session.events()[0], Connected)
        session.send_event("e", "x", backend.now())
        await connection.send()
        assert session.events() == []
        assert drained[0] <= backend.now() + 1.0
        await connection.receive()
        check_heard(session)

    anyio.run(main, backend=loop)


def test_before_the_tls_handshake_is_done_a_failed_send_is_the_end() -> None:
    session = started("wss://service.test/client/hubs/chat", time.monotonic())
    assert session.dial is not None
    pipeline = Route("wss://service.test/client/hubs/chat", None, False).pipeline(session, session.dial)
    pipeline.address()
    pipeline.data_to_send()
    pipeline.send_failed("gone", time.monotonic())
    failed = session.events()[0]
    assert isinstance(failed, ConnectionFailed)
    assert "the TLS handshake was cut short: gone" in str(failed.error)
