"""What is fuzzed in the local service; see targets.py."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from limpet_core.protocol.json import decode
from limpet_core.protocol.messages import Broken
from limpet_core.service import (
    JSON,
    RELIABLE_JSON,
    ClientGrant,
    Filter,
    InvalidFilter,
    InvalidMetadata,
    Limits,
    Publication,
    RawMode,
    ServiceCore,
    Transport,
    group_publication,
    metadata_from_headers,
    server_publication,
)
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import GroupChange, OperationError, Query, group_name, hub_name, payload
from limpet_core.service.odata.filters import select


def new_service() -> ServiceCore:
    ids, tokens = itertools.count(1), itertools.count(1)
    return ServiceCore(
        Limits(retained_messages=20, max_message_size=5000),
        new_connection_id=lambda: f"c{next(ids)}",
        issue_reconnection_token=lambda connection_id: f"{connection_id}/{next(tokens)}",
        check_reconnection_token=lambda token, connection_id: token.split("/")[0] == connection_id,
    )


def messages_into_service(data: bytes) -> None:
    """Any messages from a client, one per line: nothing raises, and our own client could read all there is to hear."""
    service = new_service()
    grant = ClientGrant(None, ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"), ("g",))
    bystander = service.connect("chat", RELIABLE_JSON, grant, 0.0)
    client = service.connect("chat", RELIABLE_JSON, grant, 0.0)
    heard: list[dict[str, Any]] = []

    def drain() -> None:
        for transport in service.transports_with_output():
            for message in transport.messages_to_send():
                decoded = strictly(message)
                assert isinstance(decoded, dict)
                assert not isinstance(decode(message), Broken), "our own client can read it"
                if transport is bystander and "sequenceId" in decoded:
                    heard.append(decoded)
            if transport.close is not None:
                assert transport is not bystander or len(heard) >= 20, "one client does no harm to another"

    drain()
    for number, line in enumerate(data.split(b"\n")):
        service.receive(client, line, float(number))
        drain()
        service.wake(float(number))
        drain()
        if client.close is not None:
            client = Transport([], service.limits, None)  # what comes now is for nobody
            client = service.connect("chat", RELIABLE_JSON, grant, float(number))
            drain()
    assert [message["sequenceId"] for message in heard] == list(range(1, len(heard) + 1))


def strictly(message: bytes) -> Any:
    """What a strict decoder makes of JSON: there is no nan in it, and all of its text can be sent on."""
    decoded = json.loads(message.decode(), parse_int=float, parse_constant=int)
    json.dumps(decoded, ensure_ascii=False).encode()
    return decoded


# ---- What application servers ask for


def requests_into_service(data: bytes) -> None:
    """Any request of an application server: it is carried out, or refused in words and nothing has changed.

    A line with method, path and query, lines with headers, an empty line, the body.
    """
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, target = first.partition(" ")
    path, _, query = target.partition("?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    core = new_service()
    core.connect("chat", RELIABLE_JSON, ClientGrant("ann", ("webpubsub.sendToGroups.r*",), ("room",)), 0.0)
    core.connect("chat", JSON, ClientGrant("ann", ("webpubsub.joinLeaveGroup",), ("room", "hall")), 0.0)
    core.connect("chat", None, ClientGrant(None), 0.0, RawMode())
    heard(core)
    before = picture(core)
    refusal: OperationError | None = None
    try:
        pairs = parse_qsl(query, keep_blank_values=True)
        Request(core, [unquote(part) for part in path.split("/")], Query(pairs), dict(headers), body).answer(method)
    except OperationError as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert refusal.code
        assert refusal.message.endswith(".")
        assert picture(core) == before
        assert heard(core) == []
    for message in heard(core):
        assert message["type"] in ("message", "system")
        if message.get("dataType") == "binary":
            assert base64.b64decode(message["data"]) == body


@dataclass
class Request:
    """One request of the data plane, read and carried out by the parts that the HTTP server uses."""

    core: ServiceCore
    path: list[str]
    query: Query
    headers: dict[str, str]
    body: bytes

    def answer(self, method: str) -> None:
        core, query, body = self.core, self.query, self.body
        query.api_version()
        match method, self.path:
            case "POST", ["hubs", hub, ":send"]:
                core.send_to_all(hub_name(hub), self.publication(), query.filter(), set(query.all("excluded")))
            case "POST", ["hubs", hub, "groups", group, ":send"]:
                publication = self.publication(group_name(group))
                core.send_to_group(hub_name(hub), group, publication, query.filter(), set(query.all("excluded")))
            case "POST", ["hubs", hub, "users", user, ":send"]:
                core.send_to_user(hub_name(hub), user, self.publication(), query.filter(), set(query.all("excluded")))
            case "POST", ["hubs", hub, ":closeConnections"]:
                excluded = set(query.all("excluded"))
                operations.close(core, core.hub(hub_name(hub)).connections.values(), query.one("reason"), excluded)
            case "POST", ["hubs", hub, ":addToGroups" | ":removeFromGroups" as name]:
                change = GroupChange.from_body(self.headers.get("content-type"), body)
                chosen = select(core.hub(hub_name(hub)).connections.values(), change.filter)
                adds = name == ":addToGroups"
                (operations.add_to_groups if adds else operations.remove_from_groups)(core, chosen, change.groups)
            case "GET", ["hubs", hub, "groups", group, "connections"]:
                size, top = query.integer("maxpagesize", 1, operations.MAX_PAGE), query.integer("top", 1, 2**31 - 1)
                token = query.one("continuationToken")
                page = operations.list_group(core, hub_name(hub), group_name(group), size, top, token, b"key")
                assert len(page.connections) <= min(size or operations.MAX_PAGE, top or operations.MAX_PAGE)
            case "PUT", ["hubs", hub, "groups", group, "connections", connection]:
                operations.add_connection_to_group(core, hub_name(hub), connection, group_name(group))
            case "PUT", ["hubs", hub, "users", user, "groups", group]:
                operations.add_user_to_group(core, hub_name(hub), user, group_name(group))
            case "DELETE", ["hubs", hub, "users", user, "groups"]:
                operations.remove_from_groups(core, core.hub(hub_name(hub)).user(user))
            case "PUT" | "DELETE" | "HEAD", ["hubs", hub, "permissions", name, "connections", connection]:
                group = group_name(query.one("targetName"))
                if method == "HEAD":
                    operations.has_permission(core, hub_name(hub), name, connection, group)
                    return
                grants = method == "PUT"
                (operations.grant if grants else operations.revoke)(core, hub_name(hub), name, connection, group)
                assert operations.has_permission(core, hub, name, connection, group) is (
                    grants and bool(operations.find(core, hub, connection))
                )
            case _:
                raise OperationError(404, "NotFound", "There is no such operation.")

    def publication(self, group: str | None = None) -> Publication:
        data_type, data = payload(self.headers.get("content-type"), self.body)
        try:
            metadata = metadata_from_headers(self.headers.items())
        except InvalidMetadata as error:
            raise OperationError(400, "Error.BadRequest", f"{error}.") from None
        assert self.query.time_to_live() >= 0
        if group is None:
            return server_publication(data_type, data, metadata)
        return group_publication(group, None, data_type, data, metadata)


def picture(core: ServiceCore) -> list[tuple[object, ...]]:
    """Who is there, in which groups, and may do what."""
    return [
        (
            connection.connection_id,
            tuple(connection.groups),
            connection.sequence_id,
            connection.permissions.send.allows("room"),
            connection.permissions.join_leave.allows("hall"),
        )
        for hub in core.hubs
        for connection in hub.connections.values()
    ]


def heard(core: ServiceCore) -> list[dict[str, Any]]:
    """What all clients but the raw ones are told: JSON, whatever it was made of."""
    messages: list[dict[str, Any]] = []
    for transport in core.transports_with_output():
        sent = transport.messages_to_send()
        if transport.connection is not None and transport.connection.raw is None:
            assert not any(isinstance(decode(message), Broken) for message in sent), "our own client can read it"
            messages += [strictly(message) for message in sent]
    return messages


# ---- Filters


@dataclass
class Somebody:
    """What a filter looks at."""

    connection_id: str
    user_id: str | None
    subprotocol: str | None
    groups: tuple[str, ...]


PEOPLE = (
    Somebody("c1", "ann", RELIABLE_JSON, ("room", "hall")),
    Somebody("c2", "Ben", JSON, ()),
    Somebody("", None, None, ("it's", "")),
)


def filters_on_connections(data: bytes) -> None:
    """Any text: it is refused in words, or a condition that has an answer for everybody and agrees with itself."""
    text = data.decode("utf-8", "replace")
    try:
        condition = Filter(text)
    except InvalidFilter:
        return
    answers = [condition.matches(somebody) for somebody in PEOPLE]
    for changed, expected in rephrased(text, answers):
        try:
            condition = Filter(changed)
        except InvalidFilter:
            continue  # the rest would be too deep, or too much
        assert [condition.matches(somebody) for somebody in PEOPLE] == expected, changed


def rephrased(text: str, answers: list[bool]) -> Iterable[tuple[str, list[bool]]]:
    """The same filter in other words, and others whose answers follow from its own."""
    yield f"({text})", answers
    yield f"({text}) and ({text})", answers
    yield f"({text}) or false", answers
    yield f"({text}) and not ({text})", [False] * len(answers)
    yield f"({text}) and null", [False] * len(answers)
    yield f"({text}) or true", [True] * len(answers)
