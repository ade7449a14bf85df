"""Output of a node of a cluster waits for more that is about to come, and not for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest
from tests.adapters.service import webhook
from tests.adapters.service.sockets import Client
from tests.helpers.nodes import Nodes, eventually, joined, open_client

from limpet.service import _cluster_gateway, _cluster_node, _gateway, _hold
from limpet.service.cluster import memory
from limpet_core.service import Transport


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of clients of each write, with a log that is read entry by entry."""
    monkeypatch.setattr(memory, "_PAGE", 1)
    found: list[int] = []
    write = _gateway.Gateway._write

    def counted(self: _gateway.Gateway, transports: Iterable[Transport]) -> None:
        listed = list(transports)
        if listed:
            found.append(len(listed))
        write(self, listed)

    monkeypatch.setattr(_gateway.Gateway, "_write", counted)
    return found


async def say(nodes: Nodes, client: Client, count: int) -> None:
    """Send messages that are on their way to the log one by one, all at once."""
    for number in range(count):
        await client.send(type="sendToGroup", group="g", data=number, ackId=10 + number)
        await eventually(lambda number=number: nodes.logs["a"].state.unread_entries == number + 1)


def test_what_entries_of_a_node_lead_to_leaves_together(writes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hold, "LONGEST", 100.0)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            await joined(ann)
            await ann.send(type="sendToGroup", group="g", data="alone", ackId=2)
            received = [await ann.receive() for _ in range(2)]
            assert [message["type"] for message in received] == ["message", "ack"], "what is alone waits for nothing"
            nodes.engine.stop()
            await say(nodes, ann, 5)
            writes.clear()
            nodes.engine.go_on()
            received = [await ann.receive() for _ in range(10)]
            assert [message["data"] for message in received if message["type"] == "message"] == list(range(5))
            assert writes == [1]
            await ann.leave()

    webhook.run(scenario())


def test_so_much_output_does_not_wait(writes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hold, "LONGEST", 100.0)
    monkeypatch.setattr(_cluster_gateway, "PORTION", 1)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            await joined(ann)
            nodes.engine.stop()
            await say(nodes, ann, 3)
            writes.clear()
            nodes.engine.go_on()
            for _ in range(6):
                await ann.receive()
            assert writes == [1, 1, 1]
            await ann.leave()

    webhook.run(scenario())


def test_output_does_not_wait_for_a_log_that_stands_still(writes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            await joined(ann)
            apply = _cluster_node.ClusterNode.apply

            def once(self: _cluster_node.ClusterNode, entries: list[Any]) -> None:
                apply(self, entries)
                nodes.engine.stop()

            nodes.engine.stop()
            await say(nodes, ann, 2)
            writes.clear()
            monkeypatch.setattr(_cluster_node.ClusterNode, "apply", once)
            nodes.engine.go_on()
            begun = time.monotonic()
            received = [await ann.receive() for _ in range(2)]
            assert {message["type"] for message in received} == {"message", "ack"}
            assert nodes.logs["a"].state.unread_entries == 1, "the other one was not read back"
            assert time.monotonic() - begun < 2.0
            monkeypatch.setattr(_cluster_node.ClusterNode, "apply", apply)
            nodes.engine.go_on()
            assert [(await ann.receive())["type"] for _ in range(2)] == ["message", "ack"]
            await ann.leave()

    webhook.run(scenario())


def test_what_waits_leaves_at_the_end_and_nothing_waits_from_then_on() -> None:
    async def scenario() -> None:
        written: list[str] = []
        hold = _hold.Hold(1000, lambda: written.append("all"))
        hold.add(1)
        assert hold.waits(1)
        hold.close()
        assert written == ["all"]
        hold.add(1)
        assert not hold.waits(1)
        await asyncio.sleep(0)
        assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_nothing_is_written_at_the_end_where_nothing_waits() -> None:
    written: list[str] = []
    hold = _hold.Hold(1000, lambda: written.append("all"))
    hold.add(1)
    hold.written()
    hold.close()
    assert written == []
