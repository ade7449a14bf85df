"""Whatever clients, handlers and the network do: each invocation is answered once, or was given up; nothing raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.service.backend import EVENTS_ONLY, Backend
from tests.core.service.test_core import JSON_VALUES
from tests.core.service.virtual import Client, ServiceUnderTest
from tests.helpers.profiles import examples

from limpet_core.service.application_server import InvocationCall

IDS = st.sampled_from(["a", "b", "c"])
PICK = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("invoke"), IDS),
    st.tuples(st.just("cancel"), IDS),
    st.tuples(st.just("event"), st.none()),
    st.tuples(st.just("answer"), st.tuples(PICK, st.sampled_from([200, 200, 204, 400, 404, 408, 500]))),
    st.tuples(st.just("fail"), st.tuples(PICK, st.sampled_from(["unreachable", "broken", "timeout", "too large"]))),
    st.tuples(st.just("drop"), st.none()),
    st.tuples(st.just("recover"), st.none()),
    st.tuples(st.just("delay"), st.sampled_from([0.5, 3.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 5.0])),
)


class Story:
    """One client; ``pending`` are the ids of its invocations on this transport that were neither answered nor given up.

    ``running`` counts all of them, also those of earlier transports.
    """

    def __init__(self) -> None:
        self.service = ServiceUnderTest(EVENTS_ONLY, recovery_window=10_000.0, invocations=4)
        self.backend = Backend(self.service)
        self.client: Client = self.service.connect()
        self.hello = self.client.hello()
        self.attached = True
        self.pending: set[str] = set()

    def step(self, kind: str, what: Any) -> None:
        match kind:
            case "invoke" if self.attached:
                self.invoke(what)
            case "cancel" if self.attached:
                self.client.send({"type": "cancelInvocation", "invocationId": what})
                self.pending.discard(what)
            case "event" if self.attached:
                self.client.send({"type": "event", "event": "e", "data": 1})
            case "answer" | "fail":
                self.respond(kind, *what)
            case "drop" if self.attached:
                self.client.drop()
                self.attached = False
                self.pending.clear()
            case "recover" if not self.attached:
                self.client = self.service.recover(self.hello)
                self.client.received()
                self.attached = True
            case "delay":
                delays = [what]
                self.service.core.invocations.faults[:] = [lambda *_: delays.pop() if delays else None]
            case "wait":
                self.service.advance(what)
        self.hear()

    def invoke(self, invocation_id: str) -> None:
        connection = self.service.core.connection("c1")
        assert connection is not None
        refused = invocation_id in self.pending or len(connection.invocations) >= 4
        self.client.send({"type": "invoke", "invocationId": invocation_id, "target": "event", "event": "e"})
        if refused:
            (answer,) = self.client.received()
            assert (answer["invocationId"], answer["error"]["name"]) == (invocation_id, "BadRequest")
        else:
            self.pending.add(invocation_id)

    def respond(self, kind: str, which: int, how: Any) -> None:
        calls = self.backend.calls()
        if calls:
            call = calls[which % len(calls)]
            if kind == "answer":
                self.backend.answer(call, status=how)
            else:
                self.backend.fail(how, call)

    def hear(self) -> None:
        for message in self.client.received():
            assert message["type"] == "invokeResponse"
            self.pending.remove(message["invocationId"])  # once, and nothing that was given up
        connection = self.service.core.connection("c1")
        assert connection is not None
        there = [(transport, name) for transport, name in connection.invocations if transport is connection.transport]
        assert {name for _, name in there} == self.pending
        assert 0 <= len(connection.invocations) <= 4
        purposes = [call.purpose for call in connection.invocations.values()]
        sizes = [purpose.size for purpose in purposes if isinstance(purpose, InvocationCall)]
        assert connection.invocation_bytes == sum(sizes)

    def finish(self) -> None:
        for _ in range(30):
            for call in self.backend.calls():
                self.backend.answer(call)
            self.service.advance(1)
            self.hear()


@settings(max_examples=examples(300))
@given(st.lists(STEPS, max_size=40))
def test_each_invocation_is_answered_once_unless_it_was_given_up(steps: list[tuple[str, Any]]) -> None:
    story = Story()
    for kind, what in steps:
        story.step(kind, what)
    story.finish()
    assert story.pending == set()
    assert story.backend.idle()


KINDS = st.sampled_from(
    ["invoke", "CANCELINVOCATION", "cancelInvocation", "setGroupState", "subscribegroupstate", "unsubscribeGroupState"]
)
FIELDS = st.sampled_from(
    ["invocationId", "target", "event", "dataType", "data", "metadata", "group", "state", "ackId", "stream"]
)
VALUES = st.sampled_from(["1", "event", "e", "room", "json", "text", 1, {"a": "b"}, {"a": "\ud83d"}, "\ude00"])


@given(
    st.lists(
        st.builds(lambda kind, fields: {**fields, "type": kind}, KINDS, st.dictionaries(FIELDS, JSON_VALUES | VALUES))
    )
)
def test_nothing_a_client_says_raises_and_what_it_hears_is_json(messages: list[dict[str, Any]]) -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service)
    client = service.connect(groups=("room",))
    other = service.connect(groups=("room",))
    other.send({"type": "subscribeGroupState", "group": "room"})
    for message in messages:
        client.send_raw(json.dumps(message))
        for call in backend.calls():
            backend.answer(call)
        service.core.transports_with_output()
        client.received()
        other.received()
    assert client.close_code in (None, 1007)
    assert other.close_code is None
