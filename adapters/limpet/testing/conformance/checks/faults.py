"""Networks and services that go wrong, and applications that are too slow."""

from __future__ import annotations

import time

from limpet import Backoff, Connected, ConnectError, Recovering, Stopped
from limpet.testing import trace
from limpet.testing.conformance.bench import GROUP, Bench, Tested, prompt, soon
from limpet.testing.conformance.check import check
from limpet.testing.conformance.peer import Listener

_GARBAGE = (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 100, b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 101 Sw", b"")


@check()
def something_else_that_answers_is_no_service(bench: Bench) -> None:
    for garbage in _GARBAGE:
        with Listener.saying(garbage) as listener:
            error = _fails(bench.driver(listener.url))
        assert "SECRET" not in str(error)


@check()
def a_bad_token_fails_a_start_and_is_not_told(bench: Bench) -> None:
    url = bench.service.url() + "x"
    error = _fails(bench.driver(url))
    assert url.partition("access_token=")[2] not in str(error)


@check("status")
def the_status_of_a_refusal_is_told(bench: Bench) -> None:
    for status in (400, 401, 403, 404, 429, 500, 503):
        with Listener.refusing(status) as listener:
            assert _fails(bench.driver(listener.url)).status == status


@check("status")
def a_refusal_that_cannot_change_is_final(bench: Bench) -> None:
    """A driver that was made with a str as its URL says so with ``url_ready(url, now, fixed=True)``."""
    driver = bench.driver(bench.service.url() + "x", first_connection=Backoff(initial=0.01, maximum=0.01))
    assert _fails(driver).status == 401
    assert len(bench.service.log.of(trace.HandshakeRefused)) == 1


@check("status")
def a_refusal_that_asks_for_a_delay_has_it(bench: Bench) -> None:
    with Listener.refusing(503, "Retry-After: 1") as listener:
        backoff = Backoff(initial=0.01, maximum=0.01, limit=2)
        _fails(bench.driver(listener.url, first_connection=backoff))
    assert listener.times[1] - listener.times[0] > 0.99


@check()
def a_slow_line_in_small_pieces_is_none_the_worse(bench: Bench) -> None:
    bench.service.slow_down(0.005, segment=1)
    driver = bench.connected(connect_timeout=60.0)
    for number in range(5):
        driver.send(number)
    driver.send("x" * 3_000)
    driver.upto("x" * 3_000)
    bench.service.slow_down()
    assert driver.data == [*range(5), "x" * 3_000]
    assert driver.life == ["Connected"]


@check()
def a_stalled_line_that_goes_on_is_none_the_worse(bench: Bench) -> None:
    driver, witness = bench.connected(), bench.witness()
    bench.service.stall("to_service")
    asked = [driver.request("send_to_group", GROUP, str(number) * 100_000) for number in range(10)]
    time.sleep(0.2)
    bench.service.resume()
    assert driver.errors(asked) == [None] * 10
    witness.upto("9" * 100_000)
    assert [data[0] for data in witness.data] == [str(number) for number in range(10)]
    assert driver.life == ["Connected"]


@check()
def what_a_full_line_cannot_take_is_not_lost_with_it(bench: Bench) -> None:
    """More than the buffers of two sockets hold waits when the line is cut."""
    driver, witness = bench.connected(), bench.witness()
    bench.service.stall("to_service")
    data = "x" * 900_000
    asked = [driver.request("send_to_group", GROUP, [number, data]) for number in range(10)]
    time.sleep(0.2)
    bench.service.cut()
    bench.service.resume()
    assert driver.errors(asked) == [None] * 10
    witness.send("last")
    witness.upto("last")
    assert sorted(item[0] for item in witness.data[:-1]) == list(range(10))


@check("backpressure")
def what_a_full_line_cannot_take_is_not_handed_out(bench: Bench) -> None:
    """It is known to be unsent then, and waits where the session can count it."""
    # A driver may take all that waits at once, so the line is filled before the last request. A slow machine may not
    # have come to that yet, and gets more time.
    for patience in (0.2, 1.0, 6.0):
        driver = bench.connected(close_timeout=0.3)
        bench.service.stall("to_service")
        for _ in range(20):  # 18 MB: more than the buffers of two sockets hold
            driver.request("send_to_group", GROUP, "x" * 900_000)
        time.sleep(patience)
        last = driver.request("send_to_group", GROUP, "last")
        driver.end()
        error = driver.answer(last).error
        driver.close()
        bench.service.cut()
        bench.service.resume()
        if error is not None and error.outcome == "unsent":
            return
    raise AssertionError("messages were taken from the session while the transport had no room for them")


@check("pause")
def an_application_that_pauses_holds_up_the_service_and_loses_nothing(bench: Bench) -> None:
    """A driver looks at ``session.reading`` after each drain, and reads nothing from the network while it is False."""
    driver = bench.connected(keepalive_interval=0.05, keepalive_timeout=0.4)
    connection_id = driver.of(Connected)[0].connection_id
    driver.pause()
    driver.forget()
    body = "x" * 50_000
    bench.service.publish(GROUP, [f"{number:03}{body}" for number in range(200)])  # 10 MB
    time.sleep(1.0)  # more than the timeout of the keepalive: a pause is no dead connection
    assert len(driver.data) < 200
    assert bench.service.retained(connection_id)
    assert not driver.of(Recovering)
    driver.resume()
    driver.upto(f"199{body}")
    assert [int(data[:3]) for data in driver.data] == list(range(200))
    soon(lambda: bench.service.retained(connection_id) == 0, "the acknowledgement of all messages")
    assert driver.life == []


@check("pause")
def requests_are_answered_during_a_pause(bench: Bench) -> None:
    """``session.reading`` is True while a request waits: a driver looks at it after each drain."""
    driver = bench.connected()
    driver.pause()
    for number in range(5):
        driver.send(number)
    driver.resume()
    driver.send("last")
    driver.upto("last")
    assert driver.data == [*range(5), "last"]


@check("pause")
def a_stop_during_a_pause_is_prompt(bench: Bench) -> None:
    driver = bench.connected(close_timeout=60.0)
    driver.pause()
    bench.service.publish(GROUP, ["x" * 50_000] * 100)
    with prompt():
        assert driver.end() == Stopped(None)


def _fails(driver: Tested) -> ConnectError:
    driver.start()
    with prompt():
        error = driver.wait(Stopped).error
    assert isinstance(error, ConnectError)
    assert driver.life == ["Stopped"]
    return error
