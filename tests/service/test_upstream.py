"""Event handlers over real HTTP: well-behaved, slow, hanging, broken and missing ones."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
import websockets
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from tests.service.sockets import Client, recovery_url, refusal
from tests.service.webhook import KEYS, Webhook, tcp, webhook

from holdfast.service import EventHandler, HubOptions, Service, ServiceOptions, client_url, create_app
from holdfast_core.service import JSON, JSON_RELIABLE, MAX_ANSWER, ConnectionString

QUIET = {"system_events": ()}
ACK_IDS = itertools.count(1000)


@contextlib.asynccontextmanager
async def running(options: ServiceOptions) -> AsyncIterator[Service]:
    async with asyncio.timeout(30), Service(options) as service:
        yield service


async def open_client(service: Service, *, user: str | None = "ann") -> Client:
    client = await Client.open(service.client_url("chat", user_id=user))
    assert (await client.receive())["event"] == "connected"
    return client


async def ask(
    client: Client, name: str = "order", data: object = "x", data_type: str = "text"
) -> list[dict[str, object]]:
    """Raise an event and return what comes up to its ack."""
    await client.send(type="event", event=name, dataType=data_type, data=data, ackId=next(ACK_IDS))
    received: list[dict[str, object]] = []
    while not received or received[-1]["type"] != "ack":
        received.append(await client.receive())
    return received


def outcome(received: list[dict[str, object]]) -> str:
    (answer,) = received
    error = answer.get("error")
    return "success" if answer["success"] else error["name"]  # type: ignore[index]


def run(scenario: object) -> None:
    async def main() -> None:
        await scenario  # type: ignore[misc]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


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
            assert connect.headers["content-type"] == "application/json; charset=utf-8"
            body = await connect.json()
            assert body["claims"]["sub"] == ["ann"]
            assert body["claims"]["role"] == ["r"]
            assert body["claims"]["aud"] == [service.endpoint + "/client/hubs/chat"]
            assert body["query"] == {"a": ["1", "2"]}
            assert body["headers"]["Host"] == [f"127.0.0.1:{service.port}"]
            assert body["subprotocols"] == [JSON_RELIABLE]
            assert body["clientCertificates"] == []
            assert connect.headers["ce-userid"] == "ann"
            assert "ce-connectionstate" not in connect.headers

            connected = await hook.next("connected")
            assert connected.headers["ce-userid"] == "ben"
            assert connected.headers["ce-connectionstate"] == "one"
            assert connected.headers["ce-subprotocol"] == JSON_RELIABLE

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


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (Response(status_code=401), 401, "401"),
        (PlainTextResponse("Who are you?", 400), 400, "Who are you?\n"),
        (PlainTextResponse("details", 500), 500, "500"),
        (Response(status_code=499), 499, "499"),
        (RedirectResponse("/elsewhere"), 500, "307"),
        (PlainTextResponse("no JSON"), 500, "valid"),
        (JSONResponse({"subprotocol": "other"}), 500, "subprotocol"),
    ],
)
def test_a_handler_refuses_a_client_before_its_websocket_is_open(answer: Response, status: int, text: str) -> None:
    async def scenario() -> None:
        async def refuse(request: Request) -> Response:
            return answer

        async with webhook() as hook, running(hook.options(retry_delays=())) as service:
            hook.answers = {"connect": refuse}
            refused = await refusal(service.client_url("chat", user_id="ann"), JSON)
            assert refused[0] == status
            assert text in refused[1]
            await hook.next("connect")
            assert service.hub("chat").connections == {}
        assert hook.requests.empty()

    run(scenario())


def test_a_client_may_connect_without_the_handler_only_if_it_does_not_ask_for_that() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options(retry_delays=())) as service:
            # Who has no good token is refused without asking.
            status, _ = await refusal(service.client_url("chat").partition("?")[0], JSON)
            assert status == 401
            # A recovery is not asked for.
            client = await Client.open(service.client_url("chat"))
            hello = await client.receive()
            for name in ("connect", "connected"):
                await hook.next(name)
            client.websocket.transport.abort()
            again = await Client.open(recovery_url(service, hello))
            assert (await again.receive())["connectionId"] == hello["connectionId"]
            # Nor is a client of another hub.
            other = await Client.open(service.client_url("other"))
            await other.receive()
            await other.leave()
            await again.leave()
            await hook.next("disconnected")
            assert hook.requests.empty()

    run(scenario())


def test_a_handler_picks_the_subprotocol_of_a_raw_client() -> None:
    async def scenario() -> None:
        async def pick(request: Request) -> Response:
            return JSONResponse({"subprotocol": "mine"})

        async def echo(request: Request) -> Response:
            return Response(await request.body(), media_type=request.headers["content-type"])

        async with webhook() as hook, running(hook.options()) as service:
            hook.answers = {"connect": pick, "message": echo}
            client = await Client.open(service.client_url("chat"), "other", "mine")
            assert client.websocket.subprotocol == "mine"
            await client.websocket.send("text")
            assert await client.websocket.recv() == "text"
            await client.websocket.send(b"\x00\xff")
            assert await client.websocket.recv() == b"\x00\xff"

            async def fail(request: Request) -> Response:
                return Response(status_code=400)

            hook.answers["message"] = fail
            await client.websocket.send("text")
            assert await client.close_code() == 1011

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
        async with webhook() as hook, running(hook.options(timeout=0.3, **QUIET)) as service:
            hook.answers = {"order": hook.hang}
            client = await open_client(service)
            assert outcome(await ask(client)) == "InternalServerError"
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
            assert outcome(await ask(client)) == "InternalServerError"
            await client.send(type="ping")
            assert await client.receive() == {"type": "pong"}
            await client.leave()

    run(scenario())


def test_a_handler_that_is_not_there_refuses_the_client_with_500() -> None:
    async def scenario() -> None:
        with socket.socket() as placeholder:
            placeholder.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{placeholder.getsockname()[1]}/"
            async with running(Webhook().options(url=url, retry_delays=())) as service:
                status, text = await refusal(service.client_url("chat"), JSON)
                assert status == 500
                assert "ConnectError" in text

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
            cookies = [(await asyncio.wait_for(hook.requests.get(), 10)).cookies for _ in range(4)]
            assert cookies == [{}, {"client": "ann"}, {}, {"client": "ben"}]
            await ann.leave()
            await ben.leave()

    run(scenario())


def test_a_handler_has_to_allow_calls() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:
            hook.validation = Response(headers={"WebHook-Allowed-Origin": "someone.example"})
            status, text = await refusal(service.client_url("chat"), JSON)
            assert status == 500
            assert f"127.0.0.1:{service.port}" in text
            assert hook.requests.empty()

    run(scenario())


def test_a_client_that_does_not_wait_for_the_decision_is_forgotten() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:
            hook.answers = {"connect": hook.hang}
            opening = asyncio.create_task(Client.open(service.client_url("chat")))
            await hook.next("connect")
            opening.cancel()
            await asyncio.wait([opening])
            await hook.idle()
            hook.answers = {}
            client = await Client.open(service.client_url("chat"))
            await client.receive()
            assert len(service.hub("chat").connections) == 1
            await client.leave()

    run(scenario())


def test_what_a_client_sends_before_the_decision_is_handled_after_it() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:
            hook.answers = {"connect": hook.hang}
            url = service.client_url("chat")
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            head = (
                f"GET {url.partition(str(service.port))[2]} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {JSON}\r\nX-Name: \xe9\r\n\r\n"
            )
            writer.write(head.encode("latin-1"))
            request = await hook.next("connect")
            assert (await request.json())["headers"]["X-Name"] == ["\xe9"]
            writer.write(b"\x81\x8f\x00\x00\x00\x00" + b'{"type":"ping"}')
            await writer.drain()
            hook.release()
            answer = await reader.readuntil(b'{"type":"pong"}')
            assert answer.startswith(b"HTTP/1.1 101 ")
            writer.close()
            await writer.wait_closed()

            # Too much of it is not kept.
            hook.answers = {"connect": Webhook().hang}
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(head.encode("latin-1"))
            await hook.next("connected")
            await hook.next("disconnected")
            await hook.next("connect")
            writer.write(b"x" * 100_000)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    run(scenario())


def test_the_service_stops_while_handlers_are_thinking() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:
            client = await open_client(service)
            hook.answers = {"connect": hook.hang, "order": hook.hang}
            await client.send(type="event", event="order", dataType="text", data="", ackId=1)
            opening = asyncio.create_task(refusal(service.client_url("chat"), JSON))
            names = {(await asyncio.wait_for(hook.requests.get(), 10)).headers["ce-eventname"] for _ in range(4)}
            assert names == {"connect", "connected", "order"}
            await service.stop()
            assert (await opening)[0] == 503
            assert await client.close_code() == 1001
            # It can be started again.
            hook.answers = {}
            await service.start()
            again = await open_client(service)
            assert outcome(await ask(again)) == "success"
            await again.leave()

    run(scenario())


@contextlib.asynccontextmanager
async def under_uvicorn(options: ServiceOptions) -> AsyncIterator[ConnectionString]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(options, endpoint=endpoint), ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            yield ConnectionString(endpoint, KEYS[0])
        finally:
            server.should_exit = True
            await task


def test_the_asgi_application_asks_handlers_too() -> None:
    async def scenario() -> None:
        async def decide(request: Request) -> Response:
            user = request.headers.get("ce-userid")
            return (
                await hook.hang(request) if user == "slow" else Response(status_code=403 if user == "mallory" else 200)
            )

        async with webhook() as hook, asyncio.timeout(30), under_uvicorn(hook.options()) as string:
            hook.answers = {"connect": decide}
            client = await Client.open(client_url(string, user_id="ann"))
            await client.receive()
            assert (await hook.next("connect")).headers["webhook-request-origin"] == string.endpoint[7:]
            assert outcome(await ask(client)) == "success"
            assert (await refusal(client_url(string, user_id="mallory"), JSON))[0] == 403
            await client.leave()

            opening = asyncio.create_task(Client.open(client_url(string, user_id="slow")))
            names = [(await asyncio.wait_for(hook.requests.get(), 10)).headers["ce-eventname"] for _ in range(5)]
            opening.cancel()
            await asyncio.wait([opening])
            await hook.idle()
            assert hook.requests.empty()
            assert sorted(names) == ["connect", "connect", "connected", "disconnected", "order"]

    run(scenario())


def test_an_application_with_handlers_has_to_know_its_own_url() -> None:
    hubs = {"chat": HubOptions(event_handlers=(EventHandler(url="http://h.example/"),))}
    with pytest.raises(ValueError, match="endpoint="):
        create_app(ServiceOptions(hubs=hubs))


def test_slow_decisions_do_not_hold_up_others() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:

            async def decide(request: Request) -> Response:
                return await hook.hang(request) if request.headers["ce-userid"] == "slow" else Response()

            hook.answers = {"connect": decide}
            slow = asyncio.create_task(open_client(service, user="slow"))
            await hook.next("connect")
            fast = await open_client(service, user="fast")
            assert not slow.done()
            hook.release()
            for client in (fast, await slow):
                await client.leave()

    run(scenario())


def test_the_answer_to_a_handshake_has_no_subprotocol_that_was_not_offered() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(hook.options()) as service:
            websocket = await websockets.connect(service.client_url("chat"))
            assert websocket.subprotocol is None
            await websocket.close()

    run(scenario())
