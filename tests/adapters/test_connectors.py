"""The transports over other WebSocket libraries by themselves; with a client they are in the contract."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest
from tests.adapters.harness import bounded, left, options, run, url_of
from tests.helpers.frames import BINARY, CONTINUATION, TEXT, frame
from tests.helpers.scripted import RELIABLE, Scripted
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as echo_server
from websockets.typing import Subprotocol

from limpet import (
    ConnectError,
    Dial,
    Options,
    __version__,
)
from limpet.asyncio import Client
from limpet.connect import BlockingTransport, Close, Connect, MessageTransport
from limpet.service import Service

LIBRARIES = ("websockets", "aiohttp", "picows")
Make = Callable[..., Connect]


class Threaded:
    """A transport that blocks, each call in a thread, to be looked at like the others."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    async def send(self, message: str | bytes) -> None:
        await asyncio.to_thread(self._transport.send, message)

    async def receive(self) -> str | bytes | Close:
        return await asyncio.to_thread(self._transport.receive)

    async def close(self, code: int, reason: str) -> None:
        await asyncio.to_thread(self._transport.close, code, reason)


def maker(library: str) -> Make:
    """The ``connector`` of a library; of the blocking one, made async."""
    module = import_module(f"limpet.connect.{library.removesuffix('-blocking')}")
    if library == module.__name__.rpartition(".")[2]:
        return module.connector  # type: ignore[no-any-return]

    def connector(**options: Any) -> Connect:
        connect = module.blocking_connector(**options)

        async def open_transport(dial: Dial) -> MessageTransport:
            return Threaded(await asyncio.to_thread(connect, dial))

        return open_transport

    connector.__module__ = module.__name__
    return connector


@pytest.fixture(params=[*LIBRARIES, "websockets-blocking"])
def connector(request: pytest.FixtureRequest) -> Make:
    pytest.importorskip(request.param.partition("-")[0])
    return maker(request.param)


@pytest.fixture(params=LIBRARIES)
def async_connector(request: pytest.FixtureRequest) -> Make:
    """One whose calls can be cancelled."""
    pytest.importorskip(request.param)
    return maker(request.param)


def dial_to(url: str) -> Dial:
    return Dial(1, RELIABLE, recovery=False, url=url)


async def opened(connect: Connect, service: Scripted, subprotocol: str | None = RELIABLE) -> tuple[Any, Any]:
    """A transport, and the peer at its other end."""
    opening = asyncio.create_task(as_coroutine(connect, dial_to(service.url)))
    peer = await service.handshake()
    peer.upgrade(subprotocol)
    return await bounded(opening), peer


async def as_coroutine(connect: Connect, dial: Dial) -> MessageTransport:
    return await connect(dial)


async def serve(answer: bytes, heads: list[bytes]) -> asyncio.Server:
    """Answers every handshake, which goes into ``heads``, with these bytes and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def url_at(server: asyncio.Server, target: str = "/client?access_token=SECRET") -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{target}"


# ---- Against the real service


def test_a_refused_handshake_tells_status_and_body_and_no_token(connector: Make) -> None:
    async def scenario() -> None:
        async with Service() as service:
            url = url_of(service) + "spoilt"
            with pytest.raises(ConnectError, match=r"HTTP status 401.*: .*access token is not valid") as caught:
                await bounded(Client(url, options(), connect=connector()).start())
            assert caught.value.status == 401
            error: BaseException | None = caught.value
            while error is not None:
                assert "access_token=ey" not in repr(error) + str(error)
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    run(scenario)


# ---- The transport by itself


@pytest.mark.parametrize("message", ["", "text, ö", b"", b"binary \xff", "x" * 70_000, b"x" * 70_000])
def test_a_str_is_sent_in_a_text_frame_and_bytes_in_a_binary_one(connector: Make, message: str | bytes) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for each in connection:
            await connection.send(each)

    async def scenario() -> None:
        async with echo_server(echo, "127.0.0.1", 0, subprotocols=[Subprotocol(RELIABLE)]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            transport = await bounded(as_coroutine(connector(), dial_to(f"ws://127.0.0.1:{port}/")))
            await bounded(transport.send(message))
            assert await bounded(transport.receive()) == message
            await bounded(transport.close(1000, ""))

    run(scenario)


def test_the_handshake_names_us_and_what_is_asked_of_the_library(connector: Make) -> None:
    async def scenario() -> None:
        heads: list[bytes] = []
        async with await serve(b"HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort", heads) as server:
            url = url_at(server, "/a?b=c%2F&&d")
            with pytest.raises(ConnectError, match="HTTP status 418: short") as caught:
                await bounded(as_coroutine(connector(), dial_to(url)))
        assert caught.value.status == 418
        lines = heads[0].decode().lower().split("\r\n")
        assert lines[0] == "get /a?b=c%2f&&d http/1.1"
        assert f"sec-websocket-protocol: {RELIABLE}" in lines
        assert f"user-agent: limpet/{__version__}" in lines
        assert not any(line.startswith("sec-websocket-extensions") for line in lines)

    run(scenario)


def test_a_service_that_does_not_accept_the_subprotocol_is_no_use(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            opening = asyncio.create_task(as_coroutine(connector(), dial_to(service.url)))
            peer = await service.handshake()
            peer.upgrade(None)
            with pytest.raises(ConnectError, match=f"did not accept the subprotocol {RELIABLE}"):
                await bounded(opening)
            assert await peer.gone() == 1002

    run(scenario)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Sw", b"nonsense\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n"])
def test_a_handshake_that_fails_raises(connector: Make, answer: bytes) -> None:
    async def scenario() -> None:
        async with await serve(answer, []) as server:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it says why, and no secret
                await bounded(as_coroutine(connector(), dial_to(url_at(server))))
            assert not isinstance(caught.value, TimeoutError)
            assert str(caught.value)
            assert "SECRET" not in str(caught.value)
            assert getattr(caught.value, "status", None) is None

    run(scenario)


def test_a_host_that_refuses_is_told_in_our_own_words(connector: Make) -> None:
    async def scenario() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            port = nobody.getsockname()[1]
            client = Client(f"ws://127.0.0.1:{port}/client/hubs/chat", options(), connect=connector())
            with pytest.raises(ConnectError) as caught:
                await bounded(client.start())
        assert str(caught.value) == f"cannot connect to 127.0.0.1 port {port}: {os.strerror(errno.ECONNREFUSED)}"

    run(scenario)


def test_a_refusal_whose_body_is_cut_short_still_tells_the_status(connector: Make) -> None:
    if "websockets" in connector.__module__:
        pytest.skip("the library does not tell the status then")

    async def scenario() -> None:
        async with Scripted() as service:
            opening = asyncio.create_task(as_coroutine(connector(), dial_to(service.url)))
            peer = await service.handshake()
            peer.raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n")
            await asyncio.sleep(0.7)
            peer.fin()
            with pytest.raises(ConnectError, match=r"HTTP status 403 \(access is forbidden\)") as caught:
                await bounded(opening)
            assert caught.value.status == 403

    run(scenario)


@pytest.mark.parametrize("stage", ["before the answer", "amid the answer"])
def test_a_handshake_that_is_cancelled_leaves_nothing_open(async_connector: Make, stage: str) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            opening = asyncio.create_task(as_coroutine(async_connector(), dial_to(service.url)))
            peer = await service.handshake()
            if stage == "amid the answer":
                peer.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs")
                await asyncio.sleep(0.02)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await bounded(opening)
            await peer.gone()

    run(scenario)


@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (b"\x03\xf0gone", Close(1008, "gone")),
        (b"\x03\xe8", Close(1000, "")),
        (b"\x0f\xa1h\xc3\xb6", Close(4001, "hö")),
        (b"", Close(1005, "")),
    ],
)
def test_the_peers_close_is_told_as_it_is_behind_the_messages_before_it(
    connector: Make, payload: bytes, end: Close
) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(frame(TEXT, "first") + frame(8, payload))
            assert await bounded(transport.receive()) == "first"
            assert await bounded(transport.receive()) == end
            await bounded(transport.close(1001, ""))

    run(scenario)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_connection_that_is_lost_ends_with_1006(connector: Make, how: str) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(frame(TEXT, "first"))
            assert await bounded(transport.receive()) == "first"
            getattr(peer, how)()
            end = await bounded(transport.receive())
            assert isinstance(end, Close)
            assert end.code == 1006
            assert end.reason
            with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own
                await bounded(transport.send("x"))
            await bounded(transport.close(1001, ""))

    run(scenario)


def test_fragments_pings_and_binary(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            half = "ö".encode()
            peer.raw(frame(TEXT, b"a" + half[:1], fin=False) + frame(9, b"?") + frame(CONTINUATION, half[1:] + b"b"))
            peer.raw(frame(BINARY, b"\x00", fin=False) + frame(CONTINUATION, b"\xff") + frame(TEXT, ""))
            assert await bounded(transport.receive()) == "aöb"
            assert await bounded(transport.receive()) == b"\x00\xff"
            assert await bounded(transport.receive()) == ""
            await bounded(transport.close(1000, "bye"))
            assert await peer.gone() == 1000

    run(scenario)


def test_a_message_of_32_mib_gets_through_and_a_larger_one_does_not(connector: Make) -> None:
    size = Options().max_message_size

    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(frame(TEXT, b"x" * size))
            assert len(await bounded(transport.receive())) == size
            half = b"x" * (size // 2)
            peer.raw(frame(TEXT, half, fin=False) + frame(CONTINUATION, half + b"x"))
            end = await bounded(transport.receive())
            assert isinstance(end, Close)
            await bounded(transport.close(1001, ""))
            assert await peer.gone() in (1009, 1006)  # 1006: it was still sending

    run(scenario, debug=False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x", reserved=4), 1002),
        (frame(3, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    ],
)
def test_a_peer_that_breaks_the_rules_is_closed_with_the_right_code(connector: Make, data: bytes, code: int) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(data)
            end = await bounded(transport.receive())
            assert isinstance(end, Close)
            assert end.reason
            await bounded(transport.close(1001, ""))
            assert await peer.gone() == code

    logging.getLogger("picows").setLevel(logging.CRITICAL)
    run(scenario)


def test_a_cancelled_receive_loses_nothing(async_connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(async_connector(), service)
            for number in range(50):
                receiving = asyncio.create_task(transport.receive())
                await asyncio.sleep(0)
                if number % 2:
                    peer.raw(frame(TEXT, str(number)))
                    await asyncio.sleep(0.001 * (number % 3))
                receiving.cancel()
                got = (await asyncio.gather(receiving, return_exceptions=True))[0]
                if number % 2:
                    if not isinstance(got, str):
                        got = await bounded(transport.receive())
                    assert got == str(number)
            await bounded(transport.close(1001, ""))

    run(scenario)


def test_a_consumer_that_does_not_receive_slows_the_peer_down(connector: Make) -> None:
    count, size = 400, 50_000

    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(b"".join(frame(TEXT, b"x" * size) for _ in range(count)))
            await asyncio.sleep(0.3)
            # What the peer could not write: all but the buffers of the system, and a few MiB of ours.
            assert peer._transport is not None
            assert peer._transport.get_write_buffer_size() > count * size // 3
            for _ in range(count):
                assert len(await bounded(transport.receive())) == size
            await bounded(transport.close(1000, ""))
            assert await peer.gone() == 1000

    run(scenario, debug=False)


def test_a_consumer_that_does_not_receive_can_still_close(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.raw(b"".join(frame(TEXT, b"x" * 50_000) for _ in range(400)))
            await asyncio.sleep(0.1)
            await bounded(transport.close(1000, ""))
            assert await peer.gone() in (1000, 1006)

    run(scenario)


def test_a_peer_that_does_not_read_blocks_send_but_not_close(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            peer.stop_reading()

            async def send_on() -> None:
                for _ in range(1_000):
                    await transport.send("x" * 100_000)

            sending = asyncio.create_task(send_on())
            await asyncio.sleep(0.3)
            assert not sending.done()
            await bounded(transport.close(1001, ""))
            with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own
                await bounded(sending)
            assert not [task for task in left() if task is sending]

    run(scenario, debug=False)


def test_close_ends_a_receive_that_waits(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, peer = await opened(connector(), service)
            receiving = asyncio.create_task(transport.receive())
            await asyncio.sleep(0.01)
            await bounded(transport.close(1000, "bye"))
            assert isinstance(await bounded(receiving), Close)
            assert await peer.gone() == 1000

    run(scenario)


def test_closing_twice_does_nothing(connector: Make) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            transport, _ = await opened(connector(), service)
            for _ in range(2):
                await bounded(transport.close(1000, ""))

    run(scenario)


@pytest.mark.parametrize(
    ("client", "backend"),
    [("asyncio", "asyncio"), ("trio", "trio"), ("anyio", "asyncio"), ("anyio", "trio")],
)
def test_a_connect_that_returns_no_transport_is_named(client: str, backend: str) -> None:
    async def connect(dial: Dial) -> None:
        return None

    async def scenario() -> None:
        module = import_module(f"limpet.{client}")
        with pytest.raises(
            ConnectError, match="connect must return a MessageTransport, not NoneType: it has no method send"
        ):
            async with module.Client("ws://127.0.0.1:1/client/hubs/h", connect=connect):
                raise AssertionError("connected")

    anyio.run(scenario, backend=backend)
