"""The metrics of a node of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from limpet.service.cluster.log import LogState
from limpet.service.cluster.view import ClusterView

_SOURCES: Final = ("replica", "primary", "nothing")


def cluster_metrics(view: ClusterView) -> Iterator[Metric]:
    """Yield what one node tells of its cluster."""
    yield _gauge("limpet_cluster_nodes", "Nodes of the cluster.", len(view.nodes))
    yield _gauge("limpet_cluster_takes_clients", "Whether this node takes clients.", view.refusal is None)
    yield _gauge(
        "limpet_cluster_behaviour", "Version of the service's behaviour that the nodes have agreed on.", view.behaviour
    )
    yield _counter("limpet_cluster_comparisons", "Comparisons of all nodes' states.", view.comparison)
    yield _gauge(
        "limpet_cluster_differing_nodes",
        "Nodes whose state differed from that of this node in the newest comparison: a fault of the service.",
        view.differing,
    )
    yield _counter(
        "limpet_cluster_failed_commands",
        "Commands that have failed, at all nodes alike: a fault of the service.",
        view.failures,
    )
    if view.log is not None:
        yield from _log_metrics(view.log)


def _log_metrics(log: LogState) -> Iterator[Metric]:
    yield _gauge(
        "limpet_cluster_lag_seconds",
        "Time from the append of an own entry until it was read back; of the oldest unread one if that is longer.",
        log.lag,
    )
    yield _gauge("limpet_cluster_unread_entries", "Own entries that were not read back yet.", log.unread_entries)
    yield _gauge("limpet_cluster_unread_bytes", "Their bytes.", log.unread_bytes)
    yield _gauge(
        "limpet_cluster_congested", "Whether so much is unread that messages of clients have to wait.", log.congested
    )
    reading = GaugeMetricFamily(
        "limpet_cluster_reading",
        "From which server of the engine the log is read: 1 for that one. From the primary is degraded.",
        labels=("source",),
    )
    for source in _SOURCES:
        reading.add_metric((source,), log.reading_from == source)
    yield reading
    yield _counter(
        "limpet_cluster_repeated_entries",
        "Entries that were appended once more since they did not come back.",
        log.repeated,
    )
    yield _counter("limpet_cluster_reconnects", "Connections to the engine that were made again.", log.reconnects)
    yield _gauge("limpet_cluster_problem", "Whether the node has a problem with the engine.", log.problem is not None)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
