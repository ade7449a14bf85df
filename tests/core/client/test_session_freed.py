"""What is given up is freed, also while the transport takes nothing."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import pytest
from simulation.inspect import pending
from tests.helpers.driving import Drive

LARGE = "x" * 100_000


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def send(drive: Drive) -> int:
    ack_id = drive.session.send_to_group("g", LARGE, drive.now)
    assert ack_id is not None
    return ack_id


def withdrawn(drive: Drive) -> None:
    for _ in range(300):
        assert drive.session.withdraw(send(drive))


def out_of_time(drive: Drive) -> None:
    for _ in range(300):
        send(drive)
        drive.advance(2.0)


def ten_at_a_time(drive: Drive) -> None:
    for _ in range(30):
        for _ in range(10):
            send(drive)
        drive.advance(2.0)


def repeated_and_out_of_time(drive: Drive) -> None:
    """They were sent, and their repeats wait for the transport."""
    for _ in range(300):
        send(drive)
    drive.session.messages_to_send()
    drive.advance(2.0)


@pytest.mark.parametrize("given_up", [withdrawn, out_of_time, ten_at_a_time, repeated_and_out_of_time])
@pytest.mark.parametrize("recovering", [False, True])
def test_requests_that_were_given_up_leave_nothing_behind(given_up: Callable[[Drive], None], recovering: bool) -> None:
    drive = Drive(request_timeout=2.0, ack_timeout=0.5, recovery_timeout=10_000.0)
    drive.connect()
    if recovering:
        drive.drop()
    before = held()
    given_up(drive)
    drive.events()
    assert held() - before < 1_000_000  # of 30 MB
    drive.session.join_group("g", drive.now)  # what comes next is not in their way
    if recovering:
        assert drive.recover()[-1]["type"] == "joinGroup"
    else:
        assert [message["type"] for message in drive.sent()] == ["joinGroup"]


def test_small_ones_do_not_add_up_either() -> None:
    drive = Drive()
    drive.connect()
    first = [drive.session.send_to_group("g", "early", drive.now) for _ in range(10)]
    for _ in range(100):
        withdrawn_one(drive)
    before = held()
    for _ in range(10_000):
        withdrawn_one(drive)
    assert held() - before < 100_000  # a request takes some 200 bytes
    last = drive.session.send_to_group("g", "late", drive.now)
    assert [message["ackId"] for message in drive.sent()] == [*first, last]


def withdrawn_one(drive: Drive) -> None:
    ack_id = drive.session.send_to_group("g", "small", drive.now)
    assert ack_id is not None
    assert drive.session.withdraw(ack_id)


class Waiter:
    """What waits for an answer."""


def test_a_queue_that_is_half_given_up_is_cleared() -> None:
    drive = Drive()
    drive.connect()  # and nothing takes them
    waiters = [Waiter() for _ in range(100)]
    alive = weakref.WeakSet(waiters)
    ack_ids = [drive.session.join_group(f"g{n}", drive.now, user_data=waiters[n]) for n in range(100)]
    waiters.clear()
    left: list[int] = []
    for ack_id in ack_ids:
        assert drive.session.withdraw(ack_id)
        gc.collect()
        left.append(len(alive))
    assert left == [100] * 66 + [33] * 33 + [0]


class Application:
    """An object that has the session, and is the ``user_data`` of a request."""

    def __init__(self, drive: Drive) -> None:
        self.session = drive.session


@pytest.mark.parametrize("name", ["join_group", "send_to_group", "send_event", "set_group_state"])
def test_a_session_that_is_dropped_amid_a_request_is_freed_though_its_user_data_leads_back_to_it(name: str) -> None:
    drive = Drive()
    drive.connect()
    arguments = {"join_group": (), "set_group_state": ({"a": "1"},)}.get(name, ("data",))
    if name == "set_group_state":
        drive.session.join_group("g", drive.now)
    drive.session.send_to_group("g", "before", drive.now)
    application = Application(drive)
    getattr(drive.session, name)("g", *arguments, drive.now, user_data=application)
    drive.session.messages_to_send()
    alive = weakref.ref(application)
    del drive, application
    gc.collect()
    assert alive() is None


def test_the_garbage_collector_looks_at_requests_with_user_data_alone() -> None:
    drive = Drive()
    drive.connect()
    session, now = drive.session, drive.now
    for user_data in (None, drive):
        session.join_group("g", now, user_data=user_data)
        session.send_event("order", "x", now, user_data=user_data)
        session.send_to_group("g", "x", now, timeout=5.0, user_data=user_data)
        session.send_to_group("g", "x", now, user_data=user_data)
    requests = pending(session)
    assert [gc.is_tracked(request) for request in requests] == [False] * 4 + [True] * 4
    assert [request.group for request in requests] == ["g", "", "", ""] * 2


def test_a_stream_of_100_000_fragments_holds_no_more_than_one_of_a_thousand() -> None:
    drive = Drive()
    drive.connect()
    session, now = drive.session, drive.now
    stream_id = session.open_stream("g", now)
    session.messages_to_send()

    def write(first: int, last: int) -> None:
        for number in range(first, last):
            session.write_stream(stream_id, "token", now)
            if number % 25 == 0:
                assert len(session.messages_to_send()) == 25
                session.receive_messages([ack % (number + 1)], now)
                session.events()

    ack = b'{"type":"streamAck","streamId":"%s","expectedSequenceId":%%d}' % stream_id.encode()
    session.receive_messages([ack % 1], now)
    write(1, 1_001)
    before = held()
    write(1_001, 100_001)
    assert held() - before < 2_000


def test_a_stream_that_is_over_is_freed_also_while_the_transport_takes_nothing() -> None:
    drive = Drive(ack_timeout=1.0)
    drive.connect()
    before = held()
    for _ in range(300):
        stream_id = drive.session.open_stream("g", drive.now, user_data=drive)
        drive.session.write_stream(stream_id, LARGE, drive.now)
        drive.advance(10.0)
        drive.session.events()
    assert held() - before < 2 * len(LARGE)
