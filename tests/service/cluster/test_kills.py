"""Nodes and engines that are killed, stand still, are cut off or full, under clients that publish all the time.

Real processes and a real ``redis-server``. Each acknowledged message must be at each member exactly once and in the
order of its publisher; one that was not acknowledged at most once.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.service.cluster.kill import faults
from tests.service.cluster.kill.arena import Shape, arena
from tests.service.cluster.kill.verdict import Verdict
from tests.service.cluster.servers import Servers

SINGLE = Shape(replica=False)


def verdict_after(servers: Servers, shape: Shape, *scenario: faults.Fault) -> Verdict:
    async def run() -> Verdict:
        async with arena(servers, shape) as made:
            for number, fault in enumerate(scenario):
                await fault(made, random.Random(number))
            await made.until_all_have_got(10)
            return await made.settle()

    return asyncio.run(run())


def check(verdict: Verdict) -> None:
    assert verdict.faults == 0, verdict
    assert verdict.disconnects == 0, verdict
    assert verdict.acked > 40


@pytest.mark.parametrize("kind", ["ours", "aio", "js"])
def test_a_node_is_killed(servers: Servers, kind: str) -> None:
    check(verdict_after(servers, Shape(replica=False, members=(kind,) * (1 if kind == "js" else 3)), faults.kill_node))


def test_both_nodes_are_killed(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.kill_all_nodes))


def test_the_primary_is_killed_and_its_replica_promoted(servers: Servers) -> None:
    check(verdict_after(servers, Shape(nodes=3), faults.kill_primary, faults.kill_primary_that_is_ahead))


def test_a_node_stands_still_for_too_long(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.stop_node))


def test_the_engine_is_full_for_a_while(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.fill_engine))


def test_a_node_is_cut_off_from_the_engine(servers: Servers) -> None:
    check(verdict_after(servers, Shape(replica=False, proxied=True), faults.cut_off_node))


def test_an_engine_that_comes_back_empty_ends_all_connections(servers: Servers) -> None:
    verdict = verdict_after(servers, SINGLE, faults.empty_engine)
    assert verdict.faults == 0, verdict
    assert verdict.disconnects == 6


def test_without_the_counter_rule_the_same_check_fails(servers: Servers) -> None:
    async def run() -> Verdict:
        async with arena(servers, Shape(without_the_counter_rule=True)) as made:
            await faults.repeat_entries(made, random.Random(0))
            return await made.settle()

    verdict = asyncio.run(run())
    assert verdict.duplicates > 0
    assert verdict.faults > 0


def test_entries_that_are_twice_in_the_log_count_once(servers: Servers) -> None:
    check(verdict_after(servers, Shape(), faults.repeat_entries))
