"""What people are shown of a connection: at which node its client is."""

from __future__ import annotations

from tests.core.service.cluster.nodes import Client, Cluster

from limpet_core.service import list_connections


def shown(cluster: Cluster, client: Client, at: str) -> tuple[bool, str]:
    found = list_connections(cluster.nodes[at].replica.core.hubs, client.connection_id).connections
    (connection,) = found
    return connection.attached, connection.node


def test_every_node_knows_where_a_client_is() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    assert shown(cluster, ann, "a") == shown(cluster, ann, "b") == (True, "a")
    ann.is_lost()
    cluster.run()
    assert shown(cluster, ann, "a") == shown(cluster, ann, "b") == (False, "")
    back = cluster.recover(ann, "b")
    assert shown(cluster, back, "a") == shown(cluster, back, "b") == (True, "b")
