"""A session with streams, invocations and states of groups among all its other calls, against the same model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from simulation.inspect import inspect
from simulation.oracle import Ask
from simulation.parts import PartsOracle
from tests.core.client.test_model import GROUPS, Model, PlainSessionAgainstModel, SessionAgainstModel
from tests.helpers.driving import encoded
from tests.helpers.profiles import examples

from limpet import ClientStopped, LocalProtocolError, State

STREAMS = st.sampled_from(["s", "s", "t"])
INVOCATIONS = st.sampled_from([None, None, "1", "2", "x"])
PLACES = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 0])


class WholeModel(Model, PartsOracle):
    """The oracle for all calls, and what the service answered."""


class Whole(SessionAgainstModel):
    model: WholeModel

    def __init__(self) -> None:
        super().__init__()
        self.model = WholeModel(reliable=self.options.reliable)

    def is_busy(self) -> bool:
        return bool(self.model.waiting or self.model.invocations)

    @invariant()
    def agrees_on_parts(self) -> None:
        session, model = self.session, self.model
        model.compare(session, ("g", "h"))
        for stream_id in ("s", "t"):
            assert not session.stream_has_room(stream_id) or stream_id in model.streams
        if session.state is State.STOPPED:
            assert not model.streams
            assert not model.invocations

    # ---- States

    @rule(kind=st.sampled_from(["set", "clear", "watch", "watch", "unwatch"]), group=GROUPS, value=st.integers(0, 3))
    def ask_about_states(self, kind: str, group: str, value: int) -> None:
        session, now = self.session, self.now
        ask = Ask(kind, chain=f"{kind in ('set', 'clear')} {group}")
        try:
            if kind == "set":
                ask.ack_id = session.set_group_state(group, {"n": str(value)}, now, user_data=ask)
            elif kind == "clear":
                ask.ack_id = session.clear_group_state(group, now, user_data=ask)
            elif kind == "watch":
                ask.ack_id = session.subscribe_group_states(group, now, user_data=ask)
            else:
                ask.ack_id = session.unsubscribe_group_states(group, now, user_data=ask)
        except ClientStopped:
            assert session.state in (State.STOPPED, State.STOPPING)
        except LocalProtocolError:
            assert self.is_busy(), "they are too many"
        else:
            self.model.asks(ask)
        self.drained()

    @rule(
        kind=st.sampled_from(["groupStateSnapshot", "groupStateUpdate"]),
        group=GROUPS,
        items=st.lists(
            st.fixed_dictionaries(
                {"connectionId": st.sampled_from(["c1", "c2", "o1", "o2"]), "updatedAt": st.integers(0, 9)},
                optional={"state": st.sampled_from([{}, {"n": "1"}])},
            ),
            max_size=3,
        ),
    )
    def says_states(self, kind: str, group: str, items: list[dict[str, Any]]) -> None:
        self.says(encoded({"type": kind, "group": group, "items": items}))

    # ---- Invocations

    @rule(invocation_id=INVOCATIONS, timeout=st.sampled_from([None, 3.0]))
    def invoke(self, invocation_id: str | None, timeout: float | None) -> None:
        session, model = self.session, self.model
        try:
            key = session.invoke("e", 1, self.now, timeout=timeout, invocation_id=invocation_id)
        except ClientStopped:
            assert session.state in (State.STOPPED, State.STOPPING)
        except LocalProtocolError:
            assert invocation_id in model.invocations or self.is_busy()
        else:
            model.invokes(key)
        self.drained()

    @rule(invocation_id=st.sampled_from(["1", "2", "3", "x"]))
    def cancel(self, invocation_id: str) -> None:
        self.model.gave_up(invocation_id, self.session.cancel_invocation(invocation_id, self.now))
        self.drained()

    @rule(invocation_id=st.sampled_from(["1", "2", "3", "x"]), error=st.sampled_from([None, "NotFound", "Timeout"]))
    def replies(self, invocation_id: str, error: str | None) -> None:
        body = {"success": True} if error is None else {"success": False, "error": {"name": error}}
        handed = self.model.invocations.get(invocation_id)
        connected = self.session.state is State.CONNECTED
        self.says(encoded({"type": "invokeResponse", "invocationId": invocation_id} | body))
        if handed and connected:
            assert invocation_id not in self.model.invocations, "a reply settles"

    # ---- Streams

    @rule(stream_id=STREAMS)
    def open_stream(self, stream_id: str) -> None:
        session, model = self.session, self.model
        try:
            session.open_stream("g", self.now, stream_id=stream_id)
        except ClientStopped:
            assert session.state in (State.STOPPED, State.STOPPING)
        except LocalProtocolError:
            failed: Any = inspect(session).left.get("failed streams", {})  # the service has not closed them yet
            assert stream_id in model.streams or stream_id in failed
        else:
            model.opens(stream_id)
        self.drained()

    @rule(stream_id=STREAMS, count=st.integers(1, 3))
    def write(self, stream_id: str, count: int) -> None:
        for _ in range(count):
            room = self.session.stream_has_room(stream_id)
            try:
                self.session.write_stream(stream_id, "x", self.now)
            except LocalProtocolError:
                assert not room
            else:
                assert room
        self.drained()

    @rule(stream_id=STREAMS, abort=st.booleans())
    def end(self, stream_id: str, abort: bool) -> None:
        known = stream_id in self.model.streams
        with suppress(LocalProtocolError):
            if abort:
                self.session.abort_stream(stream_id, "enough", self.now)
            else:
                self.session.end_stream(stream_id, self.now)
            assert known
        assert not self.session.stream_has_room(stream_id)
        self.drained()

    @rule(kind=st.sampled_from(["streamAck", "streamAck", "streamNack"]), stream_id=STREAMS, place=PLACES)
    def says_of_stream(self, kind: str, stream_id: str, place: int) -> None:
        self.says(encoded({"type": kind, "streamId": stream_id, "expectedSequenceId": place, "name": "x"}))

    @rule(stream_id=STREAMS, error=st.sampled_from([None, "StreamNotFound", "IdleTimeout"]))
    def closes_stream(self, stream_id: str, error: str | None) -> None:
        fields: dict[str, Any] = {} if error is None else {"error": {"name": error}}
        self.says(encoded({"type": "streamClosed", "streamId": stream_id} | fields))

    @rule(stream_id=STREAMS)
    def stream_begins(self, stream_id: str) -> None:
        """Do what leads to a stream with a fragment."""
        self.go_on()
        if stream_id not in self.model.streams:
            self.open_stream(stream_id)
        self.says_of_stream("streamAck", stream_id, 1)
        if stream_id in self.model.streams:
            self.write(stream_id, 2)


class PlainWhole(PlainSessionAgainstModel, Whole):
    """The same without recovery."""


TestReliable = Whole.TestCase
TestReliable.settings = settings(max_examples=examples(80), stateful_step_count=50)
TestPlain = PlainWhole.TestCase
TestPlain.settings = settings(max_examples=examples(30), stateful_step_count=50)
