"""Nothing that a peer sends leaves a connection of the service behind, or somebody without an answer."""

from __future__ import annotations

import asyncio
import base64
import errno
import gc
import json
import logging
import os
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.adapters.service.sockets import with_service
from tests.adapters.service.webhook import ask, open_client, outcome, run, running, tcp, webhook
from tests.security.servers import HANDSHAKE, KEY, Place, bearer, exchange, read_answer, request, signed, with_place

from limpet.service import EventHandler, HubOptions, Service, ServiceOptions
from limpet.service._gateway import Gateway
from limpet_core.service import JSON


def unsigned(header: object) -> str:
    """Return a token that anybody can make: nobody has signed it."""
    parts = (json.dumps(header).encode(), b'{"exp":9e9,"aud":"x"}', b"x" * 32)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("style", ["service", "application", "mounted"])
@pytest.mark.parametrize("quoted", ["\ud83d", "a\nb\x1b[31m", "x" * 5000], ids=["half", "escapes", "long"])
def test_a_token_that_the_refusal_quotes_is_refused_like_any_other(quoted: str, style: str) -> None:
    token = unsigned({"alg": "HS256", "crit": [quoted]})

    async def scenario(place: Place) -> None:
        target = f"{place.prefix}/client/hubs/chat?access_token={token}"
        answer = await exchange(place.port, request("GET", target, [("Host", place.host), *HANDSHAKE]))
        assert answer.status == 401
        text = answer.body.decode()
        assert text.strip().isprintable()
        assert len(text) < 600
        send = [("Host", place.host), bearer(token), ("Content-Length", "0")]
        answer = await exchange(place.port, request("POST", f"{place.prefix}/api/hubs/chat/:send", send))
        assert answer.status == 401
        assert answer.json["message"].isprintable()
        assert len(answer.body) < 600

    with_place(scenario, style)


def test_a_fault_amid_a_handshake_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Gateway, "admit", fault)
    caplog.set_level(logging.CRITICAL, "asyncio")

    async def scenario() -> None:
        service = Service()
        await service.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(request("GET", "/client/hubs/chat", [("Host", "localhost"), *HANDSHAKE]))
        assert await reader.read() == b""
        writer.close()
        async with asyncio.timeout(20):
            await service.stop()

    asyncio.run(scenario())


def test_a_client_that_resets_its_connection_amid_a_refusal_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen: list[object] = []

    def reset(_: object) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    async def refuse(_: Request) -> Response:
        return Response(status_code=403)

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with webhook() as hook, running(hook.options(retry_delays=())) as service:
            hook.answers = {"connect": refuse}
            query = service.client_url().partition("?")[2]
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            # So it is until the event loop hears of the reset.
            monkeypatch.setattr(type(writer.transport), "write_eof", reset)
            writer.write(request("GET", f"/client/hubs/chat?{query}", [("Host", "localhost"), *HANDSHAKE]))
            with suppress(ConnectionError):
                await reader.read()
            writer.close()

    run(scenario())
    gc.collect()
    assert not unseen


def test_what_is_sent_right_behind_a_handshake_is_handled() -> None:
    # A client has to wait (RFC 6455 4.1), but what one does not wait with must not be lost in silence.
    async def scenario(service: Service) -> None:
        query = service.client_url().partition("?")[2]
        protocol = ("Sec-WebSocket-Protocol", JSON)
        handshake = request("GET", f"/client/hubs/chat?{query}", [("Host", "localhost"), *HANDSHAKE, protocol])
        ping = b'{"type":"ping"}'
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(handshake + bytes((0x81, 0x80 | len(ping))) + bytes(4) + ping)
        assert (await read_answer(reader)).status == 101
        await reader.readuntil(b'"event":"connected"')
        await reader.readuntil(b'{"type":"pong"}')
        writer.close()
        await writer.wait_closed()

    with_service(scenario)


def handler(url: str) -> ServiceOptions:
    listed = (EventHandler(url=url, system_events=(), retry_delays=()),)
    return ServiceOptions(access_key=KEY, hubs={"chat": HubOptions(event_handlers=listed)})


def test_what_an_event_handler_sends_instead_of_an_answer_is_told_to_clients_in_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin = await reader.readuntil(b"\r\n\r\n")
        if begin.startswith(b"OPTIONS"):
            writer.write(
                b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        else:
            writer.write(b"\x1b[31m " + signed("x").encode() + b"A" * 50_000 + b"\r\n\r\n")
        await writer.drain()

    async def scenario() -> None:
        async with tcp(babble) as url, running(handler(url)) as service:
            client = await open_client(service)
            received = await ask(client)
            assert outcome(received) == "InternalServerError"
            answer: Any = received[0]
            assert len(answer["error"]["message"]) < 500
            assert "eyJ" not in answer["error"]["message"]
            await client.leave()

    run(scenario())


def test_calls_to_event_handlers_are_in_no_log_of_a_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    caplog.set_level(logging.DEBUG, "httpcore")

    async def scenario() -> None:
        async with webhook() as hook, running(handler(f"{hook.url}/x?code=a-secret")) as service:
            client = await open_client(service)
            assert outcome(await ask(client)) == "success"
            assert (await hook.next("order")).url.query == "code=a-secret"
            await client.leave()

    run(scenario())
    assert any(record.name == "limpet.service" for record in caplog.records)
    told = [(record.name, record.getMessage()) for record in caplog.records]
    assert [name for name, text in told if "a-secret" in text and name != "uvicorn.access"] == []
    # That connections are closed in the end is of no call.
    assert [text for name, text in told if name.startswith("http") and not text.startswith("close.")] == []


def test_names_with_line_breaks_are_no_other_paths() -> None:
    async def scenario(place: Place) -> None:
        target = "/api/hubs/chat/groups/a%0Ab/:send"
        head = [("Host", place.host), bearer(signed(place.endpoint + target)), ("Content-Type", "text/plain")]
        assert (await exchange(place.port, request("POST", place.prefix + target, head, b"x"))).status == 202
        # It is not taken for a path that has another one without the slash.
        answer = await exchange(place.port, request("POST", "/api/hubs/chat/groups/a%0A/", head, b"x"))
        assert answer.status in (401, 404, 405)

    with_place(scenario, "service")
