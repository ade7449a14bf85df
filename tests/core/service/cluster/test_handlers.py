"""Event handlers in a cluster: one node makes each call, and its outcome counts at all."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from tests.core.service.cluster.nodes import Client, Cluster, Node

from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import Answer, EventHandler, EventListener, HandlerCall, TraceEvent
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import SILENCE

EVENTS = EventHandler(url="http://app/events", system_events=("connected", "disconnected"))
DECIDES = EventHandler(url="http://app/events", system_events=("connect",))
LISTENER = EventListener(
    event_hub="hub",
    connection_string="Endpoint=sb://localhost;SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true",
)


class AtOnce(EventHandler, frozen=True):
    def answer(self, call: HandlerCall) -> Answer:
        return Answer(204, (), b"")


def allow(node: Node) -> None:
    """Answer the calls that ask for permission."""
    asked = [call for call in node.calls if call.event == "validate"]
    node.calls = [call for call in node.calls if call.event != "validate"]
    for call in asked:
        node.answers(call, 200, WebHook_Allowed_Origin="*")
    node.carry_out()


def event(client: Client, name: str, ack_id: int) -> None:
    client.says(type="event", event=name, data="x", dataType="text", ackId=ack_id)


def calls(node: Node) -> list[str]:
    return [call.event for call in node.calls]


def connected(*names: str) -> tuple[Cluster, Client]:
    """Return a cluster with a client at the first node, whose connected event was answered."""
    cluster = Cluster(*names, handlers=[EVENTS])
    ann = cluster.connect(names[0])
    node = cluster.nodes[names[0]]
    allow(node)
    assert calls(node) == ["connected"]
    node.answers(node.calls.pop())
    cluster.run()
    return cluster, ann


def test_an_event_is_called_by_the_node_of_its_client_and_acknowledged_there() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    assert (calls(a), calls(b)) == (["hello"], [])
    assert ann.acks == []
    a.answers(a.calls.pop(), 200, b"reply", content_type="text/plain", ce_connectionState="s1")
    cluster.run()
    assert ann.acks == [(1, None)]
    assert [data for _, data in ann.messages] == ["reply"]
    contexts = [node.replica.core.connection(ann.connection_id) for node in (a, b)]
    assert [connection.context.state for connection in contexts if connection and connection.context] == ["s1", "s1"]
    assert len(cluster.digests()) == 1


def test_a_call_of_a_dead_node_is_made_again_by_another_one() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    first = cluster.nodes["a"].calls[0]
    cluster.kill("a")
    back = cluster.recover(ann, "b")
    cluster.run(6)
    b = cluster.nodes["b"]
    allow(b)
    assert calls(b) == ["hello"]
    assert header(b.calls[0], "ce-id") == header(first, "ce-id")
    b.answers(b.calls.pop())
    cluster.run()
    assert back.acks == [(1, None)]


@pytest.mark.parametrize("seconds", [2.0, 8.0])
def test_a_node_that_has_stood_still_makes_no_call_before_it_knows_that_it_is_alive(seconds: float) -> None:
    cluster = Cluster("b", "a", handlers=[EVENTS])
    cluster.connect("a")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    assert calls(a) == ["validate"]
    a.is_down = True
    cluster.run(seconds)
    allow(b)
    assert calls(b) == ["connected"] * (seconds > SILENCE)
    allow(a)  # what it was told meanwhile comes before what it reads
    assert calls(a) == ["connected"] * (seconds < SILENCE)
    a.is_down = False
    cluster.run(1.25)
    assert calls(a) == ["connected"] * (seconds < SILENCE)


def test_calls_that_a_node_has_held_back_are_made_once_the_log_moves_again() -> None:
    cluster = Cluster("a", handlers=[EVENTS])
    cluster.connect("a")
    a = cluster.nodes["a"]
    cluster.now += SILENCE + 1.0  # nothing is written or read
    allow(a)
    assert calls(a) == []
    cluster.run(1.25)
    assert calls(a) == ["connected"]


def header(call: HandlerCall, name: str) -> str:
    return dict(call.headers)[name]


def test_the_outcome_of_a_node_that_is_dead_by_now_does_not_count() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a = cluster.nodes["a"]
    a.is_down = True
    cluster.run(8)
    a.answers(a.calls.pop())
    a.append()
    cluster.run()
    still = cluster.nodes["b"].replica.core.logged_calls.pending.values()
    assert [pending.call.event for pending in still] == ["hello"]


def test_a_failed_call_is_told_as_on_one_node() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a = cluster.nodes["a"]
    a.replica.handler_failed(a.calls.pop(), "timeout", "too slow", cluster.now)
    cluster.run()
    assert ann.acks == [(1, "InternalServerError")]


def test_an_answer_that_is_too_large_for_the_log_fails_the_event() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a = cluster.nodes["a"]
    a.answers(a.calls.pop(), 200, bytes(commands.MAX_DATA + 1), content_type="application/octet-stream")
    cluster.run()
    assert ann.acks == [(1, "InternalServerError")]
    assert max(len(entry) for _, entry in cluster.log) < 1000


def test_a_call_is_tried_again_by_the_clock_of_its_node() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a = cluster.nodes["a"]
    a.answers(a.calls.pop(), 503)
    cluster.run(0.5)
    assert calls(a) == []
    cluster.run(1)
    assert calls(a) == ["hello"]
    a.answers(a.calls.pop())
    cluster.run()
    assert ann.acks == [(1, None)]


def test_the_disconnected_event_is_called_once_in_the_cluster() -> None:
    cluster, ann = connected("a", "b")
    ann.node.replica.disconnected(ann.transport, 1000, "bye")  # type: ignore[arg-type]
    cluster.run(5)
    allow(cluster.nodes["b"])
    assert calls(cluster.nodes["a"]) + calls(cluster.nodes["b"]) == ["disconnected"]


def test_an_invocation_that_is_given_up_stops_its_call() -> None:
    cluster, ann = connected("a", "b")
    ann.says(type="invoke", invocationId="i", target="event", event="ask", dataType="text", data="x")
    cluster.run()
    a = cluster.nodes["a"]
    assert calls(a) == ["ask"]
    ann.says(type="cancelInvocation", invocationId="i")
    cluster.run()
    assert a.calls[-1].cancelled
    a.answers(a.calls.pop())
    cluster.run()
    assert not any(each["type"] == "invokeResponse" for each in ann.got)


def test_all_calls_can_be_given_up_at_once() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    a = cluster.nodes["a"]
    a.replica.core.logged_calls.cancel_all()
    a.carry_out()
    assert a.calls[-1].cancelled
    a.answers(a.calls.pop())
    assert list(a.replica.core.logged_calls.outcomes()) == []


def test_an_attempt_at_a_call_that_the_log_does_not_know_is_not_told_to_it() -> None:
    cluster = Cluster("a", handlers=[EVENTS])
    core = cluster.nodes["a"].replica.core
    core.attempts.submit(HandlerCall("POST", "", (), b"", handler=AtOnce(url="http://app"), event="stray"))
    assert core.attempts.has_settled
    assert list(core.logged_calls.outcomes()) == []


def test_the_calls_of_the_last_node_are_made_by_the_next_one() -> None:
    cluster, ann = connected("a")
    event(ann, "hello", 1)
    cluster.run()
    cluster.nodes["a"].replica.leave()
    cluster.run()
    b = cluster.start("b")
    cluster.run(1)
    allow(b)
    assert calls(b) == ["hello"]


def test_listeners_hear_of_an_event_from_one_node() -> None:
    cluster = Cluster("a", "b", listeners=[LISTENER])
    ann = cluster.connect("a")
    event(ann, "hello", 1)
    cluster.run()
    assert [message.properties["cloudEvents:eventname"] for message in cluster.nodes["a"].told] == [
        "connected",
        "hello",
    ]
    assert cluster.nodes["b"].told == []
    assert ann.acks == [(1, None)]


# ---- The connect event


def test_a_handler_decides_at_one_node_before_the_log_hears_of_a_client() -> None:
    cluster = Cluster("a", "b", handlers=[DECIDES])
    a = cluster.nodes["a"]
    client, opening = cluster.ask("a")
    allow(a)
    assert calls(a) == ["connect"]
    before = len(cluster.log)
    cluster.run()
    assert len(cluster.log) == before
    answer = b'{"userId": "eve", "groups": ["g"], "subprotocol": "' + RELIABLE_JSON.encode() + b'"}'
    a.answers(a.calls.pop(), 200, answer, ce_connectionState="given", set_cookie="c=1")
    cluster.run()
    assert opening.subprotocol == RELIABLE_JSON
    assert client.transport is not None
    for node in cluster.up:
        connection = node.replica.core.connection(opening.connection_id)
        assert connection is not None
        assert connection.user_id == "eve"
        assert list(connection.groups) == ["g"]
        assert connection.context is not None
        assert connection.context.handed_over() == ("given", {"app": {"c": "1"}})


def test_a_client_is_told_at_once_that_the_handler_who_decides_has_failed() -> None:
    cluster = Cluster("a", handlers=[msgspec.structs.replace(DECIDES, retries=0)])
    client, _ = cluster.ask("a")
    a = cluster.nodes["a"]
    allow(a)
    a.replica.handler_failed(a.calls.pop(), "broken", "the line was cut", cluster.now)
    a.carry_out()
    assert client.rejection.status == 500


def test_a_client_is_told_that_the_handler_who_decides_must_not_be_asked() -> None:
    cluster = Cluster("a", handlers=[DECIDES])
    client, _ = cluster.ask("a")
    a = cluster.nodes["a"]
    a.answers(a.calls.pop(), 403)
    cluster.run(1)
    assert client.rejection.status == 500


def test_a_client_that_a_handler_rejects_never_reaches_the_log() -> None:
    cluster = Cluster("a", handlers=[DECIDES])
    a = cluster.nodes["a"]
    client, _ = cluster.ask("a")
    allow(a)
    before = len(cluster.log)
    a.answers(a.calls.pop(), 403)
    cluster.run()
    assert client.rejection.status == 403
    assert len(cluster.log) == before


def test_a_client_that_leaves_before_the_decision_is_forgotten() -> None:
    cluster = Cluster("a", handlers=[DECIDES])
    a = cluster.nodes["a"]
    client, opening = cluster.ask("a")
    allow(a)
    a.replica.forget(opening)
    a.carry_out()
    assert a.calls[-1].cancelled
    cluster.run()
    assert client.transport is None
    assert client.rejection is None


def test_the_limit_of_connections_counts_behind_the_decision() -> None:
    cluster = Cluster("a", handlers=[DECIDES])
    a = cluster.nodes["a"]
    client, _ = cluster.ask("a", most=0)
    allow(a)
    a.answers(a.calls.pop(), 204)
    cluster.run()
    assert client.rejection.status == 429


def test_what_a_handler_sees_has_the_time_of_the_log() -> None:
    cluster, ann = connected("a", "b")
    event(ann, "hello", 1)
    cluster.run()
    pending = next(iter(cluster.nodes["b"].replica.core.logged_calls.pending.values()))
    assert header(pending.call, "ce-time") == header(cluster.nodes["a"].calls[0], "ce-time") == f"{cluster.now:.0f}"


# ---- Observers


def note(seen: list[str], event: TraceEvent) -> None:
    seen.append(type(event).__name__)


def test_an_event_is_observed_at_the_node_that_it_came_from() -> None:
    cluster = Cluster("a", "b")
    seen: dict[str, list[str]] = {"a": [], "b": []}
    for name, node in cluster.nodes.items():
        node.replica.core.observers.append(partial(note, seen[name]))
    ann = cluster.connect("a", groups=("g",))
    ann.says(type="sendToGroup", group="g", data=1, ackId=1)
    cluster.run()
    ann.says(type="sequenceAck", sequenceId=1)
    cluster.run(1)
    assert seen == {"a": ["ConnectionOpened", "Published", "Acked", "SequenceAcked"], "b": []}


def test_a_node_that_leaves_begins_no_call_that_another_one_makes() -> None:
    cluster, ann = connected("a", "b")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    event(ann, "hello", 1)
    a.replica.leave()  # both are in one entry
    cluster.run()
    allow(b)
    assert (calls(a), calls(b)) == ([], ["hello"])


def test_listeners_hear_of_each_event_once_also_if_several_entries_are_read_together() -> None:
    cluster = Cluster("a", "b", listeners=[LISTENER])
    ann, bob = cluster.connect("a"), cluster.connect("b")
    nodes = [cluster.nodes["a"], cluster.nodes["b"]]
    for node in nodes:
        node.told.clear()
    for ack_id, client in enumerate((ann, bob, ann)):
        event(client, "hello", ack_id)
        client.node.append()
    for node in nodes:
        for time, entry in cluster.log[node.read :]:
            node.read += 1
            node.replica.apply(str(node.read), time, entry)
        node.carry_out()
    told = [[message.message_id for message in node.told] for node in nodes]
    assert told == [[f"{ann.connection_id}/2", f"{ann.connection_id}/3"], [f"{bob.connection_id}/2"]]


@pytest.mark.parametrize(("size", "status"), [(commands.MAX_DATA - 1000, None), (commands.MAX_DATA, 500)])
def test_an_answer_about_a_client_that_the_log_cannot_hold_is_refused(size: int, status: int | None) -> None:
    cluster = Cluster("a", "b", handlers=[DECIDES])
    a = cluster.nodes["a"]
    client, _ = cluster.ask("a")
    allow(a)
    groups = [f"{number:04}".rjust(1021, "g") for number in range(size // 1024)]
    a.answers(a.calls.pop(), 200, json.dumps({"groups": groups}).encode())
    cluster.run()
    assert (client.rejection and client.rejection.status) == status
    assert (client.transport is None) is (status is not None)
    assert a.replica.unread == 0


def test_a_node_that_is_about_to_leave_begins_no_call() -> None:
    cluster, ann = connected("a", "b")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    event(ann, "hello", 1)
    a.append()
    a.replica.leave()
    a.append()
    b.catch_up()  # which has taken the call over before a knows of it
    allow(b)
    assert calls(b) == ["hello"]
    time, entry = cluster.log[a.read]  # the event, and not the end of the node behind it
    a.read += 1
    a.replica.apply(str(a.read), time, entry)
    a.carry_out()
    assert calls(a) == []
