"""Observers watch one node: what they do has no part in what happens, not even where they fail."""

from __future__ import annotations

import logging

import pytest
from tests.core.service.cluster.nodes import Cluster

from limpet_core.service import JSON, ClientGrant, Limits, ServiceCore, trace


def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    seen: list[trace.TraceEvent] = []

    def fails(event: trace.TraceEvent) -> None:
        raise RuntimeError("a fault of the application")

    for observer in (fails, seen.append):
        cluster.nodes["a"].replica.core.observers.append(observer)
    ann.says(type="sendToGroup", group="g", data=1, ackId=1)
    ann.says(type="joinGroup", group="g", ackId=2)
    cluster.run()
    ann.is_lost()
    cluster.run()
    assert (ann.acks, ann.close) == ([(1, None), (2, None)], None)
    assert bob.messages == [(1, 1)]
    assert [node.replica.shared.failures for node in cluster.up] == [0, 0]
    assert len(cluster.digests()) == 1
    assert {type(event) for event in seen} >= {trace.Published, trace.Acked, trace.ConnectionDropped}
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == len(seen)
    assert {record.getMessage() for record in told} == {"an observer of this node has failed, and goes on"}


@pytest.mark.parametrize("brief", [False, True])
def test_acknowledgements_are_counted_and_not_told_while_there_is_too_much(brief: bool) -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    ann.says(type="sendToGroup", group="g", data=1)
    cluster.run()
    observers = cluster.nodes["b"].replica.core.observers
    seen: list[trace.TraceEvent] = []
    observers.append(seen.append)
    observers.is_brief = brief
    bob.says(type="sequenceAck", sequenceId=1)
    cluster.run(1.0)
    assert [type(event) for event in seen] == ([] if brief else [trace.SequenceAcked])
    assert observers.totals.others == 1


def test_where_the_service_is_alone_the_error_comes_out() -> None:
    core = ServiceCore(
        Limits(),
        new_connection_id=lambda: "c",
        issue_reconnection_token=lambda _: "t",
        check_reconnection_token=lambda *_: True,
    )

    def fails(event: trace.TraceEvent) -> None:
        raise RuntimeError("a fault of the application")

    core.observers.append(fails)
    with pytest.raises(RuntimeError, match="a fault of the application"):
        core.connect("chat", JSON, ClientGrant("ann"), 0.0)
