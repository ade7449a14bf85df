"""Event handlers over real HTTP that decide about clients, and what becomes of both at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
import websockets
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from tests.adapters.service.sockets import Client, recovery_url, refusal
from tests.adapters.service.webhook import KEYS, Webhook, ask, open_client, outcome, run, running, webhook
from tests.helpers.waiting import LIMIT
from websockets.typing import Subprotocol

from limpet.service import EventHandler, HubOptions, ServiceOptions, client_url, create_app
from limpet_core.service import JSON, ConnectionString


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


@pytest.mark.parametrize("mine", ["mine", "protobuf.mine"])
def test_a_handler_picks_the_subprotocol_of_a_raw_client(mine: str) -> None:
    async def scenario() -> None:
        async def pick(request: Request) -> Response:
            return JSONResponse({"subprotocol": mine})

        async def echo(request: Request) -> Response:
            return Response(await request.body(), media_type=request.headers["content-type"])

        async with webhook() as hook, running(hook.options()) as service:
            hook.answers = {"connect": pick, "message": echo}
            client = await Client.open(service.client_url("chat"), "other", mine)
            assert client.websocket.subprotocol == mine
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
            names = {(await asyncio.wait_for(hook.requests.get(), LIMIT)).headers["ce-eventname"] for _ in range(4)}
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

        async with webhook() as hook, asyncio.timeout(3 * LIMIT), under_uvicorn(hook.options()) as string:
            hook.answers = {"connect": decide}
            client = await Client.open(client_url(string, user_id="ann"))
            await client.receive()
            assert (await hook.next("connect")).headers["webhook-request-origin"] == string.endpoint[7:]
            assert outcome(await ask(client)) == "success"
            assert (await refusal(client_url(string, user_id="mallory"), JSON))[0] == 403
            await client.leave()

            opening = asyncio.create_task(Client.open(client_url(string, user_id="slow")))
            names = [(await asyncio.wait_for(hook.requests.get(), LIMIT)).headers["ce-eventname"] for _ in range(5)]
            opening.cancel()
            await asyncio.wait([opening])
            await hook.idle()
            assert hook.requests.empty()
            assert sorted(names) == ["connect", "connect", "connected", "disconnected", "order"]

    run(scenario())


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize(("code", "reason", "told"), [(1000, "done", "done"), (1000, "", ""), (4001, "bored", "bored")])
def test_a_handler_gets_the_close_reason_of_the_client(mounted: bool, code: int, reason: str, told: str) -> None:
    async def scenario() -> None:
        async with webhook() as hook, asyncio.timeout(3 * LIMIT), contextlib.AsyncExitStack() as stack:
            if mounted:
                url = client_url(await stack.enter_async_context(under_uvicorn(hook.options())))
            else:
                url = (await stack.enter_async_context(running(hook.options()))).client_url("chat")
            client = await Client.open(url, JSON)
            await client.receive()
            await hook.next("connect")
            await hook.next("connected")
            await client.websocket.close(code, reason)
            assert await (await hook.next("disconnected")).json() == {"reason": told}

    run(scenario())


@pytest.mark.parametrize("name", ["access_token", "ACCESS_TOKEN", "Access_Token"])
def test_names_in_the_query_have_any_case_and_secrets_stay_here(name: str) -> None:
    async def scenario() -> None:
        async with webhook() as hook, asyncio.timeout(3 * LIMIT), running(hook.options()) as service:
            url = service.client_url("chat").replace("access_token", name) + "&Tag=a&tag=b&TAG=c"
            headers = {
                "X-ASRS-Internal-Test": "private",
                "x-asrs-internal-other": "private",
                "AUTHORIZATION": "Bearer private",
                "X-Custom": "value",
            }
            offers = [Subprotocol(JSON)]
            async with websockets.connect(url, subprotocols=offers, additional_headers=headers, compression=None):
                request = await hook.next("connect")
                asked = await request.json()
                assert asked["query"] == {"Tag": ["a", "b", "c"]}
                assert asked["headers"]["X-Custom"] == ["value"]
                assert b"private" not in await request.body()

    run(scenario())


def test_names_in_the_query_of_a_recovery_have_any_case() -> None:
    async def scenario() -> None:
        async with webhook() as hook, asyncio.timeout(3 * LIMIT), running(hook.options()) as service:
            client = await Client.open(service.client_url("chat"))
            hello = await client.receive()
            client.websocket.transport.abort()
            url = recovery_url(service, hello)
            for part in ("awps_connection_id", "awps_reconnection_token"):
                url = url.replace(part, part.upper())
            again = await Client.open(url)
            assert (await again.receive())["connectionId"] == hello["connectionId"]
            await again.leave()

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
