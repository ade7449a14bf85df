"""Clusters in virtual time: nodes and their engine fail, and clients lose nothing, or are told.

What :mod:`tests.simulation.test_simulation` does with all kinds of runs it does with those of clusters, too.
"""

from __future__ import annotations

import itertools
import re

import pytest
from simulation.cluster_world import ClusterWorld
from simulation.search import Violation, run, shrink
from tests.helpers.faulty_cluster import HARMLESS, PARTS, SHOWN_BY
from tests.helpers.shown import SHOWN, first_violation

FAILURES = ("cluster-gentle", "cluster-wild", "cluster-fork")
KINDS = (*FAILURES, "cluster-rollout", "cluster-faulty")

SEEDS = range(150)
"""Where a fault is looked for; the rarest shows in one run of thirty."""


def test_the_seed_alone_decides_what_happens_in_a_run() -> None:
    assert run("cluster-wild", 5).clock.trace == run("cluster-wild", 5).clock.trace


def test_the_faults_do_happen() -> None:
    """The runs are worth something: in some of them everything that can go wrong has gone wrong."""
    signs = [
        "fault: kill,",
        "fault: kill all,",
        "fault: still,",
        "fault: leave,",
        "fault: cut,",
        "fault: lag,",
        "fault: answer lost,",
        "fault: engine slow,",
        "fault: failover,",
        "fault: snapshot,",
        "the engine fails over",
        "ends: killed",
        "it was silent for too long",
        "it has left",
        "has lost entries",
        "starts behind entry 0",
        "starts behind entry [1-9]",
        "Recovered\\(",
        "MessagesMissed\\(",
        "sent again",
        "duplicate=True",
        "code=1008",
        "code=1011",
        "of the next release starts behind entry [1-9]",
        "behaviour 2 is active",
        "ends: the log needs version 2",
        "cannot be carried out",
        "StreamClosed\\(",
        "GroupStatesChanged\\(",
        "reply=Reply\\(",
        "kind='note'",
        "the application server closes",
        "The reliable message buffer is full",
    ]
    reads = again = 0
    for seed, kind in itertools.product(range(30), KINDS):
        world = run(kind, seed)
        assert isinstance(world, ClusterWorld)
        text = "\n".join(world.clock.trace)
        signs = [sign for sign in signs if not re.search(sign, text)]
        reads += world.rest.reads
        again += world.service.called_again
        if not signs and reads and again:
            break
    assert signs == [], "not seen"
    assert reads, "the application server reads at other nodes than it writes"
    assert again, "a node takes the calls of a dead one over"


@pytest.mark.parametrize("fault", PARTS)
def test_the_oracles_notice_a_faulty_cluster(fault: str) -> None:
    assert found(fault) is not None


def found(fault: str) -> Violation | None:
    kinds = SHOWN_BY.get(fault, FAILURES)
    return first_violation(kinds, SEEDS, shown=SHOWN.get(fault), parts=PARTS[fault])


@pytest.mark.parametrize("fault", HARMLESS)
def test_a_rule_makes_up_for_a_fault(fault: str) -> None:
    for seed in range(10):
        for kind in KINDS:
            run(kind, seed, parts=HARMLESS[fault])


def test_a_violation_is_reduced_to_few_events_and_replays() -> None:
    large = found("tells nobody of a fork")
    assert large is not None
    small = shrink(large, tries=60)
    assert len(small.world.clock.schedule) < len(large.world.clock.schedule)
    with pytest.raises(Violation, match="--replay") as again:
        run(small.kind, small.seed, without=small.world.clock.without, **small.world.variant)
    assert again.value.story() == small.story()
