"""The metrics of clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from time import monotonic
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Meter

from limpet import (
    ClientInfo,
    Connected,
    ConnectionFailed,
    Disconnected,
    LifecycleEvent,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    Stopped,
)
from limpet.opentelemetry._attributes import Attributes, of_error, of_operation, of_server

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bounds of buckets that the conventions ask for."""

_MOST_MISSED = 2**32
"""The most messages that one gap counts for: a sum above 64 bits, from ids that the service makes up, would break the
export of all metrics of the process."""

_SENT = frozenset({"send_to_group", "send_event", "invoke"})


class _Connection:
    """What is remembered of the connection of one client.

    Attributes:
        lost: whether a connection was lost for good, and there is no new one yet.
        recovering_since: when the transport was lost, in seconds; None: no recovery is under way.
    """

    def __init__(self) -> None:
        self.lost = False
        self.recovering_since: float | None = None


class Metrics:
    """Records what clients do.

    Args:
        meter: makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._connections: WeakKeyDictionary[ClientInfo, _Connection] = WeakKeyDictionary()
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages that were handed to the service."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Messages that have arrived, each once."
        )
        self._operations = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Time from a call of the client to its answer.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time that callbacks take for a message.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._pending = meter.create_up_down_counter(
            "limpet.client.requests.pending", "{request}", "Requests that wait for their answer."
        )
        self._recoveries = meter.create_counter(
            "limpet.client.recoveries", "{recovery}", "Connections that were recovered, with all their messages."
        )
        self._recovery_time = meter.create_histogram(
            "limpet.client.recovery.duration",
            "s",
            "Time from the loss of a transport to the recovery of the connection.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._reconnects = meter.create_counter(
            "limpet.client.reconnects", "{connection}", "New connections in place of lost ones."
        )
        self._failed = meter.create_counter(
            "limpet.client.attempts.failed", "{attempt}", "Attempts to connect, reconnect or recover that have failed."
        )
        self._missed = meter.create_counter(
            "limpet.client.messages.missed", "{message}", "Messages that are known not to have been delivered."
        )
        self._rejoins_failed = meter.create_counter(
            "limpet.client.rejoins.failed", "{group}", "Groups that could not be joined again on a new connection."
        )

    def began(self, client: ClientInfo) -> Attributes:
        """Record that a request waits for its answer; return the attributes for :meth:`ended`."""
        server = of_server(client)
        self._pending.add(1, server)
        return server

    def ended(
        self,
        client: ClientInfo,
        began: Attributes,
        operation: str,
        target: Attributes,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """Record the end of a request; ``began`` is what :meth:`began` has returned for it."""
        self._pending.add(-1, began)  # the server may be known since, or be another one
        attributes = of_operation(operation) | target | of_server(client) | of_error(error)
        self._operations.record(seconds, attributes)
        if operation in _SENT and attributes.get("limpet.outcome", "") != "unsent":
            self._sent.add(1, attributes)

    def consumed(self, client: ClientInfo, destinations: Iterable[tuple[tuple[str, str | int], ...]]) -> None:
        """Record messages, by the attributes of their destinations."""
        common = of_operation("receive", "receive") | of_server(client)
        for destination, count in Counter(destinations).items():
            self._consumed.add(count, common | dict(destination))

    def processed(
        self, client: ClientInfo | None, destination: Attributes, error: BaseException | None, seconds: float
    ) -> None:
        """Record the end of a callback for a message."""
        attributes = of_operation("process", "process") | destination | of_server(client) | of_error(error)
        self._processing.record(seconds, attributes)

    def lifecycle(self, client: ClientInfo, event: LifecycleEvent) -> None:
        """Record what has happened to a connection."""
        server = of_server(client)
        connection = self._connections.setdefault(client, _Connection())
        match event:
            case Recovering():
                connection.recovering_since = monotonic()
            case ConnectionFailed():
                self._failed.add(1, server | of_error(event.error))
            case Recovered():
                self._recoveries.add(1, server)
                if connection.recovering_since is not None:
                    self._recovery_time.record(monotonic() - connection.recovering_since, server)
            case Disconnected():
                connection.lost = True
            case Connected():
                if connection.lost:
                    self._reconnects.add(1, server)
                connection.lost = False
            case MessagesMissed():
                self._missed.add(min(event.last - event.first + 1, _MOST_MISSED), server)
            case RejoinGroupFailed():
                self._rejoins_failed.add(1, server | of_error(event.error))
            case Stopped():
                del self._connections[client]
