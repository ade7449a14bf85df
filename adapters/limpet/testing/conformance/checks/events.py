"""Events, and the calls that the function for events makes."""

from __future__ import annotations

from typing import Any

from limpet import Connected, Event, GroupMessage, Recovering, State, Stopped
from limpet.testing.conformance.bench import GROUP, Bench
from limpet.testing.conformance.check import check


@check()
def events_may_call_the_driver(bench: Bench) -> None:
    """What an event asks for is sent, although nothing else happens; and an event may stop the driver."""

    def react(driver: Any, event: Event) -> None:
        if isinstance(event, Connected):
            driver.join_group(GROUP)
            driver.send_to_group(GROUP, 0, ack=False)
        elif isinstance(event, GroupMessage) and event.data == 10:
            driver.stop()
        elif isinstance(event, GroupMessage):
            driver.send_to_group(GROUP, event.data + 1, ack=False)

    driver = bench.driver(None, react, ack_timeout=None, sequence_ack_interval=3600.0)
    driver.start()
    driver.wait(Stopped)
    assert driver.data == list(range(11))


@check()
def events_are_passed_on_one_at_a_time(bench: Bench) -> None:
    """Also those of calls that an event's function makes: a drain within a drain must leave them to the outer one."""
    inside = deepest = 0

    def react(driver: Any, event: Event) -> None:
        nonlocal inside, deepest
        inside += 1
        deepest = max(deepest, inside)
        if isinstance(event, Recovering):
            driver.stop()  # at once, for it is not connected
        inside -= 1

    driver = bench.driver(None, react)
    driver.connect()
    bench.service.cut()
    driver.wait(Stopped)
    assert driver.state is State.STOPPED  # the event's function has returned
    assert deepest == 1


@check()
def an_event_of_the_end_may_start_it_again(bench: Bench) -> None:
    lives = 0

    def react(driver: Any, event: Event) -> None:
        nonlocal lives
        if isinstance(event, Connected) and lives < 3:
            driver.stop()
        elif isinstance(event, Stopped):
            lives += 1
            driver.start()

    driver = bench.driver(None, react)
    driver.start()
    driver.wait(Connected, 4)
    driver.join()


@check()
def an_event_that_tells_of_a_failed_start_may_start_it_again(bench: Bench) -> None:
    def react(driver: Any, event: Event) -> None:
        if isinstance(event, Stopped) and event.error is not None:
            bench.service.accept()
            driver.start()

    for _ in range(5):
        bench.service.refuse()
        driver = bench.driver(None, react)
        driver.start()
        driver.wait(Connected)
        driver.join()
        assert driver.life == ["Stopped", "Connected"]
