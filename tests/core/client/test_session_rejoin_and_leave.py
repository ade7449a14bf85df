"""A leave that was not executed loses no group: the rejoin waits for its end, and is made if it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulation.inspect import inspect
from tests.helpers.driving import OWN, Drive, hello, ok, refused

from limpet import RejoinGroupFailed, State


def joined(**options: Any) -> Drive:
    """A client in group g that has lost its connection for good."""
    drive = Drive(**options)
    drive.connect()
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(join))
    drive.events()
    drive.lose()
    return drive


def stands_again(drive: Drive, connection_id: str = "c2") -> None:
    drive.until_dial()
    drive.open()
    drive.says(hello(connection_id))


def rejoins(drive: Drive) -> list[int]:
    """The ack ids of the joins among what is sent now."""
    return [message["ackId"] for message in drive.sent() if message["type"] == "joinGroup"]


# ---- When the leave is asked for, and what is known of the rejoin by then


def while_waiting(drive: Drive) -> int:
    leave = drive.session.leave_group("g", drive.now)
    stands_again(drive)
    return leave


def before_the_rejoin_went_out(drive: Drive) -> int:
    stands_again(drive)
    return drive.session.leave_group("g", drive.now)


def after_the_rejoin_went_out(drive: Drive) -> int:
    stands_again(drive)
    assert rejoins(drive) == [OWN]
    return drive.session.leave_group("g", drive.now)


def after_the_rejoin_failed_for_now(drive: Drive) -> int:
    stands_again(drive)
    assert rejoins(drive) == [OWN]
    drive.says(refused(OWN, "InternalServerError"))
    return drive.session.leave_group("g", drive.now)


def in_a_recovery(drive: Drive) -> int:
    stands_again(drive)
    assert rejoins(drive) == [OWN]
    drive.drop()
    return drive.session.leave_group("g", drive.now)


def twice(drive: Drive) -> int:
    first = in_a_recovery(drive)
    second = drive.session.leave_group("g", drive.now)
    assert drive.session.withdraw(first)
    return second


ASKED = [
    while_waiting,
    before_the_rejoin_went_out,
    after_the_rejoin_went_out,
    after_the_rejoin_failed_for_now,
    in_a_recovery,
    twice,
]

# ---- How it ends


def withdrawn(drive: Drive, leave: int) -> None:
    assert drive.session.withdraw(leave)
    flowing(drive)


def refused_by_the_service(drive: Drive, leave: int) -> None:
    flowing(drive)
    drive.sent()
    drive.says(refused(leave, "Forbidden"))
    drive.advance(0)


def failed_again_and_again(drive: Drive, leave: int) -> None:
    flowing(drive)
    for _ in range(4):
        drive.sent()
        drive.says(refused(leave, "InternalServerError"))
        drive.advance(1.0)


def out_of_time_unsent(drive: Drive, leave: int) -> None:
    drive.advance(9.0)  # nothing is taken meanwhile
    flowing(drive)


def out_of_time_unanswered(drive: Drive, leave: int) -> None:
    flowing(drive)
    assert leave in [message.get("ackId") for message in drive.sent()]
    drive.advance(9.0)


def flowing(drive: Drive) -> None:
    if drive.state is State.RECOVERING:
        if drive.session.dial is None:
            drive.until_dial()
        if not inspect(drive.session).open:
            drive.open()
        drive.says({"type": "pong"})
    drive.advance(0)  # as a driver does: wake at the deadline


ENDS = [withdrawn, refused_by_the_service, failed_again_and_again, out_of_time_unsent, out_of_time_unanswered]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("asked", ASKED)
def test_after_a_leave_that_failed_the_group_is_joined_again(
    asked: Callable[[Drive], int], ends: Callable[[Drive, int], None]
) -> None:
    drive = joined(request_timeout=8.0)
    leave = asked(drive)
    ends(drive, leave)
    assert drive.session.groups == {"g"}
    [rejoin] = rejoins(drive)
    assert rejoin >= OWN
    drive.says(ok(rejoin))
    drive.advance(2)
    assert rejoins(drive) == []
    assert drive.session.groups == {"g"}
    assert drive.events(RejoinGroupFailed) == []


@pytest.mark.parametrize("asked", ASKED)
def test_after_a_leave_that_succeeded_it_is_not(asked: Callable[[Drive], int]) -> None:
    drive = joined()
    leave = asked(drive)
    flowing(drive)
    drive.sent()
    drive.says(ok(leave))
    drive.advance(2)
    assert rejoins(drive) == []
    assert drive.session.groups == frozenset()


def test_a_rejoin_waits_as_long_as_any_leave_may_still_succeed() -> None:
    drive = joined()
    first = after_the_rejoin_went_out(drive)
    second = drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.says(refused(first, "Forbidden"))
    drive.advance(0)
    assert rejoins(drive) == []
    drive.says(refused(second, "Forbidden"))
    drive.advance(0)
    assert rejoins(drive) == [OWN + 1]


def test_a_rejoin_that_is_refused_after_the_leave_is_told() -> None:
    drive = joined()
    leave = after_the_rejoin_went_out(drive)
    drive.sent()
    drive.says(refused(leave, "Forbidden"))
    drive.advance(0)
    [rejoin] = rejoins(drive)
    drive.says(refused(rejoin, "Forbidden"))
    [failed] = drive.events(RejoinGroupFailed)
    assert (failed.group, failed.error.name) == ("g", "Forbidden")
    assert drive.session.groups == frozenset()


def test_a_leave_that_a_later_join_overtook_needs_no_rejoin_after_its_own_success() -> None:
    drive = joined()
    leave = after_the_rejoin_went_out(drive)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(leave), ok(join))
    drive.advance(2)
    assert rejoins(drive) == []
    assert drive.session.groups == {"g"}


@pytest.mark.parametrize("end", ["lost", "stopped"])
def test_nothing_of_it_survives_the_connection(end: str) -> None:
    drive = joined()
    leave = after_the_rejoin_went_out(drive)
    if end == "lost":
        drive.sent()
        drive.lose()
        assert drive.session.withdraw(leave) is False
        stands_again(drive, "c3")
        assert rejoins(drive) == []  # the leave is asked again
        drive.says(refused(leave, "Forbidden"))
        drive.advance(0)
        assert len(rejoins(drive)) == 1
    else:
        drive.session.stop(drive.now)
        drive.drop(1000)
        drive.start()
        drive.open()
        drive.says(hello("c3"))
        drive.advance(2)
        assert rejoins(drive) == []
        assert drive.session.groups == frozenset()


@pytest.mark.parametrize(
    ("leave_ends", "join_ends", "again"),
    [
        ("done", "duplicate", True),  # the service failed to execute the leave the first time, and does now
        ("duplicate", "duplicate", True),  # that may have been before or after the join
        ("refused", "duplicate", True),
        ("done", "done", False),
    ],
)
def test_a_join_that_an_older_leave_may_have_undone_is_made_again(leave_ends: str, join_ends: str, again: bool) -> None:
    drive = Drive()
    drive.connect()
    leave = drive.session.leave_group("g", drive.now)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.drop()  # whatever the service answered was lost
    drive.recover()
    ends = {"done": ok, "duplicate": lambda key: refused(key, "Duplicate"), "refused": lambda key: refused(key, "No")}
    drive.says(ends[leave_ends](leave), ends[join_ends](join))
    drive.advance(0)
    assert drive.session.groups == {"g"}
    assert len(rejoins(drive)) == again


def test_a_join_that_was_repeated_on_the_same_transport_is_not_made_again() -> None:
    drive = Drive(ack_timeout=1.0)
    drive.connect()
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(leave))
    drive.advance(1.5)
    drive.says(refused(join, "Duplicate"))
    drive.advance(0)
    assert drive.sent() == []


def test_a_leave_withholds_the_rejoin_of_its_own_group_alone() -> None:
    drive = joined()
    stands_again(drive)
    drive.says({"type": "pong"})
    drive.session.leave_group("another", drive.now)
    assert [(message["type"], message["group"]) for message in drive.sent()] == [
        ("joinGroup", "g"),
        ("leaveGroup", "another"),
    ]


def test_the_rejoins_of_two_groups_are_told_apart() -> None:
    drive = joined()
    stands_again(drive)
    join = drive.session.join_group("h", drive.now)
    drive.sent()
    drive.says(ok(join), ok(OWN))
    drive.lose()
    stands_again(drive, "c3")
    drive.session.leave_group("h", drive.now)
    assert [(message["type"], message["group"]) for message in drive.sent()] == [
        ("joinGroup", "g"),
        ("leaveGroup", "h"),
    ]


def test_a_leave_that_a_later_join_made_impossible_holds_the_rejoin_up_no_more() -> None:
    drive = joined()
    leave = after_the_rejoin_went_out(drive)
    drive.sent()
    drive.says(refused(leave, "InternalServerError"))
    join = drive.session.join_group("g", drive.now)
    drive.advance(0)
    assert rejoins(drive) == [join, OWN + 1]


def joined_again_twice() -> Drive:
    """A client with two rejoins of one group on their way: of a leave that failed, and of a join that was undone."""
    drive = joined()
    leave = after_the_rejoin_went_out(drive)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.drop()
    drive.recover()
    drive.says(refused(leave, "Forbidden"))
    drive.advance(0)
    assert rejoins(drive) == [OWN + 1]
    drive.says(refused(join, "Duplicate"), refused(OWN + 1, "InternalServerError"))
    drive.advance(0)
    assert rejoins(drive) == [OWN + 2]
    drive.events()
    return drive


def test_two_rejoins_of_a_group_may_both_be_refused() -> None:
    drive = joined_again_twice()
    drive.advance(1)
    assert rejoins(drive) == [OWN + 1]
    drive.says(refused(OWN + 2, "Forbidden"), refused(OWN + 1, "Forbidden"))
    assert [event.group for event in drive.events(RejoinGroupFailed)] == ["g", "g"]
    assert drive.session.groups == frozenset()


def test_no_repeat_of_any_rejoin_comes_after_a_leave() -> None:
    drive = joined_again_twice()
    drive.says(refused(OWN + 2, "InternalServerError"))
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.says(ok(leave))
    drive.advance(2)
    assert rejoins(drive) == []
    assert drive.session.groups == frozenset()
