"""A command that fails by a fault of ours: all nodes go on behind it alike, and whoever waits for it gets an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.service.cluster.nodes import Client, Cluster, Node

from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import ClientGrant, EventHandler, Transport
from limpet_core.service.data_plane import writes

HANDLER = EventHandler(
    url="http://app.test/{event}", user_events=("*",), system_events=("connected", "disconnected"), retries=0
)


def allow(node: Node) -> None:
    """Answer the calls that ask for permission."""
    for call in [call for call in node.calls if call.event == "validate"]:
        node.answers(call, 200, WebHook_Allowed_Origin="*")
    node.carry_out()


Step = Callable[..., Any]


class Fault(Exception):
    """The fault."""


def before(step: Step) -> Step:
    """Return a step that fails without an effect."""

    def fails(*_: Any, **__: Any) -> Any:
        raise Fault("a secret")

    return fails


def after(step: Step) -> Step:
    """Return a step that fails when it has had its effect."""

    def fails(*arguments: Any, **named: Any) -> Any:
        step(*arguments, **named)
        raise Fault("a secret")

    return fails


MOMENTS = pytest.mark.parametrize("moment", [before, after])


def break_all(cluster: Cluster, holder: str, step: str, moment: Callable[[Step], Step]) -> Callable[[], None]:
    """Have a step fail at all nodes; return a function that mends it."""
    parts = [getattr(node.replica.core, holder) if holder else node.replica.core for node in cluster.up]
    for part in parts:
        setattr(part, step, moment(getattr(part, step)))

    def mend() -> None:
        for part in parts:
            delattr(part, step)

    return mend


def agree(cluster: Cluster, *, failures: int = 1) -> None:
    """Check that all nodes have gone on alike, also one that begins with a snapshot."""
    assert [node.replica.shared.failures for node in cluster.up] == [failures] * len(cluster.up)
    assert len(cluster.digests()) == 1
    restored = cluster.start("r")
    restored.replica.restore(cluster.nodes["a"].replica.snapshot())
    restored.read = len(cluster.log)
    cluster.run()
    assert len(cluster.digests()) == 1


def ends(cluster: Cluster, client: Client) -> None:
    """Check that a client was told, and that no node has its connection any more."""
    assert client.close is not None
    assert (client.close.code, client.close.reason) == (1011, "Internal server error. Make a new connection.")
    assert [node.replica.core.connection(client.connection_id) for node in cluster.up] == [None] * len(cluster.up)


def pending(cluster: Cluster) -> list[tuple[str, str]]:
    """Return the calls of the event handler without an outcome, which are the same at all nodes, and their clients."""
    found = [
        [(each.call.event, each.call.about[1]) for each in node.replica.core.logged_calls.pending.values()]
        for node in cluster.up
    ]
    assert found == [found[0]] * len(found)
    return found[0]


@MOMENTS
def test_the_client_of_a_message_that_fails_is_closed(
    moment: Callable[[Step], Step], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    mend = break_all(cluster, "", "receive", moment)
    ann.says(type="sendToGroup", group="g", data=1, ackId=1)
    cluster.run()
    mend()
    ends(cluster, ann)
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in told] == [
        "a command of the cluster failed, which is a fault of this service: Received of client a-1"
    ] * 2, "each node says so once"
    assert all(record.exc_info is not None for record in told)
    bob.says(type="sendToGroup", group="g", data=2, ackId=1)
    cluster.run()
    assert [data for _, data in bob.messages] == [1, 2] if moment is after else [2]
    agree(cluster)


@MOMENTS
def test_a_connection_that_its_own_node_alone_has_given_up_is_over_at_the_others(
    moment: Callable[[Step], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a", groups=("g",))
    core = cluster.nodes["a"].replica.core
    monkeypatch.setattr(core, "receive", moment(core.receive))
    ann.says(type="sendToGroup", group="h", data=1, ackId=1)
    cluster.run()
    ends(cluster, ann)
    assert [node.replica.shared.failures for node in cluster.up] == [1, 0]


@MOMENTS
def test_a_client_whose_connection_cannot_be_opened_is_told(moment: Callable[[Step], Step]) -> None:
    cluster = Cluster("a", "b")
    break_all(cluster, "registry", "open", moment)
    ann = cluster.connect("a")
    if moment is before:
        assert (ann.transport, ann.rejection.status) == (None, 500)
        assert ann.rejection.text == "The service has failed to open the connection. Try again later."
    else:
        assert [message["event"] for message in ann.got] == ["connected"]
        ends(cluster, ann)
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]
    agree(cluster)


def test_the_client_of_another_node_with_the_same_number_goes_on() -> None:
    cluster = Cluster("a", "b")
    mend = break_all(cluster, "registry", "open", before)
    openings = {
        name: cluster.nodes[name].replica.connect("h", RELIABLE_JSON, ClientGrant("ann", (), ())) for name in "ab"
    }
    assert openings["a"].number == openings["b"].number
    clients = {
        name: cluster.waiting.setdefault(opening, Client(cluster.nodes[name])) for name, opening in openings.items()
    }
    for node in cluster.up:
        node.append()
    (_, of_a), (_, of_b) = cluster.log[-2:]
    for node in cluster.up:
        node.replica.apply(f"{node.read + 1}", cluster.now, of_a)
    mend()
    for node in cluster.up:
        node.replica.apply(f"{node.read + 2}", cluster.now, of_b)
        node.read += 2
    cluster.run()
    assert clients["a"].rejection.status == 500
    assert clients["b"].rejection is None
    assert [message["event"] for message in clients["b"].got] == ["connected"]
    agree(cluster)


@MOMENTS
def test_a_client_that_cannot_be_brought_back_is_told_to_begin_anew(moment: Callable[[Step], Step]) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    ann.is_lost()
    mend = break_all(cluster, "registry", "attach", moment)
    back = cluster.recover(ann, "b")
    mend()
    assert isinstance(back.transport, Transport)
    if moment is before:
        assert back.transport.close is not None
        assert back.transport.close.code == 1008, "no client tries to recover behind that"
    else:
        ends(cluster, back)
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]
    agree(cluster)


@pytest.mark.parametrize("step", ["disconnected", "transport_broken"])
@MOMENTS
def test_a_connection_whose_end_fails_does_not_stay(moment: Callable[[Step], Step], step: str) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    assert ann.transport is not None
    break_all(cluster, "", step, moment)
    cluster.nodes["a"].replica.disconnected(ann.transport, 1006, broken=step == "transport_broken")
    cluster.run()
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]
    agree(cluster)


@MOMENTS
def test_a_server_whose_operation_fails_is_told_that_it_may_be_done_in_part(moment: Callable[[Step], Step]) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("b")
    break_all(cluster, "", "send_to_all", moment)
    asked = cluster.nodes["a"].replica.ask(writes.Send("h", "hub", "", writes.Message("json", b"1")))
    cluster.run()
    assert cluster.answered == [asked]
    assert (asked.error.status, asked.error.code) == (500, "Error.InternalServerError")
    assert "in part" in asked.error.message
    assert len(ann.messages) == (moment is after)
    assert ann.close is None, "nobody is to blame"
    agree(cluster)


@pytest.mark.parametrize("kind", ["event", "invoke", "connected"])
@MOMENTS
def test_the_client_of_a_call_whose_outcome_fails_is_closed(moment: Callable[[Step], Step], kind: str) -> None:
    cluster = Cluster("a", "b", handlers=[HANDLER])
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob")
    a = cluster.nodes["a"]
    allow(a)
    if kind != "connected":
        a.answers(a.calls[-1])
        cluster.run()
    if kind == "event":
        ann.says(type="event", event="order", data=1, ackId=1)
    elif kind == "invoke":
        ann.says(type="invoke", invocationId="i", target="event", event="order", data=1)
    cluster.run()
    mend = break_all(cluster, "logged_calls", "end", moment)
    fails = a.calls[-1]
    a.answers(fails)
    cluster.run()
    mend()
    ends(cluster, ann)
    assert bob.close is None
    assert ("disconnected", ann.connection_id) in pending(cluster), "the handler is told"
    assert (fails.event, ann.connection_id) not in pending(cluster)
    agree(cluster)


@MOMENTS
def test_a_handler_hears_of_the_end_of_a_client_that_had_left_before(moment: Callable[[Step], Step]) -> None:
    cluster = Cluster("a", "b", handlers=[HANDLER])
    ann = cluster.connect("a")
    a = cluster.nodes["a"]
    allow(a)
    a.answers(a.calls[-1])
    ann.says(type="event", event="order", data=1)
    cluster.run()
    assert ann.transport is not None
    a.replica.disconnected(ann.transport, 1000)
    cluster.run()
    assert pending(cluster) == [("order", ann.connection_id)]
    mend = break_all(cluster, "logged_calls", "end", moment)
    a.answers(a.calls[-1])
    cluster.run()
    mend()
    assert pending(cluster) == [("disconnected", ann.connection_id)]
    agree(cluster)


def test_a_disconnected_event_whose_outcome_fails_has_no_client_any_more() -> None:
    cluster = Cluster("a", "b", handlers=[HANDLER])
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob")
    a = cluster.nodes["a"]
    allow(a)
    a.answers(a.calls[-1])
    cluster.run()
    assert ann.transport is not None
    a.replica.disconnected(ann.transport, 1000)
    cluster.run()
    assert a.calls[-1].event == "disconnected"
    break_all(cluster, "logged_calls", "end", after)
    a.answers(a.calls[-1])
    cluster.run()
    assert bob.close is None
    agree(cluster)


def test_nodes_go_on_if_even_the_answer_fails(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob")
    mends = [break_all(cluster, "", "receive", before), break_all(cluster, "registry", "end", before)]
    ann.says(type="joinGroup", group="g", ackId=1)
    cluster.run()
    for mend in mends:
        mend()
    assert "a fault of this service: the answer to Received of client a-1" in caplog.text
    assert "a secret" not in "".join(record.getMessage() for record in caplog.records)
    bob.says(type="joinGroup", group="g", ackId=1)
    cluster.run()
    assert bob.acks == [(1, None)]
    agree(cluster, failures=2)


def test_what_nobody_waits_for_fails_without_an_answer() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    bob.says(type="sendToGroup", group="g", data=1)
    cluster.run()
    mend = break_all(cluster, "", "acknowledge", before)
    ann.says(type="sequenceAck", sequenceId=1)
    cluster.run(1)
    mend()
    assert ann.close is None
    agree(cluster)
