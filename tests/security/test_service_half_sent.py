"""Requests and handshakes that are begun and never finished end after the time limit, however they are spun out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

import pytest
import uvicorn
from tests.adapters.service.sockets import Client, refusal
from tests.adapters.service.webhook import run, running, webhook
from tests.helpers.waiting import skip
from tests.security.servers import HANDSHAKE, KEY, Place, bearer, read_answer, request, served, signed, with_place
from uvicorn.server import ServerState

from limpet.service import ServiceOptions, _websocket
from limpet.service._gateway import Gateway
from limpet.service._websocket import WebSocketProtocol
from limpet_core.service import JSON, server_publication

KEPT_ALIVE = 5.0
"""Seconds that the HTTP server waits for a next request."""

LIMIT = 4.9
LIMITED = ServiceOptions(access_key=KEY, request_timeout=LIMIT)
HOST = ("Host", "localhost")

NO_TOKEN = request("POST", "/api/hubs/chat/:send", [HOST, ("Content-Length", "1000000")])


def sending(place: Place, *headers: tuple[str, str]) -> bytes:
    target = "/api/hubs/chat/:send"
    head = [("Host", place.host), bearer(signed(place.endpoint + target)), ("Content-Type", "text/plain"), *headers]
    return request("POST", place.prefix + target, head)


# What is sent, what then trickles, and the answers before the end.
BEGUN: dict[str, tuple[bytes | Callable[[Place], bytes], bytes, list[int]]] = {
    "nothing": (b"", b"", []),
    "empty lines": (b"\r\n", b"\r\n", [400]),
    "a byte": (b"G", b"E", [408]),
    "half a target": (b"GET /", b"x", [408]),
    "half a head": (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX: ", b"x", [408]),
    "header after header": (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n", b"X:\r\n", [408]),
    "half a handshake": (request("GET", "/client/hubs/chat", [HOST, *HANDSHAKE])[:-2] + b"X: ", b"x", [408]),
    "half a body": (lambda place: sending(place, ("Content-Length", "1000000")), b"x", [408]),
    "half of a chunked body": (lambda place: sending(place, ("Transfer-Encoding", "chunked")), b"1\r\nx\r\n", [400]),
    "half a body that nobody wants": (NO_TOKEN, b"x", [401]),
    "half a body of a request without one": (
        request("POST", "/negotiate", [HOST, ("Content-Length", "1000000")]),
        b"x",
        [200],
    ),
    "half of a second request": (request("HEAD", "/api/health", [HOST]) + b"GET /", b"x", [200, 408]),
}


async def answers_and_end(place: Place, begun: bytes, trickle: bytes, early: int) -> list[int]:
    """Send something, then go on with a few bytes at a time; return the answers once the connection has ended.

    Args:
        early: the number of answers that come before the time is over.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)

    async def spin_out() -> None:
        with contextlib.suppress(ConnectionError):
            while trickle:
                writer.write(trickle)
                await writer.drain()
                await asyncio.sleep(0.02)

    writer.write(begun)
    spinning = asyncio.create_task(spin_out())
    statuses: list[int] = []
    try:
        async with asyncio.timeout(60):
            # A connection that is reset has ended as well, and what was read before counts.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    if len(statuses) == early:
                        await skip(LIMIT)
                    answer = await read_answer(reader, without_body=begun.startswith(b"HEAD") and not statuses)
                    statuses.append(answer.status)
    finally:
        spinning.cancel()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return statuses


@pytest.mark.parametrize("trickles", [False, True], ids=["and silence", "and a trickle"])
@pytest.mark.parametrize("kind", BEGUN)
def test_what_is_half_sent_ends(kind: str, trickles: bool) -> None:
    async def scenario(place: Place) -> None:
        begun, trickle, expected = BEGUN[kind]
        data = begun if isinstance(begun, bytes) else begun(place)
        statuses = await answers_and_end(place, data, trickle if trickles else b"", max(len(expected) - 1, 0))
        if trickles:
            # The reset of a connection that is still written to can overtake the answer.
            assert statuses in (expected, expected[:-1])
        else:
            assert statuses == expected
        assert place.core.connection_count == 0

    with_place(scenario, "service", LIMITED)


@pytest.mark.parametrize("style", ["service", "application", "mounted", "mounted with an endpoint"])
def test_half_a_body_is_answered_with_408_under_every_server(style: str) -> None:
    async def scenario(place: Place) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(sending(place, ("Content-Length", "10")) + b"half")
        async with asyncio.timeout(60):
            await skip(LIMIT)
            answer = await read_answer(reader)
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert answer.headers["x-ms-error-code"] == "Error.RequestTimeout"
            assert answer.json["message"] == "The body did not arrive within 4.9 s."
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    with_place(scenario, style, LIMITED)


def test_a_handshake_that_the_websocket_library_makes_nothing_of_is_answered_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_websocket, "_CLOSE_TIMEOUT", 0.1)

    async def scenario(place: Place) -> None:
        for header in (("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("X-Long", "x" * 9000)):
            head = [("Host", place.host), *HANDSHAKE, header]
            reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
            writer.write(request("GET", "/client/hubs/chat", head))
            async with asyncio.timeout(30):
                assert (await read_answer(reader)).status in (400, 431), header
                assert await reader.read() == b""
                # That was only one half of the connection; the other ends without any help of the client's.
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.02)
            writer.close()

    with_place(scenario, "service", ServiceOptions(access_key=KEY, request_timeout=None))


def test_half_a_handshake_ends_even_if_the_server_hands_it_over_as_such() -> None:
    async def run() -> None:
        protocol = WebSocketProtocol.bound_to(Gateway(LIMITED, None))
        config, state = uvicorn.Config("nothing:nothing"), ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request("GET", "/client/hubs/chat", [HOST, *HANDSHAKE])[:-2])
        async with asyncio.timeout(60):
            await skip(LIMIT)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            server.close()
            await server.wait_closed()
        assert not state.connections

    asyncio.run(run())


@pytest.mark.parametrize("limit", [LIMIT, None], ids=["with a limit", "without"])
def test_a_handshake_that_waits_for_an_event_handler_has_the_limit_of_that(limit: float | None) -> None:
    """It is refused, 500, when the handler has had its time; not before, though the request's own limit is shorter."""

    async def scenario() -> None:
        async with webhook() as hook:
            hook.answers = {"connect": hook.hang}
            options = dataclasses.replace(hook.options(timeout=1.6 * LIMIT, retry_delays=()), request_timeout=limit)
            async with running(options) as service:
                refused = asyncio.create_task(refusal(service.client_url(), JSON))
                await hook.next("connect")
                await skip(1.2 * LIMIT)
                assert not refused.done()
                await skip(0.5 * LIMIT)
                assert (await refused)[0] == 500
                assert service.core.connection_count == 0

    run(scenario())


def test_what_is_whole_may_last() -> None:
    """Connections that are kept alive, feeds and WebSockets outlive the limit."""

    async def scenario(place: Place) -> None:
        client = await Client.open(place.client_url(place.client_token()), JSON)
        await client.receive()
        feed, feed_writer = await asyncio.open_connection("127.0.0.1", place.port)
        feed_writer.write(request("GET", "/trace/feed", [HOST]))
        await read_answer(feed, without_body=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        health = request("HEAD", "/api/health", [HOST])
        for _ in range(3):
            writer.write(health + health)
            for _ in range(2):
                assert (await read_answer(reader, without_body=True)).status == 200
            await skip(0.6 * LIMIT)
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        place.core.send_to_all("chat", server_publication("json", b"1"))
        await feed.readuntil(b'"published"')
        await client.leave()
        for each in (writer, feed_writer):
            each.close()
            await each.wait_closed()

    with_place(scenario, "service", LIMITED)


def test_a_connection_without_a_next_request_ends_by_itself() -> None:
    async def scenario(place: Place) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(request("HEAD", "/api/health", [HOST]))
        async with asyncio.timeout(30):
            assert (await read_answer(reader, without_body=True)).status == 200
            await skip(KEPT_ALIVE)
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    with_place(scenario, "service", ServiceOptions(access_key=KEY, request_timeout=None))


def test_without_a_limit_nothing_ends() -> None:
    async def scenario(place: Place) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        parts = (
            sending(place, ("Content-Length", "4"))[:40],
            sending(place, ("Content-Length", "4"))[40:],
            b"ha",
            b"lf",
        )
        for part in parts:
            writer.write(part)
            await skip(2 * LIMIT)
        assert (await read_answer(reader)).status == 202
        writer.close()
        await writer.wait_closed()

    with_place(scenario, "service", ServiceOptions(access_key=KEY, request_timeout=None))


def test_many_that_say_nothing_leave_nothing_behind() -> None:
    async def run() -> None:
        async with asyncio.timeout(60), served("service", LIMITED) as place:
            silent = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(100)]
            await skip(LIMIT)
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(run())
