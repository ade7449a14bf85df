"""The ASGI application under a server that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.service.sockets import ROLES, Client, refusal

from holdfast.service import ServiceOptions, client_url, create_app
from holdfast_core.service import JSON, JSON_RELIABLE, ConnectionString

KEY = "k" * 32


@contextlib.asynccontextmanager
async def served(options: ServiceOptions) -> AsyncIterator[str]:
    """Run the application, mounted in another one, and give its endpoint."""
    app = Starlette(routes=[Mount("/pubsub", create_app(options))])
    config = uvicorn.Config(
        app, port=0, ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1
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

            status, text = await refusal(bare, JSON_RELIABLE)
            assert (status, text.count("\n")) == (401, 1)
            assert (await refusal(bare.replace("chat", "1st"), JSON))[0] == 400
            await ben.leave()

            async with httpx.AsyncClient() as http:
                assert (await http.head(endpoint + "/api/health")).status_code == 200
                url = (await http.get(endpoint + "/negotiate")).json()["url"]
            client = await Client.open(url)
            await client.receive()
            await client.leave()

    asyncio.run(run())
