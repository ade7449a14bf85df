"""Runs of acks: what is read at once is what would be read text for text, whatever is in it and wherever it is cut."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulation.inspect import inspect, request_deadlines
from tests.helpers import frames
from tests.helpers.driving import QUIET, URL, Drive, WsprotoLink, encoded, hello
from tests.helpers.profiles import examples
from tests.helpers.strategies import cut_at

from limpet import Acked, Backoff, InvalidType, InvalidValue, Link, Options, Session, State
from limpet_core.client import frames as frames_module
from limpet_core.client.ack_runs import AckRun, cut_acks
from limpet_core.client.frames import FrameBuffer


def ack(number: int | str) -> bytes:
    """An ack of success, as the service writes it."""
    return b'{"type":"ack","ackId":%b,"success":true}' % str(number).encode()


def stream(texts: Iterable[bytes]) -> bytes:
    return b"".join(map(frames.text, texts))


FIRST = 98
"""The first ack id: a run ends where the number of digits changes, after two of them."""

OTHERS = [
    b'{"type":"ack","ackId":99,"success":false}',
    b'{"type":"ack","ackId":99,"success":false,"error":{"name":"Duplicate","message":""}}',
    b'{"type":"ack","ackId":100,"success":false,"error":{"name":"InternalServerError","message":""}}',
    b'{"type":"ack","ackId":101,"success": true}',
    b'{"success":true,"ackId":102,"type":"ack"}',
    b'{"type":"message","from":"server","dataType":"text","data":"x","sequenceId":1}',
    b'{"type":"message","from":"server","dataType":"json","data":{"type":"ack","ackId":103,"success":true}}',
    b'{"type":"message","from":"server","dataType":"json","data":[{"type":"ack","ackId":103,"success":true},"success":true}',
    b'{"type":"pong"}',
    b'{"type":"ack","ackId":099,"success":true}',
    b'{"type":"ack","ackId":-99,"success":true}',
    b'{"type":"ack","ackId":1e2,"success":true}',
    b'{"type":"ack","ackId":1 0,"success":true}',
    b'{"type":"ack","ackId":"1","success":true}',
    b'{"type":"ack","ackId":,"success":true}',
    b'{"type":"ack","ackId":1\xff0,"success":true}',
    ack(10**14),
    ack(10**15),
    ack(2**64),
    b'{"type":"ack","ackId":104,"success":true}{"type":"ack","ackId":105,"success":true}',
    b"",
]

TEXTS = st.one_of(
    st.integers(FIRST - 1, FIRST + 12).map(ack),
    st.integers(FIRST - 1, FIRST + 12).map(ack),
    st.integers(FIRST - 1, FIRST + 12).map(ack),
    st.sampled_from(OTHERS),
)
RUNS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: [text]),
        st.integers(FIRST, FIRST + 8).map(lambda first: [ack(number) for number in range(first, first + 5)]),
    ),
    max_size=8,
).map(lambda runs: [text for run in runs for text in run])


# ---- What is cut


def test_acks_that_follow_each_other_are_one_run() -> None:
    data = stream(map(ack, range(100, 105)))
    run = cut_acks(data, 0)
    assert run == AckRun([100, 101, 102, 103, 104], len(data), 5 * len(ack(100)))
    assert run.texts() == [ack(number) for number in range(100, 105)]


def test_a_run_ends_with_the_last_whole_ack() -> None:
    whole, more = stream(map(ack, range(100, 103))), frames.text(ack(103))
    for cut in range(len(more)):
        run = cut_acks(b"......" + whole + more[:cut], 6)
        assert run is not None
        assert (run.ids, run.end) == ([100, 101, 102], 6 + len(whole))


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("place", range(4))
def test_no_other_text_is_part_of_a_run(other: bytes, place: int) -> None:
    texts = [ack(number) for number in range(100, 103)]
    texts.insert(place, other)
    run = cut_acks(stream(texts), 0)
    assert run is None or (place == 3 and run.ids == [100, 101, 102])


@pytest.mark.parametrize("first", [0x80, 0x82, 0x01, 0xC1, 0x88])
def test_no_other_frame_is_part_of_a_run(first: int) -> None:
    data = bytearray(stream(map(ack, range(100, 103))))
    size = len(data) // 3
    for place in range(3):
        odd = data.copy()
        odd[place * size] = first
        assert cut_acks(bytes(odd), 0) is None
        for length in (0, 1, 38, 40, 126, 127, 0x80 | size - 2):
            odd = data.copy()
            odd[place * size + 1] = length
            assert cut_acks(bytes(odd), 0) is None


@pytest.mark.parametrize("numbers", [[1, 2], [9, 8], [10**14, 10**14 + 1]])
def test_two_acks_are_a_run_of_the_shortest_and_of_the_longest_ids(numbers: list[int]) -> None:
    data = stream(map(ack, numbers))
    size = sum(len(ack(number)) for number in numbers)
    assert cut_acks(b"......" + data, 6) == AckRun(numbers, 6 + len(data), size)
    buffer = FrameBuffer(1 << 20, fast_lane=True)
    assert buffer.feed(data) == [AckRun(numbers, len(data), size)]
    pong = frames.text('{"type":"pong"}')
    assert buffer.feed(data + pong[:5]) == [AckRun(numbers, len(data), size)]
    rest = pong[5:] + data
    assert buffer.feed(rest) == [[b'{"type":"pong"}'], AckRun(numbers, len(rest), size)]


def test_one_ack_is_no_run_wherever_it_is() -> None:
    assert cut_acks(frames.text(ack(5)), 0) is None
    assert cut_acks(b"." * 200 + frames.text(ack(5)), 200) is None


def flat(buffer: FrameBuffer, chunks: list[bytes]) -> tuple[list[bytes], int]:
    """The texts that a buffer finds, and how many of them in runs."""
    texts: list[bytes] = []
    at_once = 0
    for chunk in chunks:
        for item in buffer.feed(chunk):
            if isinstance(item, AckRun):
                assert item.size == sum(map(len, item.texts()))
                at_once += len(item.ids)
                texts += item.texts()
            else:
                assert isinstance(item, list), "only ordinary frames are in the stream"
                texts += item
    return texts, at_once


@settings(max_examples=examples(300))
@given(texts=st.lists(st.integers(95, 1005).map(ack), max_size=30), data=st.data())
def test_a_buffer_finds_the_same_texts_wherever_the_stream_is_cut(texts: list[bytes], data: st.DataObject) -> None:
    whole = stream(texts)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=4))
    found, _ = flat(FrameBuffer(1 << 20, fast_lane=True), cut_at(whole, cuts))
    assert found == texts


def test_most_acks_come_in_runs_also_where_reads_end_within_a_frame() -> None:
    texts = [ack(number) for number in range(1, 2001)]
    whole = stream(texts)
    found, at_once = flat(
        FrameBuffer(1 << 20, fast_lane=True), [whole[at : at + 1448] for at in range(0, len(whole), 1448)]
    )
    assert found == texts
    assert at_once > 0.9 * len(texts)


def test_what_a_peer_mixes_with_acks_does_not_make_a_read_cost_more_for_each_of_its_bytes() -> None:
    looked_at: list[int] = []

    def cut(data: bytes, position: int) -> AckRun | None:
        looked_at.append(len(data) - position)
        return cut_acks(data, position)

    pairs = 3000
    data = (frames.text(ack(100)) + frames.frame(0x89, b"")) * pairs + frames.text(ack(100))
    with patch.object(frames_module, "cut_acks", cut):
        found = FrameBuffer(1 << 20, fast_lane=True).feed(data)
    assert len(found) == 2 * pairs + 1
    assert sum(looked_at) <= 2 * len(data)


@pytest.mark.parametrize(("limit", "binary"), [(40, False), (1 << 20, True)])
def test_no_run_is_cut_where_a_limit_or_another_subprotocol_has_to_see_each_frame(limit: int, binary: bool) -> None:
    found = FrameBuffer(limit, fast_lane=True, binary=binary).feed(stream(map(ack, range(100, 103))))
    assert not any(isinstance(item, AckRun) for item in found)


# ---- What comes of it


def busy(options: dict[str, Any], *, fast_lane: bool) -> tuple[Session, Link]:
    """A session with requests of all kinds on their way; ids from FIRST on."""
    session = Session(Options(**QUIET, **options), random=lambda: 0.5)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    assert session.dial is not None
    link = (Link if fast_lane else WsprotoLink)(session, session.dial, random_bytes=bytes)
    (handshake,) = link.data_to_send()
    link.receive_data(frames.accept(handshake) + frames.text(encoded(hello("c1"))), 0.0)
    for number in range(FIRST, FIRST + 4):
        session.send_to_group("g", "x", 0.0, ack_id=number, user_data=number)
    session.send_to_group("g", "x", 0.0, timeout=5.0)
    session.join_group("g", 0.0)
    session.send_event("e", "x", 0.0)
    session.set_group_state("g", {"a": "b"}, 0.0)
    session.send_to_group("g", "x", 0.0)
    session.leave_group("g", 0.0)
    session.send_to_group("g", "x", 0.0, ack=False)
    link.data_to_send()
    session.send_to_group("g", "never sent", 0.0)
    return session, link


def seen(session: Session) -> dict[str, object]:
    inside, stats = inspect(session), session.stats
    return {
        "events": [msgspec.Struct.__repr__(event) for event in session.events()],
        "state": (session.state, session.groups, stats.requests_pending, stats.acks_outstanding),
        "pending": repr(inside.pending),
        "left": repr(inside.left),
        "sent": session.messages_to_send(),
    }


@settings(max_examples=examples(300))
@example(texts=[ack(number) for number in range(FIRST, FIRST + 12)], cuts=[], options={})
@example(texts=[ack(number) for number in range(100, 112)] * 2, cuts=[], options={"request_timeout": 9.0})
@given(
    texts=RUNS,
    cuts=st.lists(st.integers(0, 400), max_size=2),
    options=st.sampled_from([{}, {"request_timeout": 9.0}, {"ack_timeout": None}, {"retry": Backoff(limit=1)}]),
)
def test_a_session_does_the_same_as_with_each_text_for_itself(
    texts: list[bytes], cuts: list[int], options: dict[str, Any]
) -> None:
    check_the_same(texts, cuts, options)


@pytest.mark.parametrize("options", [{}, {"request_timeout": 9.0}, {"ack_timeout": None}, {"retry": Backoff(limit=1)}])
@pytest.mark.parametrize(
    "texts",
    [
        [ack(number) for number in range(FIRST, FIRST + 12)],
        [ack(number) for number in range(100, 112)] * 2,
        [OTHERS[2], *(ack(number) for number in range(100, 112))],
    ],
)
def test_a_session_does_the_same_with_these(texts: list[bytes], options: dict[str, Any]) -> None:
    check_the_same(texts, [], options)


def check_the_same(texts: list[bytes], cuts: list[int], options: dict[str, Any]) -> None:
    def observed(fast_lane: bool) -> object:
        session, link = busy(options, fast_lane=fast_lane)
        for chunk in cut_at(stream(texts), cuts):
            link.receive_data(chunk, 1.0)
        before = seen(session)
        session.wake(3.0)
        return before, seen(session)

    assert observed(True) == observed(False)


def test_an_ack_settles_its_request_once_and_makes_room_for_others() -> None:
    drive = Drive()
    drive.connect()
    for number in range(1000, 1600):
        drive.session.send_to_group("g", "x", drive.now, ack_id=number)
    assert len(drive.session.messages_to_send()) == 500
    run = cut_acks(stream(map(ack, [*range(1000, 1300), 1000, 1001, 1599])), 0)
    assert run is not None
    before = drive.session.stats.bytes_in
    drive.session.receive_acks(run, drive.now)
    assert drive.session.events() == [Acked(number) for number in range(1000, 1300)]
    assert len(drive.session.messages_to_send()) == 100
    assert drive.session.stats.acks_outstanding == 300
    assert drive.session.stats.bytes_in == before + 303 * len(ack(1000))


def run_of(*ids: int) -> AckRun:
    run = cut_acks(stream(map(ack, ids)), 0)
    assert run is not None
    return run


def publish(drive: Drive, count: int, first: int = 1, timeout: float | None = None) -> None:
    for number in range(first, first + count):
        drive.session.send_to_group("g", "x", drive.now, ack_id=number, timeout=timeout)
    assert len(drive.sent()) == count


def test_each_request_of_a_run_gets_back_what_its_caller_gave() -> None:
    drive = Drive()
    drive.connect()
    session, now = drive.session, drive.now
    session.send_to_group("g", "ordinary", now, user_data="a")
    session.send_to_group("g", "with a timeout", now, user_data="b", timeout=5.0)
    session.send_event("e", "x", now, user_data="c")
    session.join_group("g", now, user_data="d")
    session.send_to_group("g", "ordinary", now, user_data="e")
    drive.sent()
    session.receive_acks(run_of(5, 4, 3, 2, 1), now)
    assert session.events() == [Acked(key, user_data=name) for key, name in zip([5, 4, 3, 2, 1], "edcba", strict=True)]
    assert set(session.groups) == {"g"}
    assert session.stats.requests_pending == 0
    drive.advance(100.0)
    assert (drive.state, session.events()) == (State.CONNECTED, []), "no answer is awaited any more"


def test_acks_in_a_run_are_signs_of_life() -> None:
    drive = Drive(keepalive_interval=5.0, keepalive_timeout=10.0)
    drive.connect()
    publish(drive, 2)
    drive.advance(6.0)
    drive.session.receive_acks(run_of(1, 2), drive.now)
    drive.advance(6.0)
    assert drive.state is State.CONNECTED, "12 s after the last word, and 6 s after the acks"


def test_acks_in_a_run_are_progress() -> None:
    drive = Drive(recovery_interval=1.0)
    drive.connect()
    for first in (1, 3):
        publish(drive, 2, first)
        drive.session.receive_acks(run_of(first, first + 1), drive.now)
        drive.drop()
        assert drive.session.dial is not None, "at once, after progress"
        drive.recover()
    drive.drop()
    assert drive.session.dial is None, "not before the interval is over: there was no progress"


def test_a_repeat_that_waits_is_not_sent_when_its_answer_comes_in_a_run() -> None:
    drive = Drive(ack_timeout=5.0)
    drive.connect()
    publish(drive, 3)
    drive.advance(5.0)
    drive.session.receive_acks(run_of(1, 2), drive.now)
    assert drive.session.events() == [Acked(1), Acked(2)]
    assert [message["ackId"] for message in drive.sent() if "ackId" in message] == [3]


def test_the_deadlines_of_requests_that_were_answered_in_runs_do_not_pile_up() -> None:
    drive = Drive()
    drive.connect()
    for first in range(1000, 6000, 100):
        publish(drive, 100, first, timeout=60.0)
        drive.session.receive_acks(run_of(*range(first, first + 100)), drive.now)
        assert len(drive.session.events()) == 100
    assert request_deadlines(drive.session) < 1000


@pytest.mark.parametrize(("now", "error"), [(math.nan, InvalidValue), (math.inf, InvalidValue), (True, InvalidType)])
def test_acks_come_at_some_time(now: Any, error: type[Exception]) -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(error, match="now must be"):
        drive.session.receive_acks(run_of(1, 2), now)


def test_an_ack_before_the_connected_message_is_no_answer() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    run = cut_acks(stream(map(ack, range(100, 103))), 0)
    assert run is not None
    drive.session.receive_acks(run, drive.now)
    assert "a message before the connected message" in str(drive.session.events())


def test_the_log_of_messages_has_each_ack(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="limpet.frames")
    drive = Drive()
    drive.connect()
    caplog.clear()
    run = cut_acks(stream(map(ack, range(100, 103))), 0)
    assert run is not None
    drive.session.receive_acks(run, drive.now)
    drive.session.events()
    assert [record.getMessage().count('"ackId":') for record in caplog.records] == [1, 1, 1]
