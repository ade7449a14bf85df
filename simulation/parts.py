"""The promises about streams, invocations and states of groups that hold whatever the service says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from limpet import (
    GroupStatesChanged,
    Invoked,
    LocalProtocolError,
    Session,
    Stopped,
    StreamClosed,
    StreamOpened,
    StreamProgress,
)
from simulation.oracle import SessionOracle


class Part(msgspec.Struct):
    """A message of a stream or an invocation, as far as the oracle looks at it."""

    type: str
    stream_id: str = msgspec.field(name="streamId", default="")
    place: int = msgspec.field(name="streamSequenceId", default=0)
    invocation_id: str = msgspec.field(name="invocationId", default="")


part = msgspec.json.Decoder(Part).decode


class Open(msgspec.Struct):
    """A stream that is not over.

    Attributes:
        opened: whether the writer was told that the service has accepted it.
        handed: the largest place that was handed to a transport.
        acknowledged: how many fragments the service has, as the writer was told.
    """

    opened: bool = False
    handed: int = 0
    acknowledged: int = 0


class PartsOracle(SessionOracle):
    """Raises AssertionError where a session breaks a promise; also for a service that says anything at any time.

    Attributes:
        streams: the streams that are not over, by id.
        invocations: how often each was handed out that is not settled, by id.
        states: the states of each group, as the events tell them.
    """

    def __init__(self, *, reliable: bool, safe: bool = True) -> None:
        super().__init__(reliable=reliable, safe=safe)
        self.streams: dict[str, Open] = {}
        self.invocations: dict[str, int] = {}
        self.states: dict[str, dict[str, Any]] = {}

    # ---- What the application does

    def opens(self, stream_id: str) -> None:
        assert stream_id not in self.streams, "an id stands for one open stream"
        self.streams[stream_id] = Open()

    def invokes(self, invocation_id: str) -> None:
        assert invocation_id not in self.invocations, "an id stands for one invocation"
        self.invocations[invocation_id] = 0

    def gave_up(self, invocation_id: str, outcome: str | None) -> None:
        """Take in what the session says when an invocation is cancelled."""
        handed = self.invocations.pop(invocation_id, None)
        assert outcome == {None: None, 0: "unsent", 1: "unknown"}[handed]

    # ---- What the session hands to a transport

    def sends(self, raw: bytes) -> None:
        super().sends(raw)
        if not raw.startswith((b'{"type":"stream', b'{"type":"invoke"')):
            return
        message = part(raw)
        stream = self.streams.get(message.stream_id)
        if message.type == "streamData":
            assert stream is not None, "fragments of open streams only"
            assert stream.opened, "not before the service has accepted the stream"
            assert message.place <= stream.handed + 1, "in order"
            stream.handed = max(stream.handed, message.place)
        elif message.type == "invoke":
            assert self.invocations.get(message.invocation_id) == 0, "an invocation is sent once, while it waits"
            self.invocations[message.invocation_id] = 1

    # ---- What the application is told

    def stream_opened(self, event: StreamOpened) -> None:
        stream = self.streams[event.stream_id]
        assert not stream.opened, "StreamOpened once"
        stream.opened = True

    def stream_progress(self, event: StreamProgress) -> None:
        stream = self.streams[event.stream_id]
        assert stream.opened
        assert stream.acknowledged < event.acknowledged <= stream.handed, "progress is progress"
        stream.acknowledged = event.acknowledged

    def stream_closed(self, event: StreamClosed) -> None:
        stream = self.streams.pop(event.stream_id)
        assert event.acknowledged >= stream.acknowledged
        assert event.error is None or event.error.acknowledged == event.acknowledged

    def invoked(self, event: Invoked) -> None:
        assert event.invocation_id in self.invocations, f"{event} settles what does not wait"
        handed = self.invocations.pop(event.invocation_id)
        assert (event.error is None) is (event.reply is not None)
        assert handed == int(event.error is None or event.error.outcome != "unsent")

    def states_changed(self, event: GroupStatesChanged) -> None:
        shown = self.states.setdefault(event.group, {})
        for state in event.changed:
            assert state.state is not None, "what is removed is told as that"
            assert shown.get(state.connection_id) != state, "what changes is different"
            shown[state.connection_id] = state
        for connection_id in event.removed:
            del shown[connection_id]

    def stopped(self, event: Stopped) -> None:
        super().stopped(event)
        assert not self.streams, "StreamClosed comes before Stopped"
        assert not self.invocations, "Invoked comes before Stopped"
        assert not any(self.states.values()), "the end of a subscription removes all states, before Stopped"

    def compare(self, session: Session, groups: Iterable[str]) -> None:
        """Check that the events have told the states of ``groups``, whose events were all seen."""
        for group in groups:
            try:
                known = dict(session.group_states(group))
            except LocalProtocolError:
                known = {}
            assert known == self.states.get(group, {}), "the events tell all that changes"

    _HANDLERS: ClassVar[dict[type, str]] = SessionOracle._HANDLERS | {
        StreamOpened: "stream_opened",
        StreamProgress: "stream_progress",
        StreamClosed: "stream_closed",
        Invoked: "invoked",
        GroupStatesChanged: "states_changed",
    }
