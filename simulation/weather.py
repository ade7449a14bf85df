"""What kind of run it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from limpet import JSON, RELIABLE_JSON

CALM: Final = 45.0
"""When the faults stop, in seconds."""
SETTLED: Final = 160.0
"""That long after that everything is settled at the latest: 35 s of darkness, 30 s to recover, 4 x 20 s for a request,
5 s of backoff."""
AT_LEAST: Final = 12.0
"""That long it stays calm in any case: a client that hears nothing notices after 11 s."""


@dataclass(frozen=True)
class Weather:
    """What kind of run it is.

    Attributes:
        gentle: faults, but never so many that the recovery window is exceeded: nothing may be lost then.
        framed: transports carry bytes through a Link, and break at any of them; else they carry whole messages.
        connected_after_recovery: whether the service says anything by itself after a recovery.
        clients: how many clients there are.
        faults: the most transports of each client that break.
    """

    gentle: bool = True
    framed: bool = False
    protocol: str = RELIABLE_JSON
    resend: str = "safe"
    connected_after_recovery: bool = True
    clients: int = 3
    faults: int = 6


@dataclass(frozen=True)
class ClusterWeather(Weather):
    """What kind of run of a cluster it is.

    Attributes:
        nodes: how many nodes there are.
        forks: whether the engine forgets once what nodes have read.
        rollout: whether the nodes go over to the next release, one after the other.
        faulty: whether the logic of the service raises now and then, at all nodes alike.
    """

    clients: int = 2
    faults: int = 2
    nodes: int = 3
    forks: bool = False
    rollout: bool = False
    faulty: bool = False


KINDS: Final = {
    "calm": Weather(faults=0),
    "gentle": Weather(),
    "gentle-silent": Weather(connected_after_recovery=False),
    "gentle-framed": Weather(framed=True),
    "wild": Weather(gentle=False),
    "wild-silent": Weather(gentle=False, connected_after_recovery=False),
    "wild-framed": Weather(gentle=False, framed=True),
    "wild-plain": Weather(gentle=False, protocol=JSON),
    "wild-resend": Weather(gentle=False, resend="always"),
    "cluster-gentle": ClusterWeather(),
    "cluster-wild": ClusterWeather(gentle=False, faults=4),
    "cluster-fork": ClusterWeather(gentle=False, faults=1, nodes=2, forks=True),
    "cluster-rollout": ClusterWeather(rollout=True),
    "cluster-faulty": ClusterWeather(gentle=False, faults=1, nodes=2, faulty=True),
}
"""By name. Silent: the service says nothing after a recovery; plain: the subprotocol that cannot recover; cluster:
several nodes."""
