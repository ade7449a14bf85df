"""Metrics of the service in the format of Prometheus: ``/metrics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import time

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from limpet.service._cluster_metrics import cluster_metrics
from limpet.service.cluster.view import ClusterView
from limpet_core.service import (
    Acked,
    ConnectionClosed,
    ConnectionDropped,
    ConnectionOpened,
    ConnectionRecovered,
    EventRaised,
    HandshakeRefused,
    Hub,
    InvocationAnswered,
    InvocationCancelled,
    InvocationFailed,
    Invoked,
    Published,
    RecoveryRefused,
    Refused,
    ServiceCore,
    StreamEnded,
    StreamRefused,
    StreamStarted,
    TraceEvent,
)
from limpet_core.service.closes import TOO_SLOW, UNACKNOWLEDGED

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The bounds of the buckets for calls of event handlers, in seconds."""

_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013})
"""Close codes that have a value of their own: a client can choose among thousands."""

_MAX_HUBS = 100
"""Hubs that have values of their own; all others share one."""

_OTHERS = "(others)"
"""The name of these others, which no hub can have."""

_COUNTERS = {
    "limpet_connections_opened": ("New connections.", ()),
    "limpet_connections_closed": ("Connections that are over, by close code.", ("code",)),
    "limpet_slow_consumers": ("Connections that were closed because too much waited for them.", ()),
    "limpet_transports_lost": ("Transports of reliable connections that were lost.", ()),
    "limpet_recoveries": ("Recovered connections.", ()),
    "limpet_recoveries_refused": ("Recoveries that were refused.", ()),
    "limpet_messages_replayed": ("Messages that were sent again after a recovery.", ()),
    "limpet_handshakes_refused": ("Clients that were answered with an HTTP error, by its status.", ("status",)),
    "limpet_messages_received": ("Messages of clients and application servers.", ("source", "kind")),
    "limpet_received_bytes": ("Bytes of the payloads of received messages, as JSON.", ("source", "kind")),
    "limpet_messages_sent": ("Messages to connections, one for each receiver.", ()),
    "limpet_sent_bytes": ("Bytes of the payloads of these messages, as JSON.", ()),
    "limpet_requests": ("Requests of clients that were answered, by outcome.", ("outcome",)),
    "limpet_streams_started": ("Streams that were started.", ()),
    "limpet_streams_ended": ("Streams that are over, by outcome.", ("outcome",)),
    "limpet_invocations": ("Invocations that are over, by outcome.", ("outcome",)),
}


class HandlerTimes:
    """The distribution of the durations of calls of event handlers with one outcome."""

    def __init__(self) -> None:
        self.buckets: list[int] = [0] * (len(_BOUNDS) + 1)
        self.sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Add a call."""
        self.buckets[sum(seconds > bound for bound in _BOUNDS)] += 1
        self.sum += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        """Return the calls that took no longer than each bound."""
        total = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.buckets, strict=True):
            total += count
            found.append((bound, total))
        return found


class ServiceMetrics(Collector):
    """Counts the events of a service from now on, and looks at its state for each answer.

    Names of users, groups and events are left out: clients choose them, and each would be kept for ever.

    Args:
        core: the service.
        cluster: returns what is known of its cluster; ``None``: it is alone.
    """

    def __init__(self, core: ServiceCore, cluster: Callable[[], ClusterView | None] = lambda: None) -> None:
        self._core = core
        self._cluster = cluster
        self._since = time()
        self._counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self._handler_times: dict[str, HandlerTimes] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        core.observers.append(self._note)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that a client prefers (its Accept header)."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # versions that are no numbers, which the library compares
            encode, media_type = choose_encoder("")
        return encode(self._registry), media_type

    # ---- Events

    def handler_called(self, outcome: str, seconds: float) -> None:
        """Count an attempt to call an event handler."""
        if outcome not in self._handler_times:
            self._handler_times[outcome] = HandlerTimes()
        self._handler_times[outcome].add(seconds)

    def _add(self, name: str, *labels: str, by: int = 1) -> None:
        self._counts[name, labels] += by

    def _received(self, source: str, kind: str, size: int) -> None:
        self._add("limpet_messages_received", source, kind)
        self._add("limpet_received_bytes", source, kind, by=size)

    def _note(self, event: TraceEvent) -> None:
        match event:
            case Published():
                source = "server" if event.connection_id is None else "client"
                self._received(source, event.to if event.stream_id is None else "stream", event.size)
                self._add("limpet_messages_sent", by=event.receivers)
                self._add("limpet_sent_bytes", by=event.receivers * event.size)
            case EventRaised():
                self._received("client", "event", event.size)
            case Invoked():
                self._received("client", "invocation", event.size)
            case Acked():
                self._add("limpet_requests", "acked")
            case Refused():
                self._add("limpet_requests", "refused")
            case StreamRefused():
                self._add("limpet_requests", "stream refused")
            case _:
                self._note_rare(event)

    def _note_rare(self, event: TraceEvent) -> None:
        match event:
            case ConnectionOpened():
                self._add("limpet_connections_opened")
            case ConnectionClosed():
                self._add("limpet_connections_closed", str(event.code) if event.code in _CLOSE_CODES else "other")
                if event.code == TOO_SLOW.code and event.reason in (TOO_SLOW.reason, UNACKNOWLEDGED.reason):
                    self._add("limpet_slow_consumers")
            case ConnectionDropped():
                self._add("limpet_transports_lost")
            case ConnectionRecovered():
                self._add("limpet_recoveries")
                self._add("limpet_messages_replayed", by=event.replayed)
            case RecoveryRefused():
                self._add("limpet_recoveries_refused")
            case HandshakeRefused():
                self._add("limpet_handshakes_refused", str(event.status))
            case InvocationAnswered():
                self._add("limpet_invocations", "answered")
            case InvocationFailed():
                self._add("limpet_invocations", "failed")
            case InvocationCancelled():
                self._add("limpet_invocations", "cancelled")
            case StreamStarted():
                self._add("limpet_streams_started")
            case StreamEnded():
                self._add("limpet_streams_ended", "ended" if event.error is None else "failed")
            case _:
                pass

    # ---- The page

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; for the library."""
        yield GaugeMetricFamily(
            "limpet_metrics_since_seconds", "When counting began, in seconds since 1970.", value=self._since
        )
        for name, (text, labels) in _COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=labels)
            for (counted, values), count in self._counts.items():
                if counted == name:
                    family.add_metric(values, count)
            if not labels and not family.samples:
                family.add_metric((), 0)
            yield family
        times = HistogramMetricFamily(
            "limpet_event_handler_seconds",
            "Time that event handlers took to answer, by outcome: the class of the HTTP status, or why there is none.",
            labels=("outcome",),
        )
        for outcome, distribution in self._handler_times.items():
            times.add_metric((outcome,), distribution.cumulated(), distribution.sum)
        yield times
        yield GaugeMetricFamily(
            "limpet_hubs", "Hubs, which exist as long as they have connections.", len(self._core.hubs)
        )
        cluster = self._cluster()
        yield from self._gauges(in_cluster=cluster is not None)
        if cluster is not None:
            yield from cluster_metrics(cluster)

    def _gauges(self, *, in_cluster: bool) -> Iterable[Metric]:
        families = {
            name: GaugeMetricFamily(name, text, labels=labels)
            for name, text, labels in (
                (
                    "limpet_connections",
                    "Connections, with a transport here, elsewhere in the cluster, or waiting for recovery.",
                    ("hub", "state"),
                ),
                ("limpet_groups", "Groups that have members.", ("hub",)),
                ("limpet_users", "Users that have connections.", ("hub",)),
                ("limpet_unacknowledged_messages", "Messages that are kept until clients acknowledge them.", ("hub",)),
                ("limpet_streams_open", "Streams that clients write.", ("hub",)),
                ("limpet_invocations_running", "Invocations that wait for their reply.", ("hub",)),
            )
        }
        totals: Counter[tuple[str, tuple[str, ...]]] = Counter()
        hubs = iter(self._core.hubs)
        for hub in islice(hubs, _MAX_HUBS):
            totals.update(_numbers(hub, hub.name, in_cluster))
        for hub in hubs:
            totals.update(_numbers(hub, _OTHERS, in_cluster))
        for (name, labels), number in totals.items():
            families[name].add_metric(labels, number)
        return families.values()


def _numbers(hub: Hub, name: str, in_cluster: bool) -> dict[tuple[str, tuple[str, ...]], int]:
    """Return the numbers of a hub, under a name."""
    connections = hub.connections.values()
    here = sum(connection.transport is not None for connection in connections)
    attached = sum(connection.attachment is not None for connection in connections) if in_cluster else here
    elsewhere = {("limpet_connections", (name, "elsewhere")): attached - here} if in_cluster else {}
    return elsewhere | {
        ("limpet_connections", (name, "attached")): here,
        ("limpet_connections", (name, "recoverable")): len(connections) - attached,
        ("limpet_groups", (name,)): len(hub.groups),
        ("limpet_users", (name,)): len(hub.users),
        ("limpet_unacknowledged_messages", (name,)): sum(connection.retained for connection in connections),
        ("limpet_streams_open", (name,)): sum(len(connection.streams) for connection in connections),
        ("limpet_invocations_running", (name,)): sum(len(connection.invocations) for connection in connections),
    }
