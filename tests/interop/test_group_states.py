"""The states of groups, in the words of the codec of the official JavaScript client, which has no methods for them."""

from __future__ import annotations

from tests.interop.clients import JavaScriptClient
from tests.interop.stage import Stage


def opened(stage: Stage, user_id: str) -> JavaScriptClient:
    client = stage.open("js", user_id, groups=["room"], verbatim=True)
    assert isinstance(client, JavaScriptClient)
    return client


def test_states_are_set_watched_and_cleared(stage: Stage) -> None:
    ann, bob = opened(stage, "ann"), opened(stage, "bob")
    core = stage.backend.service.core
    ann.tell_service("setGroupState", group="room", state={"status": "typing"})
    stage.backend.until(lambda: core.group_states("chat", "room"))
    bob.tell_service("subscribeGroupState", group="room")
    [snapshot] = bob.events.wait("states")
    [item] = snapshot.pop("items")
    assert snapshot == {"kind": "groupStateSnapshot", "type": "groupStateSnapshot", "group": "room"}
    first = item.pop("updatedAt")
    assert item == {"connectionId": ann.connection_id, "userId": "ann", "state": {"status": "typing"}}
    ann.tell_service("setGroupState", group="room")
    update = bob.events.wait("states", 2)[1]
    [item] = update.pop("items")
    assert update == {"kind": "groupStateUpdate", "type": "groupStateUpdate", "group": "room"}
    assert item.pop("updatedAt") > first
    assert item == {"connectionId": ann.connection_id, "userId": "ann"}
    bob.tell_service("unsubscribeGroupState", group="room")
    connection = stage.backend.connection(bob.connection_id)
    assert connection is not None
    stage.backend.until(lambda: not connection.watched_groups)


def test_a_client_that_stops_has_no_state(stage: Stage) -> None:
    ann, bob = opened(stage, "ann"), opened(stage, "bob")
    bob.tell_service("subscribeGroupState", group="room")
    bob.events.wait("states")
    ann.tell_service("setGroupState", group="room", state={})
    assert bob.events.wait("states", 2)[1]["items"][0]["state"] == {}
    stage.backend.background.call(lambda: stage.backend.service.core.close_connection(ann.connection_id, "enough"))
    stage.backend.background.call(stage.backend.service.flush)
    assert "state" not in bob.events.wait("states", 3)[2]["items"][0]
