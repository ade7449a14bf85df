"""The states of groups: what members say about themselves, and who is told; in both JSON subprotocols."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulation.inspect import states_of
from tests.core.service.backend import EVENTS_ONLY, Backend, ack, event
from tests.core.service.test_json import nest
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import (
    JSON,
    RELIABLE_JSON,
    GroupStateCleared,
    GroupStateSet,
    GroupStatesUnwatched,
    GroupStatesWatched,
    Limits,
    ServiceCore,
)
from limpet_core.service.data_plane import operations

each_subprotocol = pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])

START = 1_769_860_900_000
"""The time when the clock of the tests is at 100, in milliseconds since 1970."""


def put(ack_id: int | None = None, state: object = {"a": "1"}, group: str = "room") -> dict[str, object]:
    return {"type": "setGroupState", "group": group, "ackId": ack_id, "state": state}


def clear(ack_id: int | None = None, group: str = "room") -> dict[str, object]:
    return {"type": "setGroupState", "group": group, "ackId": ack_id}


def watch(ack_id: int | None = None, group: str = "room") -> dict[str, object]:
    return {"type": "subscribeGroupState", "group": group, "ackId": ack_id}


def unwatch(ack_id: int | None = None, group: str = "room") -> dict[str, object]:
    return {"type": "unsubscribeGroupState", "group": group, "ackId": ack_id}


def snapshot(*items: dict[str, object], group: str = "room") -> dict[str, object]:
    return {"type": "groupStateSnapshot", "group": group, "items": list(items)}


def update(*items: dict[str, object], group: str = "room") -> dict[str, object]:
    return {"type": "groupStateUpdate", "group": group, "items": list(items)}


def item(connection_id: str, at: int, state: object = None, user: str | None = None) -> dict[str, object]:
    found: dict[str, object] = {"connectionId": connection_id, "updatedAt": START + at}
    if user is not None:
        found["userId"] = user
    if state is not None:
        found["state"] = state
    return found


def heard(client: Client) -> list[dict[str, Any]]:
    client.service.core.transports_with_output()
    return client.received()


def said(client: Client, *messages: dict[str, object]) -> list[dict[str, Any]]:
    for message in messages:
        client.send(message)
    return heard(client)


def met(number: int = 2, *, limits: dict[str, Any] | None = None, **more: Any) -> tuple[ServiceUnderTest, list[Client]]:
    """A service, and members of the group ``room`` who have said hello."""
    service = ServiceUnderTest(**(limits or {}))
    clients = [service.connect(groups=("room",), **more) for _ in range(number)]
    for client in clients:
        client.hello()
    return service, clients


def refused(answers: list[dict[str, Any]]) -> tuple[int, str]:
    (answer,) = answers
    assert answer["type"] == "ack"
    return answer["ackId"], answer["error"]["name"]


# ---- States


@each_subprotocol
def test_a_state_is_acknowledged_and_told_to_those_who_watch(subprotocol: str) -> None:
    service, (ann, bob) = met(subprotocol=subprotocol, user="ann")
    assert said(bob, watch(1)) == [ack(1), snapshot()]
    assert said(ann, put(1, {"status": "typing", "é": "\U0001f600"})) == [ack(1)]
    assert heard(bob) == [update(item("c1", 0, {"status": "typing", "é": "\U0001f600"}, "ann"))]
    service.advance(2)
    assert said(ann, clear(2)) == [ack(2)]
    assert heard(bob) == [update(item("c1", 2000, user="ann"))]


def test_the_setter_is_told_if_it_watches_after_its_ack() -> None:
    _, (ann,) = met(1)
    assert said(ann, watch(1), put(2)) == [ack(1), ack(2), snapshot(item("c1", 0, {"a": "1"}))]
    assert said(ann, put(3, {})) == [ack(3), update(item("c1", 1, {}))]


def test_a_state_is_replaced_as_a_whole_and_nothing_is_sent_without_an_ack_id() -> None:
    service, (ann, bob) = met()
    said(bob, watch())
    assert said(ann, put(state={"a": "1", "b": "2"})) == []
    heard(bob)
    assert said(ann, put(state={"c": "3"})) == []
    assert heard(bob) == [update(item("c1", 1, {"c": "3"}))]
    assert service.core.group_states("Chat", "room") == {"c1": {"c": "3"}}
    assert service.core.group_states("chat", "elsewhere") == {}


def test_changes_between_two_looks_are_one_update_with_the_newest_state_of_each() -> None:
    _, (ann, bob, eve) = met(3)
    said(eve, watch())
    said(ann, put(state={"n": "1"}), put(state={"n": "2"}))
    bob.send(put(state={"n": "3"}))
    ann.send(put(state={"n": "4"}))
    assert heard(eve) == [
        update(item("c1", 1, {"n": "2"})),
        update(item("c2", 0, {"n": "3"}), item("c1", 2, {"n": "4"})),
    ]


def test_times_increase_even_if_the_clock_stands_still_or_goes_back() -> None:
    times = [5.0, 5.0, 4.0, 4.0, 6.0, 6.0, 6.0, 6.0, 6.0]
    service, (ann, bob) = met()
    service.core = ServiceCore(
        Limits(),
        new_connection_id=iter(["c1", "c2"]).__next__,
        issue_reconnection_token=str,
        check_reconnection_token=lambda token, connection_id: True,
        unix_time=lambda: times.pop(0),
    )
    ann, bob = (service.connect(groups=("room",)) for _ in range(2))
    ann.hello()
    bob.hello()
    said(bob, watch())
    seen = []
    for message in (put(), put(), clear(), put(), clear(), put(), clear()):
        said(ann, message)
        seen += [each["updatedAt"] for news in heard(bob) for each in news["items"]]
    assert seen == [5000, 5001, 5002, 5003, 6000, 6001, 6002]


def test_without_a_clock_times_increase_from_one_on() -> None:
    core = ServiceCore(
        Limits(),
        new_connection_id=lambda: "c1",
        issue_reconnection_token=str,
        check_reconnection_token=lambda token, connection_id: True,
    )
    service = ServiceUnderTest()
    service.core = core
    ann = service.connect(groups=("room",))
    ann.hello()
    assert said(ann, watch(), put()) == [
        snapshot({"connectionId": "c1", "state": {"a": "1"}, "updatedAt": 1}),
    ]


# ---- Subscriptions


def test_a_snapshot_has_all_who_have_a_state() -> None:
    _, (ann, bob, eve) = met(3)
    said(ann, put())
    said(bob, put(state={}), clear())
    said(eve, put(state={"b": "2"}))
    assert said(bob, watch(1)) == [ack(1), snapshot(item("c1", 0, {"a": "1"}), item("c3", 0, {"b": "2"}))]


def test_to_subscribe_again_brings_a_fresh_snapshot_and_no_second_update() -> None:
    _, (ann, bob) = met()
    assert said(bob, watch(1), watch(2)) == [ack(1), ack(2), snapshot()]
    said(ann, put())
    assert heard(bob) == [update(item("c1", 0, {"a": "1"}))]
    assert said(bob, watch(3)) == [ack(3), snapshot(item("c1", 0, {"a": "1"}))]
    said(ann, clear())
    assert heard(bob) == [update(item("c1", 1))]


def test_a_removal_is_told_beside_a_snapshot_since_clients_keep_what_an_update_has_brought() -> None:
    _, (ann, bob) = met()
    said(bob, watch(1))
    said(ann, put())
    heard(bob)
    ann.send(clear())
    assert said(bob, watch(2)) == [ack(2), snapshot(), update(item("c1", 1))]


def test_a_repeat_under_the_same_ack_id_brings_a_snapshot_too() -> None:
    service, (ann, bob) = met()
    said(ann, put())
    said(bob, watch(1))
    duplicate, again = said(bob, watch(1))
    assert duplicate["error"]["name"] == "Duplicate"
    assert again == snapshot(item("c1", 0, {"a": "1"}))
    said(bob, unwatch(2))
    assert refused(said(bob, watch(1))) == (1, "Duplicate")
    assert service.core.group_states("chat", "room") == {"c1": {"a": "1"}}


def test_to_unsubscribe_ends_updates_and_is_never_refused() -> None:
    _, (ann, bob) = met()
    said(bob, watch(1))
    assert said(bob, unwatch(2), unwatch(3)) == [ack(2), ack(3)]
    said(ann, put())
    assert heard(bob) == []
    assert said(bob, watch(4), unwatch(5)) == [ack(4), ack(5)]  # no snapshot any more


def test_groups_and_hubs_have_states_of_their_own() -> None:
    service, (ann, bob) = met()
    stranger = service.connect(hub="other", groups=("room",))
    stranger.hello()
    for client in (bob, stranger):
        said(client, watch())
    said(bob, watch(group="hall"))
    news = said(stranger, put())
    assert heard(bob) == []
    assert news == [update(item("c3", 0, {"a": "1"}))]
    said(ann, {"type": "joinGroup", "group": "hall"}, put(group="hall"))
    assert heard(bob) == [update(item("c1", 0, {"a": "1"}), group="hall")]


# ---- Permissions


def test_only_members_have_a_state() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    client.hello()
    assert refused(said(client, put(1))) == (1, "Forbidden")
    assert said(client, clear(2)) == [ack(2)]
    said(client, {"type": "joinGroup", "group": "room"})
    assert said(client, put(1)) == [ack(1)]


def test_those_watch_who_are_members_or_may_join() -> None:
    service = ServiceUnderTest()
    member = service.connect(roles=(), groups=("room",))
    joiner = service.connect(roles=("webpubsub.joinLeaveGroup.room",))
    sender = service.connect(roles=("webpubsub.sendToGroup",))
    for client in (member, joiner, sender):
        client.hello()
    assert said(member, watch(1)) == [ack(1), snapshot()]
    assert said(joiner, watch(1)) == [ack(1), snapshot()]
    assert refused(said(sender, watch(1))) == (1, "Forbidden")


def test_who_may_not_watch_any_more_is_told_no_more() -> None:
    service, (ann, bob) = met(roles=())
    seen: list[Any] = []
    service.core.observers.append(seen.append)
    said(bob, watch())
    connection = service.core.connection("c2")
    assert connection is not None
    service.core.leave(connection, "room")
    said(ann, put())
    assert heard(bob) == []
    assert GroupStatesUnwatched("chat", "c2", None, "room") in seen
    service.core.join(connection, "room")
    said(ann, put())
    assert heard(bob) == []
    assert said(bob, watch(2)) == [ack(2), snapshot(item("c1", 1, {"a": "1"}))]


# ---- The ends of states


@pytest.mark.parametrize("way", ["leaves", "is removed", "closes", "is closed", "expires", "breaks"])
def test_a_state_ends_with_the_membership_or_the_connection(way: str) -> None:
    service, (ann, bob) = met()
    said(bob, watch())
    said(ann, put(), {"type": "joinGroup", "group": "hall"})
    heard(bob)
    connection = service.core.connection("c1")
    assert connection is not None
    at = 1
    match way:
        case "leaves":
            said(ann, {"type": "leaveGroup", "group": "hall"}, {"type": "leaveGroup", "group": "room"})
        case "is removed":
            operations.remove_from_groups(service.core, [connection])
        case "closes":
            ann.drop(1000)
        case "is closed":
            service.core.close_connection("c1", "enough")
        case "expires":
            ann.drop()
            assert heard(bob) == []
            service.advance(29.9)
            assert heard(bob) == []
            service.advance(0.1)
            at = 30_000
        case _:
            ann.send_raw("{")
    assert heard(bob) == [update(item("c1", at))]
    assert service.core.group_states("chat", "room") == {}


def test_a_recovered_connection_has_its_state_and_its_subscriptions() -> None:
    service = ServiceUnderTest()
    ann, bob = (service.connect(groups=("room",)) for _ in range(2))
    hello = ann.hello()
    bob.hello()
    said(bob, watch())
    said(ann, watch(), put())
    heard(bob)
    ann.drop()
    said(bob, put())
    heard(bob)
    again = service.recover(hello)
    again.received()
    assert heard(again) == []  # what was told meanwhile is lost
    assert said(bob, clear()) == heard(again) == [update(item("c2", 1))]
    assert said(again, watch(1)) == [ack(1), snapshot(item("c1", 0, {"a": "1"}))]


def test_nothing_is_left_of_what_has_ended() -> None:
    service, (ann, bob) = met()
    said(bob, watch())
    said(ann, put())
    said(bob, unwatch())
    said(ann, clear())
    said(bob, watch(), unwatch())
    said(ann, watch(), put())
    ann.drop(1000)
    service.core.transports_with_output()
    assert states_of(service.core) == ({}, {})
    service.core.shut_down()


# ---- The order


def test_requests_about_states_wait_for_a_slow_event_handler() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service)
    client = service.connect()
    client.hello()
    assert said(client, event(ackId=1), {"type": "joinGroup", "group": "room"}, put(2), watch(3)) == []
    backend.answer()
    assert heard(client) == [ack(1), ack(2), ack(3), snapshot(item("c1", 0, {"a": "1"}))]


def test_queued_requests_of_a_client_that_is_gone_leave_nothing() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service)
    client = service.connect(groups=("room",))
    other = service.connect()
    client.hello()
    other.hello()
    said(other, watch())
    said(client, event(ackId=1), put(2), watch(3), unwatch(4))
    client.drop(1000)
    backend.answer()
    assert heard(other) == []
    assert service.core.group_states("chat", "room") == {}
    other.drop(1000)
    assert states_of(service.core)[0] == {}


# ---- Limits


def test_a_state_has_a_largest_size() -> None:
    _, (ann,) = met(1)
    assert said(ann, put(1, {"k" * 100: "v" * 8092})) == [ack(1)]
    assert refused(said(ann, put(2, {"k" * 100: "v" * 8093}))) == (2, "BadRequest")
    assert refused(said(ann, put(3, {"é" * 100: "é" * 3997}))) == (3, "BadRequest")
    assert said(ann, watch(4))[1]["items"][0]["state"] == {"k" * 100: "v" * 8092}


def test_the_numbers_of_states_and_subscriptions_of_a_client_are_limited() -> None:
    service = ServiceUnderTest(group_states=2)
    client = service.connect(groups=("a", "b", "c"))
    client.hello()
    assert said(client, put(1, group="a"), put(2, group="b")) == [ack(1), ack(2)]
    assert refused(said(client, put(3, group="c"))) == (3, "BadRequest")
    assert said(client, put(4, group="a"), clear(5, group="a"), put(6, group="c")) == [ack(4), ack(5), ack(6)]
    client.send(watch(7, group="a"))
    client.send(watch(8, group="b"))
    assert refused(said(client, watch(9, group="c"))[2:3]) == (9, "BadRequest")
    assert [answer["type"] for answer in said(client, watch(10, group="a"))] == ["ack", "groupStateSnapshot"]
    said(client, unwatch(11, group="a"))
    assert said(client, watch(12, group="c"))[0] == ack(12)


def test_all_states_of_a_group_fit_in_one_message() -> None:
    service, clients = met(3, limits={"max_message_size": 1000})
    ann, bob, eve = clients
    assert said(ann, put(1, {"a": "x" * 400})) == [ack(1)]
    assert said(bob, put(1, {"a": "x" * 400})) == [ack(1)]
    assert refused(said(eve, put(1, {"a": "x" * 400}))) == (1, "BadRequest")
    assert said(ann, put(2, {"a": "x" * 300}), put(3, {"a": "x" * 401})) == [ack(2), ack(3)]
    said(ann, clear(4))
    assert said(eve, put(1, {"a": "x" * 400})) == [ack(1)]
    assert list(service.core.group_states("chat", "room")) == ["c2", "c3"]
    alone = service.connect(groups=("tiny",), user="u" * 950)
    alone.hello()
    assert refused(said(alone, put(1, group="tiny"))) == (1, "BadRequest")
    assert ("chat", "tiny") not in states_of(service.core)[0]


def test_many_who_leave_together_are_no_flood() -> None:
    service, clients = met(3000)
    watcher = clients[0]
    said(watcher, watch())
    for client in clients[1:]:
        client.send(put(state={"a": "x" * 100}))
    news = heard(watcher)
    assert 1 < len(news) < 20
    assert len({each["connectionId"] for message in news for each in message["items"]}) == 2999
    for connection in list(service.core.hub("chat").members("room"))[1:]:
        service.core.close_connection(connection.connection_id, "enough")
    news = heard(watcher)
    assert 1 < len(news) < 20
    gone = [each for message in news for each in message["items"]]
    assert len(gone) == 2999
    assert not any("state" in each for each in gone)
    assert watcher.close_code is None


def test_a_watcher_that_is_too_slow_ends_and_so_does_its_state() -> None:
    service, clients = met(3, limits={"retained_messages": 2})
    ann, bob, eve = clients
    said(ann, watch())
    said(bob, watch(), put())
    said(eve, watch())
    for client in clients:
        heard(client)
    for _ in range(34):  # ann takes nothing
        said(eve, put())
        heard(eve)
        bob.received()
    service.core.transports_with_output()
    assert ann.close_code is None
    said(eve, put())
    assert ann.close_code == 1008
    assert heard(bob) != []


def test_slow_watchers_end_together() -> None:
    service, clients = met(4, limits={"retained_messages": 2})
    for client in clients[:3]:
        said(client, watch(), put(group="room"))
    for _ in range(40):
        said(clients[3], put())
    assert [client.close_code for client in clients] == [1008, 1008, 1008, None]
    assert list(service.core.group_states("chat", "room")) == ["c4"]


# ---- Hostile input


@each_subprotocol
@pytest.mark.parametrize(
    "fields",
    [
        '"state":{"a":1}',
        '"state":{"a":null}',
        '"state":{"a":{"b":"c"}}',
        '"state":"x"',
        '"state":["x"]',
        '"state":1',
        '"state":true',
        '"state":' + nest(100_000),
        '"state":{"a":' + nest(100_000) + "}",
        '"state":{},"group":1',
        '"state":{},"group":null',
        '"state":{},"group":""',
        '"state":{},"group":" "',
        '"state":{},"group":"' + "x" * 1025 + '"',
        '"state":{},"ackId":"1"',
        '"state":{},"ackId":-1',
        '"state":{},"ackId":18446744073709551616',
    ],
)
def test_what_breaks_the_protocol(subprotocol: str, fields: str) -> None:
    service, (client,) = met(1, subprotocol=subprotocol)
    client.send_raw('{"type":"setGroupState","group":"room",' + fields + "}")
    assert client.close_code == 1007
    assert service.core.group_states("chat", "room") == {}


@pytest.mark.parametrize("kind", ["setGroupState", "subscribeGroupState", "unsubscribeGroupState"])
def test_names_are_checked_in_each_request(kind: str) -> None:
    for fields in ('"group":" "', '"group":1', '"x":1', '"group":"room","ackId":1.5', r'"group":"\ud83d"'):
        _, (client,) = met(1)
        client.send_raw(f'{{"type":"{kind}",{fields}}}')
        assert client.close_code == 1007
    _, (client,) = met(1)
    client.send_raw(f'{{"type":"{kind}","group":"\\ud83d","ackId":1}}')
    assert refused(heard(client)) == (1, "BadRequest")
    assert client.close_code is None


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_the_case_of_a_type_does_not_matter(change: Any) -> None:
    _, (client,) = met(1)
    answers = said(
        client, *({**request, "type": change(request["type"])} for request in (put(1), watch(2), unwatch(3)))
    )
    assert answers == [ack(1), ack(2), ack(3)]


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (r'{"a":"\ud83d","\ude00":"b"}', {"a": "\ufffd", "\ufffd": "b"}),
        (r'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        ('{"a":"1","a":"2"}', {"a": "2"}),
        ('{"":""}', {"": ""}),
        (r'{"\u0000":"\u0000\n\u202e<b>"}', {"\0": "\0\n\u202e<b>"}),
        ("{}", {}),
    ],
)
def test_states_that_are_unusual(state: str, kept: dict[str, str]) -> None:
    _, (client,) = met(1)
    client.send_raw('{"type":"setGroupState","group":"room","ackId":1,"state":' + state + "}")
    assert said(client, watch()) == [ack(1), snapshot(item("c1", 0, kept))]


def test_null_is_to_clear() -> None:
    service, (client,) = met(1)
    said(client, put())
    assert said(client, put(1, None)) == [ack(1)]
    assert service.core.group_states("chat", "room") == {}


def test_the_name_of_a_group_is_encoded() -> None:
    group = 'a"\\\n\u202e\U0001f600'
    service = ServiceUnderTest()
    client = service.connect(groups=(group,))
    client.hello()
    assert said(client, watch(group=group)) == [snapshot(group=group)]
    assert said(client, put(group=group)) == [update(item("c1", 0, {"a": "1"}), group=group)]


# ---- Trace events


def test_observers_are_told() -> None:
    service, (ann, bob) = met()
    seen: list[Any] = []
    service.core.observers.append(seen.append)
    state = {"a": "x" * 1000}
    for client, message in (
        (ann, put(state={"a": "1"})),
        (bob, watch()),
        (bob, watch()),
        (ann, put(state=state)),
        (ann, clear()),
        (ann, clear()),
        (bob, unwatch()),
        (bob, unwatch()),
    ):
        said(client, message)
    ann_is, bob_is = ("chat", "c1", None, "room"), ("chat", "c2", None, "room")
    text = json.dumps(state, separators=(",", ":"))
    assert seen == [
        GroupStateSet(*ann_is, '{"a":"1"}', 9, 0),
        GroupStatesWatched(*bob_is, 1),
        GroupStatesWatched(*bob_is, 1),
        GroupStateSet(*ann_is, text[:239] + "…", 1008, 1),
        GroupStateCleared(*ann_is, 1),
        GroupStatesUnwatched(*bob_is),
    ]
