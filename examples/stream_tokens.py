"""The tokens of a language model, streamed to a browser page and to a Python client, over a connection that drops.

python examples/stream_tokens.py PORT

Then open http://127.0.0.1:PORT/ and ask something. The model is a fake one. Both readers, and the writer, lose their
connection in the middle of the answer; no token is lost, doubled or out of order.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route

from limpet import StreamError
from limpet.asyncio import Client
from limpet.service import ServiceOptions, client_url, create_app

if len(sys.argv) != 2:
    sys.exit(__doc__)
port = int(sys.argv[1])
pubsub = create_app(ServiceOptions(access_key=secrets.token_urlsafe(48)), endpoint=f"http://127.0.0.1:{port}/pubsub")


def url(user: str) -> str:
    roles = ["webpubsub.joinLeaveGroup.answers", "webpubsub.sendToGroup.answers"]
    return client_url(pubsub.connection_string, "chat", user_id=user, roles=roles)


async def model(prompt: str) -> AsyncIterator[str]:
    """Yield an answer in tokens, as a language model would."""
    for word in f"You said: {prompt}. A limpet holds on, whatever the sea does, and so does this stream.".split():
        await asyncio.sleep(0.05)
        yield f"{word} "


def cut_all() -> None:
    """Drop the transport of every client, as a bad network would."""
    for connection in list(pubsub.core.hub("chat").connections.values()):
        pubsub.core.drop(connection.connection_id)
    pubsub.flush()  # after every change


async def answer(client: Client, prompt: str) -> None:
    async with client.open_stream("answers") as stream:
        number = 0
        async for token in model(prompt):
            await stream.write(token)
            number += 1
            if number == 5:
                cut_all()


async def read(client: Client) -> None:
    """Print each stream of the group, one after the other."""
    async for stream in client.streams("answers"):
        text = ""
        try:
            async for chunk in stream:
                text += chunk.data
        except StreamError as error:
            text += f"[{error}]"
        print(text, flush=True)


async def page(_: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_suffix(".html"))


async def login(_: Request) -> JSONResponse:
    return JSONResponse({"url": url("page")})


async def ask(request: Request) -> JSONResponse:
    await answer(request.app.state.writer, (await request.body()).decode())
    return JSONResponse({"answered": True})


@asynccontextmanager
async def clients(app: Starlette) -> AsyncIterator[None]:
    """Run the clients of this program beside the server, which has to listen first."""

    async def run() -> None:
        while not server.started:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        async with Client(url("model")) as writer, Client(url("reader")) as reader:
            await reader.join_group("answers")
            app.state.writer = writer
            print("ready", flush=True)
            await read(reader)

    task = asyncio.create_task(run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


app = Starlette(
    lifespan=clients,
    routes=[
        Route("/", page),
        Route("/login", login, methods=["POST"]),
        Route("/ask", ask, methods=["POST"]),
        Mount("/pubsub", pubsub),
    ],
)
# An access log would show the tokens in the URLs of clients.
server = uvicorn.Server(uvicorn.Config(app, port=port, access_log=False, log_level="warning"))
server.run()
