"""Requests, and their answers."""

from __future__ import annotations

from typing import Any

from limpet import ClientStopped, Connected, InvalidType, InvalidValue, Recovering, TooManyRequests
from limpet.testing import trace
from limpet.testing.conformance.bench import GROUP, Bench, raises, soon
from limpet.testing.conformance.check import check


@check()
def every_kind_of_data_arrives_as_it_was_sent(bench: Bench) -> None:
    driver = bench.connected()
    sent: list[Any] = ["text", "", "ünï😀\u2028", b"\x00\xff", b"", {"a": [1, None, 2.5]}, [], 7, True]
    for data in sent:
        driver.send(data)
    driver.send("last")
    driver.upto("last")
    assert driver.data == [*sent, "last"]


@check()
def joins_and_leaves_do_what_they_say(bench: Bench) -> None:
    driver = bench.driver()
    connection_id = driver.connect()
    for group in ("a", "b"):
        driver.join(group)
        assert bench.service.members(group) == {connection_id}
    driver.do("leave_group", "a")
    assert (bench.service.members("a"), bench.service.members("b")) == (set(), {connection_id})


@check()
def a_refusal_is_an_answer(bench: Bench) -> None:
    driver = bench.driver(bench.service.url(roles=()))
    driver.connect()
    for request in (("join_group", GROUP), ("send_to_group", GROUP, "x")):
        error = driver.ask(*request).error
        assert error is not None
        assert (error.name, error.outcome) == ("Forbidden", "rejected")
    assert driver.life == ["Connected"]


@check()
def events_go_to_the_application_server(bench: Bench) -> None:
    driver = bench.driver()
    driver.connect()
    driver.request("send_event", "quiet", 1, ack=False)
    driver.ask("send_event", "asked", 2)
    names = [event.event for event in bench.service.log.of(trace.EventRaised) if event.event in ("quiet", "asked")]
    assert names == ["quiet", "asked"]


@check()
def misuse_raises_at_once_and_harms_nothing(bench: Bench) -> None:
    driver = bench.driver()
    with raises(ClientStopped):
        driver.request("join_group", GROUP)
    with raises(ClientStopped):
        driver.request("send_to_group", GROUP, "x", ack=False)
    driver.connect()
    with raises(InvalidValue):
        driver.request("join_group", "")
    with raises(InvalidType):
        driver.request("send_to_group", GROUP, object())
    with raises(InvalidValue):
        driver.request("send_event", "no event's name", 1)
    with raises(InvalidValue):
        driver.request("send_to_group", GROUP, "x" * (1 << 20))
    driver.join()
    assert driver.life == ["Connected"]
    driver.end()
    with raises(ClientStopped):
        driver.request("send_to_group", GROUP, "x")


@check()
def over_the_limit_there_are_too_many_requests(bench: Bench) -> None:
    driver = bench.connected(max_pending_requests=5)
    bench.service.stall()
    waiting = [driver.request("send_to_group", GROUP, number) for number in range(5)]
    with raises(TooManyRequests):
        driver.request("send_to_group", GROUP, 5)
    bench.service.resume()
    assert driver.errors(waiting) == [None] * 5
    driver.send("last")


@check()
def many_requests_at_once_are_told_apart(bench: Bench) -> None:
    driver = bench.connected()
    asked: list[int] = []
    for number in range(100):
        asked.append(driver.request("send_to_group", GROUP, number))
        asked.append(driver.request("join_group", f"group {number}"))
    assert len(set(asked)) == 200
    assert driver.errors(asked) == [None] * 200
    driver.send("last")
    driver.upto("last")
    assert sorted(driver.data[:-1]) == list(range(100))


@check()
def without_ack_order_is_kept_and_a_stop_loses_nothing(bench: Bench) -> None:
    """What was asked before the stop goes out before the close frame."""
    driver, witness = bench.connected(), bench.witness()
    for number in range(200):
        assert driver.request("send_to_group", GROUP, number, ack=False) is None
    driver.end()
    witness.upto(199)
    assert witness.data == list(range(200))


@check()
def requests_before_it_is_connected_wait(bench: Bench) -> None:
    driver = bench.driver()
    bench.service.stall()
    driver.start()
    joined = driver.request("join_group", GROUP)
    sent = driver.request("send_to_group", GROUP, "early")
    bench.service.resume()
    assert driver.errors([joined, sent]) == [None, None]
    assert isinstance(driver.events[0], Connected)
    driver.send("last")
    driver.upto("last")


@check()
def large_messages_pass_in_both_directions(bench: Bench) -> None:
    driver = bench.connected()
    large = "ü" * 500_000
    driver.send(large)
    driver.upto(large)
    bench.service.publish(GROUP, ["x" * 3_000_000, b"".hex(), ["y" * 2_000_000]])
    driver.upto(["y" * 2_000_000])
    assert [len(data) for data in driver.data] == [500_000, 3_000_000, 0, 1]
    driver.send("last")
    assert driver.life == ["Connected"]


@check()
def a_large_message_passes_an_outage(bench: Bench) -> None:
    driver = bench.connected()
    data = "x" * 1_000_000
    for direction in ("to_service", "to_client"):
        bench.service.cut_after(300_000, "to_service" if direction == "to_service" else "to_client")
        driver.send(data)
    driver.send("last")
    driver.upto("last")
    assert driver.data == [data, data, "last"]
    assert len(driver.of(Recovering)) >= 2


@check()
def what_was_received_is_acknowledged(bench: Bench) -> None:
    """By the timer alone: nothing is sent and nothing else is received."""
    driver = bench.driver()
    connection_id = driver.connect()
    driver.join()
    bench.service.publish(GROUP, range(20))
    driver.upto(19)
    soon(lambda: bench.service.retained(connection_id) == 0, "the acknowledgement of all messages")
