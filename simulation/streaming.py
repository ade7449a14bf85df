"""Streams in a run: what applications write, and what the service and its members make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import msgspec

from limpet import (
    ClientStopped,
    Disconnected,
    GroupMessage,
    Recovered,
    ServerMessage,
    StreamClosed,
    StreamOpened,
    StreamProgress,
)
from simulation.oracle import SessionOracle
from simulation.witness import Witness


class Control(msgspec.Struct):
    """A message about a stream from a session, as far as the oracle looks at it."""

    type: str
    stream_id: str = msgspec.field(name="streamId", default="")
    place: int = msgspec.field(name="streamSequenceId", default=0)
    expected: int = msgspec.field(name="expectedSequenceId", default=0)


control = msgspec.json.Decoder(Control).decode


@dataclass(eq=False)
class Written:
    """A stream of an application.

    Attributes:
        planned: how many fragments it is to have.
        aborts: whether its writer aborts it in the end.
        stream_id: its id.
        fragments: the numbers that were written, in order.
        opened: whether the service has accepted it.
        ended: whether its writer has ended or aborted it.
        acknowledged: how many fragments the service has, as the writer was told.
        closed: how it ended, as the writer was told.
        handed: the largest place that was handed to a transport.
        payloads: the fragments as they were first handed out, by place.
        refused: the place of the fragment that the service wants once more, before anything else; 0: none.
        end_sent: whether the end was handed to this transport.
    """

    planned: int
    aborts: bool
    stream_id: str = ""
    fragments: list[int] = field(default_factory=list)
    opened: bool = False
    ended: bool = False
    acknowledged: int = 0
    closed: StreamClosed | None = None
    handed: int = 0
    payloads: dict[int, bytes] = field(default_factory=dict)
    refused: int = 0
    end_sent: bool = False


class Streaming(Witness):
    """Writes streams to the group "room", and watches what the session tells of them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.streams: list[Written] = []
        self.open_streams: dict[str, Written] = {}
        self.places: dict[str, float] = {}  # of the streams that are heard: the place of the last fragment

    # ---- What the application does

    def begin_stream(self, random: Random) -> None:
        written = Written(random.choice([0, 1, 5, 40]), random.random() < 0.2)
        idle_timeout = 300.0 if self.weather.gentle else random.choice([300.0, 20.0])
        try:
            written.stream_id = self.session.open_stream(
                "room", self.clock.now, idle_timeout=idle_timeout, user_data=written
            )
        except ClientStopped:
            return
        assert written.stream_id not in self.open_streams
        self.streams.append(written)
        self.open_streams[written.stream_id] = written

    def write_on(self, written: Written, random: Random) -> None:
        """Write some fragments, and go on later; at last end the stream."""
        now = self.clock.now
        for _ in range(random.choice([1, 2, 30])):
            if written.closed is not None or len(written.fragments) == written.planned:
                break
            if not self.session.stream_has_room(written.stream_id):
                break
            number = next(self.ledger.numbers)
            written.fragments.append(number)
            assert self.session.write_stream(written.stream_id, number, now) == len(written.fragments)
        if written.closed is None:
            if len(written.fragments) < written.planned:
                self.clock.after(random.choice([0.0, 0.1, 0.5, 8.0]), self.write_on, written, random)
            elif written.aborts:
                written.ended = True
                self.session.abort_stream(written.stream_id, "enough", now, code="E1")
            else:
                written.ended = True
                self.session.end_stream(written.stream_id, now)
        self.drain()

    # ---- What the session is given, hands out and tells

    def hears(self, messages: Sequence[bytes]) -> None:
        super().hears(messages)
        for raw in messages:
            if raw.startswith((b'{"type":"streamAck"', b'{"type":"streamNack"')):
                message = control(raw)
                written = self.open_streams.get(message.stream_id)
                if written is not None and message.type == "streamNack" and written.opened and not written.end_sent:
                    written.refused = message.expected if message.expected <= written.handed else 0
                elif written is not None and message.expected > written.refused:
                    written.refused = 0

    def sends(self, raw: bytes) -> None:
        super().sends(raw)
        message = control(raw)
        written = self.open_streams.get(message.stream_id)
        if message.type == "streamData" and message.place:
            assert written is not None, "fragments of open streams only"
            assert message.place <= written.handed + 1, "a stream is handed out in order"
            written.handed = max(written.handed, message.place)
            assert written.payloads.setdefault(message.place, raw) == raw, "a repeat is the same"
            assert not written.refused or message.place <= written.refused, "what was refused comes first"
            if message.place == written.refused:
                written.refused = 0
        elif message.type == "streamEnd" and written is not None and written.ended:
            written.end_sent = True
            if not written.aborts:
                assert written.handed == len(written.fragments), "the end comes last"
                assert not written.refused, "what was refused comes first"

    def recovered(self, event: Recovered) -> None:
        super().recovered(event)
        for written in self.open_streams.values():
            written.refused, written.end_sent = 0, False

    def stream_opened(self, event: StreamOpened) -> None:
        written = self._of(event)
        assert not written.opened, "StreamOpened once"
        written.opened = True
        self.write_on_later(written)

    def write_on_later(self, written: Written) -> None:
        random = self.clock.draw(f"{self.name} stream {len(self.streams)} {written.planned}")
        self.clock.after(random.choice([0.0, 0.3]), self.write_on, written, random)

    def stream_progress(self, event: StreamProgress) -> None:
        written = self._of(event)
        assert written.acknowledged < event.acknowledged <= written.handed, "progress is progress"
        written.acknowledged = event.acknowledged
        self._check_taken(written, event.acknowledged)

    def stream_closed(self, event: StreamClosed) -> None:
        written = self._of(event)
        written.closed = event
        del self.open_streams[written.stream_id]
        assert event.acknowledged >= written.acknowledged
        self._check_taken(written, event.acknowledged)
        if event.error is None:
            assert written.ended, "without an error only at the writer's end"
            if not written.aborts or written.opened:
                heard = self.ledger.streams[written.stream_id]
                assert heard.numbers == written.fragments, "an end that succeeds covers every fragment"
                assert heard.end == ("UserError" if written.aborts else ""), "and the service has done it"
        else:
            assert event.error.acknowledged == event.acknowledged
            assert not self.weather.gentle, f"{event.error}: nothing goes wrong with streams in a gentle run"

    def _check_taken(self, written: Written, acknowledged: int) -> None:
        heard = self.ledger.streams.get(written.stream_id)
        taken = [] if heard is None else heard.numbers
        assert acknowledged <= len(taken), "what is acknowledged, the service has"
        assert taken == written.fragments[: len(taken)], "each fragment once, and in order"

    def _of(self, event: StreamOpened | StreamProgress | StreamClosed) -> Written:
        written = self.open_streams.get(event.stream_id)
        assert written is not None, f"{event} is about a stream that is not open"
        assert written is event.user_data
        assert written.closed is None
        return written

    def stopped(self, event: Any) -> None:
        super().stopped(event)
        assert not self.open_streams, "StreamClosed comes before Stopped"

    # ---- What members hear

    def message(self, event: GroupMessage | ServerMessage) -> None:
        super().message(event)
        if isinstance(event, GroupMessage) and event.stream is not None:
            stream = event.stream
            last = self.places.get(stream.stream_id)
            again = last == math.inf and stream.sequence_id == 1  # another stream of the same id, see Ledger
            assert last is None or again or stream.sequence_id == last + 1, (
                "fragments are heard once, in order, without a gap"
            )
            self.places[stream.stream_id] = math.inf if stream.end else stream.sequence_id

    def disconnected(self, event: Disconnected) -> None:
        super().disconnected(event)
        self.places.clear()

    # ---- At the end

    def check(self) -> None:
        super().check()
        for written in self.streams:
            assert written.closed is not None, "every stream is told to be over"
            heard = self.ledger.streams.get(written.stream_id)
            if heard is not None:
                assert heard.numbers == written.fragments[: len(heard.numbers)], "each fragment once, and in order"
                assert heard.end is not None or heard.broken_off, "the readers of every stream are told of its end"

    _HANDLERS: ClassVar[dict[type, str]] = SessionOracle._HANDLERS | {
        StreamOpened: "stream_opened",
        StreamProgress: "stream_progress",
        StreamClosed: "stream_closed",
    }
