"""A node whose settings are not those of its cluster: who is right is not decided by the first one to speak."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.adapters.service import webhook
from tests.helpers.nodes import Nodes, eventually, joined, names, open_client
from tests.helpers.waiting import LIMIT

from limpet.service import ClusterRefused, ServiceOptions
from limpet.service.cluster import LogEntry, LogError, LogId
from limpet_core.service.cluster import members, silence

OTHER = ServiceOptions(access_key="o" * 32)


def ahead(nodes: Nodes) -> None:
    """Set the clock of the engine forward."""
    clock: Callable[[], int] = nodes.engine.clock
    nodes.engine.clock = lambda: clock() + int(2000 * members.ABANDONED)


def test_a_clock_that_jumps_gives_the_cluster_to_nobody() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            client, _ = await open_client(a)
            ahead(nodes)
            with pytest.raises(ClusterRefused, match="are not those of the cluster"):
                await nodes.service("b", OTHER).start()
            await joined(client)
            await client.leave()

    webhook.run(scenario())


def test_a_node_that_reaches_the_engine_later_than_another_one_is_heard() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.logs["a"].cut()
            ahead(nodes)
            starts = asyncio.create_task(nodes.service("b", OTHER).start())
            await asyncio.sleep(1.2)
            nodes.logs["a"].mend()
            with pytest.raises(ClusterRefused, match="are not those of the cluster"):
                await starts
            client, _ = await open_client(a)
            await joined(client)
            await client.leave()

    webhook.run(scenario())


def test_nodes_that_were_killed_are_waited_for_and_then_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (members, silence):
        monkeypatch.setattr(module, "ABANDONED", 1.5)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.logs["a"].cut()
            async with nodes.service("b", OTHER) as b:
                assert "waits whether one still lives" in caplog.text
                client, _ = await open_client(b)
                await joined(client)
                nodes.logs["a"].mend()
                assert "other settings" in await asyncio.wait_for(a.expelled(), LIMIT)
                await eventually(lambda: b.core.connection_count == 1)
                await client.leave()

    caplog.set_level(logging.WARNING, "limpet.service.cluster")
    webhook.run(scenario())


def test_a_start_that_waits_ends_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that reads no more must not speak: the cluster would begin anew for nobody."""
    monkeypatch.setattr(silence, "ABANDONED", 1.5)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a"):
            nodes.logs["a"].cut()
            starts = asyncio.create_task(nodes.service("b", OTHER).start())
            await asyncio.sleep(0.3)

            def broken(_: LogId) -> list[LogEntry]:
                raise LogError("nothing is read any more")

            monkeypatch.setattr(nodes.logs["b"], "_page", broken)
            nodes.logs["b"].wake()
            before = len(nodes.engine.entries)
            with pytest.raises(ClusterRefused, match="nothing is read"):
                await starts
            assert len(nodes.engine.entries) == before
            nodes.logs["a"].mend()

    webhook.run(scenario())


def test_a_start_that_waits_can_be_given_up_and_needs_no_wait_once_the_others_have_left() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a"):
            nodes.logs["a"].cut()
            starts = asyncio.create_task(nodes.service("b", OTHER).start())
            await asyncio.sleep(0.5)
            assert not starts.done()
            starts.cancel()
            await asyncio.wait((starts,))
            assert starts.cancelled()
            nodes.logs["a"].mend()
        async with nodes.service("b", OTHER) as b:
            assert names(b) == ["b"]

    webhook.run(scenario())
