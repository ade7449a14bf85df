"""Groups, permissions and acks as the official clients see them."""

from __future__ import annotations

import pytest
from tests.interop.clients import KINDS, JavaScriptClient, Refused
from tests.interop.events import Message
from tests.interop.stage import Stage

each_kind = pytest.mark.parametrize("kind", KINDS)
JOIN, SEND = "webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"


@each_kind
def test_without_a_role_everything_is_forbidden(stage: Stage, kind: str) -> None:
    client = stage.open(kind, roles=[])
    for request in (client.join, client.leave, lambda group: client.send(group, "hi")):
        with pytest.raises(Refused) as refused:
            request("room")
        assert refused.value.name == "Forbidden"


@pytest.mark.parametrize(
    ("suffix", "allowed", "forbidden"),
    [
        ("Group", ["room", "a.b"], []),
        ("Group.room.1", ["room.1"], ["room", "room.11", "Room.1"]),
        ("Groups.room.*", ["room.1", "room."], ["room.1.2", "room"]),
        ("Groups.room.?", ["room.1"], ["room.12", "room.."]),
        ("Groups.room.**", ["room.1", "room.1.2"], ["rooms"]),
        (r"Groups.room\*", ["room*"], ["room1"]),
    ],
    ids=["all", "literal", "star", "question mark", "two stars", "escaped"],
)
@each_kind
def test_roles_decide(stage: Stage, kind: str, suffix: str, allowed: list[str], forbidden: list[str]) -> None:
    client = stage.open(kind, roles=[f"webpubsub.joinLeave{suffix}", f"webpubsub.sendTo{suffix}"])
    for group in allowed:
        client.join(group)
        client.send(group, "hi")
        assert client.messages(1)[-1].group is not None
        client.leave(group)
        client.leave(group)
    assert [message.group for message in client.messages(len(allowed))] == allowed
    for group in forbidden:
        for request in (client.join, client.leave, lambda group: client.send(group, "hi")):
            with pytest.raises(Refused, match="Forbidden"):
                request(group)


@each_kind
def test_joining_twice_and_leaving_what_was_not_joined_succeed(stage: Stage, kind: str) -> None:
    client = stage.open(kind)
    client.leave("room")
    client.join("room")
    client.join("room")
    client.send("room", "once")
    client.leave("room")
    client.send("room", "not for us")
    client.join("room")
    client.send("room", "again")
    assert [message.data for message in client.messages(2)] == ["once", "again"]


@each_kind
def test_groups_of_the_token_are_joined_from_the_start(stage: Stage, kind: str) -> None:
    client = stage.open(kind, roles=[f"{SEND}.room"], groups=["room", "other"])
    client.send("room", "hi")
    assert [message.group for message in client.messages(1)] == ["room"]


@each_kind
def test_a_repeated_ack_id_is_not_executed_twice(stage: Stage, kind: str) -> None:
    client = stage.open(kind)
    assert client.join("room", ack_id=1) in (False, None)
    assert client.join("elsewhere", ack_id=1) in (True, None), "all requests share the ids"
    client.send("room", "once", ack_id=7)
    assert client.send("room", "twice", ack_id=7) in (True, None)
    client.send("elsewhere", "not a member")
    client.send("room", "end")
    assert [message.data for message in client.messages(2)] == ["once", "end"]


@each_kind
def test_a_forbidden_request_is_executed_once_it_is_allowed(stage: Stage, kind: str) -> None:
    client = stage.open(kind, roles=[])
    with pytest.raises(Refused, match="Forbidden"):
        client.join("room", ack_id=5)
    stage.service(kind).grant(client.connection_id, "joinLeaveGroup", "room")
    assert client.join("room", ack_id=5) in (False, None)
    assert client.join("room", ack_id=5) in (True, None)


def test_the_newest_thousand_ack_ids_are_remembered(stage: Stage) -> None:
    client = stage.open("js")
    assert isinstance(client, JavaScriptClient)
    assert client.burst("room", 1, 1001) == 0
    assert client.burst("room", 2, 1000) == 1000, "these are remembered"
    assert client.burst("room", 1, 1) == 0, "the first one is forgotten"


@each_kind
def test_echo_and_no_echo(stage: Stage, kind: str) -> None:
    ann, bob = stage.open(kind, "ann"), stage.open(kind, "bob")
    ann.join("room")
    bob.join("room")
    ann.send("room", "for bob", no_echo=True)
    ann.send("room", "for all")
    assert ann.messages(1) == [Message("room", "text", "for all", "ann", 1)]
    assert bob.messages(2) == [
        Message("room", "text", "for bob", "ann", 1),
        Message("room", "text", "for all", "ann", 2),
    ]


@each_kind
def test_the_sender_need_not_be_a_member_nor_ask_for_an_answer(stage: Stage, kind: str) -> None:
    ann, bob = stage.open(kind, None), stage.open(kind, "bob")
    bob.join("room")
    ann.send("empty", "nobody hears it")
    ann.toss("room", "hi")
    assert bob.messages(1) == [Message("room", "text", "hi", None, 1)]


@each_kind
def test_what_the_server_sends_to_a_group_comes_from_the_group(stage: Stage, kind: str) -> None:
    client = stage.open(kind)
    client.join("room")
    stage.service(kind).send("group:room", "hi")
    assert client.messages(1) == [Message("room", "text", "hi", None, 1)]
