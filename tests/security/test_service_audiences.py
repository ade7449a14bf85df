"""A token opens what it was signed for, whatever is said about where that is: over real sockets, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.adapters.service.sockets import Client
from tests.security.scopes import answer_to, opens
from tests.security.servers import (
    HANDSHAKE,
    KEY,
    ROLES,
    STYLES,
    Headers,
    Place,
    audience_of,
    bearer,
    exchange,
    request,
    signed,
    with_place,
)

from limpet.service import Service, ServiceOptions, create_app
from limpet.service.rest.operations import OPERATIONS
from limpet_core.service import JSON, RELIABLE_JSON, ConnectionString

every_style = pytest.mark.parametrize("style", STYLES)

# With one of these as the Host, an audience that is cut out of text, or decoded as a whole, can be a client's.
MISLEADING = [
    "{host}{prefix}/client/hubs/chat?",
    "{host}{prefix}/client/hubs/chat#",
    "{host}{prefix}/client/hubs/chat/?x=",
    "{host}{prefix}%2Fclient%2Fhubs%2Fchat?",
    "{host}{prefix}%2fclient%2fhubs%2fchat%3f",
    "{host}{prefix}/client/hubs/chat%3F",
    "HTTP://{host}{prefix}/client/hubs/chat?",
    "webpubsub.azure.com?",
    "webpubsub.azure.com/?",
]

MALFORMED = [
    *MISLEADING,
    "",
    ":",
    "user@{host}",
    "user:secret@{host}",
    "user@127.0.0.1",
    "127.0.0.1:80:90",
    " ",
    ".",
    "a..b",
    "x" * 256,
    "{host}@evil.example",
    "{host}/",
    "{host}?",
    "{host}#",
    "{host}\\",
    "{host}, {host}",
    "{host} {host}",
    "{host};x",
    "{host}:80",
    "{host}%3A80",
    "127.0.0.1:65536",
    "127.0.0.1:x",
    "::1",
    "[::1",
    "[127.0.0.1]",
    "bücher.example",
]


def all_operations(hub: str, connection_id: str) -> list[tuple[str, str]]:
    """Return a request for each operation there is, as method and target."""
    names = {"hub": hub, "group": "room", "user": "ann", "connection": connection_id, "permission": "sendToGroup"}
    names["operation"] = "rooms"  # of the chat, which answers 501 to whoever may ask
    requests: list[tuple[str, str]] = []
    for path, methods in OPERATIONS.items():
        query = "?targetName=room" if "permission" in path else "?role=webpubsub.sendToGroup"
        target = path.replace(":path}", "}").format(**names)
        requests += [(method, f"/api{target}{query}") for method in methods]
    assert len(requests) == 30
    return requests


async def a_client(place: Place) -> tuple[Client, str]:
    """Let a client of each kind of target in: a member of the group room, the user ann."""
    token = place.client_token(sub="ann", **{"webpubsub.group": "room"})
    client = await Client.open(place.client_url(token), JSON)
    return client, (await client.receive())["connectionId"]


async def is_untouched(place: Place, client: Client, connection_id: str) -> None:
    """Check that a client was sent nothing, is still there and is in the same group."""
    await client.send(type="ping")
    assert await client.receive() == {"type": "pong"}
    connection = place.core.connection(connection_id)
    assert connection is not None
    assert set(connection.groups) == {"room"}
    await client.leave()


# ---- The data plane


@every_style
@pytest.mark.parametrize("host", MISLEADING)
def test_the_token_of_a_client_opens_no_operation_whatever_the_host_header(style: str, host: str) -> None:
    async def scenario(place: Place) -> None:
        client, connection_id = await a_client(place)
        spelled = host.format(host=place.host, prefix=place.prefix)
        for hub in ("chat", "other"):
            for method, target in all_operations(hub, connection_id):
                answer = await place.ask(method, target, [("Host", spelled), bearer(place.client_token())])
                assert answer.status == 400, (method, target)
        await is_untouched(place, client, connection_id)

    with_place(scenario, style)


@every_style
def test_the_token_of_a_client_opens_no_operation_by_its_target(style: str) -> None:
    async def scenario(place: Place) -> None:
        client, connection_id = await a_client(place)
        token = bearer(place.client_token())
        for method, target in all_operations("chat", connection_id):
            assert (await place.ask(method, target, [("Host", place.host), token])).status == 401, target
        for target in (
            "/api/../client/hubs/chat",
            "/api%2F..%2Fclient%2Fhubs%2Fchat",
            "/client/hubs/chat%3F/../../../api/hubs/chat/:send",
            "/client/hubs/chat%3F%2Fapi/hubs/chat/:send",
            "//api/hubs/chat/:send",
        ):
            answer = await place.ask("POST", target, [("Host", place.host), token], body=b"x")
            assert answer.status in (400, 401, 404, 405), target
        await is_untouched(place, client, connection_id)

    with_place(scenario, style)


@every_style
@pytest.mark.parametrize(
    "audience",
    [
        "http://webpubsub.azure.com@evil.example",
        "https://webpubsub.azure.com/client/hubs/chat",
        "{endpoint}",
        "{endpoint}/api",
        "{endpoint}/api/hubs/chat",
        "{endpoint}/api/hubs/chat/:send%3F",
        "{endpoint}/api/hubs/chat%2F:send",
        "{endpoint}/api/hubs/chat/:send/x",
        "{endpoint}/api/hubs/other/:send",
        "{endpoint}/client/hubs/chat",
        "{endpoint}/client/hubs/chat/api/hubs/chat/:send",
        "http://127.0.0.1:1/api/hubs/chat/:send",
        "http://evil.example@127.0.0.1/api/hubs/chat/:send",
        "/api/hubs/chat/:send",
    ],
)
def test_an_audience_that_is_nearly_that_of_an_operation(style: str, audience: str) -> None:
    async def scenario(place: Place) -> None:
        client, connection_id = await a_client(place)
        token = signed(audience.format(endpoint=place.endpoint))
        answer = await place.ask("POST", "/api/hubs/chat/:send", [("Host", place.host), bearer(token)], body=b"x")
        assert answer.status == 401
        await is_untouched(place, client, connection_id)

    with_place(scenario, style)


@every_style
def test_tokens_for_operations_open_them_and_nothing_else(style: str) -> None:
    async def scenario(place: Place) -> None:
        client, connection_id = await a_client(place)
        for method, target in all_operations("news", connection_id):
            # Tokens are made for those who have no key.
            makes_tokens = target.split("?")[0].endswith(":generateToken")
            token = signed("https://webpubsub.azure.com" if makes_tokens else place.endpoint + target)
            answer = await place.ask(method, target, [("Host", place.host), bearer(token)])
            assert answer.status not in (401, 403), (method, target)
            if makes_tokens:
                own = [("Host", place.host), bearer(signed(place.endpoint + target))]
                assert (await place.ask(method, target, own)).status == 401
            for headers in ([], [bearer(token)]):
                url = f"{place.prefix}/client/hubs/chat" + ("" if headers else f"?access_token={token}")
                refused = await exchange(place.port, request("GET", url, [("Host", place.host), *HANDSHAKE, *headers]))
                assert refused.status == 401
        await is_untouched(place, client, connection_id)

    with_place(scenario, style)


@every_style
def test_what_application_servers_may_sign(style: str) -> None:
    async def scenario(place: Place) -> None:
        client, connection_id = await a_client(place)
        path = "/api/hubs/chat/groups/a%2Fb/connections/" + connection_id
        target = f"{path}?api-version=2024-12-01"
        audiences: list[Any] = [
            place.endpoint + path,
            place.endpoint + target,
            # The query of an audience does not matter, as in the cloud: it limits nothing.
            f"{place.endpoint}{path}?api-version=2021-10-01",
            (place.endpoint + target).upper(),
            place.endpoint.replace("http:", "https:") + path + "/",
            ["https://other.example", place.endpoint + path],
            "https://webpubsub.azure.com",
        ]
        for audience in audiences:
            answer = await place.ask("PUT", target, [("Host", place.host), bearer(signed(audience))])
            assert answer.status == 200, audience
        connection = place.core.connection(connection_id)
        assert connection is not None
        assert set(connection.groups) == {"room", "a%2Fb"}
        await client.leave()

    with_place(scenario, style)


# ---- The endpoint that counts


@every_style
@pytest.mark.parametrize("named", ["localhost:{port}", "service.example", "service.example:443", "[::1]:{port}"])
def test_another_name_of_the_service_counts_unless_it_was_given_its_endpoint(style: str, named: str) -> None:
    async def scenario(place: Place) -> None:
        host = named.format(port=place.port)
        endpoint = f"https://{host}{place.prefix}"
        target = "/api/hubs/chat/:send"
        for audience, good in ((endpoint, not place.configured), (place.endpoint, True)):
            rest = await place.ask("POST", target, [("Host", host), bearer(signed(audience + target))], body=b"x")
            # The body has no type.
            assert (rest.status != 401) is good, audience
            if not good:
                assert rest.json["message"].endswith(f" The URL of this service is {place.endpoint}.")
            token = place.client_token(endpoint=audience)
            url = f"/client/hubs/chat?access_token={token}"
            opened = await place.ask("GET", url, [("Host", host), *HANDSHAKE])
            assert opened.status == (101 if good else 401), audience

    with_place(scenario, style)


@pytest.mark.parametrize(
    "endpoint", ["http://h?", "http://h/client/hubs/chat?", "http://u@h", "h", "ws://h", "http://"]
)
def test_an_endpoint_is_a_url_of_a_service(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        create_app(ServiceOptions(access_key=KEY), endpoint=endpoint)


# ---- What is signed


@every_style
@pytest.mark.parametrize("named", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:1", "evil.example:443"])
def test_nothing_that_a_peer_sends_is_in_what_is_signed(style: str, named: str) -> None:
    async def scenario(place: Place) -> None:
        host = named.format(port=place.port)
        own = f"{place.endpoint}/client/hubs/chat"
        more = [
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "host=evil.example"),
        ]
        for headers in ([("Host", host)], [("Host", host), *more]):
            negotiated = await place.ask("GET", "/negotiate", headers)
            url = str(negotiated.json["url"])
            address, _, token = url.partition("?access_token=")
            assert audience_of(token) == own
            # The client has to get there from where it is.
            shown = place.host if place.configured else host
            scheme = "ws" if place.configured or len(headers) == 1 or style == "service" else "wss"
            assert address == f"{scheme}://{shown}{place.prefix}/client/hubs/chat"

            target = "/api/hubs/chat/:generateToken"
            signature = bearer(signed("https://webpubsub.azure.com"))
            generated = (await place.ask("POST", target, [*headers, signature])).json["token"]
            assert audience_of(generated) == own
            for good in (token, generated):
                for reached in ("127.0.0.1", "localhost"):
                    client = await Client.open(place.client_url(good, reached), RELIABLE_JSON)
                    assert (await client.receive())["event"] == "connected"
                    await client.leave()

    with_place(scenario, style, ServiceOptions(access_key=KEY, negotiate=True), proxy_headers=True)


@pytest.mark.parametrize("style", STYLES)
def test_the_url_of_a_negotiation_works_under_the_name_that_was_used(style: str) -> None:
    async def scenario(place: Place) -> None:
        url = (await place.ask("GET", "/negotiate?userId=ann", [("Host", f"localhost:{place.port}")])).json["url"]
        client = await Client.open(url)
        assert (await client.receive())["userId"] == "ann"
        await client.leave()

    with_place(scenario, style)


@pytest.mark.parametrize(
    ("server", "audience"),
    [
        (("127.0.0.1", 80), "http://127.0.0.1:80"),
        (("::1", 8080), "http://[::1]:8080"),
        (("192.0.2.1", 8080), "http://192.0.2.1:8080"),
        (("/run/service.sock", None), "http://localhost"),
        (None, "http://localhost"),
    ],
)
def test_what_is_signed_is_accepted_wherever_the_server_listens(
    server: tuple[str, int | None] | None, audience: str
) -> None:
    async def scenario() -> None:
        app = create_app(ServiceOptions(access_key=KEY, negotiate=True))
        answer = await answer_to(app, "/negotiate", server=server, host="named.example")
        token = answer["url"].partition("?access_token=")[2]
        assert audience_of(token) == f"{audience}/client/hubs/chat"
        # The client may come by another address of the same machine: localhost has two.
        for at in (server, ("::1", 80) if server == ("127.0.0.1", 80) else server):
            assert await opens(app, token, server=at, host="other.example")

    asyncio.run(scenario())


def test_a_path_that_the_peer_chooses_is_not_in_what_is_signed() -> None:
    async def scenario() -> None:
        app = create_app(ServiceOptions(access_key=KEY, negotiate=True))
        outer = Starlette(routes=[Mount("/{tenant}/{more:path}/end", app)])
        server = ("127.0.0.1", 8080)
        answer = await answer_to(outer, "/client/hubs/chat/end/negotiate", server=server, host="localhost")
        address, _, token = answer["url"].partition("?access_token=")
        assert address == "ws://localhost/client/hubs/chat/end/client/hubs/chat"
        assert audience_of(token) == "http://127.0.0.1:8080/client/hubs/chat"
        assert await opens(outer, token, server=server, host="localhost", path="/x/y/end/client/hubs/chat")

    asyncio.run(scenario())


# ---- Host


@every_style
def test_a_host_header_is_one_host_and_perhaps_a_port(style: str) -> None:
    async def scenario(place: Place) -> None:
        token = place.client_token()
        client_endpoint = f"/client/hubs/chat?access_token={token}"
        all_of: list[tuple[str, Headers]] = [
            ("/api/health", []),
            ("/negotiate", []),
            ("/", []),
            ("/trace/state", []),
            ("/nothing", []),
            ("/client/hubs/chat", []),
            (client_endpoint, HANDSHAKE),
            ("/api/hubs/chat/:send", HANDSHAKE),
            ("/nothing", HANDSHAKE),
        ]
        wrong: list[Headers] = [
            *([("Host", host.format(host=place.host, prefix=place.prefix))] for host in MALFORMED),
            [],
            [("Host", place.host), ("Host", place.host)],
            [("Host", place.host), ("host", "evil.example")],
        ]
        for target, headers in all_of:
            for hosts in wrong:
                answer = await place.ask("GET", target, [*hosts, *headers])
                assert answer.status == 400, (target, hosts)
            # Without a Host there is no request but those of HTTP 1.0.
            assert (await place.ask("GET", target, headers, version="1.0")).status == 400, target
        assert place.core.connection_count == 0
        for host in (
            place.host,
            f"localhost:{place.port}",
            "service.example",
            "SERVICE_1.example:80",
            "[::1]:8080",
            "h:",
        ):
            assert (await place.ask("GET", "/api/health", [("Host", host)])).status == 200, host
        opened = await place.ask("GET", client_endpoint, [("Host", place.host), *HANDSHAKE])
        assert opened.status == 101

    with_place(scenario, style)


@every_style
@pytest.mark.parametrize("other", ["http://{host}", "http://evil.example", "HTTPS://webpubsub.azure.com", "{host}"])
def test_a_target_is_a_path(style: str, other: str) -> None:
    async def scenario(place: Place) -> None:
        base = other.format(host=place.host) + place.prefix
        target = "/api/hubs/chat/:send"
        for headers in ([("Host", place.host)], [("Host", "evil.example")]):
            for audience in (place.endpoint + target, base + target, base + "/client/hubs/chat"):
                head = [*headers, bearer(signed(audience))]
                answer = await exchange(place.port, request("POST", base + target, head, b"x"))
                assert answer.status in (400, 404), (base, audience)
                url = f"{base}/client/hubs/chat"
                answer = await exchange(place.port, request("GET", url, [*head, *HANDSHAKE]))
                assert answer.status in (400, 403, 404), (base, audience)

    with_place(scenario, style)


def test_pages_of_a_list_go_on_where_the_server_called_the_service() -> None:
    async def scenario(place: Place) -> None:
        clients = [await a_client(place) for _ in range(2)]
        target = "/api/hubs/chat/groups/room/connections?maxpagesize=1"
        host = f"localhost:{place.port}"
        for said, status in ((host, 200), (f"{host}/evil?", 400)):
            answer = await place.ask("GET", target, [("Host", said), bearer(signed(place.endpoint + target))])
            assert answer.status == status
            if status == 200:
                assert answer.json["nextLink"].startswith(f"http://{host}/api/hubs/chat/groups/room/connections?")
        for client, _ in clients:
            await client.leave()

    with_place(scenario, "service")


def test_a_service_that_listens_everywhere_signs_for_an_address_that_it_accepts() -> None:
    async def scenario() -> None:
        async with Service(ServiceOptions(access_key=KEY, negotiate=True), "0.0.0.0") as service:
            answer = await exchange(service.port, request("GET", "/negotiate", [("Host", "service.example")]))
            token = answer.json["url"].partition("?access_token=")[2]
            string = ConnectionString.parse(service.connection_string)
            assert audience_of(token) == f"{string.endpoint}/client/hubs/chat"
            client = await Client.open(f"ws://127.0.0.1:{service.port}/client/hubs/chat?access_token={quote(token)}")
            assert (await client.receive())["event"] == "connected"
            await client.leave()

    asyncio.run(scenario())


def test_roles_are_those_of_the_token_and_not_of_the_request() -> None:
    """Whoever holds a token for a client has what it says and cannot make another."""

    async def scenario(place: Place) -> None:
        client = await Client.open(place.client_url(place.client_token()) + "&role=" + ROLES[1], JSON)
        await client.receive()
        await client.send(type="sendToGroup", group="room", data=1, ackId=1)
        assert (await client.receive())["error"]["name"] == "Forbidden"
        await client.leave()

    with_place(scenario, "service")
