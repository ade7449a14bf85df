"""Event handlers over real HTTP: well-behaved, slow, hanging, broken and missing ones."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from tests.adapters.service.sockets import Client
from tests.adapters.service.webhook import KEYS, QUIET, Webhook, ask, open_client, outcome, run, running, tcp, webhook
from tests.helpers.waiting import LIMIT, skip

from limpet.service._webhooks import WebhookClient
from limpet_core.service import MAX_ANSWER, RELIABLE_JSON, EventHandler, HandlerCall


def test_a_client_from_connect_to_disconnected() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:

            async def let_in(request: Request) -> Response:
                return JSONResponse(
                    {"userId": "ben", "groups": ["room"], "roles": ["webpubsub.sendToGroup"]},
                    headers={"ce-connectionState": "one"},
                )

            async def reply(request: Request) -> Response:
                return PlainTextResponse("pong", headers={"ce-connectionState": "two", "x-webpubsub-metadata-a": "b"})

            hook.answers = {"connect": let_in, "order": reply}
            client = await Client.open(service.client_url("chat", user_id="ann", roles=["r"]) + "&a=1&a=2")
            hello = await client.receive()
            assert hello["userId"] == "ben"

            connect = await hook.next("connect")
            assert (connect.method, connect.url.path) == ("POST", "/chat/connect")
            assert connect.headers["content-type"] == "application/json"
            body = await connect.json()
            assert body["claims"]["sub"] == ["ann"]
            assert body["claims"]["role"] == ["r"]
            assert body["claims"]["aud"] == [service.endpoint + "/client/hubs/chat"]
            assert body["query"] == {"a": ["1", "2"]}
            assert body["headers"]["Host"] == [f"127.0.0.1:{service.port}"]
            assert body["subprotocols"] == [RELIABLE_JSON]
            assert body["clientCertificates"] == []
            assert connect.headers["ce-userid"] == "ann"
            assert "ce-connectionstate" not in connect.headers

            connected = await hook.next("connected")
            assert connected.headers["ce-userid"] == "ben"
            assert connected.headers["ce-connectionstate"] == "one"
            assert connected.headers["ce-subprotocol"] == RELIABLE_JSON

            await client.send(type="sendToGroup", group="room", data="hi", dataType="text", noEcho=True, ackId=5)
            assert outcome([await client.receive()]) == "success"
            message, ack = await ask(client, data={"n": 1}, data_type="json")
            assert (message["data"], message["metadata"], message["sequenceId"]) == ("pong", {"a": "b"}, 1)
            assert ack["success"]
            order = await hook.next("order")
            assert json.loads(await order.body()) == {"n": 1}
            assert order.headers["content-type"] == "application/json"
            assert order.headers["ce-connectionstate"] == "one"

            for request in (connect, connected, order):
                headers = request.headers
                connection_id = hello["connectionId"]
                assert headers["ce-connectionid"] == connection_id
                signatures = [hmac.digest(key.encode(), connection_id.encode(), hashlib.sha256).hex() for key in KEYS]
                assert headers["ce-signature"] == f"sha256={signatures[0]},sha256={signatures[1]}"
                assert headers["webhook-request-origin"] == f"127.0.0.1:{service.port}"
                assert headers["ce-type"].startswith("azure.webpubsub.")
                assert (headers["ce-specversion"], headers["ce-awpsversion"]) == ("1.0", "1.0")
                assert "authorization" not in headers
            assert [request.headers["ce-id"] for request in (connect, connected, order)] == ["0", "1", "2"]

            await client.leave()
            disconnected = await hook.next("disconnected")
            assert disconnected.headers["ce-connectionstate"] == "two"
            assert "reason" in await disconnected.json()

    run(scenario())


def test_header_names_are_spelled_as_in_the_protocol() -> None:
    async def scenario() -> None:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            writer.write(
                b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()

        async with tcp(serve) as url, running(Webhook().options(url=url, **QUIET)) as service:
            client = await open_client(service)
            assert outcome(await ask(client, data="")) == "success"
            await client.leave()
        question, call = heads
        origin = f"WebHook-Request-Origin: 127.0.0.1:{service.port}\r\n".encode()
        assert question.startswith(b"OPTIONS / HTTP/1.1\r\n")
        assert origin in question
        assert b"ce-awpsversion: 1.0\r\n" in question
        assert call.startswith(b"POST / HTTP/1.1\r\n")
        assert origin in call
        for name in (b"ce-type", b"ce-connectionId", b"ce-eventName", b"ce-userId", b"Content-Type", b"ce-signature"):
            assert b"\r\n" + name + b": " in call
        assert b"\r\nContent-Length: 0\r\n" in call

    run(scenario())


def test_while_a_handler_hangs_pings_and_sequence_acks_pass_and_order_is_kept() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"slow": hook.hang}
            token = {"roles": ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]}
            client = await Client.open(service.client_url("chat", groups=["room"], **token))  # type: ignore[arg-type]
            other = await Client.open(service.client_url("chat", groups=["room"], **token))  # type: ignore[arg-type]
            hello = await client.receive()
            await other.receive()
            await client.send(type="event", event="slow", dataType="text", data="", ackId=1)
            await hook.next("slow")
            await client.send(type="sendToGroup", group="room", dataType="text", data="after", ackId=2)
            await other.send(type="sendToGroup", group="room", dataType="text", data="before", ackId=1)
            assert (await client.receive())["data"] == "before"
            await client.send(type="sequenceAck", sequenceId=1)
            await client.send(type="ping")
            assert await client.receive() == {"type": "pong"}
            connection = service.core.connection(hello["connectionId"])
            assert connection is not None
            assert connection.retained == 0
            hook.release()
            received = [await client.receive() for _ in range(3)]
            assert received[0] == {"type": "ack", "ackId": 1, "success": True}
            assert sorted(message["type"] for message in received[1:]) == ["ack", "message"]
            await client.leave()
            await other.leave()

    run(scenario())


def test_many_calls_to_one_host_run_at_the_same_time_but_not_too_many() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"slow": hook.hang}
            clients = [await open_client(service) for _ in range(130)]
            for client in clients:
                await client.send(type="event", event="slow", dataType="text", data="", ackId=1)
            for _ in range(100):
                await hook.next("slow")
            await clients[-1].send(type="ping")
            assert await clients[-1].receive() == {"type": "pong"}
            assert hook.requests.empty()
            hook.release()
            for client in clients:
                assert outcome([await client.receive()]) == "success"
                await client.leave()
            assert hook.most_running == 100

    run(scenario())


def test_a_handler_that_does_not_answer_in_time_fails_the_event() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options(timeout=10.0, **QUIET)) as service:
            hook.answers = {"order": hook.hang}
            client = await open_client(service)
            asking = asyncio.create_task(ask(client))
            await hook.next("order")
            await skip(10.0)
            assert outcome(await asking) == "InternalServerError"
            assert outcome(await ask(client, "other")) == "success"
            await client.leave()

    run(scenario())


def test_a_handler_in_trouble_is_called_again() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options(retry_delays=(0.01, 0.01), **QUIET)) as service:
            statuses = iter([500, 503, 200, 408, 429])

            async def recover(request: Request) -> Response:
                return Response(status_code=next(statuses))

            hook.answers = {"order": recover}
            client = await open_client(service)
            assert outcome(await ask(client)) == "success"
            requests = [await hook.next("order") for _ in range(3)]
            assert len({request.headers["ce-id"] for request in requests}) == 1
            assert outcome(await ask(client)) == "InternalServerError"
            assert hook.requests.qsize() == 2
            await client.leave()

    run(scenario())


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lets itself be asked, and hangs up on the event that follows."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 0\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")


class _Reports:
    """Takes what becomes of calls, instead of a service."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def handler_answered(self, call: HandlerCall, status: int, *_: object) -> None:
        self.kinds.append(str(status))

    def handler_failed(self, call: HandlerCall, kind: str, text: str, now: float) -> None:
        self.kinds.append(kind)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()


async def _how_a_call_ends(url: str, seconds: float) -> str:
    reports = _Reports()
    reported = asyncio.Event()
    webhooks = WebhookClient(reports, reported.set)  # type: ignore[arg-type]
    handler = EventHandler(url=url)
    call = HandlerCall("POST", url, (), b"x", handler=handler, event="order", validation_url=url)
    call.deadline = time.monotonic() + seconds
    webhooks.carry_out([call])
    await reported.wait()
    await webhooks.close()
    (kind,) = reports.kinds
    return kind


def test_what_is_said_of_a_call_tells_whether_the_handler_may_have_got_it() -> None:
    async def scenario() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            assert await _how_a_call_ends(f"http://127.0.0.1:{nobody.getsockname()[1]}/", 30) == "unreachable"
        for serve, seconds, kind in (
            (_answers, 30, "204"),
            (_answers, -1, "unreachable"),  # it was too late before there was a connection
            (_silent, 5.0, "timeout"),
            (_hangs_up, 30, "broken"),
            (_garbage, 30, "broken"),
        ):
            async with tcp(serve) as url:
                assert await _how_a_call_ends(url, seconds) == kind

    run(scenario())


def test_a_handler_with_tls_must_have_a_certificate_of_an_authority_that_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def scenario() -> None:
        async with tcp(_answers, server) as url:
            assert await _how_a_call_ends(url, 30) == "unreachable"
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            assert await _how_a_call_ends(url, 30) == "204"

    run(scenario())


def test_for_handlers_without_tls_no_authorities_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise OSError("authorities are read")

    monkeypatch.setattr(ssl, "create_default_context", read)

    async def scenario() -> None:
        async with tcp(_answers) as url:
            assert await _how_a_call_ends(url, 30) == "204"

    run(scenario())


def test_a_handler_that_hangs_up_on_an_event_may_have_handled_it_and_one_that_refuses_has_not() -> None:
    async def scenario() -> None:
        async with tcp(_deaf) as url, running(Webhook().options(url=url, retries=0, **QUIET)) as service:
            client = await open_client(service)
            assert outcome(await ask(client)) == "InternalServerError"
            await client.leave()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
            async with running(Webhook().options(url=url, retries=0, **QUIET)) as service:
                client = await open_client(service)
                assert outcome(await ask(client)) == "NotFound"
                await client.leave()

    run(scenario())


async def _endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"x" * 10_000 + b"\r\n")
        await writer.drain()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff garbage\r\n\r\n" * 10)
    await writer.drain()


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()


@pytest.mark.parametrize("serve", [_endless_head, _garbage, _nothing, _half])
def test_a_handler_that_does_not_speak_http_fails_the_event(serve: object) -> None:
    async def scenario() -> None:
        async with (
            tcp(serve) as url,  # type: ignore[arg-type]
            running(Webhook().options(url=url, retry_delays=(0.01,), **QUIET)) as service,
        ):
            client = await open_client(service)
            assert outcome(await ask(client)) == "NotFound", "it could not be asked whether it wants events"
            await client.send(type="ping")
            assert await client.receive() == {"type": "pong"}
            await client.leave()

    run(scenario())


def test_bodies_may_be_large_but_not_endless() -> None:
    async def scenario() -> None:
        async def length(request: Request) -> Response:
            return PlainTextResponse("x" * len(await request.body()) * 9)

        async def endless(request: Request) -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 100_000
                    await asyncio.sleep(0)  # the service shares the event loop

            return StreamingResponse(chunks(), media_type="text/plain")

        async def too_large(request: Request) -> Response:
            return PlainTextResponse("x" * (MAX_ANSWER + 1))

        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"length": length, "endless": endless, "toolarge": too_large}
            client = await open_client(service)
            message, _ = await ask(client, "length", "x" * 1_000_000)
            assert message["data"] == "x" * 9_000_000
            await client.send(type="sequenceAck", sequenceId=1)
            assert outcome(await ask(client, "endless")) == "InternalServerError"
            assert outcome(await ask(client, "toolarge")) == "InternalServerError"
            await client.leave()

    run(scenario())


def test_what_is_compressed_is_not_unpacked() -> None:
    async def scenario() -> None:
        async def bomb(request: Request) -> Response:
            assert request.headers["accept-encoding"] == "identity"
            packed = gzip.compress(gzip.compress(b"x" * (MAX_ANSWER + 1)))
            return PlainTextResponse(packed, headers={"Content-Encoding": "gzip, gzip"})

        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"order": bomb}
            client = await open_client(service)
            (ack,) = await ask(client)
            assert "its content encoding is gzip, gzip" in str(ack["error"])
            await client.leave()

    run(scenario())


def test_redirects_are_not_followed() -> None:
    async def scenario() -> None:
        async def redirect(request: Request) -> Response:
            return RedirectResponse("/chat/elsewhere")

        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"order": redirect}
            client = await open_client(service)
            assert outcome(await ask(client)) == "InternalServerError"
            await hook.next("order")
            assert hook.requests.empty()
            await client.leave()

    run(scenario())


def test_cookies_are_kept_for_each_client_alone() -> None:
    async def scenario() -> None:
        async def bake(request: Request) -> Response:
            response = Response()
            response.set_cookie("client", request.headers["ce-userid"])
            return response

        async with webhook() as hook, running(hook.options(**QUIET)) as service:
            hook.answers = {"order": bake}
            ann, ben = await open_client(service, user="ann"), await open_client(service, user="ben")
            for client in (ann, ben, ann, ben):
                await ask(client)
                await client.send(type="event", event="other", dataType="text", data="", ackId=2)
                await client.receive()
            cookies = [(await asyncio.wait_for(hook.requests.get(), LIMIT)).cookies for _ in range(4)]
            assert cookies == [{}, {"client": "ann"}, {}, {"client": "ben"}]
            await ann.leave()
            await ben.leave()

    run(scenario())
