"""Start, stop and close, in every state."""

from __future__ import annotations

import socket
import threading
import time

from limpet import (
    Backoff,
    Connected,
    ConnectError,
    ConnectionFailed,
    Disconnected,
    LocalProtocolError,
    Recovering,
    State,
    Stopped,
)
from limpet.testing import trace
from limpet.testing.conformance.bench import GROUP, Bench, Tested, prompt, raises, soon
from limpet.testing.conformance.check import check


@check()
def it_starts_and_stops_and_tells_so(bench: Bench) -> None:
    driver = bench.driver(bench.service.url("ann"))
    states = [driver.state]
    connection_id = driver.connect()
    assert driver.of(Connected) == [Connected(connection_id, "ann")]
    states.append(driver.state)
    assert driver.end() == Stopped(None)
    states.append(driver.state)
    assert states == [State.STOPPED, State.CONNECTED, State.STOPPED]
    assert driver.life == ["Connected", "Disconnected", "Stopped"]
    assert bench.service.log.wait(trace.ConnectionClosed).code == 1000


@check()
def it_starts_again(bench: Bench) -> None:
    driver = bench.driver()
    ids: set[str] = set()
    for count in range(4):
        ids.add(driver.connect())
        driver.join()
        driver.send(count)
        driver.upto(count)
        driver.end()
    assert len(ids) == 4
    assert driver.data == [0, 1, 2, 3]


@check()
def a_second_start_is_refused_in_each_state_and_harms_nothing(bench: Bench) -> None:
    driver = bench.driver()
    bench.service.stall()
    driver.start()
    with raises(LocalProtocolError):
        driver.start()
    bench.service.resume()
    driver.wait(Connected)
    with raises(LocalProtocolError):
        driver.start()
    driver.join()
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Recovering)
    with raises(LocalProtocolError):
        driver.start()
    bench.service.accept()
    driver.send("x")
    driver.upto("x")
    assert driver.life[:2] == ["Connected", "Recovering"]
    assert len(driver.of(Connected)) == 1


@check()
def a_stop_before_the_start_and_after_the_end_does_nothing(bench: Bench) -> None:
    driver = bench.driver()
    driver.stop()
    assert driver.state is State.STOPPED
    assert driver.events == []
    driver.connect()
    for _ in range(3):
        driver.stop()
    driver.wait(Stopped)
    driver.stop()
    driver.connect()
    assert driver.life == ["Connected", "Disconnected", "Stopped", "Connected"]


@check()
def a_stop_while_it_connects_is_prompt(bench: Bench) -> None:
    driver = bench.driver(connect_timeout=60.0, close_timeout=60.0)
    bench.service.stall()
    for delay in (0.0, 0.005, 0.02, 0.1):
        driver.start()
        time.sleep(delay)
        with prompt():
            assert driver.end() == Stopped(None)
    bench.service.resume()
    driver.connect()


@check()
def a_stop_while_it_recovers_is_prompt_and_settles_requests(bench: Bench) -> None:
    driver = bench.connected(close_timeout=60.0)
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Recovering)
    waiting = [driver.request("send_to_group", GROUP, number) for number in range(3)]
    with prompt():
        driver.end()
    _unsent(driver, waiting)


@check()
def a_stop_while_it_waits_for_an_attempt_is_prompt_and_settles_requests(bench: Bench) -> None:
    late = Backoff(initial=60.0, maximum=60.0, jitter=0.0)
    driver = bench.connected(recovery_timeout=0.05, reconnect=late, close_timeout=60.0)
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Disconnected)
    waiting = [driver.request("send_to_group", GROUP, number) for number in range(3)]
    with prompt():
        driver.end()
    _unsent(driver, waiting)


@check()
def a_stop_in_a_black_hole_waits_for_the_close_timeout_alone(bench: Bench) -> None:
    """The end comes at ``session.deadline``, and no write or close of the transport holds it up."""
    driver = bench.connected(close_timeout=0.3)
    bench.service.stall()
    with prompt():
        assert driver.end() == Stopped(None)


@check()
def a_stop_settles_what_waits_for_an_answer(bench: Bench) -> None:
    driver, witness = bench.connected(close_timeout=0.3), bench.witness()
    bench.service.stall("to_client")
    waiting = [driver.request("send_to_group", GROUP, number) for number in range(5)]
    witness.upto(4)
    driver.end()
    assert {error and error.outcome for error in driver.errors(waiting)} == {"unknown"}


@check()
def a_stop_is_answered_after_everything_else(bench: Bench) -> None:
    driver = bench.connected(close_timeout=0.3)
    bench.service.stall("to_client")
    ack_id = driver.request("send_to_group", GROUP, "x")
    driver.end()
    driver.answer(ack_id)
    assert isinstance(driver.events[-1], Stopped)


@check()
def a_start_fails_where_nobody_listens(bench: Bench) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    driver = bench.driver(f"ws://127.0.0.1:{port}/client/hubs/chat")
    for _ in range(2):
        _fails(driver)


@check()
def a_start_fails_when_connections_are_reset_and_may_be_tried_again(bench: Bench) -> None:
    driver = bench.driver()
    bench.service.refuse()
    _fails(driver)
    bench.service.accept()
    driver.connect()


@check()
def a_start_fails_without_an_answer_in_time(bench: Bench) -> None:
    driver = bench.driver(connect_timeout=0.2)
    bench.service.stall()
    with prompt():
        _fails(driver)


@check()
def a_start_that_is_cut_anywhere_fails_or_connects(bench: Bench) -> None:
    driver = bench.driver()
    for n_bytes in range(0, 700, 70):
        bench.service.cut_after(n_bytes, reset=bool(n_bytes % 20))
        driver.forget()
        driver.start()
        soon(lambda: driver.of(Connected, Stopped), "the end of a start")
        driver.stop()
        driver.wait(Stopped)
    bench.service.heal()
    driver.connect()
    driver.join()


@check()
def a_start_with_a_backoff_goes_on_until_the_service_is_there(bench: Bench) -> None:
    driver = bench.driver(first_connection=Backoff(initial=0.02, maximum=0.02))
    bench.service.refuse()
    driver.start()
    driver.wait(ConnectionFailed, 3)
    assert driver.life == []
    bench.service.accept()
    driver.wait(Connected)


@check()
def a_driver_that_may_not_reconnect_stops_and_says_why(bench: Bench) -> None:
    driver = bench.driver(auto_reconnect=False)
    bench.service.end(driver.connect())
    assert isinstance(driver.wait(Stopped).error, ConnectError)
    assert driver.life == ["Connected", "Disconnected", "Stopped"]
    driver.connect()


@check()
def close_is_quick_in_each_state_and_the_last_that_happens(bench: Bench) -> None:
    drivers = [bench.driver(close_timeout=60.0, connect_timeout=60.0) for _ in range(4)]
    unused, connecting, connected, recovering = drivers
    connected.connect()
    recovering.connect()
    bench.service.drop(recovering.of(Connected)[0].connection_id)
    recovering.wait(Recovering)
    bench.service.stall()
    connecting.start()
    with prompt():
        for driver in drivers:
            driver.close()
            driver.close()
    seen = [list(driver.events) for driver in drivers]
    assert unused.events == []
    bench.service.resume()
    bench.service.cut()
    time.sleep(0.3)
    assert [driver.events for driver in drivers] == seen


@check()
def many_lives_leave_no_thread_behind(bench: Bench) -> None:
    """Each with a cut and a request that waits; a thread that an event loop keeps for the next of them is no leak."""

    def live() -> None:
        driver = bench.connected()
        bench.service.cut()
        driver.send("x")
        driver.request("send_to_group", GROUP, "y")
        driver.end()
        driver.close()

    for _ in range(3):
        live()
    before = threading.active_count()
    for _ in range(8):
        live()
    soon(lambda: threading.active_count() <= before, f"the end of threads: {threading.enumerate()}")


def _unsent(driver: Tested, ack_ids: list[int]) -> None:
    assert {error and error.outcome for error in driver.errors(ack_ids)} == {"unsent"}


def _fails(driver: Tested) -> None:
    """Start the driver, which must fail."""
    driver.forget()
    driver.start()
    assert isinstance(driver.wait(Stopped).error, ConnectError)
    assert driver.life == ["Stopped"]
    assert driver.state is State.STOPPED
