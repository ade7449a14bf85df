"""Joins and leaves of one group that overtake each other: the service's groups and the client's stay the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from tests.helpers.driving import OWN, Drive, ack_ids, how, ok, refused

from limpet import Acked, Backoff


def connected(**options: object) -> Drive:
    drive = Drive(**options)
    drive.connect()
    return drive


def join(drive: Drive, user_data: object = None) -> int:
    return drive.session.join_group("g", drive.now, user_data=user_data)


def leave(drive: Drive, user_data: object = None) -> int:
    return drive.session.leave_group("g", drive.now, user_data=user_data)


def repeated(drive: Drive, *expected: int) -> None:
    """The answers are lost; all is repeated."""
    drive.sent()
    drive.drop()
    assert ack_ids(drive.recover()) == list(expected)


def duplicate(ack_id: int) -> dict[str, object]:
    return refused(ack_id, "Duplicate")


def test_a_leave_is_refused_if_a_join_before_it_was_executed_after_it() -> None:
    """The service has failed to execute the join at first, and the answers were lost."""
    drive = connected()
    joined, left = join(drive), leave(drive)
    repeated(drive, joined, left)
    drive.says(ok(joined), duplicate(left))
    done, superseded = drive.events(Acked)
    assert (how(done), how(superseded)) == ("done", "Superseded/rejected")
    assert str(superseded.error) == (
        "Superseded: an earlier request to join was executed after it, when both were repeated; leave once more "
        f"(ack id {left}; the service did not execute it)"
    )
    assert drive.session.groups == {"g"}


def test_a_leave_that_is_refused_so_tells_of_a_join_that_another_leave_seemed_to_have_undone() -> None:
    """The service has executed the first leave before the join, which it failed to execute at first."""
    drive = connected()
    joined, first, second = join(drive), leave(drive), leave(drive)
    drive.sent()
    drive.says(ok(first))
    repeated(drive, joined, second)
    drive.says(ok(joined), duplicate(second))
    assert drive.answers() == {first: "done", joined: "done", second: "Superseded/rejected"}
    assert drive.session.groups == {"g"}


def test_several_leaves_tell_that_too() -> None:
    drive = connected()
    joined, first, second = join(drive), leave(drive), leave(drive)
    repeated(drive, joined, first, second)
    drive.says(ok(joined), duplicate(first), duplicate(second))
    assert drive.answers() == {joined: "done", first: "Superseded/rejected", second: "Superseded/rejected"}
    assert drive.session.groups == {"g"}


def test_a_join_that_was_executed_before_an_earlier_leave_is_made_again_though_another_leave_is_refused() -> None:
    drive = connected()
    left, joined, again = leave(drive), join(drive), leave(drive)
    repeated(drive, left, joined, again)
    drive.says(ok(left), duplicate(joined), refused(again, "Forbidden"))
    assert drive.answers() == {left: "done", joined: "duplicate", again: "Forbidden/rejected"}
    drive.advance(0.0)
    assert ack_ids(drive.sent()) == [OWN]
    assert drive.session.groups == {"g"}


def test_a_leave_that_was_executed_between_them_leaves_the_group() -> None:
    drive = connected()
    joined, first, second = join(drive), leave(drive), leave(drive)
    repeated(drive, joined, first, second)
    drive.says(ok(joined), ok(first), duplicate(second))
    assert drive.answers() == {joined: "done", first: "done", second: "duplicate"}
    assert drive.session.groups == frozenset()


def test_a_leave_that_was_executed_behind_the_join_with_its_answer_lost_is_done() -> None:
    """Both are executed in order, on the second transport, which brings only one of the answers."""
    drive = connected()
    joined, left = join(drive), leave(drive)
    repeated(drive, joined, left)
    drive.says(ok(joined))
    repeated(drive, left)
    drive.says(duplicate(left))
    assert drive.answers() == {joined: "done", left: "duplicate"}
    assert drive.session.groups == frozenset()


@pytest.mark.parametrize("first_copy_of_the_join", [ok, duplicate])
def test_a_leave_after_a_join_that_was_executed_before_is_done(
    first_copy_of_the_join: Callable[[int], dict[str, object]],
) -> None:
    drive = connected()
    joined, left = join(drive), leave(drive)
    repeated(drive, joined, left)
    drive.says(first_copy_of_the_join(joined), ok(left))
    assert drive.answers()[left] == "done"
    assert drive.session.groups == frozenset()


def test_a_leave_after_a_join_both_executed_before_is_done() -> None:
    drive = connected()
    joined, left = join(drive), leave(drive)
    repeated(drive, joined, left)
    drive.says(duplicate(joined), duplicate(left))
    assert drive.answers() == {joined: "duplicate", left: "duplicate"}
    assert drive.session.groups == frozenset()


def test_joins_that_were_executed_before_are_not_made_again() -> None:
    drive = connected()
    first, second = join(drive), join(drive)
    repeated(drive, first, second)
    drive.says(duplicate(first), duplicate(second))
    assert drive.answers() == {first: "duplicate", second: "duplicate"}
    drive.advance(0.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_a_join_that_was_sent_after_the_answer_to_the_leave_is_not_made_again() -> None:
    drive = connected()
    left = leave(drive)
    drive.sent()
    joined = join(drive)
    drive.says(ok(left))
    repeated(drive, joined)
    drive.says(duplicate(joined))
    drive.advance(0.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


@pytest.mark.parametrize("answer", [ok, lambda ack_id: refused(ack_id, "Forbidden")])
def test_a_join_that_was_not_executed_before_is_not_made_again(
    answer: Callable[[int], dict[str, object]],
) -> None:
    drive = connected()
    left, joined = leave(drive), join(drive)
    repeated(drive, left, joined)
    drive.says(ok(left), answer(joined))
    drive.advance(0.0)
    assert drive.sent() == []


@pytest.mark.parametrize("ask", [join, leave])
def test_one_copy_that_failed_says_nothing_of_another(ask: Callable[[Drive], int]) -> None:
    """The first answer comes late, when no more repeats are allowed: the repeat on its way may be executed."""
    drive = connected(ack_timeout=2.0, retry=Backoff(limit=1))
    asked = ask(drive)
    assert ack_ids(drive.sent()) == [asked]
    drive.advance(2.0)
    assert ack_ids(drive.sent()) == [asked]
    drive.says(refused(asked, "InternalServerError"), ok(asked))
    assert drive.answers() == {asked: "InternalServerError/unknown"}


def test_a_copy_on_a_transport_before_says_nothing_of_this_one() -> None:
    drive = connected(ack_timeout=2.0, retry=Backoff(limit=1))
    asked = join(drive)
    drive.sent()
    drive.advance(2.0)
    repeated(drive, asked)
    drive.says(refused(asked, "InternalServerError"))
    assert drive.answers() == {asked: "InternalServerError/rejected"}


# ---- A request between two others is taken back


def test_no_repeat_of_a_leave_comes_after_the_join_that_is_left() -> None:
    drive = connected()
    left = leave(drive)
    drive.sent()
    first, second = join(drive), join(drive)
    assert drive.session.withdraw(first)
    assert ack_ids(drive.sent()) == [second]
    drive.says(refused(left, "InternalServerError"), ok(second))
    assert drive.answers() == {left: "InternalServerError/rejected", second: "done"}
    drive.advance(10.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_of_two_leaves_none_is_repeated_after_a_join() -> None:
    drive = connected()
    first, second = leave(drive), leave(drive)
    joined = join(drive)
    drive.sent()
    drive.says(refused(first, "InternalServerError"), refused(second, "InternalServerError"), ok(joined))
    assert [*drive.answers().values()] == ["InternalServerError/rejected", "InternalServerError/rejected", "done"]
    drive.advance(10.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_nor_of_two_that_wait_for_their_repeats() -> None:
    drive = connected()
    first, second = leave(drive), leave(drive)
    drive.sent()
    drive.says(refused(first, "InternalServerError"), refused(second, "InternalServerError"))
    joined = join(drive)
    assert drive.answers() == {first: "Superseded/rejected", second: "Superseded/rejected"}
    assert drive.session.groups == frozenset()
    drive.advance(10.0)
    assert ack_ids(drive.sent()) == [joined]


def test_nor_one_whose_follower_has_ended_before() -> None:
    drive = connected()
    first, second = leave(drive), leave(drive)
    drive.sent()
    drive.says(ok(second))
    joined = join(drive)
    drive.sent()
    drive.says(refused(first, "InternalServerError"), ok(joined))
    drive.advance(10.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_nor_after_one_behind_another_leave() -> None:
    drive = connected()
    left = leave(drive)
    drive.sent()
    taken_back, again, last = join(drive), leave(drive), join(drive)
    assert drive.session.withdraw(taken_back)
    assert ack_ids(drive.sent()) == [again, last]
    drive.says(refused(left, "InternalServerError"), ok(again), ok(last))
    drive.advance(10.0)
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_a_leave_alone_is_repeated_as_ever() -> None:
    drive = connected()
    left = leave(drive)
    drive.sent()
    assert drive.session.withdraw(join(drive))
    drive.says(refused(left, "InternalServerError"))
    drive.advance(1.0)
    assert ack_ids(drive.sent()) == [left]


# ---- Memory


class Waiter:
    """What waits for an answer."""


@pytest.mark.parametrize("first_stays", [False, True])
def test_requests_that_always_overlap_are_freed(first_stays: bool) -> None:
    drive = connected(ack_timeout=None)
    waiters: list[weakref.ref[Waiter]] = []
    previous: int | None = None
    asks = [join, leave]
    for number in range(100):
        waiter = Waiter()
        waiters.append(weakref.ref(waiter))
        asked = asks[number % 2](drive, waiter)
        del waiter
        drive.sent()
        if previous is not None and not (first_stays and number == 1):
            drive.says(ok(previous))
        for event in drive.events(Acked):
            assert how(event) == "done"
            del event
        previous = asked
    gc.collect()
    assert sum(waiter() is not None for waiter in waiters) <= 1 + first_stays
