"""A small model of the service: sets and dicts that say what everybody must have heard, and who is where."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service.data_plane import operations

WINDOW = 30.0
RETAINED = 6
REMEMBERED = 3
STREAMS = 2
GROUPS = ("red", "rose", "blue")
ROLES = tuple(
    f"webpubsub.{permission}{suffix}"
    for permission in ("joinLeaveGroup", "sendToGroup")
    for suffix in ("", ".red", "s.r*")
)


@dataclass(eq=False)
class Line:
    """One transport: what must have come through it since the last look, and how it was closed."""

    client: Client
    expected: list[dict[str, Any]] = field(default_factory=list)
    close: int | None = None


@dataclass(eq=False)
class Stream:
    """One stream of one member."""

    name: str
    group: str
    no_echo: bool
    timeout: float
    ends_at: float = math.inf
    expected: int = 1
    refused: int = 0
    ack_due: bool = False


@dataclass(eq=False)
class Member:
    """One logical connection."""

    name: str
    hub: str
    user: str | None
    reliable: bool
    roles: frozenset[str]
    groups: set[str]
    line: Line | None = None
    ends_at: float = math.inf
    departure: int = 0
    token: str = ""
    sent: list[tuple[dict[str, Any], float]] = field(default_factory=list)  # all its messages, and when they expire
    acknowledged: int = 0
    succeeded: list[int] = field(default_factory=list)
    rules: dict[tuple[str, str], bool] = field(default_factory=dict)  # what was granted and revoked since
    streams: dict[str, Stream] = field(default_factory=dict)
    ended: dict[str, tuple[Stream, str | None]] = field(default_factory=dict)  # and the error, if there was one

    def may(self, permission: str, group: str) -> bool:
        role = f"webpubsub.{permission}"
        by_role = not self.roles.isdisjoint({role, f"{role}.{group}", f"{role}s.{group[0]}*"})
        return self.rules.get((permission, group), by_role)


class Model(RuleBasedStateMachine):
    """A service, and what the model says of it; the rules are in test_model.py."""

    def __init__(self) -> None:
        super().__init__()
        self.service = ServiceUnderTest(
            recovery_window=WINDOW, retained_messages=RETAINED, remembered_acks=REMEMBERED, streams=STREAMS
        )
        self.core = self.service.core
        self.members: dict[str, Member] = {}
        self.lines: list[Line] = []  # those that are open, or were closed since the last look
        self.gone: list[Line] = []
        self.cancelled: deque[tuple[Member, Stream]] = deque()
        self.cancelling = False
        self.departures = 0
        self.hellos = 0
        self.numbers = 0

    # ---- The model

    def a_member(self, number: int) -> Member:
        return list(self.members.values())[number % len(self.members)]

    def at(self, hub: str, *, group: str | None = None, user: str | None = None) -> list[Member]:
        return [
            member
            for member in self.members.values()
            if member.hub == hub.lower()
            and (group is None or group in member.groups)
            and (user is None or user == member.user)
        ]

    def news(self) -> int:
        self.numbers += 1
        return self.numbers

    def hears(self, member: Member, message: dict[str, Any]) -> None:
        if member.line is not None:
            member.line.expected.append(message)

    def greets(self, member: Member) -> None:
        hello: dict[str, Any] = {"type": "system", "event": "connected"}
        hello |= {"userId": member.user, "connectionId": member.name}
        if member.reliable:
            self.hellos += 1
            member.token = hello["reconnectionToken"] = f"token-of-{member.name}/{self.hellos}"
        self.hears(member, hello)

    def delivers(self, members: Iterable[Member], message: dict[str, Any], ttl: float = 0.0) -> None:
        too_slow: list[Member] = []
        for member in list(members):
            if not member.reliable:
                self.hears(member, message)
            elif len(member.sent) - member.acknowledged >= RETAINED:
                too_slow.append(member)
            else:
                numbered = message | {"sequenceId": len(member.sent) + 1}
                member.sent.append((numbered, self.service.now + ttl if ttl else math.inf))
                self.hears(member, numbered)
        for member in too_slow:
            if member.name in self.members:
                if member.line is not None:
                    member.line.expected.clear()
                self.ends(member, 1008)

    def answers(self, member: Member, ack_id: int | None, error: str | None) -> None:
        if ack_id is None:
            return
        if error is None:
            member.succeeded = [*member.succeeded, ack_id][-REMEMBERED:]
            self.hears(member, {"type": "ack", "ackId": ack_id, "success": True})
        else:
            self.hears(member, {"type": "ack", "ackId": ack_id, "success": False, "error": error})

    def ends(self, member: Member, close: int | None) -> None:
        if member.line is not None:
            self.hangs_up(member, close)
        del self.members[member.name]
        self.cancelled.extend((member, stream) for stream in member.streams.values())
        member.streams = {}
        if not self.cancelling:
            self.cancelling = True
            while self.cancelled:
                self.hear_the_end(*self.cancelled.popleft(), "Cancelled")
            self.cancelling = False

    def hangs_up(self, member: Member, close: int | None) -> None:
        assert member.line is not None
        member.line.close = close
        if close is None:
            self.lines.remove(member.line)
            self.gone.append(member.line)
        member.line = None

    def leaves(self, member: Member) -> None:
        """It may come back."""
        self.departures += 1
        member.departure = self.departures
        member.ends_at = self.service.now + WINDOW

    def waits(self, until: float) -> None:
        """What has an end meanwhile ends, one after the other."""
        # Not by `advance`, which would take the output.
        while self.core.deadline <= until:
            self.service.now = max(self.service.now, self.core.deadline)
            self.core.wake(self.service.now)
        self.service.now = until
        while True:
            ends: list[tuple[float, int, Member, Stream | None]] = []
            for member in self.members.values():
                ends.append((member.ends_at, member.departure, member, None))
                ends += [(stream.ends_at, 0, member, stream) for stream in member.streams.values()]
            ends_at, _, member, over = min(ends, key=lambda end: end[:2], default=(math.inf, 0, None, None))
            if member is None or ends_at > until:
                return
            if over is None:
                self.ends(member, None)
            else:
                self.fails(member, over, "IdleTimeout")

    # ---- Streams

    def hear_fragment(self, publisher: Member, stream: Stream, message: dict[str, Any]) -> None:
        heard = {"type": "message", "from": "group", "group": stream.group, "fromUserId": publisher.user} | message
        members = self.at(publisher.hub, group=stream.group)
        self.delivers([member for member in members if not (stream.no_echo and member is publisher)], heard)

    def hear_the_end(self, publisher: Member, stream: Stream, error: str | None) -> None:
        place = {"streamId": stream.name, "streamSequenceId": stream.expected, "endOfStream": True}
        place |= {} if error is None else {"error": error}
        self.hear_fragment(publisher, stream, {"dataType": "text", "data": "", "stream": place})

    def fails(self, publisher: Member, stream: Stream, error: str) -> None:
        if stream.ack_due:
            self.acks(publisher, stream)
        del publisher.streams[stream.name]
        publisher.ended[stream.name] = (stream, error)
        self.hear_the_end(publisher, stream, error)
        self.closes(publisher, stream.name, error)

    def comes_late(self, publisher: Member, stream_id: str, number: int | None, ends: bool) -> None:
        """It is about a stream that is not open: perhaps one whose answers were lost."""
        stream, error = publisher.ended.get(stream_id, (None, "StreamNotFound"))
        if stream is None or error is not None or ends:
            self.closes(publisher, stream_id, error)
        elif number is not None and number < stream.expected:
            self.acks(publisher, stream)
        else:
            self.closes(publisher, stream_id, "StreamNotFound")

    def acks(self, member: Member, stream: Stream) -> None:
        stream.ack_due = False
        self.hears(member, {"type": "streamAck", "streamId": stream.name, "expectedSequenceId": stream.expected})

    def nacks(self, member: Member, stream: Stream, name: str) -> None:
        about = {"streamId": stream.name, "expectedSequenceId": stream.expected}
        self.hears(member, {"type": "streamNack", **about, "name": name})

    def closes(self, member: Member, stream_id: str, error: str | None) -> None:
        closed = {"type": "streamClosed", "streamId": stream_id}
        self.hears(member, closed if error is None else closed | {"error": error})

    # ---- What is compared

    @invariant()
    def everybody_heard_what_was_to_be_heard(self) -> None:
        # An ack waits for more of the same, and those of one client for one look.
        due = [(member, stream) for member in self.members.values() for stream in member.streams.values()]
        for member, stream in due:
            if stream.ack_due:
                self.acks(member, stream)
        told = self.core.transports_with_output()
        assert {line.client.transport for line in self.lines if line.expected or line.close} == set(told)
        for line in list(self.lines):
            heard = line.client.received()
            for message in heard:
                for about in (message, message.get("stream", {})):
                    if "error" in about:
                        about["error"] = about["error"]["name"]
                if message["type"] == "streamNack":
                    del message["message"]
            assert _without_acks(heard) == _without_acks(line.expected)
            assert _acks(heard) == _acks(line.expected)
            assert line.client.close_code == line.close
            line.expected.clear()
            if line.close:
                self.lines.remove(line)
                self.gone.append(line)

    @invariant()
    def everybody_is_where_they_are(self) -> None:
        core = self.core
        assert core.connection_count == len(self.members)
        for hub in ("chat", "other"):
            there = self.at(hub)
            assert list(core.hub(hub).connections) == [member.name for member in there]
            assert set(core.hub(hub).users) == {member.user for member in there if member.user}
            assert set(core.hub(hub).groups) == {group for member in there for group in member.groups}
            for group in GROUPS:
                page = operations.list_group(core, hub, group, None, None, None, b"key")
                names = [connection.connection_id for connection in page.connections]
                assert names == sorted(member.name for member in self.at(hub, group=group))
        for member in self.members.values():
            connection = core.connection(member.name)
            assert connection is not None
            assert (connection.transport is None) is (member.line is None)
            assert (set(connection.groups), connection.deadline) == (member.groups, member.ends_at)
            if member.reliable:
                assert connection.sequence_id == len(member.sent)
                assert connection.retained == len(member.sent) - member.acknowledged
            streams = {stream.name: (stream.group, stream.expected) for stream in member.streams.values()}
            assert {name: (its.group, its.expected) for name, its in connection.streams.items()} == streams
        ends = [stream.ends_at for member in self.members.values() for stream in member.streams.values()]
        windows_end = min((member.ends_at for member in self.members.values()), default=math.inf)
        # A stream may have gone on since its timer was set.
        assert core.deadline <= min([windows_end, *ends])
        assert ends or core.deadline == windows_end


def _without_acks(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] != "streamAck"]


def _acks(messages: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """The acks of streams, which are in order for each stream alone."""
    return sorted((ack["streamId"], ack["expectedSequenceId"]) for ack in messages if ack["type"] == "streamAck")
