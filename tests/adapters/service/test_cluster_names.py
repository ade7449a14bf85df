"""A name belongs to one node of a cluster at a time; a node that was killed leaves it free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from tests.adapters.service import webhook
from tests.helpers.nodes import KEY, Nodes, eventually, names, open_client
from tests.helpers.waiting import LIMIT

from limpet.service import ClusterRefused, Service, ServiceOptions
from limpet.service._namesakes import QUIET, Namesakes
from limpet_core.service.cluster import silence
from limpet_core.service.cluster.members import Member


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[Service]:
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def test_the_second_node_of_a_name_is_refused_and_the_first_goes_on() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            with pytest.raises(ClusterRefused, match="the name a lives in the cluster already") as refused:
                await nodes.service("a").start()
            assert a._gateway.replica.node in str(refused.value)
            assert "--node NAME" in str(refused.value)
            assert names(b) == ["a", "b"]
            client, _ = await open_client(a)
            await client.leave()

    webhook.run(scenario())


def test_a_node_that_has_left_leaves_its_name() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("b") as (b,):
            for _ in range(2):
                async with nodes.up("a"):
                    await eventually(lambda: names(b) == ["b", "a"])

    webhook.run(scenario())


@pytest.mark.parametrize("others", [(), ("b",)])
def test_a_node_that_was_killed_comes_back_under_its_name(
    others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        monkeypatch.setattr(silence, "SILENCE", 10 * LIMIT)  # a slow machine is not to decide
        async with nodes.up("a", *others) as (killed, *_):
            nodes.logs["a"].cut()  # nothing is heard of it any more, as of one that was killed
            async with started(nodes.service("a")) as back:
                run = back._gateway.replica.node
                assert names(back) == ["a", *others, "a"]  # the others have not missed the one that was killed
                client, _ = await open_client(back)
                await client.leave()
                monkeypatch.undo()
                await eventually(lambda: names(back) == [*others, "a"])
                assert back._gateway.replica.node == run
                assert killed._gateway.replica.node != run

    webhook.run(scenario())


def test_a_name_is_given_back_to_a_node_that_only_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(silence, "SILENCE", 10 * LIMIT)  # the second must not miss it first, on a slow machine
        nodes = Nodes()
        async with nodes.up("a") as (still,):
            log = nodes.logs["a"]
            log.cut()
            async with started(nodes.service("a")) as second:
                client, _ = await open_client(second)
                log.mend()
                assert "the name a lives in the cluster already" in await asyncio.wait_for(second.expelled(), LIMIT)
                assert await client.close_code() == 1001
            await eventually(lambda: names(still) == ["a"])
            assert not still._gateway.replica.fenced

    webhook.run(scenario())


def test_of_two_nodes_of_a_name_that_start_at_once_one_is_refused() -> None:
    async def scenario() -> None:
        nodes = Nodes(ServiceOptions(access_key=KEY), append_delay=0.05)
        pair = [nodes.service("a"), nodes.service("a")]
        outcomes = await asyncio.gather(*(service.start() for service in pair), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ClusterRefused", "NoneType"]
        up = pair[outcomes.index(None)]
        await eventually(lambda: names(up) == ["a"])
        await up.stop()

    webhook.run(scenario())


@pytest.mark.parametrize(("quiet", "waits"), [(0.0, True), (QUIET - 0.1, True), (QUIET, False)])
def test_a_name_whose_node_was_killed_long_before_is_free_at_once(quiet: float, waits: bool) -> None:
    """The log tells how long nothing was heard of it; a node that starts need not listen for as long once more."""
    replica: Any = SimpleNamespace(
        node="new", core=SimpleNamespace(now=1000.0 + quiet), members=[Member("old", 7, 1000.0, 1, 1, "a")]
    )
    # By this machine's clock it has not listened yet, or only for as long as this takes.
    with patch("limpet.service._namesakes.monotonic", lambda: 5.0):
        assert (Namesakes(replica, "a").wait > 0) is waits
        assert Namesakes(replica, "b").wait == 0
