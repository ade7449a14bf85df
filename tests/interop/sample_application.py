"""The servers of the official samples in one: the official server SDK for Python, one hub for each sample.

A program. Like ``js/samples/application.mjs`` it listens on a socket that it inherits, says that it is ready, and ends
with its input.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.messaging.webpubsubservice import WebPubSubServiceClient

CONNECTION_STRING = os.environ["SAMPLE_CONNECTION_STRING"]
SERVICES = {
    sample: WebPubSubServiceClient.from_connection_string(CONNECTION_STRING, hub=f"{sample}_python")
    for sample in ("pubsub", "chat", "logstream", "reliable", "draw", "code", "yjs")
}
ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
NAME = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
LOCK = threading.Lock()
SHAPES: dict[str, Any] = {}
USERS: set[str] = set()
ROOMS: dict[str, dict[str, str]] = {}


def token(sample: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """Where a page of a sample connects to."""
    options: dict[str, Any] = {}
    found: dict[str, Any] = {}
    user = query.get("id", [None])[0]
    match sample:
        case "chat":
            options = {"user_id": user}
        case "logstream":
            options = {"roles": ["webpubsub.sendToGroup.stream", "webpubsub.joinLeaveGroup.stream"]}
        case "reliable":
            options = {"user_id": user, "roles": ["webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"]}
        case "draw":
            options = {"roles": ["webpubsub.sendToGroup.draw"]}
        case "code":
            room = user or "room"
            ROOMS.setdefault(room, {})
            found = {"id": room}
            rights = ("sendToGroup", "joinLeaveGroup")
            roles = [f"webpubsub.{right}.{group}" for group in (room, f"{room}-control") for right in rights]
            options = {"user_id": query["user"][0], "roles": roles}
        case "yjs":
            options = {"user_id": query["userId"][0], "roles": query["role"]}
    return {**found, "url": SERVICES[sample].get_client_access_token(**options)["url"]}


def send(sample: str, message: Any) -> None:
    SERVICES[sample].send_to_all(message=message, content_type="application/json")


def tell_users() -> None:
    message = {"name": "updateUser", "data": len(USERS)}
    SERVICES["draw"].send_to_group("draw", message=message, content_type="application/json")


def event(sample: str, kind: str, headers: Any, body: bytes) -> Any:
    """Handle an event; return what becomes JSON, or nothing."""
    connection, user = headers["ce-connectionId"], headers.get("ce-userId")
    match sample, kind:
        case "chat", "azure.webpubsub.sys.connected":
            send("chat", {"from": "[System]", "message": f"{user} joined"})
        case "chat", "azure.webpubsub.sys.disconnected":
            send("chat", {"from": "[System]", "message": f"{user} left"})
        case "chat", "azure.webpubsub.user.message":
            send("chat", {"from": user, "message": body.decode("utf-8")})
        case "draw", "azure.webpubsub.sys.connect":
            return {"groups": ["draw"]}
        case "draw", "azure.webpubsub.sys.connected":
            USERS.add(connection)
            tell_users()
        case "draw", "azure.webpubsub.sys.disconnected":
            USERS.discard(connection)
            tell_users()
        case "draw", "azure.webpubsub.user.message":
            change = json.loads(body)
            if change["name"] == "addShape":
                name, shape = change["data"]
                SHAPES[name] = shape
            elif change["name"] == "removeShape":
                SHAPES.pop(change["data"])
        case "code", "azure.webpubsub.sys.connect":
            claims = json.loads(body)["claims"]
            ROOMS[claims[ROLE][0].split(".")[2]][claims[NAME][0]] = "online"
            return {}
        case "code", "azure.webpubsub.user.members":
            return {"users": ROOMS[json.loads(body)["group"]]}
    return None


class Handler(BaseHTTPRequestHandler):
    """The HTTP interface of the application, the same as that of ``js/samples/application.mjs``."""

    def do_OPTIONS(self) -> None:
        self.answer(200, headers={"WebHook-Allowed-Origin": "*"})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/draw/diagram":
            self.answer(200, {"shapes": SHAPES})
        elif found := re.fullmatch("/([a-z]+)/negotiate", url.path):
            self.answer(200, token(found[1], parse_qs(url.query)))
        else:
            self.answer(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if found := re.fullmatch("/eventhandler/([a-z]+)", path):
            with LOCK:
                reply = event(found[1], self.headers["ce-type"], self.headers, body)
            self.answer(200 if reply is not None else 204, reply)
        elif path == "/pubsub/publish":
            SERVICES["pubsub"].send_to_all(message=body.decode("utf-8"), content_type="text/plain")
            self.answer(200)
        elif path == "/draw/background":
            send("draw", {"name": "updateBackground", "data": len(body)})
            self.answer(200)
        else:
            self.answer(404)

    def answer(self, status: int, reply: Any = None, headers: dict[str, str] | None = None) -> None:
        content = b"" if reply is None else json.dumps(reply).encode()
        # As Flask does, which gives an answer without contents a type as well.
        headers = {"Content-Type": "text/plain" if reply is None else "application/json", **(headers or {})}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(os.environ["SAMPLE_LISTENER"]))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"about": "program", "event": "ready", "value": sys.version}), flush=True)
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
