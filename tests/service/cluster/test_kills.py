"""Nodes and engines that are killed, stand still, are cut off or full, under clients that publish all the time.

Real processes and a real ``redis-server``. Each acknowledged message must be at each member exactly once and in the
order of its publisher; one that was not acknowledged at most once.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.conftest import PROFILE
from tests.service.cluster.kill import faults
from tests.service.cluster.kill.arena import Shape, arena
from tests.service.cluster.kill.verdict import Verdict, judge
from tests.service.cluster.servers import Servers

pytestmark = pytest.mark.timeout(400)  # what does not come to pass says so itself, with the logs of the nodes

SINGLE = Shape(replica=False)
ROUNDS = 5 if PROFILE == "long" else 1
"""How often each scenario is gone through; `python -m tests.soak.cluster` takes minutes, and any of them by chance."""


def verdict_after(servers: Servers, shape: Shape, *scenario: faults.Fault) -> Verdict:
    async def run() -> Verdict:
        async with arena(servers, shape) as made:
            for number, fault in enumerate(scenario * ROUNDS):
                await fault(made, random.Random(number))
            await made.until_all_have_got(10)
            return await made.settle()

    return asyncio.run(run())


def check(verdict: Verdict) -> None:
    assert verdict.faults == 0, verdict
    assert verdict.disconnects == 0, verdict
    assert verdict.acked > 40


@pytest.mark.parametrize("members", [("ours", "ours", "aio"), ("js",)], ids=" ".join)
def test_a_node_is_killed(servers: Servers, members: tuple[str, ...]) -> None:
    check(verdict_after(servers, Shape(replica=False, members=members), faults.kill_node))


def test_both_nodes_are_killed(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.kill_all_nodes))


def test_entries_are_repeated_and_the_primary_killed_and_its_replica_promoted(servers: Servers) -> None:
    scenario = (faults.repeat_entries, faults.kill_primary, faults.kill_primary_that_is_ahead)
    check(verdict_after(servers, Shape(nodes=3), *scenario))


def test_a_node_stands_still_for_too_long(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.stop_node))


def test_the_engine_is_full_for_a_while(servers: Servers) -> None:
    check(verdict_after(servers, SINGLE, faults.fill_engine))


def test_a_node_is_cut_off_from_the_engine(servers: Servers) -> None:
    check(verdict_after(servers, Shape(replica=False, proxied=True), faults.cut_off_node))


def test_an_engine_that_comes_back_empty_ends_all_connections(servers: Servers) -> None:
    verdict = verdict_after(servers, SINGLE, faults.empty_engine)
    assert verdict.faults == 0, verdict
    assert verdict.disconnects == 6 * ROUNDS


def test_without_the_counter_rule_the_same_check_fails(servers: Servers) -> None:
    async def run() -> Verdict:
        async with arena(servers, Shape(without_the_counter_rule=True)) as made:
            for _ in range(5):  # on a slow machine nodes may read the first copies before they write the second ones
                await faults.repeat_entries(made, random.Random(0))
                if judge(made.sent, [member.got for member in made.members]).duplicates:
                    break
            return await made.settle()

    verdict = asyncio.run(run())
    assert verdict.duplicates > 0
    assert verdict.faults > 0
