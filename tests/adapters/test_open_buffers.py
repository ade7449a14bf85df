"""The index of open buffers gives each event to those, in that order, which a loop over all of them would find."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.home import Home

from limpet import Disconnected, Event, GroupMessage, GroupStatesChanged, MessagesMissed, ServerMessage, StreamInfo
from limpet._clients.buffers import Buffer
from limpet._clients.delivery import Delivery
from limpet._clients.incoming_buffers import StreamsBuffer
from limpet._clients.open_buffers import OpenBuffers
from limpet.asyncio import Client
from limpet_core.client.incoming_streams import IncomingStreams


def nothing(*_: object) -> None:
    pass


class PlainLoop(OpenBuffers[Buffer]):
    """Asks all buffers."""

    def takers(self, event: Event) -> Iterable[Buffer]:
        return tuple(self)


class Bench:
    """A client's delivery, and what each of its buffers gets."""

    def __init__(self, buffers: OpenBuffers[Buffer]) -> None:
        self.delivery = Delivery(10**6, Home())
        self.delivery.buffers = buffers
        self.opened: list[Buffer] = []
        self.got: list[tuple[int, Event]] = []
        self.meanwhile: dict[int, Callable[[], None]] = {}  # what is done when a buffer gets its next event

    def open(self, kind: str, types: frozenset[type], group: str | None) -> None:
        bench, number = self, len(self.opened)

        def noted(event: Event) -> None:
            bench.got.append((number, event))
            bench.meanwhile.pop(number, nothing)()

        class Plain(Buffer):
            def put(self, event: Event) -> None:
                noted(event)

        class Streams(StreamsBuffer):
            def put(self, event: Event) -> None:
                noted(event)

        if kind == "streams":
            sorter = IncomingStreams(from_start_only=False, quote=str)
            self.opened.append(Streams(self.delivery, group, sorter, nothing))  # type: ignore[arg-type]
        else:
            self.opened.append(Plain(self.delivery, types, group))
        self.delivery.open(self.opened[-1])

    def close(self, number: int) -> None:
        if number < len(self.opened):
            self.opened[number].close()

    def do(self, step: str, *arguments: Any) -> None:
        if step == "meanwhile":
            number, (inner, *more) = arguments
            self.meanwhile[number] = lambda: self.do(inner, *more)
        elif step == "deliver":
            self.delivery.deliver(arguments[0])
        elif step == "open":
            self.open(*arguments)
        else:
            self.close(*arguments)


GROUPS = ("a", "b", "c")
KINDS = (GroupMessage, GroupStatesChanged, ServerMessage, MessagesMissed, Disconnected)
STREAM = StreamInfo(stream_id="s", sequence_id=1)

numbers = st.integers(0, 12)
groups = st.sampled_from(GROUPS)
events = st.one_of(
    st.builds(GroupMessage, group=groups, data=st.integers(), stream=st.sampled_from([None, STREAM])),
    st.builds(GroupStatesChanged, group=groups, changed=st.just(()), removed=st.just(())),
    st.builds(ServerMessage, data=st.integers()),
    st.just(MessagesMissed(1, 2)),
    st.just(Disconnected("c", 1006, "")),
)
kinds = st.frozensets(st.sampled_from(KINDS), min_size=1)
openings = st.tuples(st.just("open"), st.sampled_from(["plain", "streams"]), kinds, st.none() | groups)
closings = st.tuples(st.just("close"), numbers)
deliveries = st.tuples(st.just("deliver"), st.lists(events, max_size=5))
meanwhile = st.tuples(st.just("meanwhile"), numbers, openings | closings)


@settings(max_examples=300, deadline=None)
@given(st.lists(openings | closings | deliveries | meanwhile, max_size=40))
def test_the_index_finds_the_buffers_of_the_plain_loop_in_its_order(steps: list[Any]) -> None:
    fast, plain = Bench(OpenBuffers()), Bench(PlainLoop())
    for step in steps:
        fast.do(*step)
        plain.do(*step)
        assert fast.got == plain.got
    assert list(fast.delivery.inbox.items) == list(plain.delivery.inbox.items)


def calls_of(function: Callable[[], object]) -> int:
    """Return how many functions, of Python or C, are called."""
    calls = 0

    def count(frame: FrameType, what: str, argument: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def calls_of_a_message(others: int, reader: Callable[[Client], object]) -> int:
    """Return the calls of a message for the group ``g`` beside so many subscriptions to other groups, of all kinds."""
    client = Client("ws://limpet.test/client/hubs/h")
    streams: list[object] = [reader(client)]
    for number in range(others):
        streams.append(client._iterate(client._open((GroupMessage,), f"g{number}")))  # what subscribe() does
        streams.append(client._iterate(client._open((GroupStatesChanged,), f"g{number}")))
        streams.append(client.streams(f"g{number}"))
    deliver, message = client._delivery.deliver, GroupMessage(group="g", data="x")
    deliver([message])
    return calls_of(lambda: deliver([message]))


READERS: dict[str, Callable[[Client], object]] = {
    "callback": lambda client: client.on(GroupMessage, nothing),
    "typed callback": lambda client: client.on(GroupMessage, nothing, type=str),
    "iteration": lambda client: aiter(client),
    "events": lambda client: client.events(GroupMessage),
    "typed events": lambda client: client.events(GroupMessage, type=str),
    "subscribe": lambda client: client._iterate(client._open((GroupMessage,), "g")),
    "streams": lambda client: client.streams("g"),
    "streams of all groups": lambda client: client.streams(),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_message_costs_the_same_with_1_and_with_1000_subscriptions_to_other_groups(reader: str) -> None:
    assert calls_of_a_message(1, READERS[reader]) == calls_of_a_message(1000, READERS[reader])


def test_nothing_is_left_of_buffers_that_were_closed() -> None:
    delivery = Delivery(10, Home())
    buffers = [Buffer(delivery, frozenset({GroupMessage, ServerMessage}), f"g{number % 3}") for number in range(9)]
    for buffer in buffers[:6]:
        delivery.open(buffer)
    delivery.deliver([GroupMessage(group="g", data="x")])
    for buffer in buffers[6:]:
        delivery.open(buffer)  # and closed with no event between
    for buffer in buffers:
        buffer.close()
        buffer.close()
    delivery.deliver([GroupMessage(group="h", data="x")])
    assert not delivery.buffers
    assert not delivery.buffers.changed
    assert not delivery.buffers._index


def test_a_buffer_that_is_closed_just_when_the_index_takes_it_in_is_left_out() -> None:
    delivery = Delivery(10, Home())

    class Closed(Buffer):
        """As if another thread closed it between two steps of the index."""

        __slots__ = ()

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "number" and value:
                delivery.buffers.discard(self)
            super().__setattr__(name, value)

    buffer = Closed(delivery, frozenset({GroupMessage}), "g")
    delivery.open(buffer)
    delivery.deliver([GroupMessage(group="g", data="x")])
    assert not delivery.buffers._index
    assert not buffer.items


def test_a_buffer_that_is_opened_just_when_the_index_takes_in_another_comes_behind_it() -> None:
    delivery = Delivery(10, Home())
    late = Buffer(delivery, frozenset({GroupMessage}))

    class Changed(dict[Buffer, None]):
        """As if another thread opened ``late`` between two steps of the index."""

        def popitem(self) -> tuple[Buffer, None]:
            item = super().popitem()
            self.open()
            return item

        def pop(self, buffer: Buffer, _: None = None) -> None:  # type: ignore[override]
            super().pop(buffer, None)
            self.open()

        def open(self) -> None:
            if not late.number and late not in delivery.buffers:
                delivery.open(late)

    delivery.buffers = OpenBuffers()
    delivery.buffers.changed = Changed()
    early = Buffer(delivery, frozenset({GroupMessage}))
    delivery.open(early)
    message = GroupMessage(group="g", data="x")
    delivery.deliver([message])
    assert list(delivery.buffers.takers(message)) == [early, late]
