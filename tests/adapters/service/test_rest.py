"""The data plane over HTTP, as it is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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
        headers = httpx.Headers(more.pop("headers", {}))
        headers.setdefault("Authorization", f"Bearer {token}")
        return await self.http.request(method, url, headers=headers, **more)


@contextlib.asynccontextmanager
async def api_of(**options: Any) -> AsyncIterator[Api]:
    api = Api(**options)
    async with api.http:
        yield api


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()
    assert set(error) == {"code", "message", "target"}
    assert response.headers["x-ms-error-code"] == error["code"]
    assert error["message"].endswith(".")
    return response.status_code, error["code"]


# ---- Operations

TEXT = {"content": "hi", "headers": {"Content-Type": "text/plain"}}
GROUPS = {"json": {"groups": ["a", "b"], "filter": "userId eq 'ann'"}}
ENTRA = {"claims": {"aud": "https://webpubsub.azure.com"}}
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
        ("POST", "/hubs/chat/:generateToken?userId=ann&role=a&role=b&group=c&minutesToExpire=1", ENTRA, 200),
        # The words of a path in any case; names keep theirs.
        ("POST", "/HUBS/chat/Groups/room/:Send", TEXT, 202),
        ("HEAD", "/Hubs/chat/USERS/ann", {}, 200),
        ("HEAD", "/Hubs/chat/USERS/ANN", {}, 404),
        # A slash at the end.
        ("POST", "/hubs/chat/:send/?filter=", TEXT, 202),
        ("GET", "/hubs/chat/groups/room/connections/", {}, 200),
        ("HEAD", "/hubs/chat/users/ann/", {}, 200),
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
        ("POST", "/hubs/chat/:generateToken?minutesToExpire=0", ENTRA, 400),
        ("POST", "/hubs/chat/:generateToken?clientType=MQTT", ENTRA, 501),
        ("POST", "/hubs/chat/:generateToken?clientType=SocketIO", ENTRA, 400),
        ("POST", "/hubs/chat/:generateToken?group=%20", ENTRA, 400),
        ("POST", "/hubs/chat/:generateToken", {}, 401),
        ("POST", "/hubs/chat/:send", {"headers": {"Transfer-Encoding": "chunked"}}, 400),
        ("GET", "/hubs/chat/groups/room/connections?continuationToken=", {}, 400),
        ("GET", "/hubs/chat/groups/room/connections?maxpagesize=", {}, 400),
        # Blank names.
        ("POST", "/hubs/chat/users/%20/:send", TEXT, 400),
        ("POST", "/hubs/chat/users/%09/:closeConnections", {}, 400),
        ("POST", "/hubs/chat/connections/%20/:send", TEXT, 400),
        ("DELETE", "/hubs/chat/connections/%20", {}, 400),
        ("DELETE", "/hubs/chat/connections/%20/groups", {}, 400),
        ("DELETE", "/hubs/chat/users/%20/groups", {}, 400),
        ("DELETE", "/hubs/chat/users/ann/groups/%20", {}, 400),
        ("PUT", "/hubs/chat/groups/hall/connections/%20", {}, 400),
        ("PUT", f"{PERMISSION}/%20?targetName=room", {}, 400),
        ("PUT", f"{PERMISSION}/{{id}}?targetName=%20", {}, 400),
        ("HEAD", "/hubs/chat/groups/%20", {}, 400),
        ("HEAD", "/hubs/chat/users/%20", {}, 400),
        # What there is not.
        ("GET", "/hubs/chat/:send", {}, 405),
        ("HEAD", "/hubs/chat/groups/room/connections", {}, 405),
        ("DELETE", "/hubs/chat/users/ann/groups/", {}, 404),
        ("POST", "/hubs/chat/:send//", TEXT, 404),
        ("GET", "/hubs/chat", {}, 404),
        ("GET", "/", {}, 404),
    ],
)
def test_status(method: str, path: str, more: dict[str, Any], status: int) -> None:
    async def run() -> None:
        async with api_of() as api:
            response = await api(method, path.replace("{id}", api.ann_id), **more)
            assert response.status_code == status
            versions = "2021-10-01, 2022-11-01, 2023-07-01, 2024-01-01, 2024-12-01"
            assert response.headers["api-supported-versions"] == versions
            if status < 400 or method == "HEAD":
                assert not response.content or response.headers["content-type"] == "application/json"
            else:
                assert error_of(response)[0] == status

    asyncio.run(run())


def test_the_table_of_operations_is_complete() -> None:
    assert sum(len(methods) for path, methods in OPERATIONS.items() if "/chat/" not in path) == 24


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
            assert (api.ann.close.code, api.ann.close.reason) == (1000, "")
            said = "Application server closed the connection. Reason: a b+c"
            assert json.loads(api.ann.messages_to_send()[-1])["message"] == said

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
            start = (
                f"{base}/api/hubs/chat/groups/room/connections?api-version=2024-12-01&maxpagesize=2&continuationToken="
            )
            assert first["nextLink"].startswith(start)
            assert first["nextLink"].endswith("&top=1")
            # A token for the first page is good for the next.
            audience = {"aud": f"{api.endpoint}/api{path}"}
            second = (await api("GET", first["nextLink"].removeprefix(f"{base}/api"), claims=audience)).json()
            assert second["nextLink"] is None
            members = first["value"] + second["value"]
            assert [len(first["value"]), len(second["value"])] == [2, 1]
            ids = [member["connectionId"] for member in members]
            assert ids == sorted(ids)
            assert {"connectionId": api.ann_id, "userId": "ann"} in members or api.ann_id > max(ids)
            assert all(member["userId"] is None for member in members if member["connectionId"] != api.ann_id)

    asyncio.run(run())


@pytest.mark.parametrize("query", ["", "?api-version=2021-10-01", "?api-version=2022-11-01-preview"])
def test_the_next_link_has_the_newest_version_and_the_page_size_that_counts(query: str) -> None:
    async def run() -> None:
        async with api_of() as api:
            for _ in range(200):
                api.connect(ClientGrant(None, (), ("room",)))
            page = (await api("GET", f"/hubs/CHAT/groups/room/connections{query}")).json()
            parameters = parse_qs(urlsplit(page["nextLink"]).query)
            assert len(page["value"]) == 200
            token = parameters.pop("continuationToken")[0]
            assert parameters == {"api-version": ["2024-12-01"], "maxpagesize": ["200"]}
            assert token not in (page["value"][-1]["connectionId"], "")
            # It is for this group of this hub.
            for hub, group, status in (("chat", "room", 200), ("other", "room", 400), ("chat", "ROOM", 400)):
                path = f"/hubs/{hub}/groups/{group}/connections?continuationToken={token}"
                assert (await api("GET", path)).status_code == status
        async with api_of() as other:
            path = f"/hubs/chat/groups/room/connections?continuationToken={token}"
            assert error_of(await other("GET", path)) == (400, "Error.BadRequest")

    asyncio.run(run())


def test_generated_tokens_are_for_the_endpoint_of_the_request() -> None:
    async def run() -> None:
        for options, audience in (
            ({"prefix": "/pubsub"}, "http://test/pubsub/client/hubs/chat"),
            ({"endpoint": "https://public.example"}, "https://public.example/client/hubs/chat"),
        ):
            async with api_of(**options) as api:
                answer = (await api("POST", "/hubs/CHAT/:generateToken?userId=%20", **ENTRA)).json()
                claims = jwt.decode(answer["token"], KEY, ["HS256"], audience=audience)
                assert claims["exp"] - claims["iat"] == 3600
                assert "sub" not in claims

    asyncio.run(run())


# ---- Errors


@pytest.mark.parametrize(
    ("method", "path", "more", "code", "message", "target"),
    [
        (
            "PUT",
            "/hubs/chat/groups/hall/connections/missing",
            {},
            "Error.Connection.NotExisted",
            "Connection `missing` is not found.",
            "Connection",
        ),
        (
            "PUT",
            f"{PERMISSION}/missing?targetName=room",
            {},
            "Info.Connection.NotExisted",
            "Connection `missing` is not found.",
            "Connection",
        ),
        (
            "PUT",
            "/hubs/chat/users/missing/groups/hall",
            {},
            "Warning.User.NotExisted",
            "User `missing` is not found.",
            "User",
        ),
        (
            "POST",
            "/hubs/chat/:generateToken?clientType=mqtt",
            ENTRA,
            "NotImplemented",
            "MQTT client tokens are not supported by ",
            "Request",
        ),
        *(
            (method, path, {**TEXT, **more}, "Error.BadRequest", message, target)
            for method, path, more, message, target in (
                ("POST", "/hubs/1st/:send", {}, "Invalid hub name.", "hub"),
                ("POST", "/hubs/chat/groups/%20/:send", {}, "Invalid group name.", "group"),
                ("POST", "/hubs/chat/users/%20/:send", {}, "Invalid user ID.", "userId"),
                ("POST", "/hubs/chat/connections/%20/:send", {}, "Invalid connection ID.", "connectionId"),
                (
                    "POST",
                    "/hubs/chat/:send?messageTtlSeconds=301",
                    {},
                    "Invalid messageTtlSeconds.",
                    "messageTtlSeconds",
                ),
                ("POST", "/hubs/chat/:send?filter=userId", {}, "Invalid filter: ", "Request"),
                (
                    "POST",
                    "/hubs/chat/:send?api-version=2099-01-01",
                    {},
                    "The specified API version is not supported.",
                    "api-version",
                ),
                (
                    "POST",
                    "/hubs/chat/:send",
                    {"content": "{", "headers": {"Content-Type": "application/json"}},
                    "The request body is not a valid JSON.",
                    "Request",
                ),
                (
                    "POST",
                    "/hubs/chat/:addToGroups",
                    {"content": "{", "headers": {"Content-Type": "application/json"}},
                    "The request body is not a valid groups request.",
                    "Request",
                ),
                (
                    "POST",
                    "/hubs/chat/:addToGroups",
                    {"content": '{"groups":[]}', "headers": {"Content-Type": "application/json"}},
                    "A nonempty list of valid group names is required.",
                    "Request",
                ),
                ("GET", "/hubs/chat/groups/room/connections?maxpagesize=0", {}, "Invalid maxpagesize.", "maxpagesize"),
                ("GET", "/hubs/chat/groups/room/connections?top=1&top=1", {}, "Invalid top.", "top"),
                (
                    "GET",
                    "/hubs/chat/groups/room/connections?continuationToken=e30",
                    {},
                    "Invalid continuationToken.",
                    "continuationToken",
                ),
                ("PUT", f"{PERMISSION}/c", {}, "Invalid group name. The query needs it: ?targetName=", "targetName"),
                ("PUT", f"{PERMISSION}/c?targetName=%20", {}, "Invalid group name. It has", "targetName"),
                ("PUT", "/hubs/chat/permissions/fly/connections/c", {}, "Invalid permission.", "permission"),
                ("DELETE", "/hubs/chat/permissions/fly/connections/c", {}, "Invalid permission.", "permission"),
                ("POST", "/hubs/chat/:generateToken?clientType=x", ENTRA, "Invalid clientType.", "clientType"),
                ("POST", "/hubs/chat/:generateToken?group=%20", ENTRA, "Invalid group name.", "group"),
            )
        ),
    ],
)
def test_errors_have_the_codes_targets_and_texts_of_the_emulator(
    method: str, path: str, more: dict[str, Any], code: str, message: str, target: str
) -> None:
    async def run() -> None:
        async with api_of() as api:
            response = await api(method, path, **more)
            assert error_of(response)[1] == code
            error = response.json()
            assert error["message"].startswith(message)
            assert error["target"] == target

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/hubs/chat/connections/missing", "Warning.Connection.NotExisted"),
        ("/hubs/chat/groups/missing", "Warning.Group.NotExisted"),
        ("/hubs/chat/users/missing", "Warning.User.NotExisted"),
        (f"{PERMISSION}/missing?targetName=room", "Info.Connection.NotExisted"),
        (f"{PERMISSION}/{{id}}?targetName=room", "Info.Connection.NotExisted"),
    ],
)
def test_what_is_not_there_has_an_error_code_and_no_body(path: str, code: str) -> None:
    async def run() -> None:
        async with api_of() as api:
            response = await api("HEAD", path.replace("{id}", api.ann_id))
            assert (response.status_code, response.headers["x-ms-error-code"]) == (404, code)
            assert response.content == b""

    asyncio.run(run())


def test_what_a_request_names_is_quoted_in_one_short_line() -> None:
    async def run() -> None:
        async with api_of() as api:
            name = "%0d%0a%e2%80%ae" + "x" * 3000
            for path in (f"/hubs/chat/groups/a/connections/{name}", f"/hubs/chat/users/{name}/groups/a"):
                message = (await api("PUT", path)).json()["message"]
                assert message.isprintable()
                assert len(message) < 500

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        *(
            (content_type, '{"groups":["hall","room"]}', 415)
            for content_type in (
                None,
                "text/plain",
                "application/octet-stream",
                "application/xml",
                "application/json; charset=unknown",
                'application/json; charset="',
            )
        ),
        *(
            ("application/json", body, 400)
            for body in (
                '{"groups":["hall","room"],"filter":" "}',
                '{"groups":["hall","room"],"Filter":" "}',
                '{"groups":["hall","room",null]}',
                '{"groups":["hall","room"," "]}',
                '{"groups":["hall","room"],"filter":"true or userId"}',
                '{"groups":["hall","room"],"filter":42}',
            )
        ),
        ("application/json", '{"Groups":["hall","room"],"Filter":"userId eq \'nobody\'"}', 200),
    ],
)
@pytest.mark.parametrize("operation", [":addToGroups", ":removeFromGroups"])
def test_a_change_of_groups_that_is_not_clear_changes_no_group(
    operation: str, content_type: str | None, body: str, status: int
) -> None:
    async def run() -> None:
        async with api_of() as api:
            headers = {} if content_type is None else {"Content-Type": content_type}
            response = await api("POST", f"/hubs/chat/{operation}", content=body.encode(), headers=headers)
            assert response.status_code == status
            assert status == 200 or error_of(response)
            assert api.ann.connection is not None
            assert api.anonymous.connection is not None
            assert (list(api.ann.connection.groups), list(api.anonymous.connection.groups)) == (["room"], [])

    asyncio.run(run())


def test_two_content_types_are_none() -> None:
    async def run() -> None:
        async with api_of() as api:
            for first, second in (("application/json", "text/plain"), ("text/plain", "text/plain")):
                headers = httpx.Headers([("Content-Type", first), ("Content-Type", second)])
                for operation, body in ((":send", b"1"), (":addToGroups", b'{"groups": ["a"]}')):
                    response = await api("POST", f"/hubs/chat/{operation}", content=body, headers=headers)
                    assert error_of(response) == (415, "Error.UnsupportedMediaType")
            assert api.anonymous.connection is not None
            assert not api.anonymous.connection.groups

    asyncio.run(run())


def test_a_group_without_a_name_is_not_all_groups() -> None:
    async def run() -> None:
        async with api_of() as api:
            for path in ("/hubs/chat/users/ann/groups/", "/hubs/chat/users/ann/groups/%20"):
                assert (await api("DELETE", path)).status_code in (400, 404)
            assert api.ann.connection is not None
            assert list(api.ann.connection.groups) == ["room"]

    asyncio.run(run())


def test_a_wrong_query_is_told_before_the_body_is_read() -> None:
    async def never() -> AsyncGenerator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def run() -> None:
        async with api_of() as api:
            for query in ("filter=userId%20lt%201", "messageTtlSeconds=301", "api-version=x"):
                for target in ("", "/groups/room", "/users/ann"):
                    headers = {"Content-Length": "5", "Content-Type": "text/plain"}
                    response = await api("POST", f"/hubs/chat{target}/:send?{query}", content=never(), headers=headers)
                    assert error_of(response)[0] == 400
                    assert not response.json()["message"].startswith("Invalid Content-Length")

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
                {"aud": signed + "?api-version=2021-10-01"},
                {"exp": int(time.time()) - 240},
                {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name": "admin"},
            ):
                assert (await api("HEAD", path, claims=claims)).status_code == 200, claims
            assert (await api("HEAD", path, key=SECOND)).status_code == 200

    asyncio.run(run())


def test_what_is_wrong_with_the_signature_of_a_request_is_said_in_plain_words() -> None:
    async def run() -> None:
        async with api_of() as api:
            path = "/hubs/chat/:send"
            expired = {"exp": int(time.time()) - 310}
            for more, said in (
                ({"key": "w" * 32}, "signed with another access key than that of this service"),
                ({"key": "w" * 32, "claims": {"aud": "https://webpubsub.azure.com"}}, "signed with another access key"),
                ({"claims": expired}, "The token is not valid: it has expired."),
                (
                    {"headers": {"Authorization": "Bearer nonsense"}},
                    "is not a JSON Web Token that is signed with HS256",
                ),
            ):
                response = await api("POST", path, **{**TEXT, **more})
                assert said in response.json()["message"]
            other = jwt.encode({"aud": api.url(path), "exp": int(time.time()) + 60}, "w" * 64, "HS512")
            response = await api("POST", path, headers={"Authorization": f"Bearer {other}"})
            assert "is not a JSON Web Token that is signed with HS256" in response.json()["message"]
            assert (await api("GET", path)).json()["message"].endswith(":send. This path has POST.")

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


def test_api_is_found_in_any_case() -> None:
    async def run() -> None:
        async with api_of(prefix="/x") as api:
            for path in ("/API/health", "/Api/HEALTH/"):
                assert (await api.http.head(f"http://test/x{path}")).status_code == 200
            url = "http://test/x/API/hubs/chat/groups/room/connections"
            token = jwt.encode({"aud": url, "exp": int(time.time()) + 60}, KEY, "HS256")
            answer = await api.http.get(url, headers={"Authorization": f"Bearer {token}"})
            assert [member["userId"] for member in answer.json()["value"]] == ["ann"]

    asyncio.run(run())


def test_health_needs_no_token() -> None:
    async def run() -> None:
        async with api_of(prefix="/x") as api:
            for method in ("HEAD", "GET"):
                for query, status in (("", 200), ("/", 200), ("?api-version=2024-12-01", 200), ("?api-version=1", 400)):
                    answer = await api.http.request(method, api.url("/health") + query)
                    assert answer.status_code == status
                    assert "2024-12-01" in answer.headers["api-supported-versions"]

    asyncio.run(run())


# ---- Sizes


def test_a_body_tells_its_length_and_has_at_most_a_mebibyte() -> None:
    async def chunks(size: int) -> AsyncGenerator[bytes]:
        for start in range(0, size, 65_536):
            yield b"x" * min(65_536, size - start)

    async def run() -> None:
        async with api_of() as api:
            path = "/hubs/chat/:send"
            for size, status in ((MEBIBYTE, 202), (MEBIBYTE + 1, 400)):
                assert (await api("POST", path, content=b"x" * size)).status_code == status
            for length in (None, "1", "1048577", "-1", "0x1", "1e1", "٣", ""):
                headers = {} if length is None else {"Content-Length": length.encode()}
                answer = await api("POST", path, content=chunks(5 * MEBIBYTE), headers=headers)
                assert error_of(answer) == (400, "Error.BadRequest")
                assert answer.json()["message"].startswith("Invalid Content-Length header.")
            chunked = {"Transfer-Encoding": "chunked", "Content-Length": "1"}
            assert (await api("POST", path, content=b"x", headers=chunked)).status_code == 400
            assert len(api.ann.messages_to_send()) == 1

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
            assert (await http.post(url, content=b"x" * (8 * MEBIBYTE))).status_code == 400
            for number in range(5):
                assert (await http.post(url, json=number)).status_code == 202
                assert (await client.receive())["data"] == number
        await client.leave()

    with_service(scenario, ServiceOptions(access_key=KEY))
