"""Readers in a run: what a reader of streams makes of the fragments that its session delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from limpet import Disconnected, GroupMessage, MessagesMissed, ServerMessage, Stopped
from limpet_core.client.incoming_streams import Begun, Extended, FollowedStream, IncomingStreams, News
from simulation.ledger import Heard
from simulation.witness import Witness

NEVER_HEARD = Heard(broken_off=True)
"""A stream whose only message was its end, while the service shut down."""


@dataclass(eq=False)
class Read:
    """A stream, as its reader gets it.

    Attributes:
        stream: as the sorter follows it.
        first: the place of its first fragment.
        data: its fragments, in order.
    """

    stream: FollowedStream
    first: int = 0
    data: list[Any] = field(default_factory=list)


class Reading(Witness):
    """Reads all streams of the group "room", some clients no more than three at a time, some only whole ones."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        random = self.clock.draw(f"{self.name} reader")
        self.most_read, self.whole_only = random.choice([3, 1024]), random.random() < 0.3
        self.sorter = self.new_sorter()
        self.reading: dict[FollowedStream, Read] = {}
        self.lost = 0  # messages that were missed on this connection

    def new_sorter(self) -> IncomingStreams:
        return self.session.sorter_type(from_start_only=self.whole_only, most=self.most_read)

    # ---- What the session tells

    def message(self, event: GroupMessage | ServerMessage) -> None:
        super().message(event)
        if isinstance(event, GroupMessage):
            self.takes(self.sorter.receive(event))
            if event.stream is not None and not event.stream.end and event.stream.sequence_id == 1:
                followed = [read for read in self.reading.values() if read.stream.stream_id == event.stream.stream_id]
                assert [read.data for read in followed] == [[event.data]], "a stream is read from its first fragment on"

    def missed(self, event: MessagesMissed) -> None:
        super().missed(event)
        self.lost += event.last - event.first + 1
        self.sorter.missed(event.last - event.first + 1)

    def disconnected(self, event: Disconnected) -> None:
        super().disconnected(event)
        self.takes(self.sorter.disconnected(event.reason), lost_connection=True)
        assert not self.reading, "the loss of the connection ends every stream"
        self.lost = 0

    def stopped(self, event: Stopped) -> None:
        super().stopped(event)
        assert not self.reading, "every stream that has begun is told to be over"

    # ---- What the sorter tells

    def takes(self, news: Sequence[News], *, lost_connection: bool = False) -> None:
        for each in news:
            if isinstance(each, Begun):
                assert each.stream not in self.reading, "a stream begins once"
                self.reading[each.stream] = Read(each.stream)
                assert len(self.reading) <= self.most_read, "no more streams than wanted"
                continue
            read = self.reading[each.stream]  # begun, and not over
            heard = self.ledger.streams.get(each.stream.stream_id, NEVER_HEARD)
            if isinstance(each, Extended):
                place = each.chunk.sequence_id
                read.first = read.first or place
                assert place == read.first + len(read.data), "the fragments of a stream once, in order, without a gap"
                assert heard.numbers[place - 1] == each.chunk.data, "what was written"
                read.data.append(each.chunk.data)
                continue
            del self.reading[each.stream]
            self.ends(read, each.error.name if each.error is not None else "", lost_connection)

    def ends(self, read: Read, name: str, lost_connection: bool) -> None:
        """Check the end of a stream: "" is a good one, which says that nothing is missing."""
        heard = self.ledger.streams.get(read.stream.stream_id, NEVER_HEARD)
        assert read.stream.from_start or not self.whole_only, "only whole streams are wanted"
        if lost_connection:
            assert name == "Disconnected", "a connection was lost"
        elif name == "Gap":
            assert self.lost, "a gap is a loss, and the session has told of none"
        elif name == "TooManyStreams":
            assert self.most_read < 1024
        elif name != "IdleTimeout" or read.data:  # else another stream of the id may have followed, see Ledger
            assert heard.end == name or heard.broken_off, "the end that the service told"
            assert read.data == heard.numbers[len(heard.numbers) - len(read.data) :], (
                "an end comes behind all fragments"
            )
