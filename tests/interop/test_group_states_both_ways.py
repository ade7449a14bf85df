"""States of groups between Limpet's own clients and the codec of the official JavaScript client.

The JavaScript client (1.1.0) has only the messages and no methods: the test says what to send, and sees what arrives.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.interop.clients import JavaScriptClient
from tests.interop.own import OWN_KINDS, OwnClient
from tests.interop.stage import ROLES, Stage

from limpet import GroupState


class Watch:
    """The states that the JavaScript client is told: all of a snapshot, then each update."""

    def __init__(self, js: JavaScriptClient) -> None:
        self.js = js
        self.told = 0

    def subscribe(self) -> list[Any]:
        """Subscribe; the items of the snapshot."""
        self.js.tell_service("subscribeGroupState", group="room")
        return self.next("groupStateSnapshot")

    def next(self, kind: str = "groupStateUpdate") -> list[Any]:
        """Wait for the next message; its items."""
        self.told += 1
        message = self.js.events.wait("states", self.told)[self.told - 1]
        assert (message["kind"], message["group"]) == (kind, "room")
        items: list[Any] = message["items"]
        return items


def item(state: GroupState) -> dict[str, Any]:
    """A state of Limpet as the JavaScript codec gives it."""
    fields = {"connectionId": state.connection_id, "userId": state.user_id, "state": state.state}
    return {name: value for name, value in fields.items() if value is not None} | {"updatedAt": state.updated_at}


def items(own: OwnClient) -> list[dict[str, Any]]:
    """All states that one of Limpet's clients sees, as the JavaScript codec gives them."""
    return in_order(item(state) for state in own.client.group_states("room").values())


def in_order(unordered: Any) -> list[dict[str, Any]]:
    return sorted(unordered, key=lambda each: str(each["connectionId"]))


def until(stage: Stage, own: OwnClient, expected: list[dict[str, Any]]) -> None:
    """Wait until one of Limpet's clients sees these states."""
    stage.backend.until(lambda: items(own) == in_order(expected))


def opened(stage: Stage, kind: str, **options: Any) -> tuple[OwnClient, JavaScriptClient]:
    url = stage.service().client_url("js", roles=ROLES, groups=["room"])
    js = stage.open("js", url=url, over_proxy=True, verbatim=True)
    assert isinstance(js, JavaScriptClient)
    own = stage.own(kind, "own", **options)
    own.join("room")
    return own, js


each_kind = pytest.mark.parametrize("kind", OWN_KINDS)


@each_kind
def test_both_see_the_same_items(stage: Stage, kind: str) -> None:
    own, js = opened(stage, kind)
    watch = Watch(js)
    assert watch.subscribe() == []
    own.do(own.client.subscribe_group_states, "room")
    state = {"status": "grün \U0001f600", "": "", "quoted": '"\\'}
    own.do(own.client.set_group_state, "room", state)
    [mine] = watch.next()
    assert mine == {
        "connectionId": own.connection_id,
        "userId": "own",
        "state": state,
        "updatedAt": mine["updatedAt"],
    }
    js.tell_service("setGroupState", group="room", state={"status": "typing"})
    [theirs] = watch.next()
    assert (theirs["connectionId"], theirs["state"]) == (js.connection_id, {"status": "typing"})
    until(stage, own, [mine, theirs])

    own.do(own.client.set_group_state, "room", {})
    [changed] = watch.next()
    assert changed["state"] == {}
    assert changed["updatedAt"] > mine["updatedAt"]
    until(stage, own, [changed, theirs])
    assert in_order(watch.subscribe()) == in_order([changed, theirs]), "a fresh snapshot"


@each_kind
def test_who_comes_later_gets_a_snapshot_of_all(stage: Stage, kind: str) -> None:
    own, js = opened(stage, kind)
    nobody = stage.own(kind, None)
    nobody.join("room")
    js.tell_service("setGroupState", group="room", state={"n": "1"})
    own.do(own.client.set_group_state, "room", {"n": "2"})
    nobody.do(nobody.client.set_group_state, "room", {"n": "3"})
    core = stage.backend.service.core
    stage.backend.until(lambda: len(core.group_states("chat", "room")) == 3)
    snapshot = Watch(js).subscribe()
    assert {each.get("userId"): each["state"]["n"] for each in snapshot} == {"js": "1", "own": "2", None: "3"}
    own.do(own.client.subscribe_group_states, "room")
    own.events.wait("states")
    assert items(own) == in_order(snapshot)


@each_kind
def test_states_that_are_cleared_left_or_gone_with_their_connection(stage: Stage, kind: str) -> None:
    own, js = opened(stage, kind)
    watch = Watch(js)
    watch.subscribe()
    own.do(own.client.subscribe_group_states, "room")
    for end in (own.client.clear_group_state, own.client.leave_group):
        own.join("room")
        own.do(own.client.set_group_state, "room", {"n": "1"})
        [before] = watch.next()
        own.do(end, "room")
        [after] = watch.next()
        assert after == {
            "connectionId": own.connection_id,
            "userId": "own",
            "updatedAt": after["updatedAt"],
        }
        assert after["updatedAt"] > before["updatedAt"]
    own.join("room")
    own.do(own.client.subscribe_group_states, "room")
    other = stage.own(kind, "other")
    other.join("room")
    other.do(other.client.set_group_state, "room", {"n": "2"})
    [theirs] = watch.next()
    until(stage, own, [theirs])
    other.begin_stop()
    assert "state" not in watch.next()[0]
    until(stage, own, [])

    js.tell_service("setGroupState", group="room", state={"n": "3"})
    [set_again] = watch.next()
    until(stage, own, [set_again])
    js.tell_service("setGroupState", group="room")
    assert "state" not in watch.next()[0]
    until(stage, own, [])


@each_kind
def test_a_recovery_misses_no_state_and_keeps_the_own_one(stage: Stage, kind: str) -> None:
    own, js = opened(stage, kind)
    backend = stage.backend
    watch = Watch(js)
    watch.subscribe()
    own.do(own.client.subscribe_group_states, "room")
    own.do(own.client.set_group_state, "room", {"n": "1"})
    [mine] = watch.next()

    def cut() -> None:
        backend.detour.stall()
        backend.detour.cut()

    for number in range(3):
        backend.background.call(cut)
        backend.until(lambda: not backend.connected(own.connection_id))
        js.tell_service("setGroupState", group="room", state={"n": str(number)})
        [theirs] = watch.next()
        backend.background.call(backend.detour.resume)
        until(stage, own, [mine, theirs])
    assert watch.subscribe() == [mine, theirs]
    assert len(own.events.of("connected")) == 1, "it is the same connection all the time"


@each_kind
def test_a_new_connection_has_the_state_again(stage: Stage, kind: str) -> None:
    """The JavaScript client would see the old one go and the new one come; Limpet restores its state by itself."""
    own, js = opened(stage, kind)
    old = own.connection_id
    watch = Watch(js)
    watch.subscribe()
    own.do(own.client.subscribe_group_states, "room")
    own.do(own.client.set_group_state, "room", {"n": "1"})
    watch.next()
    js.tell_service("setGroupState", group="room", state={"n": "2"})
    [theirs] = watch.next()
    stage.backend.drop(old, for_good=True)
    [gone] = watch.next()
    assert (gone["connectionId"], "state" in gone) == (old, False)
    [back] = watch.next()
    assert (back["connectionId"], back["state"]) == (own.events.wait("connected", 2)[1].connection_id, {"n": "1"})
    until(stage, own, [theirs, back])
