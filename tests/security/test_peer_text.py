"""Text of the peer in logs, errors and events: one short line wherever it comes in, and no token in it."""

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
from tests.adapters.harness import Log, options, run, within
from tests.helpers import frames
from tests.helpers.driving import Drive, hello, ok, refused
from tests.helpers.overheard import Overheard, assert_fit
from tests.helpers.scripted import Scripted
from tests.service.sockets import refusal
from tests.service.webhook import running, webhook

from holdfast import (
    ConnectError,
    Disconnected,
    Link,
    Recovering,
    RejoinGroupFailed,
    SendError,
    State,
    Stopped,
    Tunnel,
    parse_proxy,
    parse_url,
)
from holdfast.asyncio import Client
from holdfast.connect import Closed
from holdfast.sync import Client as BlockingClient
from holdfast.testing import BackgroundService
from holdfast_core.service import JSON

POISON = {
    "line breaks": "forged\r\nWARNING all is well\n",
    "escapes": "forged\x1b[2J\x1b]0;title\x07\x1b[1A",
    "C1": "forged\x9b31m\x85\x90",
    "NUL and DEL": "forged\x00\x08\x7f",
    "separators": "forged\u2028WARNING\u2029",
    "directions": "forged\u202egnp.exe\u2066\u200f\u061c",
    "2 MB": "forged " + "x" * 2_000_000,
    "2 MB of escapes": "forged " + "\x1b\u202e\n" * 700_000,
}


@pytest.fixture(params=POISON)
def poison(request: pytest.FixtureRequest) -> str:
    return POISON[request.param]


# ---- The session, whatever carries its messages


def close_of_a_connection_to_recover(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1006, text)


def close_of_a_connection_for_good(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1008, text)


def close_before_it_stands(drive: Drive, text: str) -> None:
    drive.start()
    drive.open()
    drive.drop(1008, text)


def close_of_the_last_attempt(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1008, text)
    for _ in range(4):
        if drive.state is not State.STOPPED:
            drive.until_dial()
            drive.session.url_failed(OSError(text), drive.now)


def farewell(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says({"type": "system", "event": "disconnected", "message": text})
    drive.drop(1000)


def broken_transport(drive: Drive, text: str) -> None:
    drive.connect()
    drive.session.transport_broken(1002, text, drive.now)
    assert drive.session.dial is not None


def failed_dial(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_ready("wss://h/?access_token=SECRET", drive.now)
    drive.session.dial_failed(OSError(text), drive.now)


def failed_dial_with_an_error_of_ours(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_ready("wss://h/?access_token=SECRET", drive.now)
    drive.session.dial_failed(ConnectError(text), drive.now, status=500)


def no_url(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_failed(ValueError(text), drive.now)


def no_url_for_want_of_a_key(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_failed(KeyError(text), drive.now)


def explanation(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(refused(key, "Forbidden", text))


def name_of_an_error(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(refused(key, text, "no"))


def refused_rejoin(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(key))
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    (rejoin,) = drive.sent()
    drive.says(refused(rejoin["ackId"], text, text))
    events = drive.events()
    assert any(isinstance(event, RejoinGroupFailed) for event in events)
    drive.session._events += events


def no_json(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says(text)


def no_json_first(drive: Drive, text: str) -> None:
    drive.start()
    drive.open()
    drive.says(text)


def json_cut_short(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says('{"type":"message","data":"' + text)


def saying(make: Callable[[str], Any]) -> Callable[[Drive, str], None]:
    def door(drive: Drive, text: str) -> None:
        drive.connect()
        drive.says(make(text))

    return door


def connection_id(drive: Drive, text: str) -> None:
    drive.connect(text[:500])
    drive.drop(1006, text)


SESSION: dict[str, Callable[[Drive, str], None]] = {
    "close, to recover": close_of_a_connection_to_recover,
    "close, for good": close_of_a_connection_for_good,
    "close, before it stands": close_before_it_stands,
    "close, the last attempt": close_of_the_last_attempt,
    "disconnected message": farewell,
    "broken transport": broken_transport,
    "failed dial": failed_dial,
    "failed dial, ConnectError": failed_dial_with_an_error_of_ours,
    "no URL": no_url,
    "no URL, KeyError": no_url_for_want_of_a_key,
    "ack, message": explanation,
    "ack, name": name_of_an_error,
    "ack of a rejoin": refused_rejoin,
    "no JSON": no_json,
    "no JSON, first": no_json_first,
    "JSON cut short": json_cut_short,
    "connection id": connection_id,
    "unknown type": saying(lambda text: {"type": text}),
    "unknown from": saying(lambda text: {"type": "message", "from": text, "sequenceId": 1}),
    "unknown event": saying(lambda text: {"type": "system", "event": text}),
    "unknown data type": saying(lambda text: {"type": "message", "from": "server", "dataType": text, "data": 1}),
    "a field of the wrong type": saying(lambda text: {"type": "message", "from": "group", "group": {text: text}}),
    "a key": saying(lambda text: {"type": "message", "from": "server", "data": 1, "metadata": {text: 5}}),
    "no ack id": saying(lambda text: {"type": "ack", "ackId": text, "success": text}),
    "a message": saying(lambda text: {"type": "message", "from": "server", "dataType": "text", "data": text}),
    "a message, not escaped": saying(
        lambda text: json.dumps(
            {"type": "message", "from": "server", "dataType": "text", "data": text}, ensure_ascii=False
        )
    ),
}


@pytest.mark.parametrize("door", SESSION)
def test_text_of_the_service_is_one_short_line(door: str, poison: str) -> None:
    drive = Drive(auto_reconnect=True)
    with Overheard() as overheard:
        SESSION[door](drive, poison)
        drive.advance(1.0)
    events = drive.events()
    assert_fit(overheard.lines, events)
    assert overheard.lines
    if drive.session.dial is not None and drive.dial.hang_up is not None:
        assert_fit([drive.dial.hang_up.reason])


@pytest.mark.parametrize("door", ["close, for good", "failed dial", "ack, message", "disconnected message"])
def test_what_can_be_read_of_it_is_shown(door: str, poison: str) -> None:
    drive = Drive()
    with Overheard() as overheard:
        SESSION[door](drive, poison)
    shown = [*overheard.lines, *map(str, drive.events())]
    assert any("forged" in text for text in shown)
    if len(poison) > 1000:
        assert any(f"({len(poison)} characters)" in text for text in shown)


def test_a_reason_is_kept_as_it_is_but_not_megabytes_of_it() -> None:
    drive = Drive()
    drive.connect()
    drive.drop(1008, POISON["line breaks"])
    assert drive.events(Disconnected)[0].reason == POISON["line breaks"]
    drive.connect()
    drive.drop(1008, POISON["2 MB"])
    (event,) = drive.events(Disconnected)
    assert event.reason.startswith("forged xxx")
    assert len(event.reason) == 1000


def test_a_send_error_has_its_parts_as_they_are_and_a_text_that_is_safe(poison: str) -> None:
    error = SendError(1, poison, poison, "rejected")
    assert_fit([], errors=[error])
    assert error.name[:6] == error.message[:6] == poison[:6]
    assert len(error.message) <= 1000


def test_what_is_told_to_the_service_about_its_fault_can_be_sent() -> None:
    drive = Drive()
    drive.connect()
    dial = drive.dial
    drive.session.transport_broken(1002, "half of a pair: \ud83d", drive.now)
    assert dial.hang_up is not None
    assert dial.hang_up.reason == "half of a pair: \\ud83d"


def test_a_host_that_python_refuses_is_not_quoted_with_the_password() -> None:
    with pytest.raises(ValueError, match="host has characters that mean others") as caught:
        parse_url("wss://ann:SECRET@h\u2100/")
    assert "SECRET" not in str(caught.value)


# ---- Over bytes

CLOSE_REASONS = {name: text.encode()[:120].decode(errors="ignore") for name, text in POISON.items()}
BODIES = {name: text[:6000].encode() for name, text in POISON.items()}


def over_link(*answers: Callable[[bytes], bytes]) -> list[Any]:
    """The events of a session whose service gives these answers to the handshake."""
    drive = Drive(auto_reconnect=False)
    drive.start()
    drive.session.url_ready("ws://h/?access_token=SECRET", drive.now)
    link = Link(drive.session, drive.dial, random_bytes=bytes)
    handshake = b"".join(link.data_to_send())
    for answer in answers:
        link.receive_data(answer(handshake), drive.now)
    link.receive_data(b"", drive.now)
    drive.advance(100)
    return drive.events()


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("code", [1000, 1001, 1008, 4000])
def test_a_close_frame_over_a_link(name: str, code: int) -> None:
    with Overheard() as overheard:
        events = over_link(
            frames.accept,
            lambda _: frames.text(json.dumps(hello())) + frames.close(code, CLOSE_REASONS[name]),
        )
    assert_fit(overheard.lines, events)
    assert any(getattr(event, "reason", "")[:6] == "forged" for event in events)


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n\r\n", b"X: %d\r\n\r\n"])
def test_the_body_of_a_refusal_over_a_link(name: str, head: bytes) -> None:
    body = BODIES[name]
    with Overheard() as overheard:
        events = over_link(lambda _: b"HTTP/1.1 503 " + body[:20] + b"\r\n" + head % len(body) + body)
        events += over_link(lambda _: b"HTTP/1.1 503 No\r\n" + head % len(body) + body)
    assert_fit(overheard.lines, events)
    assert any("forged" in str(event.error) for event in events if isinstance(event, Stopped))


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize(
    "head", [b"%b", b"HTTP/1.1 101 %b\r\n\r\n", b"HTTP/1.1 101 Ok\r\n%b: x\r\n\r\n", b"HTTP/1.1 %b\r\n\r\n"]
)
def test_what_is_no_answer_to_a_handshake(name: str, head: bytes) -> None:
    with Overheard() as overheard:
        events = over_link(lambda _: head % BODIES[name])
    assert any(isinstance(event, Stopped) and event.error for event in events)
    assert_fit(overheard.lines, events)


# ---- Proxies


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 \x9b31m\x85 forged\r\n\r\n",
        b"HTTP/1.1 502 " + b"x" * 16_000 + b"\r\n\r\n",
        b"HTTP/1.1 502 " + b"\x9b" * 16_000 + b"\r\n\r\n",
        b"\x1b[2J forged\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x1b[2J: " + b"y" * 16_000 + b"\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_what_a_proxy_says(answer: bytes) -> None:
    tunnel = Tunnel(parse_proxy("http://ann:PASSWORD@p:1"), "h", 443)
    with pytest.raises(ConnectError) as caught:
        tunnel.receive_data(answer)
    assert caught.value.__cause__ is None
    assert_fit([], errors=[caught.value, tunnel.lost(answer.decode("latin-1"))])


@pytest.mark.parametrize("echo", [b"PASSWORD", b"Proxy-Authorization: Basic YW5uOlBBU1NXT1JE", b"YW5uOlBBU1NXT1JE"])
def test_a_proxy_that_quotes_the_password(echo: bytes) -> None:
    for answer in (b"HTTP/1.1 403 no " + echo + b"\r\n\r\n", echo + b" is no HTTP\r\n\r\n"):
        tunnel = Tunnel(parse_proxy("http://ann:PASSWORD@p:1"), "h", 443)
        with pytest.raises(ConnectError) as caught:
            tunnel.receive_data(answer)
        assert "PASSWORD" not in str(caught.value)
        assert "YW5uOlBBU1NXT1JE" not in str(caught.value)


# ---- Transports of messages, our own and those of libraries


class Poisoned:
    """A transport whose every word is poison."""

    def __init__(self, text: str, ends: Callable[[str], Any]) -> None:
        self._text = text
        self._ends = ends
        self._said = False

    async def send(self, message: str) -> None:
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

    def send(self, message: str) -> None:
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
    lambda text: Closed(1008, text),
    lambda text: Closed(4000, text),
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
    return {"connect": import_module(f"holdfast.connect.{library}").connector()}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", POISON)
def test_a_close_and_a_refusal_over_each_library(library: str | None, name: str) -> None:
    async def scenario() -> tuple[list[Any], list[BaseException]]:
        async with Scripted() as service:
            client = Client(service.url, options(auto_reconnect=False), **over(library))
            log = Log(client)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await within(5, starting)
            peer.raw(frames.close(1008, CLOSE_REASONS[name]))
            await log.wait(Stopped)
            refusing = asyncio.create_task(client.start())
            peer = await service.handshake()
            peer.refuse(503, BODIES[name].decode(errors="replace")[:2000].encode("ascii", "replace").decode())
            with pytest.raises(ConnectError) as refusal:
                await within(5, refusing)
            refusing = asyncio.create_task(client.start())
            peer = await service.handshake()
            peer.raw(b"HTTP/1.1 101 Switching\r\nX\x1b[2J: \x9b\r\nUpgrade: forged\r\n\r\n" + BODIES[name])
            peer.fin()
            with pytest.raises(ConnectError) as nonsense:
                await within(5, refusing)
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
    await within(30, scenario())


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
