"""The local service inside an application: the application makes the client URLs and lists the users.

python examples/mounted_service.py PORT

curl -X POST "http://127.0.0.1:PORT/login?user=ann"     a URL for a client, to use with the other examples
curl http://127.0.0.1:PORT/people                       the connected users
curl -X POST http://127.0.0.1:PORT/kick/ann             end the connections of a user

With FastAPI it is the same: app.mount("/pubsub", pubsub).
"""

import secrets
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from limpet.service import ServiceOptions, client_url, create_app

if len(sys.argv) != 2:
    sys.exit(__doc__)
port = int(sys.argv[1])
options = ServiceOptions(access_key=secrets.token_urlsafe(48))
pubsub = create_app(options, endpoint=f"http://127.0.0.1:{port}/pubsub")


async def login(request: Request) -> JSONResponse:
    roles = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]
    url = client_url(pubsub.connection_string, "chat", user_id=request.query_params["user"], roles=roles)
    return JSONResponse({"url": url})


async def people(request: Request) -> JSONResponse:
    connections = pubsub.core.hub("chat").connections.values()
    return JSONResponse(sorted({connection.user_id or "somebody" for connection in connections}))


async def kick(request: Request) -> JSONResponse:
    connections = list(pubsub.core.hub("chat").user(request.path_params["user"]))
    for connection in connections:
        pubsub.core.close_connection(connection.connection_id, "kicked out")
    pubsub.flush()  # after every change
    return JSONResponse({"kicked": len(connections)})


app = Starlette(
    routes=[
        Route("/login", login, methods=["POST"]),
        Route("/people", people),
        Route("/kick/{user}", kick, methods=["POST"]),
        Mount("/pubsub", pubsub),
    ]
)

# An access log would show the tokens in the URLs of clients.
uvicorn.run(app, port=port, access_log=False, log_level="warning")
