"""Text of the peer over transports of others, and text of clients and event handlers in the local service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import httpx
import pytest
import websockets
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.adapters.harness import Log, bounded, options, run
from tests.adapters.service.sockets import refusal
from tests.adapters.service.webhook import running, webhook
from tests.helpers import frames
from tests.helpers.driving import hello
from tests.helpers.overheard import BODIES, CLOSE_REASONS, POISON, Overheard, assert_fit
from tests.helpers.scripted import Scripted

from limpet import (
    ConnectError,
    Disconnected,
    Recovering,
    Stopped,
)
from limpet.asyncio import Client
from limpet.connect import Close
from limpet.sync import Client as BlockingClient
from limpet.testing import BackgroundService
from limpet_core.service import JSON


@pytest.fixture(params=POISON)
def poison(request: pytest.FixtureRequest) -> str:
    return POISON[request.param]


# ---- Transports of messages, our own and those of libraries


class Poisoned:
    """A transport whose every word is poison."""

    def __init__(self, text: str, ends: Callable[[str], Any]) -> None:
        self._text = text
        self._ends = ends
        self._said = False

    async def send(self, message: str | bytes) -> None:
        pass

    async def receive(self) -> Any:
        if not self._said:
            self._said = True
            return json.dumps(hello())
        end = self._ends(self._text)
        if isinstance(end, Exception):
            raise end
        return end

    async def close(self, code: int, reason: str) -> None:
        raise OSError(self._text)


class BlockingPoisoned:
    """The same for the blocking client."""

    def __init__(self, text: str, ends: Callable[[str], Any]) -> None:
        self._transport = Poisoned(text, ends)

    def send(self, message: str | bytes) -> None:
        pass

    def receive(self) -> Any:
        return _end_of(self._transport.receive())

    def close(self, code: int, reason: str) -> None:
        _end_of(self._transport.close(code, reason))


def _end_of(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


ENDS: list[Callable[[str], Any]] = [
    lambda text: Close(1008, text),
    lambda text: Close(4000, text),
    OSError,
    ValueError,
]


@pytest.mark.parametrize("ends", ENDS)
def test_a_transport_of_somebody_elses(poison: str, ends: Callable[[str], Any]) -> None:
    async def scenario() -> list[Any]:
        async def connect(dial: Any) -> Any:
            if dial.recovery:
                raise ConnectError(poison, status=503)
            return Poisoned(poison, ends)

        client = Client(
            "ws://h/?access_token=SECRET", options(auto_reconnect=False, recovery_timeout=0.1), connect=connect
        )
        log = Log(client)
        with suppress(ConnectError):  # it may be over before start() is
            await client.start()
        await log.wait(Stopped)
        return log.events

    with Overheard() as overheard:
        events = run(scenario)
    assert_fit(overheard.lines, events)
    assert any(getattr(event, "reason", "")[:6] == "forged" for event in events)
    assert any(line.startswith("closing a transport failed: forged") for line in overheard.lines)


@pytest.mark.parametrize("ends", ENDS)
def test_a_blocking_transport_of_somebody_elses(poison: str, ends: Callable[[str], Any]) -> None:
    def connect(dial: Any) -> Any:
        if dial.recovery:
            raise ConnectError(poison, status=503)
        return BlockingPoisoned(poison, ends)

    with Overheard() as overheard:
        client = BlockingClient(
            "ws://h/?access_token=SECRET", options(auto_reconnect=False, recovery_timeout=0.1), connect=connect
        )
        events = client.events(Recovering, Disconnected, Stopped)
        with suppress(ConnectError):
            client.start()
        seen: list[Any] = []
        with suppress(ConnectError):
            seen.extend(events)
    assert_fit(overheard.lines, seen)
    assert any(getattr(event, "reason", "")[:6] == "forged" for event in seen)


@pytest.mark.parametrize("kind", [OSError, ValueError, ConnectError, KeyError])
def test_a_transport_that_can_not_be_opened(poison: str, kind: type[Exception]) -> None:
    async def scenario() -> None:
        async def connect(dial: Any) -> Any:
            raise kind(poison)

        with pytest.raises(ConnectError) as caught:
            await Client("ws://h/?access_token=SECRET", options(), connect=connect).start()
        assert_fit([], errors=[caught.value])

    with Overheard() as overheard:
        run(scenario)
    assert_fit(overheard.lines)


LIBRARIES = [None, "websockets", "aiohttp", "picows"]


def over(library: str | None) -> dict[str, Any]:
    if library is None:
        return {}
    pytest.importorskip(library)
    return {"connect": import_module(f"limpet.connect.{library}").connector()}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", POISON)
def test_a_close_and_a_refusal_over_each_library(library: str | None, name: str) -> None:
    async def scenario() -> tuple[list[Any], list[BaseException]]:
        async with Scripted() as service:
            client = Client(service.url, options(auto_reconnect=False), **over(library))
            log = Log(client)
            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            await bounded(starting)
            peer.raw(frames.close(1008, CLOSE_REASONS[name]))
            await log.wait(Stopped)
            refusing = asyncio.create_task(client.start())
            peer = await service.handshake()
            peer.refuse(503, BODIES[name].decode(errors="replace")[:2000].encode("ascii", "replace").decode())
            with pytest.raises(ConnectError) as refusal:
                await bounded(refusing)
            refusing = asyncio.create_task(client.start())
            peer = await service.handshake()
            peer.raw(b"HTTP/1.1 101 Switching\r\nX\x1b[2J: \x9b\r\nUpgrade: forged\r\n\r\n" + BODIES[name])
            peer.fin()
            with pytest.raises(ConnectError) as nonsense:
                await bounded(refusing)
            return log.events, [refusal.value, nonsense.value]

    with Overheard() as overheard:
        events, errors = run(scenario)
    assert_fit(overheard.lines, events, errors)
    assert any(getattr(event, "reason", "")[:6] == "forged" for event in events)
    assert "forged" in str(errors[0])


# ---- The local service


@pytest.mark.parametrize("name", POISON)
def test_the_service_and_those_who_knock(name: str) -> None:
    """Hubs, paths, queries and headers of clients; what an event handler says; operations over REST."""
    text = POISON[name][:6000]
    quoted = httpx.QueryParams({"x": text})["x"] and str(httpx.QueryParams({"hub": text}))
    path = quoted.removeprefix("hub=").replace("+", "%20")

    async def scenario() -> None:
        async def refuse(request: Request) -> Response:
            return PlainTextResponse(text, 403)

        async with webhook() as hook, running(hook.options(retry_delays=())) as service:
            hook.answers = {"connect": refuse}
            status, body = await refusal(service.client_url("chat"), JSON)
            assert (status, body[:6]) == (403, "forged")
            base = service.endpoint.replace("http", "ws", 1)
            for url in (
                f"{base}/client/hubs/{path}",
                f"{base}/client/?{quoted}",
                f"{base}/client/hubs/chat?access_token={path}",
                f"{base}/client/hubs/chat?access_token=x.y.z&{quoted}",
                f"{service.client_url('chat')}&webpubsub_mode=raw&ackMode={path}",
                f"{base}/{path}",
            ):
                with suppress(websockets.InvalidMessage):
                    await refusal(url, JSON)
            async with httpx.AsyncClient() as http:
                for method in ("POST", "DELETE", "GET"):
                    await http.request(
                        method,
                        f"{service.endpoint}/api/hubs/{path}/:send?{quoted}",
                        headers={"Authorization": "Bearer x\x1b"},
                        content=text.encode(),
                    )

    with Overheard() as overheard:
        run_service(scenario)
    assert any("client refused: 403 forged" in line for line in overheard.lines)
    assert_fit(overheard.lines)


def run_service(scenario: Callable[[], Any]) -> None:
    asyncio.run(within_time(scenario))


async def within_time(scenario: Callable[[], Any]) -> None:
    await bounded(scenario())


def test_an_event_handler_that_speaks_no_http() -> None:
    async def scenario() -> None:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 \x1b[2J\r\n\x9b: forged " + b"x" * 50_000 + b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with webhook() as hook, running(hook.options(url=url, retry_delays=())) as service:
            status, _ = await refusal(service.client_url("chat"), JSON)
            assert status == 500
        server.close()
        await server.wait_closed()

    with Overheard() as overheard:
        run_service(scenario)
    assert any("event handler" in line for line in overheard.lines)
    assert_fit(overheard.lines)


def test_the_log_of_a_test_service(poison: str) -> None:
    with BackgroundService() as service:
        url = service.url(user_id=poison[:500], roles=["webpubsub.sendToGroup"])
        with BlockingClient(url, options()) as client:
            client.send_to_group(poison[:1000], poison[:100_000])
        shown = str(service.log)
    assert_fit(shown.split("\n"))
    assert "forged" in shown
