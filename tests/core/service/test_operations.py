"""What an application server may do, on the service's logic alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, Connection, Filter, RawMode, server_publication
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.odata.filters import select

KEY = b"a key"
HELLO = server_publication("json", b"1")


class Town:
    """Ann with two connections, Ben with one, and somebody without a name; c5 is at another hub."""

    def __init__(self) -> None:
        self.service = ServiceUnderTest()
        self.core = self.service.core
        self.clients = {
            "c1": self.service.connect(user="ann", groups=("room",)),
            "c2": self.service.connect(user="ann", subprotocol=JSON, groups=("hall",)),
            "c3": self.service.connect(user="ben", groups=("room", "hall")),
            "c4": self.service.connect(raw=RawMode()),
            "c5": self.service.connect(hub="other", user="ann", groups=("room",)),
        }
        for client in self.clients.values():
            client.received_raw()

    @property
    def everybody(self) -> list[Connection]:
        return list(self.core.hub("Chat").connections.values())

    def members(self, group: str) -> list[str]:
        return sorted(connection.connection_id for connection in self.core.hub("chat").members(group))

    def heard(self) -> list[str]:
        return [name for name, client in self.clients.items() if client.received_raw()]

    def closed(self) -> list[str]:
        return [name for name, client in self.clients.items() if client.transport.close is not None]

    def client(self, name: str) -> Client:
        return self.clients[name]


def ids(connections: list[Connection]) -> list[str]:
    return [connection.connection_id for connection in connections]


# ---- Who


@pytest.mark.parametrize(
    ("text", "excluded", "expected"),
    [
        (None, (), ["c1", "c2", "c3", "c4"]),
        (None, ("c2", "c4", "nobody"), ["c1", "c3"]),
        ("userId eq 'ann'", (), ["c1", "c2"]),
        ("userId eq 'ann'", ("c1",), ["c2"]),
        ("'room' in groups and protocol ne null", (), ["c1", "c3"]),
        ("protocol eq null", (), ["c4"]),
        ("false", (), []),
    ],
)
def test_a_filter_and_exclusions_choose(text: str | None, excluded: tuple[str, ...], expected: list[str]) -> None:
    where = None if text is None else Filter(text)
    town = Town()
    assert ids(select(town.everybody, where, excluded)) == expected
    town.core.send_to_all("chat", HELLO, where, excluded)
    assert town.heard() == expected


def test_a_filter_and_exclusions_choose_among_a_group_and_a_user() -> None:
    town = Town()
    town.core.send_to_group("chat", "room", HELLO, Filter("userId eq 'ann'"))
    assert town.heard() == ["c1"]
    town.core.send_to_user("chat", "ann", HELLO, None, {"c1"})
    assert town.heard() == ["c2"]


def test_a_connection_is_found_only_at_its_hub() -> None:
    town = Town()
    assert ids(operations.find(town.core, "CHAT", "c1")) == ["c1"]
    assert operations.find(town.core, "chat", "c5") == []
    assert operations.find(town.core, "nowhere", "c1") == []


# ---- Closing


def test_close_tells_the_reason_and_spares_the_excluded() -> None:
    town = Town()
    operations.close(town.core, town.everybody, "bye", {"c2"})
    assert town.closed() == ["c1", "c3", "c4"]
    said = "Application server closed the connection."
    assert town.client("c1").received() == [
        {"type": "system", "event": "disconnected", "message": f"{said} Reason: bye"}
    ]
    assert town.client("c4").received_raw() == []
    operations.close(town.core, town.everybody)
    assert town.client("c2").received()[0]["message"] == said
    assert town.everybody == []


def test_what_is_done_to_a_connection_that_is_away_counts_when_it_comes_back() -> None:
    town = Town()
    hello = {"connectionId": "c1", "reconnectionToken": "token-of-c1/1"}
    town.client("c1").drop()
    town.core.send_to_connection("c1", HELLO)
    operations.add_connection_to_group(town.core, "chat", "c1", "hall")
    operations.grant(town.core, "chat", "sendToGroup", "c1", "hall")
    recovered = town.service.recover(hello)
    assert [message.get("data") for message in recovered.received()] == [None, 1]
    assert town.members("hall") == ["c1", "c2", "c3"]
    recovered.drop()
    operations.close(town.core, operations.find(town.core, "chat", "c1"))
    assert town.service.recover(hello).close_code == 1008


# ---- Groups


def test_joining_and_leaving() -> None:
    town = Town()
    hub = town.core.hub("chat")
    operations.add_connection_to_group(town.core, "chat", "c4", "attic")
    operations.add_connection_to_group(town.core, "chat", "c4", "attic")
    operations.add_user_to_group(town.core, "chat", "ann", "attic")
    assert town.members("attic") == ["c1", "c2", "c4"]
    operations.remove_from_groups(town.core, hub.user("ann"), ("attic", "never"))
    assert town.members("attic") == ["c4"]
    operations.add_to_groups(town.core, select(town.everybody, Filter("userId ne null")), ("x", "y"))
    assert town.members("x") == town.members("y") == ["c1", "c2", "c3"]
    # The very members of a group may be taken out of it.
    operations.remove_from_groups(town.core, hub.members("x"), ("x",))
    operations.remove_from_groups(town.core, hub.user("ann"))
    assert (town.members("x"), town.members("y"), town.members("room")) == ([], ["c3"], ["c3"])
    assert ids(list(town.core.hub("other").members("room"))) == ["c5"]


def test_a_user_that_connects_later_is_not_in_the_group() -> None:
    town = Town()
    operations.add_user_to_group(town.core, "chat", "ann", "attic")
    town.service.connect(user="ann")
    assert town.members("attic") == ["c1", "c2"]


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(OperationError) as raised:
        call()
    assert raised.value.message.endswith(".")
    return raised.value.status, raised.value.code


def test_nobody_cannot_join() -> None:
    core = Town().core
    missing = error_of(lambda: operations.add_connection_to_group(core, "chat", "c5", "room"))
    assert missing == (404, "Error.Connection.NotExisted")
    nobody = error_of(lambda: operations.add_user_to_group(core, "chat", "zoe", "room"))
    assert nobody == (404, "Warning.User.NotExisted")


# ---- Lists


@given(
    st.integers(0, 12),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 14),
    st.lists(st.integers(0, 11)),
)
def test_the_pages_are_the_group(members: int, size: int | None, top: int | None, leaving: list[int]) -> None:
    service = ServiceUnderTest()
    for _ in range(members):
        service.connect(groups=("room",))
    expected = sorted(f"c{n + 1}" for n in range(members))
    found: list[str] = []
    left, token = top, None
    for turn in range(20):
        page = operations.list_group(service.core, "chat", "room", size, left, token, KEY)
        assert len(page.connections) <= (size or operations.MAX_PAGE)
        found += ids(page.connections)
        if page.next_token is None:
            break
        left, token = page.top, page.next_token
        # Who leaves in between, even the one the token names, does not disturb the others.
        if turn < len(leaving) and (gone := f"c{leaving[turn] + 1}") in found:
            service.core.close_connection(gone, "")
    assert found == expected[:top]


@pytest.mark.parametrize(
    "token",
    ["", " ", "!", "YQ", "YQ==", "YQ==YQ==", "/w==", "_w==", "c1", "ü", "\ud800", "A" * 64, "/" * 64, "A" * 2052],
    ids=ascii,
)
def test_a_token_that_is_none_of_ours(token: str) -> None:
    core = Town().core
    with pytest.raises(OperationError) as raised:
        operations.list_group(core, "chat", "room", None, None, token, KEY)
    assert (raised.value.status, raised.value.target) == (400, "continuationToken")


def test_a_token_is_good_for_its_group_of_its_hub_and_while_the_key_is() -> None:
    service = ServiceUnderTest()
    for _ in range(3):
        service.connect(groups=("room", "room ", "ROOM"))
        service.connect(hub="other", groups=("room",))

    def ids_after(token: str | None, hub: str = "chat", group: str = "room", key: bytes = KEY) -> list[str]:
        return ids(operations.list_group(service.core, hub, group, None, None, token, key).connections)

    token = operations.list_group(service.core, "chat", "room", 1, None, None, KEY).next_token
    assert token is not None
    assert ids_after(token) == ids_after(token, "CHAT") == ids_after(None)[1:]
    for other in ({"group": "ROOM"}, {"group": "room "}, {"hub": "other"}, {"key": b"another"}):
        assert error_of(lambda other=other: ids_after(token, **other))[0] == 400  # type: ignore[misc]
    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert error_of(lambda changed=changed: ids_after(changed))[0] == 400  # type: ignore[misc]
    for longer in (token + "=", token + "A", token + "\n", " " + token, token.rstrip("=")):
        if longer != token:
            assert error_of(lambda longer=longer: ids_after(longer))[0] == 400  # type: ignore[misc]


# ---- Permissions


@pytest.mark.parametrize(
    ("name", "other"),
    [("sendToGroup", "joinLeaveGroup"), ("JOINLEAVEGROUP", "SendToGroup"), ("1", "2"), ("2", "1")],
)
def test_grant_and_revoke(name: str, other: str) -> None:
    service = ServiceUnderTest()
    service.connect(roles=())
    core = service.core

    def has(permission: str, group: str) -> bool:
        return operations.has_permission(core, "chat", permission, "c1", group)

    assert not has(name, "room")
    operations.grant(core, "chat", name, "c1", "room")
    assert (has(name, "room"), has(name, "roo"), has(other, "room")) == (True, False, False)
    # Patterns are only for roles: here a star is a star.
    operations.grant(core, "chat", name, "c1", "*")
    assert (has(name, "*"), has(name, "hall")) == (True, False)
    operations.revoke(core, "chat", name, "c1", "room")
    assert not has(name, "room")


def test_a_group_can_be_taken_from_a_permission_for_all_and_membership_stays() -> None:
    town = Town()
    operations.revoke(town.core, "chat", "joinLeaveGroup", "c1", "room")
    assert not operations.has_permission(town.core, "chat", "joinLeaveGroup", "c1", "room")
    assert operations.has_permission(town.core, "chat", "joinLeaveGroup", "c1", "hall")
    assert town.members("room") == ["c1", "c3"]


def test_what_permissions_cannot_be() -> None:
    service = ServiceUnderTest()
    service.connect(roles=[f"webpubsub.sendToGroup.{n}" for n in range(1000)])
    core = service.core
    for change in (operations.grant, operations.revoke):
        assert error_of(lambda change=change: change(core, "chat", "send", "c1", "room"))[0] == 400  # type: ignore[misc]
    assert error_of(lambda: operations.has_permission(core, "chat", "3", "c1", "room"))[0] == 400
    assert error_of(lambda: operations.grant(core, "chat", "1", "c2", "room")) == (404, "Info.Connection.NotExisted")
    assert error_of(lambda: operations.grant(core, "chat", "1", "c1", "room")) == (409, "Error.Connection.Conflict")
    operations.revoke(core, "chat", "1", "c2", "room")
    assert not operations.has_permission(core, "chat", "1", "c2", "room")


def test_a_message_to_nobody_costs_nothing() -> None:
    town = Town()
    town.core.send_to_all("nowhere", HELLO)
    town.core.send_to_all("chat", HELLO, Filter("false"))
    assert town.heard() == []
