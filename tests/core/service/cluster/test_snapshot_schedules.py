"""Nodes that begin with a snapshot, in clusters that live by chance: they are as those that have read the whole log."""

from __future__ import annotations

import pytest
from tests.core.service.cluster.account import picture
from tests.core.service.cluster.schedule import Schedule

SEEDS = 30
STEPS = 60


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_node_that_begins_with_a_snapshot_goes_on_as_all_others(seed: int) -> None:
    schedule = Schedule(seed)
    cluster = schedule.cluster
    for step in range(STEPS):
        schedule.step()
        if step % 12 == 5:
            old, new = schedule.begin_node()
            assert picture(new.replica.shared) == picture(old.replica.shared)
            assert new.replica.snapshot() == old.replica.snapshot()
        if cluster.up:
            assert len(cluster.digests()) == 1
    schedule.end()
    pictures = [picture(node.replica.shared) for node in cluster.up]
    assert all(each == pictures[0] for each in pictures)
    assert len(cluster.digests()) == 1
