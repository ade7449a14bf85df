"""Sessions and services that each break one promise about streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from simulation import inspect
from simulation.witness import Watched

from limpet import GroupMessage, Recovered, State, StreamError, StreamProgress
from limpet_core.client.incoming_streams import Extended, IncomingStreams, News, Over
from limpet_core.service import ServiceCore


def of_type(raw: bytes, *names: str) -> bool:
    return any(raw.startswith(b'{"type":"%b"' % name.encode()) for name in names)


def fields(raw: bytes) -> Any:
    return msgspec.json.decode(raw)


def edited(raw: bytes, **changes: Any) -> bytes:
    """Return a message with other values of some fields."""
    return msgspec.json.encode(fields(raw) | changes)


def place_of(raw: bytes) -> int:
    """Return the place of a fragment; 0: the message is none."""
    return fields(raw).get("streamSequenceId", 0) if of_type(raw, "streamData") else 0


class Recovers(Watched):
    """A session that does something wrong after a recovery."""

    def after_recovery(self) -> None: ...

    def events(self) -> list[Any]:
        events = super().events()
        for event in events:
            if isinstance(event, Recovered):
                self.after_recovery()
        return events


# ---- Sessions


class TrimsOnly(Watched):
    """Fragments that the service refuses are not sent again."""

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        return [edited(raw, type="streamAck") if of_type(raw, "streamNack") else raw for raw in messages]


class DoublesAFragment(Watched):
    """The second fragment of a stream is sent as the third one, too; the places of all behind it are shifted."""

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        handed: list[bytes] = []
        for raw in messages:
            place = place_of(raw)
            handed.append(edited(raw, streamSequenceId=place + 1) if place > 2 else raw)
            if place == 2:
                handed.append(edited(raw, streamSequenceId=3))
        return handed

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        taken = []
        for raw in messages:
            if of_type(raw, "streamAck", "streamNack") and (expected := fields(raw)["expectedSequenceId"]) > 2:
                taken.append(edited(raw, expectedSequenceId=expected - 1))
            else:
                taken.append(raw)
        return taken


class RemembersFragments(Recovers):
    """A session that knows what it has sent.

    Attributes:
        newest: the place of the newest fragment of each stream that was handed out.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.newest: dict[str, int] = {}

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        for raw in messages:
            if place := place_of(raw):
                stream_id = fields(raw)["streamId"]
                self.newest[stream_id] = max(place, self.newest.get(stream_id, 0))
        return messages


class TellsProgressEarly(RemembersFragments):
    """All that was sent counts as acknowledged as soon as anything is."""

    def events(self) -> list[Any]:
        told = []
        for event in super().events():
            if isinstance(event, StreamProgress):
                event = msgspec.structs.replace(event, acknowledged=self.newest[event.stream_id])
            told.append(event)
        return told


class LosesTheNewestFragment(RemembersFragments):
    """The newest fragment of each stream is not sent again after a recovery."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.lost: set[tuple[str, int]] = set()

    def after_recovery(self) -> None:
        self.lost |= set(self.newest.items())

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        left = []
        for raw in messages:
            place = place_of(raw)
            if not place or (fields(raw)["streamId"], place) not in self.lost:
                left.append(raw)
        return super().hands_out(left)


class EndsEarly(Watched):
    """The end of a stream is sent at once, before fragments that wait."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ended: list[bytes] = []

    def end_stream(self, stream_id: str, now: float) -> None:
        super().end_stream(stream_id, now)
        self.ended.append(msgspec.json.encode({"type": "streamEnd", "streamId": stream_id}))

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        ended, self.ended = self.ended, []
        return ended + messages if self.state is State.CONNECTED else messages


SESSIONS: Final[dict[str, type[Watched]]] = {
    "streams: does not send again what was refused": TrimsOnly,
    "streams: sends a fragment twice": DoublesAFragment,
    "streams: calls acknowledged what was only sent": TellsProgressEarly,
    "streams: loses the newest fragment after a recovery": LosesTheNewestFragment,
    "streams: ends before all fragments": EndsEarly,
}

# ---- Readers


class TellsNoEnds(IncomingStreams):
    def receive(self, message: GroupMessage) -> list[News]:
        return [each for each in super().receive(message) if not isinstance(each, Over)]


class LosesAFragment(IncomingStreams):
    def receive(self, message: GroupMessage) -> list[News]:
        return [
            each for each in super().receive(message) if not (isinstance(each, Extended) and each.stream.chunks == 3)
        ]


class OutlivesItsConnection(IncomingStreams):
    def disconnected(self, reason: str = "") -> list[News]:
        return []


class FollowsAnything(IncomingStreams):
    def __init__(self, **named: Any) -> None:
        super().__init__(**named | {"from_start_only": False, "most": 1024})


class TakesAnEndForABreak(IncomingStreams):
    def receive(self, message: GroupMessage) -> list[News]:
        return [
            Over(each.stream, StreamError("Gap", "a fragment is missing", 0)) if isinstance(each, Over) else each
            for each in super().receive(message)
        ]


def with_reader(sorter: type[IncomingStreams]) -> type[Watched]:
    return type(f"With{sorter.__name__}", (Watched,), {"sorter_type": sorter})


SESSIONS.update(
    {
        "readers: are told of no ends": with_reader(TellsNoEnds),
        "readers: miss the third fragment": with_reader(LosesAFragment),
        "readers: keep streams of a lost connection": with_reader(OutlivesItsConnection),
        "readers: get more streams than they want": with_reader(FollowsAnything),
        "readers: are told of gaps that are none": with_reader(TakesAnEndForABreak),
    }
)

# ---- Services


class PublishesAgain(ServiceCore):
    """Members hear a fragment that is repeated once more."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        receive = self.streams.receive

        def receive_again(connection: Any, message: Any, now: float) -> None:
            stream, number = connection.streams.get(message.stream_id), getattr(message, "stream_sequence_id", None)
            if stream is not None and number is not None and number < stream.expected:
                expected, stream.expected = stream.expected, number
                receive(connection, message, now)
                stream.expected = max(expected, stream.expected)
            else:
                receive(connection, message, now)

        self.streams.receive = receive_again  # type: ignore[method-assign]


class AcknowledgesFragmentsTooEarly(ServiceCore):
    """Each acknowledgement counts one fragment that has not come."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)

        def wrap(send: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            def send_too_much(connection: Any, stream: Any) -> None:
                more = int(stream.expected > 1)
                stream.expected += more
                send(connection, stream)
                stream.expected -= more

            return send_too_much

        inspect.wrap_stream_acks(self, wrap)


class EndsNoStreams(ServiceCore):
    """Members are not told that a stream has ended with its connection."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        inspect.wrap_stream_ends(self, lambda tell: lambda connection, stream, fault: (
            None if fault is not None and fault.name == "Cancelled" else tell(connection, stream, fault)
        ))  # fmt: skip


SERVICES: Final[dict[str, type[ServiceCore]]] = {
    "service: publishes a repeated fragment": PublishesAgain,
    "service: acknowledges fragments that it does not have": AcknowledgesFragmentsTooEarly,
    "service: does not end the streams of a connection that is over": EndsNoStreams,
}
