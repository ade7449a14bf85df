"""Whatever clients, handlers and the network do: each request is answered once, in order, and nothing raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.service.backend import Backend, body
from tests.core.service.virtual import Client, ServiceUnderTest
from tests.helpers.profiles import examples

from limpet_core.service import EventHandler

HANDLER = EventHandler(url="http://app.example/{event}", system_events=("connected", "disconnected"))

REQUESTS = st.sampled_from(
    [
        {"type": "event", "event": "order", "dataType": "text", "data": "x"},
        {"type": "event", "event": "other", "data": 1},
        {"type": "joinGroup", "group": "room"},
        {"type": "leaveGroup", "group": "room"},
        {"type": "sendToGroup", "group": "room", "dataType": "text", "data": "x", "noEcho": True},
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("send"), REQUESTS),
    st.tuples(st.just("ping"), st.none()),
    st.tuples(st.just("answer"), st.tuples(st.sampled_from([200, 204, 400, 408, 500]), st.binary(max_size=3))),
    st.tuples(st.just("fail"), st.sampled_from(["unreachable", "broken", "timeout", "too large"])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 5.0, 60.0])),
    st.tuples(st.just("garbage"), st.binary(max_size=60)),
)


class Story:
    """One client and its handler; ``unanswered`` are the ack ids of the requests made, in order."""

    def __init__(self) -> None:
        self.service = ServiceUnderTest(HANDLER)
        self.backend = Backend(self.service)
        self.client: Client = self.service.connect()
        self.client.hello()
        self.unanswered: list[int] = []
        self.ack_id = 0

    def step(self, kind: str, what: Any) -> None:
        match kind:
            case "send":
                self.ack_id += 1
                self.unanswered.append(self.ack_id)
                self.client.send({**what, "ackId": self.ack_id})
            case "ping":
                self.client.send({"type": "ping"})
                assert {"type": "pong"} in self.received()
            case "wait":
                self.service.advance(what)
            case _:
                self.respond(kind, what)
        self.received()

    def respond(self, kind: str, what: Any) -> None:
        for call in self.backend.calls()[:1]:
            if kind == "answer":
                self.backend.answer(call, status=what[0], body=what[1])
            elif kind == "fail":
                self.backend.fail(what, call)
            else:
                header = [("Content-Type", what[:20].decode("latin-1")), ("Set-Cookie", what.decode("latin-1"))]
                self.backend.answer(call, body=what, headers=header)

    def received(self) -> list[dict[str, Any]]:
        messages = self.client.received()
        for message in messages:
            if message["type"] == "ack":
                assert message["ackId"] == self.unanswered.pop(0)
        events = [call for call in self.backend.calls() if call.event in ("order", "other")]
        assert len(events) <= 1, "events of one client come one after the other"
        return messages

    def finish(self) -> None:
        """Let the handler answer everything."""
        for _ in range(1000):
            for call in self.backend.calls():
                self.backend.answer(call)
            self.service.advance(1)
            if not self.unanswered:
                break
            self.received()


@settings(max_examples=examples(100))
@given(st.lists(STEPS, max_size=40))
def test_every_request_is_answered_once_and_in_order(steps: list[tuple[str, Any]]) -> None:
    story = Story()
    for kind, what in steps:
        story.step(kind, what)
    story.finish()
    story.received()
    assert story.unanswered == []


@settings(max_examples=examples(100))
@given(st.lists(STEPS, max_size=30), st.sampled_from([1000, 1006, 1007]), st.booleans())
def test_the_handler_hears_of_the_end_once_and_last(steps: list[tuple[str, Any]], code: int, by_service: bool) -> None:
    story = Story()
    told = [call.event for call in story.backend.calls()]
    assert told == ["connected"]
    for kind, what in steps:
        story.step(kind, what)
    if by_service:
        story.service.core.close_connection("c1", "Enough.")
    else:
        story.client.drop(code)
    ends = []
    for _ in range(200):
        for call in story.backend.calls():
            if call.event == "disconnected":
                assert story.backend.calls() == [call]
                ends.append(body(call)["reason"])
            else:
                assert ends == []
            story.backend.answer(call)
        story.service.advance(1)
    assert len(ends) == 1
    assert ends == ["Application server closed the connection. Reason: Enough."] or not by_service
    assert story.backend.idle()
    assert story.service.core.hub("chat").connections == {}
