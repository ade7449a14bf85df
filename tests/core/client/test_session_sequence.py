"""Sequence ids: order, duplicates, gaps, and when they are acknowledged."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import PING, Drive, encoded, hello, news, sequence_ack

from limpet import Close, GroupMessage, MessagesMissed, ServerMessage, State

PLAIN = "json.webpubsub.azure.v1"


def connected(**options: Any) -> Drive:
    drive = Drive(**options)
    drive.connect(token=None if options.get("protocol") == PLAIN else "t1")
    return drive


def acks(drive: Drive) -> list[int]:
    return [message["sequenceId"] for message in drive.sent() if message["type"] == "sequenceAck"]


def delivered(drive: Drive) -> list[int | None]:
    return [event.sequence_id for event in drive.events() if isinstance(event, GroupMessage | ServerMessage)]


def test_group_and_server_messages_share_one_sequence() -> None:
    drive = connected()
    drive.says(news(1), {"type": "message", "from": "server", "dataType": "json", "data": {"a": 1}, "sequenceId": 2})
    first, second = drive.events()
    assert (type(first), first.group, first.data, first.sequence_id) == (GroupMessage, "g", "news", 1)
    assert (type(second), second.data, second.sequence_id) == (ServerMessage, {"a": 1}, 2)


def test_what_was_seen_is_not_delivered_again() -> None:
    drive = connected()
    drive.says(news(1), news(2), news(3))
    drive.says(news(1), news(3), news(2), news(4), news(4))
    assert delivered(drive) == [1, 2, 3, 4]


def test_what_was_seen_is_not_delivered_again_after_a_recovery() -> None:
    drive = connected()
    drive.says(news(1), news(2), news(3))
    drive.drop()
    drive.recover()
    drive.says(news(2), news(3), news(4))
    assert delivered(drive) == [1, 2, 3, 4]


def test_a_new_connection_counts_from_1_again() -> None:
    drive = connected()
    drive.says(news(1), news(2))
    drive.lose()
    drive.connect("c2")
    drive.says(news(1), news(2))
    assert delivered(drive) == [1, 2]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.integers(0, 8), st.integers(0, 8)),
            st.tuples(st.just("drop"), st.just(0), st.just(0)),
        ),
        max_size=30,
    )
)
def test_whatever_is_replayed_is_delivered_at_most_once_in_order_and_without_a_silent_gap(
    steps: list[tuple[str, int, int]],
) -> None:
    """A service that replays from any earlier point, over any number of recoveries."""
    drive = connected()
    highest = 0
    acknowledged = 0
    log: list[Any] = []
    for step, back, count in steps:
        if step == "drop":
            drive.drop()
            acknowledged = max(
                [acknowledged, *(m["sequenceId"] for m in drive.recover() if m["type"] == "sequenceAck")]
            )
        else:
            first = max(1, highest + 1 - back)
            drive.says(*(news(n) for n in range(first, first + count)))
            highest = max(highest, first + count - 1)
        acknowledged = max([acknowledged, *acks(drive)])
        log += drive.events(GroupMessage)
        assert acknowledged <= highest
    assert [event.sequence_id for event in log] == list(range(1, highest + 1))
    drive.advance(1)
    assert max([acknowledged, *acks(drive)]) == highest


@given(st.lists(st.integers(1, 30), max_size=40))
def test_every_id_is_delivered_or_told_as_missed_exactly_once(ids: list[int]) -> None:
    drive = connected()
    drive.says(*(news(n) for n in ids))
    seen: list[int] = []
    for event in drive.events():
        if type(event) is MessagesMissed:
            assert event.first <= event.last
            seen += range(event.first, event.last + 1)
        else:
            seen.append(event.sequence_id)
    assert seen == list(range(1, max(ids, default=0) + 1))


@pytest.mark.parametrize(
    ("ids", "missed"),
    [
        ([3], [(1, 2)]),
        ([1, 3], [(2, 2)]),
        ([1, 2, 10, 11, 20], [(3, 9), (12, 19)]),
        ([2**40], [(1, 2**40 - 1)]),
        ([2**64 - 1], [(1, 2**64 - 2)]),
    ],
)
def test_skipped_ids_are_told_before_the_message_that_follows(ids: list[int], missed: list[tuple[int, int]]) -> None:
    drive = connected()
    drive.says(*(news(n) for n in ids))
    events = drive.events()
    assert [(event.first, event.last) for event in events if type(event) is MessagesMissed] == missed
    for event, following in pairwise(events):
        if type(event) is MessagesMissed:
            assert following.sequence_id == event.last + 1


@pytest.mark.parametrize("wrong", [0, -1, 2**64, 10**30, 10**400])
def test_an_id_that_can_not_be_one_does_not_swallow_what_follows(wrong: int) -> None:
    drive = connected()
    drive.says(news(1), news(wrong), news(2))
    for _ in range(3):
        if drive.state is State.RECOVERING:
            drive.until_dial()
            drive.open()
            drive.says(news(wrong), news(2), news(3))
    assert drive.state is State.CONNECTED
    assert delivered(drive) == [1, 2, 3]


def test_an_id_that_is_too_large_is_called_that() -> None:
    drive = connected()
    transport = drive.dial
    drive.says(news(2**64))
    assert transport.close == Close(1007, "a sequence id of more than 64 bits")


def test_messages_of_an_unknown_origin_keep_their_place_in_the_sequence() -> None:
    drive = connected()
    drive.says(news(1), {"type": "message", "from": "the future", "sequenceId": 2, "data": 1}, news(3))
    assert drive.state is State.CONNECTED
    assert [type(event) for event in drive.events()] == [GroupMessage, MessagesMissed, GroupMessage]
    drive.advance(1)
    assert acks(drive) == [3]


def test_a_message_of_an_unknown_origin_is_acknowledged_even_alone() -> None:
    drive = connected()
    drive.says({"type": "message", "from": "the future", "sequenceId": 1, "data": 1})
    assert drive.events() == [MessagesMissed(1, 1)]
    drive.advance(1)
    assert acks(drive) == [1]


def unknown(sequence_id: int) -> dict[str, Any]:
    return {"type": "message", "from": "the future", "sequenceId": sequence_id, "data": 1}


def test_what_can_not_be_delivered_is_told_once() -> None:
    drive = connected()
    drive.says(unknown(1), unknown(1), news(2), unknown(1), unknown(2), unknown(4), unknown(4))
    assert [event for event in drive.events() if type(event) is MessagesMissed] == [
        MessagesMissed(1, 1),
        MessagesMissed(3, 4),
    ]


# ---- When to acknowledge


def test_nothing_received_is_nothing_to_acknowledge() -> None:
    drive = connected()
    drive.says(news(None), {"type": "pong"})
    assert drive.session.deadline == math.inf
    drive.advance(100)
    assert acks(drive) == []


def test_what_has_no_sequence_id_asks_for_no_further_acknowledgement() -> None:
    drive = connected()
    drive.says(news(1))
    drive.advance(1)
    assert acks(drive) == [1]
    drive.says(news(None), {"type": "pong"})
    assert drive.session.deadline == math.inf


def test_the_ack_goes_out_after_a_second() -> None:
    drive = connected()
    drive.says(news(1))
    drive.advance(0.5)
    drive.says(news(2))
    assert drive.session.deadline == drive.now + 0.5
    drive.advance(0.5)
    assert acks(drive) == [2]
    drive.advance(100)
    assert acks(drive) == []
    drive.says(news(3))
    drive.advance(1)
    assert acks(drive) == [3]


def test_the_ack_goes_out_after_100_messages() -> None:
    drive = connected()
    for n in range(1, 100):
        drive.says(news(n))
    assert acks(drive) == []
    drive.says(news(100))
    assert acks(drive) == [100]
    drive.says(*(news(n) for n in range(101, 200)))
    assert acks(drive) == []
    drive.says(news(200))
    assert acks(drive) == [200]


def test_the_ack_goes_out_after_a_mebibyte() -> None:
    drive = connected()
    drive.says(news(1, "x" * (1 << 19)))
    assert acks(drive) == []
    drive.says(news(2, "x" * (1 << 19)))
    assert acks(drive) == [2]
    drive.says(news(3, "x" * (1 << 19)))
    assert acks(drive) == []


@pytest.mark.parametrize(
    ("option", "value", "ids", "expected"),
    [
        ("sequence_ack_messages", 1, [1, 2, 3], [1, 2, 3]),
        ("sequence_ack_messages", 3, [1, 2, 3, 4], [3]),
        ("sequence_ack_bytes", 1, [1, 2], [1, 2]),
        ("sequence_ack_bytes", 400, [1, 2, 3, 4, 5, 6, 7], [4]),
        ("sequence_ack_bytes", 2 * len(encoded(news(1))), [1, 2, 3, 4], [2, 4]),
        ("sequence_ack_bytes", 2 * len(encoded(news(1))) + 1, [1, 2, 3, 4], [3]),
    ],
)
def test_the_thresholds_are_options(option: str, value: int, ids: list[int], expected: list[int]) -> None:
    drive = connected(**{option: value})
    told = []
    for n in ids:
        drive.says(news(n))
        told += acks(drive)
    assert told == expected


def test_where_the_service_reads_nothing_only_the_last_acknowledgement_and_one_ping_wait() -> None:
    drive = connected(sequence_ack_messages=1, keepalive_interval=1.0)
    for n in range(1, 100):
        drive.says(news(n))
        drive.advance(1.0)
    assert [len(drive.session.messages_to_send()) for _ in range(2)] == [2, 0]
    drive.says(news(100))
    assert acks(drive) == [100]


def test_an_acknowledgement_leaves_the_ping_that_waits_before_it() -> None:
    drive = connected(sequence_ack_messages=1, keepalive_interval=1.0)
    drive.advance(1.0)
    drive.says(news(1))
    assert drive.sent() == [PING, sequence_ack(1)]


def test_the_interval_is_an_option() -> None:
    drive = connected(sequence_ack_interval=7.0)
    drive.says(news(1))
    drive.advance(6)
    assert acks(drive) == []
    drive.advance(1)
    assert acks(drive) == [1]


def test_with_interval_0_the_ack_is_due_at_once() -> None:
    drive = connected(sequence_ack_interval=0)
    drive.says(news(1))
    assert drive.session.deadline == drive.now
    drive.session.wake(drive.now)
    assert acks(drive) == [1]


def test_the_ack_goes_out_at_once_after_a_recovery_before_anything_else() -> None:
    drive = connected()
    drive.says(news(1), news(2))
    drive.session.send_to_group("g", 1, drive.now)
    drive.drop()
    drive.open()
    assert drive.sent()[0] == sequence_ack(2)
    drive.says({"type": "pong"})
    drive.advance(5)
    assert acks(drive) == []


def test_what_was_acknowledged_before_the_drop_is_acknowledged_again_after_it() -> None:
    """The ack before may have been lost with the transport."""
    drive = connected()
    drive.says(news(1))
    drive.advance(1)
    assert acks(drive) == [1]
    drive.drop()
    drive.open()
    assert acks(drive) == [1]


def test_duplicates_are_acknowledged_too() -> None:
    drive = connected()
    drive.says(news(1), news(2))
    drive.advance(1)
    assert acks(drive) == [2]
    drive.says(news(1))
    assert delivered(drive) == [1, 2]
    drive.advance(1)
    assert acks(drive) == [2]


def test_duplicates_count_towards_the_100_messages() -> None:
    drive = connected()
    for _ in range(100):
        drive.says(news(1))
    assert acks(drive) == [1]


def test_what_can_not_be_delivered_counts_towards_the_ack_like_any_message() -> None:
    drive = connected(sequence_ack_messages=4)
    for n in (1, 2, 3):
        drive.says(unknown(n))
        assert acks(drive) == []
    drive.says(unknown(4))
    assert acks(drive) == [4]
    drive.says(news(5), news(6), unknown(7))
    assert acks(drive) == []
    drive.says(news(8))
    assert acks(drive) == [8]


def test_the_last_ack_goes_out_before_a_deliberate_close() -> None:
    drive = connected()
    drive.says(news(1), news(2))
    drive.session.stop(drive.now)
    assert drive.sent() == [sequence_ack(2)]


@pytest.mark.parametrize("batch", [1, 7, 99])
def test_a_burst_never_leaves_a_thousand_messages_unacknowledged_while_we_read(batch: int) -> None:
    drive = connected()
    acknowledged, worst = 0, 0
    for first in range(1, 5001, batch):
        drive.says(*(news(n) for n in range(first, first + batch)))
        acknowledged = max([acknowledged, *acks(drive)])
        worst = max(worst, first + batch - 1 - acknowledged)
    assert worst < 200


@pytest.mark.parametrize("other", ['{"type":"pong"}', '{"type":"ack","ackId":1,"success":true}'])
def test_the_plain_subprotocol_knows_no_sequence(other: str) -> None:
    drive = connected(protocol=PLAIN)
    drive.says(news(5), news(5), other, news(1), news(2), news(3, "%", dataType="binary"))
    assert delivered(drive) == [5, 5, 1, 2]
    assert drive.events() == []
    drive.advance(10)
    assert acks(drive) == []


def test_the_plain_subprotocol_ignores_an_unknown_origin_altogether() -> None:
    drive = connected(protocol=PLAIN)
    drive.says(unknown(2))
    assert (drive.events(), drive.session.deadline) == ([], math.inf)


def test_messages_before_another_connected_do_not_count_on_the_new_connection() -> None:
    drive = connected()
    drive.says(news(1), hello("c2"))
    drive.advance(5)
    assert acks(drive) == []
