"""Every operation of the data plane that the official service packages offer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.interop.clients import KINDS, OfficialClient, Refused
from tests.interop.services import RestError
from tests.interop.stage import Stage

each_kind = pytest.mark.parametrize("kind", KINDS)
# A slash in a path stays %2F (emulator), so there is none here.
GROUPS = ("room", "a b+c?d#e&f%2F", "\u00e4\u6f22\U0001f600", "x" * 1024)


def heard(stage: Stage, kind: str, target: str, **options: Any) -> list[str]:
    """Which of the users ann, bob and eve get a message that the server sends, and what then is sent to all."""
    clients = {name: stage.open(kind, name, groups=["room"]) for name in ("ann", "bob", "eve")}
    service = stage.service(kind)
    if "excluded" in options:
        options["excluded"] = [clients[name].connection_id for name in options["excluded"]]
    service.send(target.replace("ID", clients["bob"].connection_id), "for some", **options)
    service.send("all", "for all")
    # The Python clients do not keep the order, so the ids have to tell.
    missed = {name: told(client) == ("for all", 1) for name, client in clients.items()}
    return [name for name in clients if not missed[name]]


def told(client: OfficialClient) -> tuple[str, int | None]:
    """One of the messages that a client got, and its id."""
    message = client.messages(1)[-1]
    return message.data, message.sequence_id


@pytest.mark.parametrize(
    ("target", "options", "receivers"),
    [
        ("all", {}, ["ann", "bob", "eve"]),
        ("all", {"excluded": ["ann", "eve"]}, ["bob"]),
        ("all", {"filter": "userId eq 'ann'"}, ["ann"]),
        ("group:room", {"ttl": 60}, ["ann", "bob", "eve"]),
        ("group:room", {"excluded": ["bob"]}, ["ann", "eve"]),
        ("group:room", {"excluded": ["bob"], "filter": "userId ne 'eve'"}, ["ann"]),
        ("group:empty", {}, []),
        ("user:bob", {}, ["bob"]),
        ("user:nobody", {}, []),
        ("user:bob", {"filter": "userId eq 'ann'"}, []),
        ("connection:ID", {"ttl": 300}, ["bob"]),
        ("connection:unknown", {}, []),
    ],
    ids=str,
)
@each_kind
def test_messages_reach_their_target(
    stage: Stage, kind: str, target: str, options: dict[str, Any], receivers: list[str]
) -> None:
    assert heard(stage, kind, target, **options) == receivers


@each_kind
def test_messages_that_are_refused(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    for options in ({"filter": "userId eq"}, {"ttl": 301}):
        with pytest.raises(RestError) as refused:
            service.send("all", "hi", **options)
        assert refused.value.status == 400


@each_kind
def test_whether_a_target_exists(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    client = stage.open(kind, "ann", groups=["room"])
    there = ("group:room", "user:ann", f"connection:{client.connection_id}")
    for target in there:
        assert service.exists(target)
        assert not service.exists(target + "x")
    service.close("all")
    client.events.wait("disconnected")
    assert not service.exists(there[2])


@each_kind
def test_connections_are_added_to_groups_and_removed(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    client = stage.open(kind, "ann", roles=[])
    member = f"connection:{client.connection_id}"
    for group in GROUPS:
        service.add(member, group)
    assert set(stage.groups(client.connection_id)) == set(GROUPS)
    for count, group in enumerate(GROUPS, 1):
        service.send(f"group:{group}", "hi")
        assert client.messages(count)[-1].group == group
    service.remove(member, "room")
    service.remove(member, "room")
    assert set(stage.groups(client.connection_id)) == set(GROUPS[1:])
    service.remove(member)
    assert stage.groups(client.connection_id) == []
    with pytest.raises(RestError) as refused:
        service.add("connection:unknown", "room")
    assert refused.value.status == 404


@each_kind
def test_users_are_added_to_groups_and_removed_with_all_their_connections(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    clients = [stage.open(kind, name) for name in ("ann", "ann", "bob")]
    for group in ("room", "other"):
        service.add("user:ann", group)
    assert [stage.groups(client.connection_id) for client in clients] == [["room", "other"]] * 2 + [[]]
    service.remove("user:ann", "room")
    assert stage.groups(clients[0].connection_id) == ["other"]
    service.remove("user:ann")
    assert [stage.groups(client.connection_id) for client in clients] == [[], [], []]


@each_kind
def test_members_in_pages(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    names = ["ann", "bob", None, "eve", "joe"]
    clients = {stage.open(kind, name, groups=["room"]).connection_id: name for name in names}
    everybody = sorted(clients.items())
    assert service.pages("room") == [everybody]
    assert service.pages("room", page_size=2) == [everybody[:2], everybody[2:4], everybody[4:]]
    assert service.pages("room", page_size=2, top=3) == [everybody[:2], everybody[2:3]]
    assert service.pages("empty") == [[]]
    with pytest.raises(RestError):
        service.pages("room", page_size=201)


@each_kind
def test_permissions_are_granted_and_revoked(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    client = stage.open(kind, roles=[])
    identity = client.connection_id
    for permission, request in (("joinLeaveGroup", client.join), ("sendToGroup", lambda group: client.send(group, ""))):
        for group in GROUPS[:3]:
            assert not service.may(identity, permission, group)
            service.grant(identity, permission, group)
            assert service.may(identity, permission, group)
            request(group)
            service.revoke(identity, permission, group)
            assert not service.may(identity, permission, group)
            with pytest.raises(Refused, match="Forbidden"):
                request(group)
    with pytest.raises(RestError) as refused:
        service.grant("unknown", "sendToGroup", "room")
    assert refused.value.status == 404


@each_kind
def test_close_only_whom_it_concerns(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    ann, bob = stage.open(kind, "ann"), stage.open(kind, "bob", groups=["room"])
    for target in ("group:empty", "user:nobody", "connection:unknown"):
        service.close(target)
    service.close("group:room", "one")
    bob.events.wait("connected", 2)
    service.close("user:bob", "two")
    bob.events.wait("connected", 3)
    closed = "Application server closed the connection. Reason: "
    assert [event["message"] for event in bob.events.of("disconnected")] == [f"{closed}one", f"{closed}two"]
    assert not ann.events.of("disconnected")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "js"])
def test_close_all_but_some(stage: Stage, kind: str) -> None:
    ann, bob = stage.open(kind, "ann"), stage.open(kind, "bob")
    stage.service(kind).close("all", excluded=[ann.connection_id])
    bob.events.wait("disconnected")
    assert not ann.events.of("disconnected")


@each_kind
def test_hubs_are_apart_and_case_does_not_matter(stage: Stage, kind: str) -> None:
    client = stage.open(kind, "ann")
    stage.service(kind, "other").send("all", "for another hub")
    stage.service(kind, "CHAT").send("all", "for this hub")
    assert [message.data for message in client.messages(1)] == ["for this hub"]


@each_kind
def test_a_wrong_key_is_refused(stage: Stage, kind: str) -> None:
    service = stage.service(
        kind, connection_string=stage.backend.connection_string.replace("AccessKey=", "AccessKey=x")
    )
    with pytest.raises(RestError) as refused:
        service.send("all", "hi")
    assert refused.value.status == 401
