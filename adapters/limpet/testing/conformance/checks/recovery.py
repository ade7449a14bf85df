"""Connections that drop: recovered under the same id, or made anew, and in either case nothing is hidden."""

from __future__ import annotations

import time

from limpet import (
    JSON,
    Backoff,
    Connected,
    ConnectError,
    Disconnected,
    Recovered,
    Recovering,
    Stopped,
)
from limpet.testing.conformance.bench import GROUP, Bench, soon
from limpet.testing.conformance.check import check


@check()
def a_connection_is_recovered_and_nothing_is_lost(bench: Bench) -> None:
    driver = bench.connected()
    for number in range(0, 20, 2):
        assert bench.service.cut(reset=bool(number % 4)) == 1
        bench.service.publish(GROUP, [number])
        driver.send(number + 1)
        driver.wait(Recovered, number // 2 + 1)
    driver.upto(19)
    assert driver.data == list(range(20))
    driver.end()
    assert driver.life == ["Connected", *["Recovering", "Recovered"] * 10, "Disconnected", "Stopped"]
    ids = {event.connection_id for event in driver.of(Connected, Recovering, Recovered, Disconnected)}  # type: ignore[attr-defined]
    assert len(ids) == 1
    assert {event.code for event in driver.of(Recovering)} == {1006}


@check()
def many_cuts_lose_nothing_and_repeat_nothing(bench: Bench) -> None:
    """What others publish arrives once and in order; what the driver sends is done once."""
    count = 300
    driver, witness = bench.connected(), bench.witness()
    driver.join("down")
    asked: list[int] = []
    with bench.service.disturbed(seed=1):
        for number in range(count):
            bench.service.publish("down", [number])
            if number % 5 == 0:
                asked.append(driver.request("send_to_group", GROUP, f"up {number}"))
                time.sleep(0.01)
    assert driver.errors(asked) == [None] * len(asked)
    driver.send("last", "down")
    driver.upto("last")
    witness.send("last")
    witness.upto("last")
    assert [data for data in driver.data if isinstance(data, int)] == list(range(count))
    assert sorted(witness.data[:-1]) == sorted(f"up {number}" for number in range(0, count, 5))
    assert set(driver.life) <= {"Connected", "Recovering", "Recovered"}
    assert bench.service.cuts > 3


@check()
def a_cut_may_fall_anywhere(bench: Bench) -> None:
    """In the handshake, in the middle of a frame, between two: with FIN or RST, in either direction."""
    sizes = range(0, 700, 33)
    driver = bench.connected()
    for number in sizes:
        bench.service.cut_after(number, "to_client", reset=bool(number % 2))
        driver.send(number)
        bench.service.cut_after(number, "to_service", reset=bool(number % 2))
        driver.send(-number)
    bench.service.heal()
    driver.send("last")
    driver.upto("last")
    assert driver.data == [*(signed for number in sizes for signed in (number, -number)), "last"]
    assert set(driver.life) == {"Connected", "Recovering", "Recovered"}


@check()
def what_was_executed_before_a_cut_is_not_executed_again(bench: Bench) -> None:
    driver, witness = bench.connected(), bench.witness()
    bench.service.lose_ack(driver.of(Connected)[0].connection_id)
    answer = driver.ask("send_to_group", GROUP, "once")
    assert (answer.error, answer.duplicate) == (None, True)
    driver.send("last")
    witness.upto("last")
    assert witness.data == ["once", "last"]


@check()
def requests_made_during_an_outage_wait_for_its_end(bench: Bench) -> None:
    driver, witness = bench.connected(), bench.witness()
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Recovering)
    asked = [driver.request("send_to_group", GROUP, "asked"), driver.request("join_group", "late")]
    driver.request("send_to_group", GROUP, "quiet", ack=False)
    time.sleep(0.1)
    assert not [answer for answer in driver.events if getattr(answer, "ack_id", None) in asked]
    bench.service.accept()
    assert driver.errors(asked) == [None, None]
    witness.upto("quiet")
    witness.upto("asked")
    assert driver.life == ["Connected", "Recovering", "Recovered"]


@check()
def after_the_service_ended_it_there_is_a_new_connection_in_the_same_groups(bench: Bench) -> None:
    driver = bench.connected()
    old = driver.of(Connected)[0].connection_id
    bench.service.end(old)
    new = driver.wait(Connected, 2).connection_id
    assert new != old
    soon(lambda: bench.service.members(GROUP) == {new}, "the group of the new connection")
    driver.send("x")
    driver.upto("x")
    assert driver.life == ["Connected", "Disconnected", "Connected"]
    assert driver.of(Disconnected)[0].connection_id == old


@check()
def a_recovery_that_is_refused_gives_a_new_connection(bench: Bench) -> None:
    driver = bench.connected()
    old = driver.of(Connected)[0].connection_id
    bench.service.drop(old, for_good=True)
    new = driver.wait(Connected, 2).connection_id
    soon(lambda: bench.service.members(GROUP) == {new}, "the group of the new connection")
    assert driver.of(Disconnected)[0].code == 1008
    assert driver.life == ["Connected", "Recovering", "Disconnected", "Connected"]


@check()
def what_is_lost_with_its_connection_is_unknown(bench: Bench) -> None:
    driver, witness = bench.connected(), bench.witness()
    bench.service.stall("to_client")
    asked = [driver.request("send_to_group", GROUP, number) for number in range(3)]
    witness.upto(2)
    bench.service.drop(driver.of(Connected)[0].connection_id, for_good=True)
    bench.service.cut()
    bench.service.resume()
    assert {error and error.outcome for error in driver.errors(asked)} == {"unknown"}
    driver.wait(Connected, 2)
    driver.send("last")
    witness.upto("last")
    assert witness.data == [0, 1, 2, "last"]


@check()
def what_cannot_be_recovered_in_time_is_given_up(bench: Bench) -> None:
    driver = bench.connected(recovery_timeout=0.3)
    bench.service.refuse()
    bench.service.cut()
    driver.wait(Disconnected)
    bench.service.accept()
    driver.wait(Connected, 2)
    driver.send("x")
    driver.upto("x")
    assert driver.life == ["Connected", "Recovering", "Disconnected", "Connected"]


@check()
def a_limit_of_attempts_ends_it(bench: Bench) -> None:
    driver = bench.connected(recovery_timeout=0.1, reconnect=Backoff(initial=0.01, maximum=0.01, limit=3))
    bench.service.refuse()
    bench.service.cut()
    assert isinstance(driver.wait(Stopped).error, ConnectError)
    assert driver.life == ["Connected", "Recovering", "Disconnected", "Stopped"]


@check()
def the_plain_subprotocol_makes_a_new_connection_for_each_cut(bench: Bench) -> None:
    driver = bench.connected(protocol=JSON)
    for count in range(2, 5):
        bench.service.cut()
        new = driver.wait(Connected, count).connection_id
        soon(lambda new=new: bench.service.members(GROUP) == {new}, "the group of the new connection")  # type: ignore[misc]
    driver.send("x")
    driver.upto("x")
    assert driver.life == ["Connected", *["Disconnected", "Connected"] * 3]


@check("url function")
def the_function_for_the_url_is_asked_for_new_connections_alone(bench: Bench) -> None:
    """A driver asks it whenever ``dial.url`` is None, and never otherwise."""
    asked = 0

    def url() -> str:
        nonlocal asked
        asked += 1
        return bench.service.url()

    driver = bench.connected(url)
    assert asked == 1
    bench.service.cut()
    driver.wait(Recovered)
    assert asked == 1
    bench.service.end(driver.of(Connected)[0].connection_id)
    driver.wait(Connected, 2)
    assert asked == 2


@check("url function")
def a_function_for_the_url_that_fails_fails_a_start_and_is_asked_again_later(bench: Bench) -> None:
    """A driver passes what the function raises to ``session.url_failed``."""
    fails = True

    def url() -> str:
        if fails:
            raise ZeroDivisionError("no URL today")
        return bench.service.url()

    driver = bench.driver(url)
    driver.start()
    assert isinstance(driver.wait(Stopped).error, ConnectError)
    fails = False
    connection_id = driver.connect()
    fails = True
    bench.service.end(connection_id)
    driver.wait(Disconnected)
    time.sleep(0.1)
    fails = False
    driver.wait(Connected, 2)
    driver.join()
