"""What a node of a cluster tells of it: health, metrics, ``Service.cluster``."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from tests.adapters.service import webhook
from tests.adapters.service.test_metrics import read
from tests.helpers.nodes import KEY, Nodes, eventually, open_client
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions
from limpet.service.cluster import ClusterView
from limpet_core.service.cluster import commands


async def health(service: Service, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=LIMIT) as http:
        return await http.request(method, f"{service.endpoint}/api/health", headers=headers)


def test_a_node_tells_its_own_machine_of_its_cluster() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            answer = await health(b)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            told = answer.json()
            nodes = told.pop("nodes")
            log = told.pop("log")
            assert told == {
                "node": "b",
                "cell": "0",
                "refusal": None,
                "behaviour": 1,
                "comparison": 0,
                "differing": 0,
                "failures": 0,
            }
            assert [(node["name"], node["isThis"]) for node in nodes] == [("a", False), ("b", True)]
            assert all(node["run"].startswith(f"{node['name']}-") and 0 <= node["age"] < LIMIT for node in nodes)
            assert log["readingFrom"] == "replica"
            assert set(log) == {
                *("readingFrom", "primary", "source", "lag", "unreadEntries", "unreadBytes"),
                *("congested", "repeated", "reconnects", "problem", "engine"),
            }
            assert KEY not in answer.text
            assert b.cluster is not None
            assert isinstance(a.cluster, ClusterView)
            assert msgspec.to_builtins(b.cluster)["node"] == "b"

    webhook.run(scenario())


def test_a_service_that_is_alone_tells_nothing() -> None:
    async def scenario() -> None:
        async with Service() as service:
            answer = await health(service)
            assert (answer.status_code, answer.content) == (200, b"")
            assert service.cluster is None

    webhook.run(scenario())


ELSEWHERE: list[tuple[str, dict[str, str]]] = [
    ("HEAD", {}),
    ("GET", {"X-Forwarded-For": "10.0.0.1"}),
    ("GET", {"Host": "limpet.example"}),
    ("GET", {"Sec-Fetch-Site": "cross-site"}),
]


@pytest.mark.parametrize(("method", "headers"), ELSEWHERE)
def test_others_hear_the_status_alone(method: str, headers: dict[str, str]) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            answer = await health(a, method, **headers)
            assert (answer.status_code, answer.content) == (200, b"")
            nodes.logs["a"].cut()
            await eventually(lambda: a.cluster is not None and a.cluster.refusal is not None)
            answer = await health(a, method, **headers)
            assert (answer.status_code, answer.content) == (503, b"")
            nodes.logs["a"].mend()

    webhook.run(scenario())


def test_the_option_of_the_trace_page_says_who_hears_more() -> None:
    async def scenario() -> None:
        async with Nodes(ServiceOptions(access_key=KEY, trace=True)).up("a") as (a,):
            assert (await health(a, Host="limpet.example")).json()["node"] == "a"
        async with Nodes(ServiceOptions(access_key=KEY, trace=False)).up("a") as (a,):
            assert (await health(a)).content == b""

    webhook.run(scenario())


def test_a_node_that_takes_no_clients_is_not_healthy_until_it_does_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            nodes.logs["a"].cut()
            assert await ann.close_code() == 1001
            assert "1 client is sent to other nodes: this one does not reach the log of its cluster" in caplog.text
            answer = await health(a)
            assert answer.status_code == 503
            told = answer.json()
            assert "does not reach the log of its cluster" in told["refusal"]
            assert told["log"]["unreadEntries"] > 0
            assert told["nodes"][0]["age"] > 3
            values = await read(a)
            assert values("limpet_cluster_takes_clients") == 0
            assert values("limpet_cluster_problem") == 1
            nodes.logs["a"].mend()
            await eventually(lambda: a.cluster is not None and a.cluster.refusal is None)
            assert (await health(a)).status_code == 200

    webhook.run(scenario())


def test_a_node_that_is_expelled_is_not_healthy() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.engine.restart_empty()
            await asyncio.wait_for(a.expelled(), LIMIT)
            answer = await health(a)
            assert answer.status_code == 503
            assert "lost entries" in answer.json()["refusal"]

    webhook.run(scenario())


def test_metrics_of_a_node() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, hello = await open_client(b, "bob")
            bea, _ = await open_client(b, "bea")
            values = await read(a)
            assert values("limpet_cluster_nodes") == 2
            assert values("limpet_cluster_takes_clients") == 1
            assert values("limpet_cluster_behaviour") == 1
            assert values("limpet_cluster_comparisons_total") == 0
            assert values("limpet_cluster_differing_nodes") == 0
            assert values("limpet_cluster_failed_commands_total") == 0
            assert 0 <= (values("limpet_cluster_lag_seconds") or 0) < LIMIT
            assert values("limpet_cluster_congested") == 0
            assert values("limpet_cluster_reading", source="replica") == 1
            assert values("limpet_cluster_reading", source="primary") == 0
            assert values("limpet_cluster_repeated_entries_total") == 0
            assert values("limpet_cluster_reconnects_total") == 0
            assert values("limpet_cluster_problem") == 0
            assert {"limpet_cluster_unread_entries", "limpet_cluster_unread_bytes"} <= values.names
            bob.websocket.transport.abort()
            await eventually(lambda: not a.core.hub("chat").connections[hello["connectionId"]].attachment)
            states = [
                [(await read(node))("limpet_connections", hub="chat", state=state) for node in (a, b)]
                for state in ("attached", "elsewhere", "recoverable")
            ]
            assert states == [[1, 1], [1, 1], [1, 1]]
            await ann.leave()
            await bea.leave()

    webhook.run(scenario())


def test_a_comparison_and_its_outcome_are_told() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            replica: Any = a._gateway
            replica = replica.replica
            replica._outgoing.add(commands.Compare())
            a.flush()
            await eventually(lambda: len(replica.shared.digests) == 2)
            await eventually(lambda: b.cluster is not None and b.cluster.comparison == 1)
            assert (await read(a))("limpet_cluster_comparisons_total") == 1
            assert (await read(a))("limpet_cluster_differing_nodes") == 0
            replica._outgoing.add(commands.Digest(1, b"another state"))
            a.flush()
            await eventually(lambda: b.cluster is not None and b.cluster.differing == 1)
            assert (await read(b))("limpet_cluster_differing_nodes") == 1

    webhook.run(scenario())


def test_a_service_that_is_alone_has_no_metrics_of_a_cluster() -> None:
    async def scenario() -> None:
        async with Service() as service:
            ann, _ = await open_client(service)
            values = await read(service)
            assert not [name for name in values.names if "cluster" in name]
            assert values("limpet_connections", hub="chat", state="elsewhere") is None
            await ann.leave()

    webhook.run(scenario())
