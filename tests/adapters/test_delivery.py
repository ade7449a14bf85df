"""Events on their way to the application, without an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from types import coroutine
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.buffers import take
from tests.helpers.home import Home

from limpet import Acked, Event, GroupMessage, Invoked, MessagesMissed
from limpet._clients import delivery as module
from limpet._clients.buffers import Buffer
from limpet._clients.delivery import Delivery


def message(number: int) -> GroupMessage:
    return GroupMessage(group="g", data=number)


@pytest.mark.parametrize(("limit", "kept"), [(1, [4]), (2, [4]), (3, [3, 4]), (10, [0, 1, 2, 3, 4])])
def test_without_a_reader_the_newest_messages_are_kept_and_reading_goes_on(limit: int, kept: list[int]) -> None:
    reading: list[bool] = []
    delivery = Delivery(limit, Home(reading.append))
    delivery.deliver([message(number) for number in range(5)])
    assert [item.data for item in delivery.inbox.items] == kept
    assert reading == []


def test_a_consumer_that_catches_up_just_when_reading_is_paused_does_not_wait_for_ever() -> None:
    reading: list[bool] = []

    def read(on: bool) -> None:
        reading.append(on)
        if not on:  # as another thread does, which saw that the buffer was not full yet
            buffer.items.clear()

    delivery = Delivery(4, Home(read))
    buffer = Buffer(delivery, frozenset({GroupMessage}))
    delivery.open(buffer)
    delivery.deliver([message(number) for number in range(4)])
    assert reading == [False, True]
    assert not buffer.full


def test_events_of_one_read_go_to_the_callbacks_that_are_registered_when_their_turn_comes() -> None:
    class Answered(Home):
        def settle_requests(self, events: Collection[Acked]) -> None:
            called.extend(f"ack {event.ack_id}" for event in events)

    delivery = Delivery(100, Answered())
    callbacks = delivery.callbacks
    called: list[str] = []

    def first(event: GroupMessage) -> None:
        called.append(f"first {event.data}")
        if event.data == 1:
            callbacks.on(GroupMessage, second)
        elif event.data == 4:
            callbacks.off(GroupMessage, first)

    def second(event: GroupMessage) -> None:
        called.append(f"second {event.data}")
        if event.data == 5:
            callbacks.off(GroupMessage, second)

    callbacks.on(GroupMessage, first)
    callbacks.on(MessagesMissed, lambda event: called.append(f"missed {event.first}"))
    events: list[Event] = [message(number) for number in range(8)]
    events[2:2] = [Acked(9, None), MessagesMissed(10, 11)]
    delivery.deliver(events)
    assert called == [
        *("first 0", "first 1", "ack 9", "missed 10", "first 2", "second 2", "first 3", "second 3", "first 4"),
        *("second 4", "second 5"),
    ]
    assert [item.data for item in delivery.inbox.items] == [6, 7]


def test_answers_that_come_together_are_handed_over_together() -> None:
    class Answered(Home):
        def settle_requests(self, events: Collection[Acked]) -> None:
            handed.append([event.ack_id for event in events])

    delivery = Delivery(100, Answered())
    handed: list[list[int]] = []
    delivery.deliver([Acked(number, None) for number in range(1, 6)])
    assert handed == [[1, 2, 3, 4, 5]]


class Reading:
    """A client's delivery with readers of its inbox, and all that they and the driver see of it."""

    def __init__(self, limit: int, *, short: bool = True) -> None:
        self.short = short
        self.reading: list[bool] = []
        self.delivery = Delivery(limit, Home(self.reading.append))
        self.inbox = self.delivery.inbox
        self.woken = False
        self.number = 0
        self.called: list[int] = []
        self.others: list[Buffer] = []

    def wake(self) -> None:
        self.woken = True

    def do(self, step: str, count: int) -> object:
        if step == "read":
            self.delivery.read_inbox()
        elif step == "open":
            self.others.append(Buffer(self.delivery, frozenset({GroupMessage})))
            self.delivery.open(self.others[-1])
        elif step == "close" and self.others:
            self.others.pop().close()
        elif step == "register":
            self.delivery.callbacks.on(GroupMessage, lambda event: self.called.append(event.data))
        elif step == "leave" and self.inbox.readers:
            self.inbox.close()
        elif step == "take":
            return [take(self.inbox).data for _ in range(min(count, self.inbox.waiting))]
        elif step == "wait" and not self.inbox.waiting:
            self.woken, self.inbox.wake = False, self.wake
        elif step in ("deliver", "with another"):
            events: list[Event] = [message(self.number + at) for at in range(count)]
            self.number += count
            if step == "with another":
                events.append(MessagesMissed(1, 2))
            with patch.object(module, "ONLY_MESSAGES", module.ONLY_MESSAGES if self.short else frozenset()):
                self.delivery.deliver(events)
        return None

    def seen(self) -> object:
        items = [[item.data for item in buffer.items] for buffer in (self.inbox, *self.others)]
        return items, self.called, self.inbox.full, self.delivery.held, self.reading, self.woken, self.inbox.dropped


OFTEN = ["read", "take", "wait", "deliver"]
STEPS = st.sampled_from([*OFTEN, *OFTEN, "leave", "with another", "open", "close", "register"])


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 8), st.lists(st.tuples(STEPS, st.integers(0, 12)), max_size=30))
def test_many_messages_at_once_are_as_many_one_by_one(limit: int, steps: list[tuple[str, int]]) -> None:
    at_once, one_by_one = Reading(limit), Reading(limit, short=False)
    for step, count in steps:
        assert at_once.do(step, count) == one_by_one.do(step, count)
        assert at_once.seen() == one_by_one.seen()


def test_a_reader_in_another_thread_that_empties_the_inbox_meanwhile_is_woken() -> None:
    reading = Reading(10)
    reading.do("read", 0)
    reading.do("deliver", 3)

    class Events(list[Event]):
        looks = 0

        def __iter__(self) -> Any:
            self.looks += 1
            if self.looks == 2:  # the last moment before they are added
                reading.do("take", 10)
                reading.do("wait", 0)
            return super().__iter__()

    reading.delivery.deliver(Events([message(3), message(4)]))
    assert reading.woken


@pytest.mark.parametrize(("taken", "woken"), [(1, True), (2, False)])
def test_a_reader_waits_on_only_if_another_one_has_taken_all_that_came(taken: int, woken: bool) -> None:
    reading = Reading(10)
    reading.do("read", 0)
    reading.do("wait", 0)

    class TakenAtOnce(deque[Event]):
        def extend(self, events: Iterable[Event]) -> None:
            super().extend(events)
            for _ in range(taken):
                self.popleft()

    reading.inbox.items = TakenAtOnce()
    reading.do("deliver", 2)
    assert reading.woken is woken


def test_threads_that_open_an_inbox_at_once_share_its_room() -> None:
    inbox = Reading(10).inbox
    nothing = inbox.items
    inbox.open()
    room, inbox.items = inbox.items, nothing  # as another thread still sees it
    inbox.open()
    assert inbox.items is room


def test_threads_that_open_the_first_buffer_at_once_open_both() -> None:
    delivery = Delivery(10, Home())
    one, other = (Buffer(delivery, frozenset({GroupMessage})) for _ in range(2))
    nothing = delivery.buffers
    delivery.open(one)
    delivery.buffers = nothing  # as another thread still sees it
    delivery.open(other)
    delivery.deliver([message(1)])
    assert [len(each.items) for each in (one, other)] == [1, 1]


def test_the_first_stream_that_a_callback_opens_gets_what_follows_in_the_same_read() -> None:
    delivery = Delivery(10, Home())
    buffer = Buffer(delivery, frozenset({GroupMessage}))

    def opens(event: GroupMessage) -> None:
        if event.data == 2:
            delivery.open(buffer)

    delivery.callbacks.on(GroupMessage, opens)
    delivery.deliver([message(number) for number in range(5)])
    assert [item.data for item in buffer.items] == [2, 3, 4]


def test_a_plain_callback_that_finds_something_cancelled_has_failed_and_holds_up_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery = Delivery(10, Home())
    seen: list[int] = []

    def finds(event: GroupMessage) -> None:
        raise asyncio.CancelledError  # as the result of a future does that was cancelled

    delivery.callbacks.on(GroupMessage, finds)
    delivery.callbacks.on(GroupMessage, lambda event: seen.append(event.data))
    delivery.deliver([message(1), message(2)])
    assert seen == [1, 2]
    assert caplog.text.count("a callback for GroupMessage failed") == 2


class Cancelled(BaseException):
    """As a loop may have it."""


class Future:
    """An awaitable that is no coroutine."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __await__(self) -> Generator[None]:
        yield


class Bare:
    """An awaitable of which nothing is known."""

    def __await__(self) -> Generator[None]:
        yield


class Broken(Future):
    def cancel(self) -> None:
        raise ZeroDivisionError("its loop is closed")


async def sleeps() -> None:
    await Bare()


async def is_cancelled(error: type[BaseException] = Cancelled) -> None:
    raise error


@coroutine
def waits() -> Generator[None]:
    yield


def make(limit: int = 100) -> tuple[Delivery, list[bool]]:
    reading: list[bool] = []
    return Delivery(limit, Home(reading.append)), reading


def step(delivery: Delivery) -> Any:
    """Run until something waits; None: it waits for nothing."""
    running = delivery.callbacks.run()
    try:
        running.send(None)
    except StopIteration:
        return None
    return running


AWAITABLES: dict[str, Callable[[], Awaitable[object]]] = {
    "coroutine": sleeps,
    "generator": waits,
    "future": Future,
    "bare": Bare,
    "broken": Broken,
}


@pytest.mark.parametrize("kind", AWAITABLES)
@pytest.mark.parametrize("begun", [False, True])
def test_what_is_dropped_is_not_awaited_and_plain_callbacks_get_all_in_order(kind: str, begun: bool) -> None:
    delivery, reading = make(4)
    seen: list[tuple[str, int]] = []
    returned: list[Any] = []

    def awaitable(event: GroupMessage) -> Awaitable[object]:
        seen.append(("awaitable", event.data))
        returned.append(AWAITABLES[kind]())
        return returned[-1]  # type: ignore[no-any-return]

    delivery.callbacks.on(GroupMessage, awaitable)
    delivery.callbacks.on(GroupMessage, lambda event: seen.append(("plain", event.data)))
    delivery.deliver([message(0)])
    if begun:
        with pytest.raises(Cancelled):
            step(delivery).throw(Cancelled)
    delivery.deliver([message(number) for number in range(1, 6)])
    assert reading == [False]
    delivery.callbacks.drop()
    assert seen == [(name, number) for number in range(6) for name in ("awaitable", "plain")]
    assert reading == [False, True]
    assert not delivery.callbacks.busy
    if kind == "future":
        assert all(future.cancelled for future in returned)


def test_callbacks_are_awaited_again_after_a_drop() -> None:
    delivery, _ = make()
    awaited: list[int] = []

    async def take(event: GroupMessage) -> None:
        awaited.append(event.data)

    delivery.callbacks.on(GroupMessage, take)
    delivery.deliver([message(0), message(1)])
    delivery.callbacks.drop()
    delivery.deliver([message(2), message(3)])
    assert step(delivery) is None
    assert awaited == [2, 3]


def test_what_breaks_when_it_is_dropped_is_logged_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    delivery, _ = make()
    delivery.callbacks.on(GroupMessage, lambda _: Broken())
    delivery.deliver([message(0), message(1)])
    with caplog.at_level(logging.INFO, "limpet"):
        delivery.callbacks.drop()
        delivery.callbacks.drop()
    assert caplog.text.count("a callback for GroupMessage failed") == 2
    assert caplog.text.count("2 async callbacks were not run to their end") == 1


def test_a_cancellation_that_was_not_meant_for_us_is_a_failure_of_the_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery, _ = make()
    seen: list[int] = []
    delivery.callbacks.on(GroupMessage, lambda _: is_cancelled(asyncio.CancelledError))
    delivery.callbacks.on(GroupMessage, lambda event: seen.append(event.data))
    delivery.deliver([message(0), message(1)])
    assert step(delivery) is None
    assert seen == [0, 1]
    assert caplog.text.count("a callback for GroupMessage failed") == 2


def test_a_cancellation_that_was_meant_for_us_ends_it() -> None:
    delivery, _ = make()
    seen: list[int] = []
    delivery.callbacks.on(GroupMessage, lambda _: is_cancelled())
    delivery.callbacks.on(GroupMessage, lambda event: seen.append(event.data))
    delivery.deliver([message(0), message(1)])
    with pytest.raises(Cancelled):
        step(delivery)
    assert seen == []
    delivery.callbacks.drop()
    assert seen == [0, 1]


def test_the_ends_of_requests_and_invocations_go_to_the_driver_in_order() -> None:
    home = Home()
    delivery = Delivery(10, home)
    acked, more, reply = Acked(1), Acked(2), Invoked("1")
    delivery.deliver([reply, acked, more])
    delivery.deliver([acked, more])
    assert home.settled == [reply, acked, more, acked, more]
