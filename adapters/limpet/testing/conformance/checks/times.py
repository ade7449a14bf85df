"""Timers: what is due happens although nothing else does, and a dead line is told from a quiet one."""

from __future__ import annotations

import time
from typing import Literal

from limpet import Backoff, Connected, Disconnected, Recovered, Recovering, SendError
from limpet.testing.conformance.bench import GROUP, Bench, prompt
from limpet.testing.conformance.check import check


@check()
def a_black_hole_is_found_and_recovered(bench: Bench) -> None:
    """Also one that swallows only what the service says: that it hears the driver is of no use."""
    driver = bench.connected(keepalive_interval=0.05, keepalive_timeout=0.4)
    directions: tuple[tuple[int, Literal["to_client"] | None], ...] = ((0, None), (6, "to_client"))
    for start, direction in directions:
        driver.forget()
        bench.service.stall(direction)
        bench.service.publish(GROUP, range(start, start + 5))
        assert driver.wait(Recovering).code == 1006
        bench.service.cut()
        bench.service.resume()
        driver.send(start + 5)
        driver.upto(start + 5)
        assert driver.data == list(range(start, start + 6))
        assert set(driver.life) == {"Recovering", "Recovered"}


@check()
def pings_keep_a_quiet_connection(bench: Bench) -> None:
    driver = bench.connected(keepalive_interval=0.05, keepalive_timeout=0.6)
    for _ in range(10):  # a machine that stands still for 0.6 s may cost a connection, but not each time
        driver.forget()
        time.sleep(0.9)
        if not driver.events:
            break
    assert driver.events == []
    driver.send("x")


@check()
def a_request_timeout_holds_during_an_outage(bench: Bench) -> None:
    driver = bench.connected(request_timeout=0.2)
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Recovering)
    with prompt():
        error = driver.ask("send_to_group", GROUP, "late").error
    assert isinstance(error, SendError)
    assert (error.name, error.outcome) == ("Timeout", "unsent")


@check()
def a_request_without_an_answer_is_repeated_and_given_up_in_time(bench: Bench) -> None:
    driver, witness = bench.connected(ack_timeout=0.1), bench.witness()
    bench.service.stall("to_client")
    with prompt():
        error = driver.ask("send_to_group", GROUP, "x").error
    assert isinstance(error, SendError)
    assert (error.name, error.outcome) == ("Timeout", "unknown")
    bench.service.resume()
    witness.send("last")
    witness.upto("last")
    assert witness.data == ["x", "last"]


@check()
def attempts_keep_their_distance_and_go_on_by_themselves(bench: Bench) -> None:
    wait = Backoff(initial=0.3, maximum=0.3, multiplier=1.0, jitter=0.0)
    driver = bench.connected(recovery_timeout=0.0, reconnect=wait)
    for count in range(2, 4):
        start = time.monotonic()
        bench.service.end(driver.of(Connected)[-1].connection_id)
        driver.wait(Disconnected, count - 1)
        driver.wait(Connected, count)
        assert time.monotonic() - start > 0.29


@check()
def a_deadline_is_kept_while_much_arrives(bench: Bench) -> None:
    """Timers are not starved by input: a request that cannot be answered is given up in the middle of it."""
    driver = bench.connected(request_timeout=0.3)
    witness = bench.witness()
    bench.service.stall("to_service")
    ack_id = driver.request("send_to_group", GROUP, "lost")
    end = time.monotonic() + 30.0
    number = 0
    while not any(getattr(event, "ack_id", None) == ack_id for event in list(driver.events)):
        assert time.monotonic() < end, "a request with a timeout was not given up while messages arrived"
        bench.service.publish(GROUP, [number])
        number += 1
        time.sleep(0.002)
    bench.service.heal()
    witness.send("last")
    driver.upto("last")
    assert [data for data in driver.data if isinstance(data, int)] == list(range(number))


@check()
def a_connection_that_drops_again_and_again_goes_on(bench: Bench) -> None:
    driver = bench.connected()
    for count in range(1, 31):
        bench.service.cut()
        driver.send(count)
        driver.wait(Recovered, count)
    driver.send("last")
    driver.upto("last")
    assert driver.data == [*range(1, 31), "last"]
