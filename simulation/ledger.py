"""The truth about the service: what it executed, and what it sent to whom."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from limpet_core.service import Transport


class Fault(msgspec.Struct):
    """Why a stream ended."""

    name: str


class Place(msgspec.Struct):
    """The place of a message in a stream."""

    stream_id: str = msgspec.field(name="streamId")
    place: int = msgspec.field(name="streamSequenceId")
    end: bool = msgspec.field(name="endOfStream", default=False)
    error: Fault | None = None


class Seen(msgspec.Struct):
    """A message from the service, as far as the oracles look at it."""

    type: str
    origin: str = msgspec.field(name="from", default="")
    group: str = ""
    user: str | None = msgspec.field(name="fromUserId", default=None)
    data: int | str = 0
    stream: Place | None = None
    sequence_id: int = msgspec.field(name="sequenceId", default=0)


seen = msgspec.json.Decoder(Seen).decode


@dataclass
class Heard:
    """A stream, as a member that loses nothing hears it.

    Attributes:
        numbers: its fragments, in order.
        end: the name of the error that it ended with; empty: none; None: it goes on.
        broken_off: whether the service crashed meanwhile.
    """

    numbers: list[int] = field(default_factory=list)
    end: str | None = None
    broken_off: bool = False


class Ledger:
    """Publications by their numbers, which travel as their data.

    Attributes:
        executed: what the service executed, in order.
        executed_on: what, and the connection that asked for it.
        order: the place of each publication among the executed ones.
        room: the publications to the group "room".
        expiring: publications that may be missed.
        forgotten: publications that were executed, and of which the service knows nothing any more.
        doomed: the connections that were there when it forgot them; they all have to end.
        sent: connection id -> sequence id, or place -> number.
        streams: every stream, by its id.
        ack_ids: the ack id of each publication that was seen on its way.
        called: how often the event handler was called for an invocation, by its number.
        ways: how the event handler takes that, by the number: also if it is called for it again.
        answers: what the event handler did then, by the number.
    """

    def __init__(self, log: Callable[..., None]) -> None:
        self.log = log
        self.numbers = itertools.count(1)
        self.executed: list[int] = []
        self.executed_on: set[tuple[int, str]] = set()
        self.order: dict[int, int] = {}
        self.room: set[int] = set()
        self.expiring: set[int] = set()
        self.forgotten: set[int] = set()
        self.doomed: set[str] = set()
        self.sent: dict[str, dict[int, Any]] = {}
        self.streams: dict[str, Heard] = {}
        self.ack_ids: dict[int, int | None] = {}
        self.called: Counter[int] = Counter()
        self.ways: dict[int, str] = {}
        self.answers: dict[int, str] = {}

    def records(self, raw: bytes, connection_id: str) -> None:
        """Take in what a member of all groups hears while the service listens to ``connection_id``."""
        message = seen(raw)
        if message.origin != "group":
            return
        if message.stream is not None and self._ends_stream(message.stream, message.data):
            return
        number = message.data
        assert isinstance(number, int)
        assert (number, connection_id) not in self.executed_on, f"{number} was executed twice for {connection_id}"
        self.executed_on.add((number, connection_id))
        self.executed.append(number)
        self.order.setdefault(number, len(self.order))
        if message.group == "room":
            self.room.add(number)
        self.log("executed %s for %s", number, message.user)

    def _ends_stream(self, stream: Place, data: int | str) -> bool:
        """Take in a message of a stream; return whether it is the end."""
        heard = self.streams.setdefault(stream.stream_id, Heard())
        if heard.end == "IdleTimeout" and not heard.numbers:
            # The start was executed, its answer was lost for as long as the idle timeout, and it was repeated.
            heard = self.streams[stream.stream_id] = Heard()
        assert heard.end is None, "nothing follows the end of a stream"
        assert stream.place == len(heard.numbers) + 1, "a stream is published in order"
        if stream.end:
            heard.end = "" if stream.error is None else stream.error.name
        else:
            assert isinstance(data, int)
            heard.numbers.append(data)
        return stream.end

    def forgets(self, numbers: set[int], mark: int) -> None:
        """Note that the service has forgotten what it executed since it had executed ``mark`` publications."""
        forgotten = self.executed[mark:]
        self.forgotten |= numbers.union(forgotten)
        del self.executed[mark:]
        kept = set(self.executed)
        self.executed_on = {(number, each) for number, each in self.executed_on if number in kept}
        self.order = {number: place for number, place in self.order.items() if number in kept}

    def crashed(self) -> None:
        """Note that the service has forgotten everything."""
        for heard in self.streams.values():
            heard.broken_off |= heard.end is None

    def sends(self, transport: Transport, raw: bytes) -> None:
        """Take in a message that the service sends to a client."""
        if b'"from"' not in raw or transport.connection is None:
            return
        message = seen(raw)
        known = self.sent.setdefault(transport.connection.connection_id, {})
        place = message.sequence_id or len(known) + 1
        if transport.connection.connection_id in self.doomed:
            known[place] = message.data  # until it ends: the client must not be given what it has
            return
        if place in known:
            self.log("sent again: %s to %s", message, transport.connection.connection_id)
        assert known.setdefault(place, message.data) == message.data, "a sequence id stands for one"
