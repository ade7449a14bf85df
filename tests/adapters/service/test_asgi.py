"""The ASGI application under a server that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import httpx
import pytest
import uvicorn
from azure.messaging.webpubsubservice import WebPubSubServiceClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp
from tests.adapters.service.sockets import ROLES, Client, refusal
from tests.helpers.waiting import LIMIT
from websockets.asyncio.client import connect

from limpet.service import ServiceApp, ServiceOptions, client_url, create_app
from limpet_core.service import JSON, RELIABLE_JSON, ConnectionString, server_publication

KEY = "k" * 32


def in_starlette(app: ServiceApp) -> ASGIApp:
    return Starlette(routes=[Mount("/pubsub", app)])


def in_fastapi(app: ServiceApp) -> ASGIApp:
    from fastapi import FastAPI  # for half a second, in the one worker that runs this

    outer = FastAPI()
    outer.mount("/pubsub", app)
    return outer


@contextlib.asynccontextmanager
async def served(
    options: ServiceOptions, mount: Callable[[ServiceApp], ASGIApp] = in_starlette, **server_options: Any
) -> AsyncIterator[str]:
    """Run the application, mounted in another one, and give its endpoint."""
    app = mount(create_app(options))
    config = uvicorn.Config(
        app,
        port=0,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        **server_options,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/pubsub"
    finally:
        server.should_exit = True
        await task


def test_the_application_works_mounted_under_any_server() -> None:
    async def run() -> None:
        async with served(ServiceOptions(access_key=KEY)) as endpoint:
            string = ConnectionString(endpoint, KEY)
            ann = await Client.open(client_url(string, user_id="ann", roles=ROLES))
            ben = await Client.open(client_url(string, groups=["room"]), JSON)
            hello = await ann.receive()
            await ben.receive()
            await ann.send(type="sendToGroup", group="room", data={"a": 1}, ackId=1)
            assert (await ann.receive())["success"]
            assert (await ben.receive())["data"] == {"a": 1}

            await ann.send(type="joinGroup", group="room", ackId=2)
            assert (await ann.receive())["success"]
            ann.websocket.transport.abort()
            await ben.websocket.send(b'{"type":"ping"}')
            assert await ben.receive() == {"type": "pong"}
            bare = client_url(string).partition("?")[0]
            recovery = f"{bare}?awps_connection_id={hello['connectionId']}&awps_reconnection_token="
            first = await Client.open(recovery + hello["reconnectionToken"])
            assert (await first.receive())["event"] == "connected"
            # ASGI cannot abort the transport that is replaced: it is closed with a code that allows recovery.
            second = await Client.open(recovery + hello["reconnectionToken"])
            assert (await second.receive())["event"] == "connected"
            assert await first.close_code() == 1001
            await second.websocket.send("nonsense")
            assert await second.close_code() == 1007
            assert await (await Client.open(recovery + hello["reconnectionToken"])).close_code() == 1008

            status, text = await refusal(bare, RELIABLE_JSON)
            assert (status, text.count("\n")) == (401, 1)
            assert (await refusal(bare.replace("chat", "1st"), JSON))[0] == 400
            assert (await refusal(bare.replace("client/hubs", "Client/HUBS"), JSON))[0] == 401
            for path in ("hubs", "hubs/", "Hubs"):
                assert (await refusal(bare.replace("hubs/chat", path), JSON))[0] == 400
            await ben.leave()

            async with httpx.AsyncClient() as http:
                assert (await http.head(endpoint + "/api/health")).status_code == 200
                url = (await http.get(endpoint + "/negotiate")).json()["url"]
            client = await Client.open(url)
            await client.receive()
            await client.leave()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mount", "server_options"),
    [(in_starlette, {}), (in_fastapi, {}), (in_starlette, {"root_path": "/outer"})],
    ids=["starlette", "fastapi", "behind a proxy that cuts a prefix off"],
)
def test_the_data_plane_works_mounted(mount: Callable[[ServiceApp], ASGIApp], server_options: dict[str, Any]) -> None:
    async def run() -> None:
        async with served(ServiceOptions(access_key=KEY), mount, **server_options) as endpoint:
            # Tokens are signed for the URL with the prefix that the proxy cuts off.
            public = endpoint.replace("/pubsub", f"{server_options.get('root_path', '')}/pubsub")
            url = client_url(ConnectionString(public, KEY), groups=["a room"])
            client = await Client.open(url.replace("/outer", ""), JSON)
            await client.receive()
            text = ConnectionString(public, KEY).build()
            more = {"reverse_proxy_endpoint": endpoint} if public != endpoint else {}
            sdk = WebPubSubServiceClient.from_connection_string(text, "chat", retry_total=0, **more)
            await asyncio.to_thread(sdk.send_to_group, "a room", "hi", filter="'a room' in groups")
            assert (await client.receive())["data"] == "hi"
            listed = await asyncio.to_thread(lambda: list(sdk.list_connections(group="a room")))
            assert len(listed) == 1
            sdk.close()
            await client.leave()

    asyncio.run(run())


def test_raw_clients_are_served_by_any_server() -> None:
    async def run() -> None:
        async with served(ServiceOptions(access_key=KEY)) as endpoint:
            url = client_url(ConnectionString(endpoint, KEY), roles=ROLES, groups=["room"])
            raw = await connect(url + "&webpubsub_mode=sendToGroup&group=room")
            for frame in ("text ü", b"\x00\xff", "", b""):
                await raw.send(frame)
                assert await asyncio.wait_for(raw.recv(), LIMIT) == frame
            await raw.close()
            refused = await refusal(url + "&webpubsub_mode=wrong")
            assert refused[0] == 400

    asyncio.run(run())


def test_what_is_on_the_way_to_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limpet.service._asgi._CLOSE_TIMEOUT", 0.05)

    async def run() -> None:
        app = create_app(ServiceOptions(access_key=KEY, retained_messages=3))
        path = "/client/hubs/chat"
        token = client_url(ConnectionString("http://test", KEY)).partition("?")[2]
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "websocket.connect"})
        cancelled = asyncio.Event()

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "websocket.send":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.set()
                    raise

        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": token.encode(),
            "headers": [(b"host", b"test")],
            "subprotocols": [JSON],
        }
        serving = asyncio.create_task(app(scope, incoming.get, send))
        while not app.core.hub("chat").connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for number in range(5):
            app.core.send_to_all("chat", server_publication("json", b"%d" % number))
            app.flush()
            await asyncio.sleep(0)
        assert not app.core.hub("chat").connections
        await asyncio.wait_for(cancelled.wait(), LIMIT)
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait_for(serving, LIMIT)

    asyncio.run(run())


def test_an_application_without_an_endpoint_has_no_connection_string() -> None:
    with pytest.raises(RuntimeError, match="endpoint="):
        _ = create_app(ServiceOptions(access_key=KEY)).connection_string
    app = create_app(ServiceOptions(access_key=KEY), endpoint="https://example.test/pubsub/")
    assert app.connection_string == f"Endpoint=https://example.test/pubsub;AccessKey={KEY};Version=1.0;"


def test_a_server_that_cannot_send_any_more_is_no_unseen_error() -> None:
    async def scenario() -> list[object]:
        unseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        tried = asyncio.Event()

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "websocket.send":
                tried.set()
                raise RuntimeError("the connection is in a state of its own")

        app = create_app(ServiceOptions(anonymous=True))
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/client/hubs/chat",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"test")],
            "subprotocols": [JSON],
        }
        incoming.put_nowait({"type": "websocket.connect"})
        serving = asyncio.create_task(app(scope, incoming.get, send))
        await asyncio.wait_for(tried.wait(), LIMIT)
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await serving
        assert not app.core.hub("chat").connections
        gc.collect()
        return unseen

    assert asyncio.run(scenario()) == []
