"""What a session keeps that only listens: nothing for streams, invocations and states of groups."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import FunctionType, ModuleType

import pytest
from simulation.inspect import end_handshake, joined, rare_parts
from tests.helpers.driving import Drive, hello, ok
from tests.helpers.shared_parts import SHARED, UNTOUCHED, contents

from limpet import Link, Session
from limpet_core.client.deadlines import NO_DEADLINES
from limpet_core.client.group_states import NO_GROUP_STATES
from limpet_core.client.invocations import NO_INVOCATIONS
from limpet_core.client.streams import NO_STREAMS
from limpet_core.nothing import NOTHING


def executed(drive: Drive, ack_id: int) -> None:
    drive.sent()
    drive.says(ok(ack_id))


def listens(drive: Drive) -> None:
    """A whole life: groups, a recovery, a connection lost for good while a rejoin is on its way, and the stop."""
    executed(drive, drive.session.join_group("g", drive.now))
    drive.session.send_to_group("g", "x", drive.now)
    drive.drop()
    drive.until_dial()
    drive.open()
    for connection_id in ("c2", "c3"):
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(connection_id))
    drive.sent()
    drive.says(
        {"type": "groupStateUpdate", "group": "g", "items": []},
        {"type": "streamAck", "streamId": "s", "expectedSequenceId": 1},
        {"type": "streamNack", "streamId": "s", "expectedSequenceId": 1, "name": "TransientError", "message": "m"},
        {"type": "streamClosed", "streamId": "s"},
        {"type": "invokeResponse", "invocationId": "1", "success": True},
    )
    drive.session.leave_group("g", drive.now)
    drive.advance(100.0)
    drive.events()


def test_a_session_that_listens_leaves_what_all_share_as_it_is() -> None:
    drive = Drive()
    drive.connect()
    listens(drive)
    assert drive.session.stats.open_streams == 0
    drive.session.stop(drive.now)
    drive.session.disconnected(drive.now)
    drive.session.start(drive.now)
    assert rare_parts(drive.session) == [
        NO_DEADLINES,
        NO_GROUP_STATES,
        NO_INVOCATIONS,
        NO_STREAMS,
        NO_INVOCATIONS,
        NO_STREAMS,
    ]
    assert contents() == UNTOUCHED


USES: dict[str, Callable[[Session, float], object]] = {
    "deadlines": lambda session, now: session.join_group("g", now, timeout=5.0),
    "states": lambda session, now: session.set_group_state("g", {"a": "1"}, now),
    "invocations": lambda session, now: session.invoke("e", None, now),
    "streams": lambda session, now: session.open_stream("g", now),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_session_that_needs_more_makes_its_own(use: Callable[[Session, float], object]) -> None:
    drive, other = Drive(), Drive()
    drive.connect()
    other.connect()
    use(drive.session, drive.now)
    assert sum(part in SHARED for part in rare_parts(drive.session)) < 6
    assert sum(part in SHARED for part in rare_parts(other.session)) == 6
    listens(drive)
    assert contents() == UNTOUCHED


def test_the_first_state_waits_for_a_rejoin_that_was_on_its_way_before() -> None:
    drive = Drive()
    drive.connect()
    executed(drive, drive.session.join_group("g", drive.now))
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    (rejoin,) = drive.sent()
    drive.session.set_group_state("g", {"a": "1"}, drive.now)
    assert drive.sent() == []
    drive.says(ok(rejoin["ackId"]))
    drive.advance(0.0)
    assert [said["type"] for said in drive.sent()] == ["setGroupState"]


def test_the_states_of_own_connections_before_the_first_subscription_are_not_shown() -> None:
    drive = Drive()
    drive.connect()
    for number in range(2, 20):
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(f"c{number}"))
    executed(drive, drive.session.subscribe_group_states("g", drive.now))
    items = [{"connectionId": f"c{number}", "updatedAt": 1.0, "state": {"a": "1"}} for number in range(1, 20)]
    drive.says({"type": "groupStateSnapshot", "group": "g", "items": items})
    assert list(drive.session.group_states("g")) == ["c1", "c2", "c19"]  # 16 are remembered


def test_an_id_that_comes_again_is_no_former_one() -> None:
    drive = Drive()
    drive.connect()
    for connection_id in ("c2", "c3", "c2"):
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(connection_id))
    executed(drive, drive.session.subscribe_group_states("g", drive.now))
    items = [{"connectionId": f"c{number}", "updatedAt": 1.0, "state": {"a": "1"}} for number in range(2, 5)]
    drive.says({"type": "groupStateSnapshot", "group": "g", "items": items})
    assert list(drive.session.group_states("g")) == ["c2", "c4"]


def test_nobody_writes_into_nothing() -> None:
    writes: list[Callable[[], object]] = [
        partial(NOTHING.__setitem__, "a", 1),
        partial(NOTHING.setdefault, "a", 1),
        partial(NOTHING.update, a=1),
        partial(NOTHING.__ior__, {"a": 1}),
        partial(exec, "NOTHING['a'] = 1", {"NOTHING": NOTHING}),
    ]
    for write in writes:
        with pytest.raises(TypeError):
            write()
    assert NOTHING.pop("a", None) is None
    NOTHING.clear()
    assert not NOTHING
    assert list(NOTHING.values()) == []


def reached(session: Session) -> dict[int, object]:
    """Return all objects that lead from a session to others, by their ids."""
    seen: dict[int, object] = {}
    unseen: list[object] = [session]
    while unseen:
        each = unseen.pop()
        if id(each) not in seen and not isinstance(each, type | FunctionType | ModuleType):
            seen[id(each)] = each
            unseen += gc.get_referents(each)
    return seen


def test_an_idle_session_has_no_empty_dicts_of_its_own() -> None:
    drive, other = Drive(), Drive()
    for each in (drive, other):
        each.connect()
        each.events()
    shared = reached(other.session)
    assert [each for key, each in reached(drive.session).items() if key not in shared and each == {}] == []


def test_a_session_whose_groups_are_left_has_nothing_of_them_after_a_stop() -> None:
    drive = Drive()
    drive.connect()
    executed(drive, drive.session.join_group("g", drive.now))
    assert drive.session.groups == {"g"}
    drive.session.stop(drive.now)
    drive.session.disconnected(drive.now)
    assert joined(drive.session) is NOTHING
    drive.session.start(drive.now)
    assert drive.session.groups == frozenset()


def test_an_idle_session_takes_3_kib_at_most() -> None:
    """It took 5. This is a limit for all versions of Python; what exactly it takes, benchmarks/idle.py measures."""

    def made() -> Session:
        drive = Drive()
        drive.connect()
        drive.events()
        return drive.session

    first = made()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [made() for _ in range(100)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first
    assert (after - before) / len(kept) < 3072


def test_a_link_knows_where_it_leads_before_and_after_its_handshake() -> None:
    session = Session(random=lambda: 0.5)
    session.start(0.0)
    session.url_ready("wss://example.test:8443/client/hubs/h", 0.0)
    assert session.dial is not None
    link = Link(session, session.dial, random_bytes=os.urandom)
    assert (link.endpoint.host, link.endpoint.port) == ("example.test", 8443)
    end_handshake(link)
    assert (link.endpoint.host, link.endpoint.port) == ("example.test", 8443)
