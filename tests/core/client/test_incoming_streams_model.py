"""Streams whose ids are used again, on a network that loses and doubles messages: what readers get of each."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.profiles import examples

from limpet import GroupMessage, StreamFault, StreamInfo
from limpet_core.client.incoming_streams import Begun, Extended, FollowedStream, IncomingStreams

NAMES = st.sampled_from("ab")
WHAT = st.sampled_from(["fragment"] * 5 + ["end", "UserError", "IdleTimeout"])
REPEATED = st.tuples(NAMES, st.integers(0, 20))


class World:
    """Publishers that use two ids again and again. The data of a fragment tells its run, and its number in it.

    Attributes:
        read: what the readers of each stream got.
        over: how the streams ended: None, or the name of an error.
    """

    def __init__(self) -> None:
        self.read: dict[FollowedStream, list[tuple[int, int]]] = {}
        self.over: dict[FollowedStream, str | None] = {}
        self.said: dict[str, list[GroupMessage]] = {name: [] for name in "ab"}  # in this run
        self.going_on = dict.fromkeys("ab", False)
        self.lengths: dict[tuple[str, int], int] = {}  # by name and run
        self._ends: dict[tuple[str, int], str | None] = {}
        self._runs = dict.fromkeys("ab", 0)
        self._certain = dict.fromkeys("ab", True)  # nothing was missed since the last message of this name
        self._streams = IncomingStreams()

    def says(self, name: str, what: str, *, lost: bool = False) -> None:
        """Publish the next fragment of a stream, or its end."""
        if not self.going_on[name]:
            self.going_on[name] = True
            self._runs[name] += 1
            self.said[name] = []
        number, run = len(self.said[name]) + 1, self._runs[name]
        end = what != "fragment"
        fault = StreamFault(what) if end and what != "end" else None
        info = StreamInfo(stream_id=name, sequence_id=number, end=end, error=fault)
        message = GroupMessage(group="g", data="" if end else (run, number), data_type="text", stream=info)
        self.said[name].append(message)
        if end:
            self.going_on[name] = False
            self.lengths[name, run] = number - 1
            self._ends[name, run] = None if what == "end" else what
        if lost:
            self._streams.missed(1)
            self._certain = dict.fromkeys("ab", False)
        else:
            self._certain[name] = True
            self._hears(message)

    def repeats(self, name: str, index: int) -> None:
        """Double a message of this run. The first one is a new beginning, unless the run certainly goes on."""
        messages = self.said[name]
        if messages and (index % len(messages) or (self.going_on[name] and self._certain[name])):
            self._hears(messages[index % len(messages)])

    def _hears(self, message: GroupMessage) -> None:
        for each in self._streams.receive(message):
            stream = each.stream
            assert stream not in self.over
            if isinstance(each, Begun):
                self.read[stream] = []
            elif isinstance(each, Extended):
                assert each.chunk.data[1] == each.chunk.sequence_id
                self.read[stream].append(each.chunk.data)
            else:
                self.over[stream] = None if each.error is None else each.error.name
                assert each.error is None or each.error.acknowledged == len(self.read[stream])

    def check(self) -> None:
        seen: set[tuple[str, tuple[int, int]]] = set()
        for stream, chunks in self.read.items():
            if not chunks:
                continue
            run, first = chunks[0]
            assert chunks == [(run, first + place) for place in range(len(chunks))], "merged over a gap"
            assert stream.from_start == (first == 1)
            delivered = {(stream.stream_id, chunk) for chunk in chunks}
            assert not seen & delivered, "a duplicate was delivered"
            seen |= delivered
            if self.over.get(stream, "Gap") != "Gap":
                assert self.over[stream] == self._ends[stream.stream_id, run]
                assert chunks[-1][1] == self.lengths[stream.stream_id, run], "the last fragments are missing"


@settings(max_examples=examples(500))
@given(st.lists(st.tuples(NAMES, WHAT, st.sampled_from([False, False, True])) | REPEATED, max_size=60))
def test_whatever_is_missed_no_two_streams_of_one_id_are_merged(story: list[Any]) -> None:
    world = World()
    for step in story:
        world.repeats(*step) if len(step) == 2 else world.says(step[0], step[1], lost=step[2])
    world.check()


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(NAMES, WHAT) | REPEATED, max_size=60))
def test_where_nothing_is_missed_each_fragment_is_read(story: list[Any]) -> None:
    world = World()
    for name, what in story:
        world.repeats(name, what) if isinstance(what, int) else world.says(name, what)
    world.check()
    assert "Gap" not in world.over.values()
    going_on = sum(len(world.said[name]) for name in "ab" if world.going_on[name])
    assert sum(map(len, world.read.values())) == sum(world.lengths.values()) + going_on
