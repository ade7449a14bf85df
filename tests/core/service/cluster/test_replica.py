"""Several nodes over one log: what a client of one does has the same effect at all, and its connection can move."""

from __future__ import annotations

from tests.core.service.cluster.nodes import Cluster


def test_a_message_reaches_the_members_at_all_nodes_in_one_order() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob", groups=("g",))
    ann.says(type="sendToGroup", group="g", data="one", ackId=1)
    bob.says(type="sendToGroup", group="g", data="two", ackId=1)
    assert ann.messages == bob.messages == []
    cluster.run()
    assert ann.messages == bob.messages == [(1, "one"), (2, "two")]
    assert ann.acks == bob.acks == [(1, None)]
    assert len(cluster.digests()) == 1


def test_a_client_recovers_at_another_node_and_misses_nothing() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    bob.says(type="sendToGroup", group="g", data=1)
    cluster.run()
    ann.is_lost()
    bob.says(type="sendToGroup", group="g", data=2)
    cluster.run()
    back = cluster.recover(ann, "b")
    bob.says(type="sendToGroup", group="g", data=3)
    cluster.run()
    assert back.messages == [(1, 1), (2, 2), (3, 3)]
    assert len(cluster.digests()) == 1
