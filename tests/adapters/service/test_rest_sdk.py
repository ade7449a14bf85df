"""The official server SDK for Python, unchanged, against the service over real sockets: every operation it has."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.messaging.webpubsubservice import WebPubSubServiceClient
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient as AsyncServiceClient
from tests.adapters.service.sockets import ROLES, Client, with_service

from limpet.service import Service, ServiceOptions
from limpet_core.service import JSON, RELIABLE_JSON

KEY = "k" * 32
SECOND = "s" * 32


class Backend:
    """An application server with the SDK, each call in a thread since it blocks."""

    def __init__(self, service: Service, **options: Any) -> None:
        self.service = service
        self.sdk = WebPubSubServiceClient.from_connection_string(
            service.connection_string, "chat", retry_total=0, **options
        )

    async def __call__(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(getattr(self.sdk, operation), *args, **kwargs)

    async def client(self, subprotocol: str = JSON, **grant: Any) -> tuple[Client, str]:
        """Let a client in with a URL made by the SDK; return it and its connection id."""
        token = await self("get_client_access_token", **grant)
        client = await Client.open(token["url"], subprotocol)
        return client, (await client.receive())["connectionId"]


def with_backend(scenario: Callable[[Backend], Awaitable[None]]) -> None:
    async def run(service: Service) -> None:
        backend = Backend(service)
        try:
            await scenario(backend)
        finally:
            backend.sdk.close()

    with_service(run, ServiceOptions(access_key=KEY, secondary_access_key=SECOND))


async def data_of(*clients: Client) -> list[object]:
    return [(await client.receive())["data"] for client in clients]


async def silent(*clients: Client) -> None:
    """Check that nothing has arrived: the next message is the answer to a ping."""
    for client in clients:
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


# ---- Messages


@pytest.mark.parametrize(
    ("message", "content_type", "data_type", "data"),
    [
        ({"a": [1, None, "ü"]}, "application/json", "json", {"a": [1, None, "ü"]}),
        ("a string", "application/json", "json", "a string"),
        ("plain ü", "text/plain", "text", "plain ü"),
        (BytesIO(b"\x00\xff"), "application/octet-stream", "binary", "AP8="),
    ],
    ids=["json", "json string", "text", "binary"],
)
def test_send_every_kind_of_message_to_everybody(
    message: object, content_type: str, data_type: str, data: object
) -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client(user_id="ann", groups=["room"])
        for operation, target in (
            ("send_to_all", ()),
            ("send_to_group", ("room",)),
            ("send_to_user", ("ann",)),
            ("send_to_connection", (connection_id,)),
        ):
            if isinstance(message, BytesIO):
                message.seek(0)
            await backend(operation, *target, message, content_type=content_type)
            received = await client.receive()
            assert (received["type"], received["dataType"], received["data"]) == ("message", data_type, data)
            assert received["from"] == ("group" if operation == "send_to_group" else "server")
            assert (received.get("group"), received.get("fromUserId")) == (
                ("room", None) if operation == "send_to_group" else (None, None)
            )
        await client.leave()

    with_backend(scenario)


def test_excluded_and_filter_choose_who_gets_a_message() -> None:
    async def scenario(backend: Backend) -> None:
        ann, ann_id = await backend.client(user_id="ann", groups=["room"])
        ben, ben_id = await backend.client(user_id="ben", groups=["room", "it's & that"])
        await backend("send_to_all", 1, excluded=[ann_id, "nobody"])
        await backend("send_to_group", "room", 2, excluded=[ben_id])
        await backend("send_to_all", 3, filter="'it''s & that' in groups")
        await backend("send_to_group", "room", 4, filter="userId in ('ann') and not (connectionId eq null)")
        await backend("send_to_user", "ben", 5, filter="length(groups) gt 1")
        await backend("send_to_user", "ben", 6, filter="length(groups) gt 2")
        await backend("send_to_all", 7, excluded=[ann_id], filter="userId ne 'ben'")
        assert await data_of(ann, ann) == [2, 4]
        assert await data_of(ben, ben, ben) == [1, 3, 5]
        await silent(ann, ben)
        with pytest.raises(HttpResponseError, match=r"Invalid filter") as raised:
            await backend("send_to_all", 8, filter="userId = 'ann'")
        assert raised.value.status_code == 400
        assert raised.value.error is not None
        assert raised.value.error.code == "Error.BadRequest"
        await ann.leave()
        await ben.leave()

    with_backend(scenario)


def test_sending_to_nobody_is_no_error() -> None:
    async def scenario(backend: Backend) -> None:
        await backend("send_to_all", 1)
        for operation in ("send_to_group", "send_to_user", "send_to_connection"):
            await backend(operation, "nobody", 1)

    with_backend(scenario)


def test_metadata_and_time_to_live_travel_with_a_message() -> None:
    async def scenario(backend: Backend) -> None:
        client, _ = await backend.client(subprotocol=RELIABLE_JSON)
        headers = {"X-WebPubSub-Metadata-Trace-Id": "abc", "X-WebPubSub-Metadata-b": "x, y "}
        await backend("send_to_all", 1, headers=headers, params={"messageTtlSeconds": "60"})
        assert (await client.receive())["metadata"] == {"trace-id": "abc", "b": "y"}
        with pytest.raises(HttpResponseError, match="messageTtlSeconds"):
            await backend("send_to_all", 2, params={"messageTtlSeconds": "301"})
        await client.leave()

    with_backend(scenario)


# ---- Groups and connections


def test_groups_of_a_connection_and_of_a_user() -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client(user_id="ann ü")
        await backend("add_connection_to_group", "a b", connection_id)
        await backend("add_user_to_group", "ß.ä", "ann ü")
        await backend("send_to_group", "a b", 1)
        await backend("send_to_group", "ß.ä", 2)
        assert await data_of(client, client) == [1, 2]
        assert await backend("group_exists", "a b")
        assert not await backend("group_exists", "other")

        await backend("remove_connection_from_group", "a b", connection_id)
        await backend("remove_user_from_group", "ß.ä", "ann ü")
        assert not await backend("group_exists", "a b")
        assert not await backend("group_exists", "ß.ä")

        for remove, target in (
            ("remove_connection_from_all_groups", connection_id),
            ("remove_user_from_all_groups", "ann ü"),
        ):
            await backend("add_user_to_group", "one", "ann ü")
            await backend("add_user_to_group", "two", "ann ü")
            await backend(remove, target)
            assert not await backend("group_exists", "one")
            assert not await backend("group_exists", "two")
        # Whoever is not there cannot join, and need not leave.
        with pytest.raises(ResourceNotFoundError):
            await backend("add_connection_to_group", "room", "nobody")
        with pytest.raises(ResourceNotFoundError):
            await backend("add_user_to_group", "room", "nobody")
        await backend("remove_connection_from_group", "room", "nobody")
        await backend("remove_user_from_group", "room", "nobody")
        await backend("remove_connection_from_all_groups", "nobody")
        await backend("remove_user_from_all_groups", "nobody")
        await client.leave()

    with_backend(scenario)


def test_who_is_there() -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client(user_id="ann", groups=["room"])
        questions = {"connection_exists": connection_id, "user_exists": "ann", "group_exists": "room"}
        for question, about in questions.items():
            assert await backend(question, about) is True
            assert await backend(question, "nobody") is False
        await backend("close_connection", connection_id)
        assert await client.close_code() == 1000
        for question, about in questions.items():
            assert await backend(question, about) is False

    with_backend(scenario)


def test_the_members_of_a_group_in_pages() -> None:
    async def scenario(backend: Backend) -> None:
        clients = [await backend.client(user_id=f"user {n}" if n else None, groups=["a room"]) for n in range(5)]
        expected = sorted(connection_id for _, connection_id in clients)
        users = {connection_id: f"user {n}" if n else None for n, (_, connection_id) in enumerate(clients)}

        def listed(**options: Any) -> Iterator[list[Any]]:
            return backend.sdk.list_connections(group="a room", **options).by_page()

        def pages(**options: Any) -> list[list[str]]:
            return [[member.connection_id for member in page] for page in listed(**options)]

        everybody = await asyncio.to_thread(lambda: list(backend.sdk.list_connections(group="a room")))
        assert {member.connection_id: member.user_id for member in everybody} == users
        for options, sizes in [
            ({}, [5]),
            ({"top": 3}, [3]),
            ({"maxpagesize": 2}, [2, 2, 1]),
            ({"maxpagesize": 2, "top": 3}, [2, 1]),
            ({"maxpagesize": 2, "top": 4}, [2, 2]),
            ({"maxpagesize": 5}, [5]),
        ]:
            found = await asyncio.to_thread(pages, **options)
            assert [len(page) for page in found] == sizes, options
            assert list(itertools.chain(*found)) == expected[: sum(sizes)]
        nobody = await asyncio.to_thread(lambda: list(backend.sdk.list_connections(group="nobody")))
        assert nobody == []
        for client, _ in clients:
            await client.leave()

    with_backend(scenario)


# ---- Closing


@pytest.mark.parametrize(
    ("operation", "target"),
    [
        ("close_connection", True),
        ("close_user_connections", "ann"),
        ("close_group_connections", "room"),
        ("close_all_connections", None),
    ],
)
@pytest.mark.parametrize("reason", [None, "Bye, Bär"])
def test_close(operation: str, target: str | bool | None, reason: str | None) -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client(user_id="ann", groups=["room"])
        spared, spared_id = await backend.client(user_id="ann", groups=["room"])
        arguments = {None: [], True: [connection_id]}.get(target, [target])
        options: dict[str, Any] = {} if reason is None else {"reason": reason}
        if target is not True:
            options["excluded"] = [spared_id]
        await backend(operation, *arguments, **options)
        told = "Application server closed the connection." + ("" if reason is None else f" Reason: {reason}")
        assert await client.receive() == {"type": "system", "event": "disconnected", "message": told}
        assert await client.close_code() == 1000
        assert client.websocket.close_reason == ""
        await silent(spared)
        await spared.leave()

    with_backend(scenario)


def test_closing_nobody_is_no_error_and_a_long_reason_is_whole() -> None:
    async def scenario(backend: Backend) -> None:
        await backend("close_all_connections")
        for operation in ("close_connection", "close_user_connections", "close_group_connections"):
            await backend(operation, "nobody")
        client, connection_id = await backend.client()
        await backend("close_connection", connection_id, reason="é" * 200)
        said = "Application server closed the connection. Reason: " + "é" * 200
        assert (await client.receive())["message"] == said
        assert await client.close_code() == 1000
        assert client.websocket.close_reason == ""

    with_backend(scenario)


# ---- Permissions and tokens


def test_permissions() -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client()
        for number, (permission, request) in enumerate(
            [("joinLeaveGroup", "joinGroup"), ("sendToGroup", "sendToGroup")], 1
        ):

            async def allowed(name: str = request, number: int = number) -> bool:
                more = {"data": 1, "noEcho": True} if name == "sendToGroup" else {}
                await client.send(type=name, group="a.b c", ackId=number * 10, **more)
                return bool((await client.receive())["success"])

            assert not await backend("has_permission", permission, connection_id, target_name="a.b c")
            assert not await allowed()
            await backend("grant_permission", permission, connection_id, target_name="a.b c")
            assert await backend("has_permission", permission, connection_id, target_name="a.b c")
            assert not await backend("has_permission", permission, connection_id, target_name="a.b")
            assert await allowed()
            await backend("revoke_permission", permission, connection_id, target_name="a.b c")
            assert not await backend("has_permission", permission, connection_id, target_name="a.b c")
        assert not await backend("has_permission", "sendToGroup", "nobody", target_name="room")
        with pytest.raises(ResourceNotFoundError):
            await backend("grant_permission", "sendToGroup", "nobody", target_name="room")
        await backend("revoke_permission", "sendToGroup", "nobody", target_name="room")
        with pytest.raises(HttpResponseError, match="group name"):
            await backend("grant_permission", "sendToGroup", connection_id)
        await client.leave()

    with_backend(scenario)


def test_permissions_have_a_limit() -> None:
    async def scenario(backend: Backend) -> None:
        roles = [f"webpubsub.sendToGroup.{n}" for n in range(1000)]
        client, connection_id = await backend.client(roles=roles)
        with pytest.raises(ResourceExistsError):
            await backend("grant_permission", "sendToGroup", connection_id, target_name="one more")
        await client.leave()

    with_backend(scenario)


class Entra:
    """A stand-in for a credential of Microsoft Entra: a token for the audience of all data planes."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        assert scopes == ("https://webpubsub.azure.com/.default",)
        expires = int(time.time()) + 60
        return AccessToken(jwt.encode({"aud": "https://webpubsub.azure.com", "exp": expires}, KEY, "HS256"), expires)


def test_tokens_are_made_by_the_service_for_credentials_without_a_key() -> None:
    async def scenario(backend: Backend) -> None:
        sdk = WebPubSubServiceClient(backend.service.endpoint, "chat", Entra(), retry_total=0)
        answer = await asyncio.to_thread(
            sdk.get_client_access_token,
            user_id="ann",
            roles=list(ROLES),
            groups=["room", "hall"],
            minutes_to_expire=5,
            enforce_https=False,
        )
        claims = jwt.decode(answer["token"], KEY, ["HS256"], audience=f"{backend.service.endpoint}/client/hubs/chat")
        assert (claims["sub"], claims["role"]) == ("ann", list(ROLES))
        assert claims["exp"] - claims["iat"] == 300
        client = await Client.open(answer["url"], JSON)
        assert (await client.receive())["userId"] == "ann"
        await asyncio.to_thread(sdk.send_to_group, "hall", "hi", enforce_https=False)
        assert await data_of(client) == ["hi"]
        with pytest.raises(HttpResponseError, match="MQTT client tokens are not supported") as raised:
            await asyncio.to_thread(sdk.get_client_access_token, client_protocol="MQTT", enforce_https=False)
        assert raised.value.status_code == 501
        sdk.close()
        await client.leave()

    with_backend(scenario)


def test_keys_both_good_ones_and_a_wrong_one() -> None:
    async def scenario(backend: Backend) -> None:
        for key, good in ((KEY, True), (SECOND, True), ("w" * 32, False)):
            text = f"Endpoint={backend.service.endpoint};AccessKey={key};Version=1.0;"
            sdk = WebPubSubServiceClient.from_connection_string(text, "chat", retry_total=0, user="admin")
            if good:
                assert not await asyncio.to_thread(sdk.user_exists, "ann")
            else:
                with pytest.raises(ClientAuthenticationError):
                    await asyncio.to_thread(sdk.send_to_all, "hi")
            sdk.close()

    with_backend(scenario)


def test_a_reverse_proxy_endpoint() -> None:
    async def scenario(backend: Backend) -> None:
        # The proxy passes requests on to the service; here its name is just another one of the service's.
        proxy = backend.service.endpoint.replace("127.0.0.1", "localhost")
        sdk = Backend(backend.service, reverse_proxy_endpoint=proxy)
        client, _ = await backend.client()
        await sdk("send_to_all", "by way of a proxy")
        assert await data_of(client) == ["by way of a proxy"]
        sdk.sdk.close()
        await client.leave()

    with_backend(scenario)


def test_the_asynchronous_client() -> None:
    async def scenario(backend: Backend) -> None:
        client, connection_id = await backend.client(user_id="ann", groups=["room"])
        async with AsyncServiceClient.from_connection_string(
            backend.service.connection_string, "chat", retry_total=0
        ) as sdk:
            await sdk.send_to_group("room", json.dumps({"a": 1}), content_type="text/plain")
            assert await data_of(client) == ['{"a": 1}']
            members = [member async for member in sdk.list_connections(group="room")]
            assert [(member.connection_id, member.user_id) for member in members] == [(connection_id, "ann")]
            assert await sdk.connection_exists(connection_id)
            url = urlsplit((await sdk.get_client_access_token())["url"])
            assert parse_qs(url.query)["access_token"]
        await client.leave()

    with_backend(scenario)
