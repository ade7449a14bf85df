"""The data plane over HTTP, as it is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
import jwt
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.adapters.service.sockets import Client, refusal, with_service

from limpet.service import Service, ServiceOptions, create_app
from limpet.service.rest.operations import OPERATIONS
from limpet_core.service import JSON, ClientGrant, Joined, Left, Published, ServiceCore, TraceEvent, Transport

KEY = "k" * 32
SECOND = "s" * 32
MEBIBYTE = 1 << 20


class Api:
    """The data plane of an application, without sockets, and two clients: c1 is ann's in the group room, c2 anonymous.

    ``prefix`` is where the application is mounted.
    """

    def __init__(self, prefix: str = "", endpoint: str | None = None) -> None:
        app = create_app(ServiceOptions(access_key=KEY, secondary_access_key=SECOND), endpoint=endpoint)
        self.core: ServiceCore = app.core
        self.prefix = prefix
        self.endpoint = endpoint or f"http://test{prefix}"
        outer = Starlette(routes=[Mount(unquote(prefix), app)]) if prefix else app
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://test")
        self.ann = self.connect(ClientGrant("ann", (), ("room",)))
        self.anonymous = self.connect(ClientGrant())

    def connect(self, grant: ClientGrant) -> Transport:
        transport = self.core.connect("chat", JSON, grant, time.monotonic())
        transport.messages_to_send()
        return transport

    @property
    def ann_id(self) -> str:
        assert self.ann.connection is not None
        return self.ann.connection.connection_id

    def url(self, path: str) -> str:
        return f"http://test{self.prefix}/api{path}"

    async def __call__(
        self, method: str, path: str, *, key: str = KEY, claims: dict[str, Any] | None = None, **more: Any
    ) -> httpx.Response:
        """Send a request signed for its URL at the endpoint; ``claims`` are different or, if ``None``, left out."""
        url = self.url(path)
        merged = {"aud": f"{self.endpoint}/api{path}", "exp": int(time.time()) + 60, **(claims or {})}
        token = jwt.encode({name: value for name, value in merged.items() if value is not None}, key, "HS256")
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.http.request(method, url, headers=headers, **more)


@contextlib.asynccontextmanager
async def api_of(**options: Any) -> AsyncIterator[Api]:
    api = Api(**options)
    async with api.http:
        yield api


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert response.headers["x-ms-error-code"] == error["code"]
    assert error["message"].endswith(".")
    return response.status_code, error["code"]


# ---- Operations

TEXT = {"content": "hi", "headers": {"Content-Type": "text/plain"}}
GROUPS = {"json": {"groups": ["a", "b"], "filter": "userId eq 'ann'"}}
PERMISSION = "/hubs/chat/permissions/sendToGroup/connections"


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("POST", "/hubs/chat/:send", TEXT, 202),
        ("POST", "/hubs/chat/:send?excluded=x&excluded=y&filter=userId%20ne%20null&messageTtlSeconds=5", TEXT, 202),
        ("POST", "/hubs/chat/groups/room/:send", TEXT, 202),
        ("POST", "/hubs/chat/groups/nobody/:send", TEXT, 202),
        ("POST", "/hubs/chat/users/ann/:send", TEXT, 202),
        ("POST", "/hubs/chat/connections/{id}/:send", TEXT, 202),
        ("POST", "/hubs/chat/connections/nobody/:send", TEXT, 202),
        ("POST", "/hubs/chat/:closeConnections?reason=x&excluded=y", {}, 204),
        ("POST", "/hubs/chat/groups/room/:closeConnections", {}, 204),
        ("POST", "/hubs/chat/users/ann/:closeConnections", {}, 204),
        ("DELETE", "/hubs/chat/connections/{id}?reason=x", {}, 204),
        ("DELETE", "/hubs/chat/connections/nobody", {}, 204),
        ("HEAD", "/hubs/chat/connections/{id}", {}, 200),
        ("HEAD", "/hubs/other/connections/{id}", {}, 404),
        ("HEAD", "/hubs/CHAT/groups/room", {}, 200),
        ("HEAD", "/hubs/chat/groups/ROOM", {}, 404),
        ("HEAD", "/hubs/chat/users/ann", {}, 200),
        ("HEAD", "/hubs/chat/users/Ann", {}, 404),
        ("PUT", "/hubs/chat/groups/hall/connections/{id}", {}, 200),
        ("PUT", "/hubs/chat/groups/hall/connections/nobody", {}, 404),
        ("DELETE", "/hubs/chat/groups/room/connections/{id}", {}, 204),
        ("DELETE", "/hubs/chat/groups/hall/connections/nobody", {}, 204),
        ("DELETE", "/hubs/chat/connections/{id}/groups", {}, 204),
        ("GET", "/hubs/chat/groups/room/connections?top=1&maxPageSize=1", {}, 200),
        ("PUT", "/hubs/chat/users/ann/groups/hall", {}, 200),
        ("PUT", "/hubs/chat/users/nobody/groups/hall", {}, 404),
        ("DELETE", "/hubs/chat/users/ann/groups/room", {}, 204),
        ("DELETE", "/hubs/chat/users/ann/groups", {}, 204),
        ("POST", "/hubs/chat/:addToGroups", GROUPS, 200),
        ("POST", "/hubs/chat/:removeFromGroups", GROUPS, 200),
        ("PUT", f"{PERMISSION}/{{id}}?targetName=room", {}, 200),
        ("PUT", f"{PERMISSION}/nobody?targetName=room", {}, 404),
        ("DELETE", f"{PERMISSION}/{{id}}?targetName=room", {}, 204),
        ("HEAD", f"{PERMISSION}/{{id}}?targetName=room", {}, 404),
        ("POST", "/hubs/chat/:generateToken?userId=ann&role=a&role=b&group=c&minutesToExpire=1", {}, 200),
        # What makes no sense.
        ("POST", "/hubs/1st/:send", TEXT, 400),
        ("POST", "/hubs/chat/:send?filter=userId", TEXT, 400),
        ("POST", "/hubs/chat/:send?messageTtlSeconds=301", TEXT, 400),
        ("POST", "/hubs/chat/:send?api-version=2020-01-01", TEXT, 400),
        ("POST", "/hubs/chat/:send?api-version=2024-12-01&api-version=2024-12-01", TEXT, 400),
        ("POST", "/hubs/chat/:send", {"content": "{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/hubs/chat/:send", {"content": "<p>", "headers": {"Content-Type": "text/html"}}, 415),
        ("POST", "/hubs/chat/:send", {"content": "x", "headers": {"X-WebPubSub-Metadata-a b": "c"}}, 400),
        ("POST", "/hubs/chat/groups/%20/:send", TEXT, 400),
        ("GET", "/hubs/chat/groups/room/connections?maxpagesize=201", {}, 400),
        ("GET", "/hubs/chat/groups/room/connections?top=0", {}, 400),
        ("GET", "/hubs/chat/groups/room/connections?continuationToken=!", {}, 400),
        ("POST", "/hubs/chat/:addToGroups", {"json": {"groups": []}}, 400),
        ("PUT", f"{PERMISSION}/{{id}}", {}, 400),
        ("PUT", "/hubs/chat/permissions/fly/connections/{id}?targetName=room", {}, 400),
        ("POST", "/hubs/chat/:generateToken?minutesToExpire=0", {}, 400),
        ("POST", "/hubs/chat/:generateToken?clientType=MQTT", {}, 400),
        ("POST", "/hubs/chat/:generateToken?group=%20", {}, 400),
        # What there is not.
        ("GET", "/hubs/chat/:send", {}, 405),
        ("HEAD", "/hubs/chat/groups/room/connections", {}, 405),
        ("POST", "/hubs/chat/:send/", TEXT, 404),
        ("GET", "/hubs/chat", {}, 404),
        ("GET", "/", {}, 404),
    ],
)
def test_status(method: str, path: str, more: dict[str, Any], status: int) -> None:
    async def run() -> None:
        async with api_of() as api:
            response = await api(method, path.replace("{id}", api.ann_id), **more)
            assert response.status_code == status
            if status < 400 or method == "HEAD":
                assert not response.content or response.headers["content-type"] == "application/json"
            else:
                assert error_of(response)[0] == status

    asyncio.run(run())


def test_the_table_of_operations_is_complete() -> None:
    assert sum(len(methods) for methods in OPERATIONS.values()) == 24


def test_what_operations_do_arrives() -> None:
    async def run() -> None:
        async with api_of() as api:
            await api("POST", "/hubs/chat/groups/room/:send", json={"a": 1}, headers={"X-WebPubSub-Metadata-K": "v"})
            (message,) = api.ann.messages_to_send()
            assert json.loads(message) == {
                "type": "message",
                "from": "group",
                "group": "room",
                "fromUserId": None,
                "dataType": "json",
                "data": {"a": 1},
                "metadata": {"k": "v"},
            }
            await api("POST", "/hubs/chat/:send?excluded=" + api.ann_id, content=b"\xff")
            assert api.ann.messages_to_send() == []
            (message,) = api.anonymous.messages_to_send()
            assert json.loads(message)["data"] == "/w=="
            await api("POST", "/hubs/chat/users/ann/:closeConnections?reason=a+b%2Bc")
            assert api.ann.close is not None
            assert (api.ann.close.code, api.ann.close.reason) == (1000, "a b+c")

    asyncio.run(run())


def test_a_message_that_nobody_fetches_in_time_is_dropped() -> None:
    async def run() -> None:
        async with api_of() as api:
            await api("POST", "/hubs/chat/:send?messageTtlSeconds=5", **TEXT)
            await api("POST", "/hubs/chat/:send?messageTtlSeconds=0", **TEXT)
            assert len(api.ann.messages_to_send(time.monotonic() + 6)) == 1
            assert len(api.anonymous.messages_to_send(time.monotonic())) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%C3%BC", "ü"),
        ("a%2Fb", "a%2Fb"),
        ("a%2fb", "a%2fb"),
        ("a%252Fb", "a%2Fb"),
        ("100%25", "100%"),
        (":send", ":send"),
        ("a%3Fb%23c", "a?b#c"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/pub%20sub/x", "/api"])
def test_names_in_paths_are_decoded_once_but_a_slash_is_not(written: str, group: str, prefix: str) -> None:
    async def run() -> None:
        async with api_of(prefix=prefix) as api:
            response = await api("PUT", f"/hubs/chat/groups/{written}/connections/{api.ann_id}")
            assert response.status_code == 200
            assert api.ann.connection is not None
            assert set(api.ann.connection.groups) == {"room", group}

    asyncio.run(run())


def test_what_the_application_server_does_is_told_to_observers() -> None:
    async def scenario() -> None:
        async with api_of() as api:
            told: list[TraceEvent] = []
            api.core.observers.append(told.append)
            await api("POST", "/hubs/chat/:send?excluded=" + api.ann_id, **TEXT)
            await api("POST", "/hubs/Chat/groups/room/:send", **TEXT)
            await api("POST", "/hubs/chat/users/ann/:send?filter=false", **TEXT)
            await api("POST", f"/hubs/chat/connections/{api.ann_id}/:send", **TEXT)
            await api("PUT", "/hubs/chat/users/ann/groups/hall")
            await api("POST", "/hubs/chat/:removeFromGroups", json={"groups": ["hall", "room"]})
            payload, ann = ("text", '"hi"', 4), ("chat", api.ann_id, "ann")
            assert told == [
                Published("chat", None, None, "hub", "", *payload, 1),
                Published("chat", None, None, "group", "room", *payload, 1),
                Published("chat", None, None, "user", "ann", *payload, 0),
                Published("chat", None, None, "connection", api.ann_id, *payload, 1),
                Joined(*ann, "hall"),
                Left(*ann, "hall"),
                Left(*ann, "room"),
            ]

    asyncio.run(scenario())


# ---- Lists and tokens


@pytest.mark.parametrize(
    ("prefix", "endpoint"), [("", None), ("/pubsub", None), ("", "https://public.example/ps"), ("/x", "http://test/x")]
)
def test_the_next_link_is_absolute_and_keeps_its_parameters(prefix: str, endpoint: str | None) -> None:
    async def run() -> None:
        async with api_of(prefix=prefix, endpoint=endpoint) as api:
            for _ in range(4):
                api.connect(ClientGrant(None, (), ("room",)))
            path = "/hubs/chat/groups/room/connections?maxpagesize=2&top=3&api-version=2024-12-01"
            first = (await api("GET", path)).json()
            base = endpoint or f"http://test{prefix}"
            assert first["nextLink"].startswith(f"{base}/api/hubs/chat/groups/room/connections?maxpagesize=2&top=1&")
            assert "api-version=2024-12-01" in first["nextLink"]
            second = (await api("GET", first["nextLink"].removeprefix(f"{base}/api"))).json()
            assert "nextLink" not in second
            members = first["value"] + second["value"]
            assert [len(first["value"]), len(second["value"])] == [2, 1]
            ids = [member["connectionId"] for member in members]
            assert ids == sorted(ids)
            assert {"connectionId": api.ann_id, "userId": "ann"} in members or api.ann_id > max(ids)
            assert all("userId" not in member for member in members if member["connectionId"] != api.ann_id)

    asyncio.run(run())


def test_generated_tokens_are_for_the_endpoint_of_the_request() -> None:
    async def run() -> None:
        for options, audience in (
            ({"prefix": "/pubsub"}, "http://test/pubsub/client/hubs/chat"),
            ({"endpoint": "https://public.example"}, "https://public.example/client/hubs/chat"),
        ):
            async with api_of(**options) as api:
                answer = (await api("POST", "/hubs/chat/:generateToken")).json()
                claims = jwt.decode(answer["token"], KEY, ["HS256"], audience=audience)
                assert claims["exp"] - claims["iat"] == 3600

    asyncio.run(run())


# ---- Authorization


def test_what_a_request_may_be_signed_with() -> None:
    async def run() -> None:
        async with api_of(endpoint="https://public.example") as api:
            path = "/hubs/chat/users/ann?api-version=2024-12-01"
            bare = path.partition("?")[0]
            signed = "https://public.example/api" + bare
            for claims in (
                {},
                {"aud": signed},
                {"aud": signed.upper() + "/"},
                {"aud": [api.url(bare), signed]},
                {"aud": "http://public.example:80/api" + path},
                {"aud": "https://public.example:443/api" + path},
                {"aud": "https://webpubsub.azure.com"},
                {"exp": int(time.time()) - 240},
                {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name": "admin"},
            ):
                assert (await api("HEAD", path, claims=claims)).status_code == 200, claims
            assert (await api("HEAD", path, key=SECOND)).status_code == 200

    asyncio.run(run())


def test_what_a_request_may_not_be_signed_with() -> None:
    async def run() -> None:
        async with api_of() as api:
            path = "/hubs/chat/:send"
            for claims in (
                {"aud": None},
                {"aud": api.url("/hubs/other/:send")},
                {"aud": "http://test/client/hubs/chat"},
                {"exp": None},
                {"exp": int(time.time()) - 310},
                {"nbf": int(time.time()) + 310},
            ):
                response = await api("POST", path, claims=claims, **TEXT)
                assert error_of(response) == (401, "Error.Unauthorized"), claims
            assert error_of(await api("POST", path, key="w" * 32, **TEXT))[0] == 401
            unsigned = jwt.encode({"aud": api.url(path), "exp": int(time.time()) + 60}, None, "none")
            for value in ("", "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense", f"Bearer {unsigned}"):
                response = await api("POST", path, headers={"Authorization": value})
                assert error_of(response)[0] == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert value.partition(" ")[2] == "" or value.partition(" ")[2] not in response.text
            assert api.ann.messages_to_send() == []

    asyncio.run(run())


def test_health_needs_no_token() -> None:
    async def run() -> None:
        async with api_of(prefix="/x") as api:
            for method in ("HEAD", "GET"):
                assert (await api.http.request(method, api.url("/health"))).status_code == 200

    asyncio.run(run())


# ---- Sizes


def test_a_body_has_at_most_a_mebibyte_whether_it_tells_or_not() -> None:
    async def chunks(size: int) -> AsyncGenerator[bytes]:
        for start in range(0, size, 65_536):
            yield b"x" * min(65_536, size - start)

    async def run() -> None:
        async with api_of() as api:
            for size, status in ((MEBIBYTE, 202), (MEBIBYTE + 1, 413)):
                assert (await api("POST", "/hubs/chat/:send", content=b"x" * size)).status_code == status
                assert (await api("POST", "/hubs/chat/:send", content=chunks(size))).status_code == status
            assert error_of(await api("POST", "/hubs/chat/:send", content=chunks(5 * MEBIBYTE)))[0] == 413
            assert len(api.ann.messages_to_send()) == 2

    asyncio.run(run())


def test_a_websocket_below_api_is_refused() -> None:
    async def scenario(service: Service) -> None:
        status, _ = await refusal(f"ws://127.0.0.1:{service.port}/api/hubs/chat/:send", JSON)
        assert status == 404

    with_service(scenario)


def test_the_data_plane_reaches_clients_over_sockets_at_once_and_survives_large_requests() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(), JSON)
        await client.receive()
        url = f"{service.endpoint}/api/hubs/chat/:send"
        token = jwt.encode({"aud": url, "exp": int(time.time()) + 60}, KEY, "HS256")
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
            assert (await http.post(url, content=b"x" * (8 * MEBIBYTE))).status_code == 413
            for number in range(5):
                assert (await http.post(url, json=number)).status_code == 202
                assert (await client.receive())["data"] == number
        await client.leave()

    with_service(scenario, ServiceOptions(access_key=KEY))
