"""Connections that drop: replay, refused recoveries, rejoined groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.interop.clients import KINDS, JavaScriptClient, OfficialClient, Refused
from tests.interop.stage import Stage

from limpet.service import ServiceOptions

each_kind = pytest.mark.parametrize("kind", KINDS)


def numbers(client: OfficialClient, count: int) -> list[tuple[int | None, int]]:
    """Sequence ids and data of everything that arrived, which is at least so many messages."""
    return [(message.sequence_id, message.data) for message in client.messages(count)]


@each_kind
def test_what_was_missed_is_replayed_in_order_and_only_once(stage: Stage, kind: str) -> None:
    publisher, client = stage.open(kind, "bob"), stage.open(kind, "ann", over_proxy=True)
    client.join("room")
    for n in (1, 2):
        publisher.send("room", n, "json")
    assert numbers(client, 2) == [(1, 1), (2, 2)]

    stage.lose(client)
    for n in (3, 4, 5):
        publisher.send("room", n, "json")
    assert stage.backend.retained(client.connection_id) >= 3
    stage.backend.resume()
    assert numbers(client, 5) == [(n, n) for n in range(1, 6)]

    stage.backend.until(lambda: stage.backend.retained(client.connection_id) == 0)
    stage.lose(client)
    stage.backend.resume()
    stage.backend.until(lambda: stage.backend.connected(client.connection_id))
    publisher.send("room", 6, "json")
    assert numbers(client, 6) == [(n, n) for n in range(1, 7)]
    assert len(client.events.of("connected")) == 1, "it is the same connection all the time"
    assert not client.events.of("disconnected")


@each_kind
def test_groups_permissions_and_ack_ids_outlive_the_drop(stage: Stage, kind: str) -> None:
    publisher, client = stage.open(kind, "bob"), stage.open(kind, "ann", over_proxy=True)
    client.join("room", ack_id=7)
    stage.lose(client)
    publisher.send("room", 1, "json")
    stage.backend.resume()
    assert numbers(client, 1) == [(1, 1)]
    assert client.join("elsewhere", ack_id=7) in (True, None)
    client.send("room", 2, "json", ack_id=8)
    publisher.send("elsewhere", 0, "json")
    publisher.send("room", 3, "json")
    assert numbers(client, 3) == [(1, 1), (2, 2), (3, 3)]


@each_kind
def test_a_request_whose_answer_was_lost_is_not_executed_again(stage: Stage, kind: str) -> None:
    listener, client = stage.open(kind, "bob"), stage.open(kind, "ann", over_proxy=True)
    listener.join("room")
    client.join("hello")
    stage.backend.swallow_answers()
    with pytest.raises(Refused):
        client.send("room", "once", ack_id=9)
    assert [message.data for message in listener.messages(1)] == ["once"], "it was executed"
    listener.send("hello", "are you back?")
    client.messages(1)
    assert client.send("room", "twice", ack_id=9) in (True, None)
    client.send("room", "end", ack_id=10)
    assert [message.data for message in listener.messages(2)] == ["once", "end"]


@each_kind
def test_the_thousand_and_first_unacknowledged_message_ends_the_connection(stage: Stage, kind: str) -> None:
    publisher = stage.open("js", "bob")
    assert isinstance(publisher, JavaScriptClient)
    client = stage.open(kind, "ann", over_proxy=True)
    client.join("room")
    first = client.connection_id
    stage.backend.swallow_requests()
    publisher.burst("room", 1, 1000)
    assert numbers(client, 1000) == [(n + 1, n) for n in range(1000)]
    assert stage.backend.retained(first) == 1000
    assert not client.events.of("disconnected")

    publisher.toss("room", 1000, "json")
    stage.backend.until(lambda: stage.backend.connection(first) is None)
    stage.backend.resume()
    client.events.wait("connected", 2)
    client.events.wait("disconnected")
    assert client.connection_id != first


@each_kind
def test_after_the_window_a_new_connection_rejoins_the_groups(staged: Callable[..., Stage], kind: str) -> None:
    stage = staged(ServiceOptions(recovery_window=0.1))
    publisher, client = stage.open(kind, "bob"), stage.open(kind, "ann", over_proxy=True)
    for group in ("room", "left", "other"):
        client.join(group)
    client.leave("left")
    first = client.connection_id
    stage.lose(client)
    stage.backend.until(lambda: stage.backend.connection(first) is None)
    publisher.send("room", "lost")
    stage.backend.resume()
    client.events.wait("connected", 2)
    second = client.connection_id
    assert second != first
    stage.backend.until(lambda: set(stage.groups(second)) == {"room", "other"})
    publisher.send("room", "hi")
    assert [(message.sequence_id, message.data) for message in client.messages(1)] == [(1, "hi")]
    assert len(client.events.of("connected")) == 2
    assert len(client.events.of("disconnected")) == 1


@each_kind
def test_a_client_that_cannot_recover_reconnects_and_rejoins_at_once(stage: Stage, kind: str) -> None:
    publisher, client = stage.open(kind, "bob"), stage.open(kind, "ann", over_proxy=True, reliable=False)
    client.join("room")
    first = client.connection_id
    stage.lose(client)
    assert stage.backend.connection(first) is None
    stage.backend.resume()
    client.events.wait("connected", 2)
    stage.backend.until(lambda: stage.groups(client.connection_id) == ["room"])
    publisher.send("room", "hi")
    assert [message.data for message in client.messages(1)] == ["hi"]


@each_kind
def test_what_may_not_be_rejoined_is_reported(staged: Callable[..., Stage], kind: str) -> None:
    stage = staged(ServiceOptions(recovery_window=0.1))
    client = stage.open(kind, roles=[], over_proxy=True)
    stage.service(kind).grant(client.connection_id, "joinLeaveGroup", "room")
    client.join("room")
    first = client.connection_id
    stage.lose(client)
    stage.backend.until(lambda: stage.backend.connection(first) is None)
    stage.backend.resume()
    client.events.wait("connected", 2)
    assert client.events.wait("rejoin-failed") == [{"group": "room"}]
