"""The instrument that reports to OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.propagators.textmap import Setter, TextMapPropagator
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, TracerProvider

from limpet import (
    ClientInfo,
    GroupMessage,
    Instrument,
    LifecycleEvent,
    Observation,
    OutgoingRequest,
    ServerMessage,
    __version__,
)
from limpet.opentelemetry._attributes import (
    Attributes,
    Groups,
    of_destination,
    of_error,
    of_operation,
    of_server,
    of_target,
    span_name,
)
from limpet.opentelemetry._metrics import Metrics

_SCOPE = "limpet"


class _Setter(Setter[dict[str, str]]):
    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[key] = value


_SETTER = _Setter()

# These warn of each context that is malformed and quote it: any publisher could fill the log of all subscribers. The
# application may use them, too: only the metadata of messages is read in silence.
_LOUD = (
    "opentelemetry.trace.propagation.tracecontext",
    "opentelemetry.trace.span",
    "opentelemetry.baggage.propagation",
)
_reading: ContextVar[bool] = ContextVar("limpet.opentelemetry", default=False)


def _is_of_others(record: logging.LogRecord) -> bool:
    return not _reading.get()


for _name in _LOUD:
    logging.getLogger(_name).addFilter(_is_of_others)


class OpenTelemetry(Instrument):
    """Reports clients to OpenTelemetry: ``Client(url, instrument=OpenTelemetry())``. One is enough for many clients.

    Each request is a span, ``PRODUCER`` for messages and events, else ``CLIENT``; each call of a callback with a
    message is a span of the kind ``CONSUMER``. Messages carry the context of their trace in their metadata
    (``traceparent`` and what else the propagator writes). For ``async for`` see :meth:`process`.

    Args:
        tracer_provider: makes the tracer; None: the global one.
        meter_provider: makes the meter; None: the global one.
        propagator: writes and reads the context; None: the global one, by default W3C trace context and baggage.
        groups: returns what stands for the name of a group in metrics and in the names of spans, where many different
            ones cost much: ``lambda group: "orders-{id}"``, or ``lambda group: group`` if there are few groups. None,
            or a result of None: nothing stands for it. In the attributes of spans the name itself is always.
        parent: make the publisher's span the parent of the subscribers' spans, which are then part of its trace. False:
            each begins a trace of its own with a link to it, as the conventions want it, since a message may have
            thousands of subscribers.
        send_context: write the context into the metadata of messages.
        accept_context: read it from the metadata of messages, which any publisher can write: turn it off where these
            are not to be trusted.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        groups: Groups | None = None,
        parent: bool = False,
        send_context: bool = True,
        accept_context: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self._metrics = Metrics(metrics.get_meter(_SCOPE, __version__, meter_provider))
        self._propagator = propagator
        self._groups = groups
        self._parent = parent
        self._send_context = send_context
        self._accept_context = accept_context

    # ---- For the application

    @contextmanager
    def process(self, message: GroupMessage | ServerMessage) -> Generator[Span]:
        """Make a span of the work on a message that was iterated over: ``with telemetry.process(message):``.

        The span is linked as those of callbacks are, and is current within the block; its time is recorded as theirs.
        """
        began = perf_counter()
        processing = self._processing(None, message)
        try:
            with processing.within():
                yield processing.span
        except BaseException as error:
            processing.ended(error, perf_counter() - began)
            raise
        processing.ended(None, perf_counter() - began)

    # ---- For the client

    def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation:
        """Begin a span, and write its context into the metadata of the request."""
        operation = request.operation
        target = of_target(operation, request.target, self._groups)
        attributes = of_operation(operation) | of_server(client) | {"messaging.destination.name": request.target}
        published = operation in ("send_to_group", "send_event")
        kind = SpanKind.PRODUCER if published else SpanKind.CLIENT
        span = self._tracer.start_span(span_name(operation, target), kind=kind, attributes=attributes)
        if span.is_recording() and (size := request.size) is not None:
            span.set_attribute("messaging.message.body.size", size)
        if self._send_context and request.takes_metadata:
            carrier: dict[str, str] = {}
            # Without an SDK there may be no span; what is around the call goes along then.
            context = trace.set_span_in_context(span) if span.get_span_context().is_valid else None
            (self._propagator or propagate.get_global_textmap()).inject(carrier, context, _SETTER)
            request.add_metadata(carrier)
        return _Requesting(self._metrics, client, operation, target, span)

    def messages(self, client: ClientInfo, messages: Sequence[GroupMessage | ServerMessage]) -> None:
        """Count messages."""
        self._metrics.consumed(client, [tuple(self._destination(message).items()) for message in messages])

    def callback(
        self, client: ClientInfo, message: GroupMessage | ServerMessage, callback: Callable[[Any], object]
    ) -> Observation:
        """Begin a span."""
        return self._processing(client, message)

    def lifecycle(self, client: ClientInfo, event: LifecycleEvent) -> None:
        """Count what happens to connections."""
        self._metrics.lifecycle(client, event)

    # ---- Inside

    def _destination(self, message: GroupMessage | ServerMessage) -> Attributes:
        """Return the attributes of a message's group for metrics."""
        return of_destination(message.group if isinstance(message, GroupMessage) else None, self._groups)

    def _processing(self, client: ClientInfo | None, message: GroupMessage | ServerMessage) -> _Processing:
        """Begin a span for a message, in a context with the publisher's baggage."""
        destination = self._destination(message)
        sent = self._received(message.metadata) if self._accept_context else Context()
        publisher = trace.get_current_span(sent).get_span_context()
        attributes = of_operation("process", "process") | of_server(client)
        if isinstance(message, GroupMessage):
            attributes["messaging.destination.name"] = message.group
        span = self._tracer.start_span(
            span_name("process", destination),
            sent if self._parent else trace.set_span_in_context(INVALID_SPAN, sent),
            SpanKind.CONSUMER,
            attributes,
            [Link(publisher)] if publisher.is_valid else (),
        )
        return _Processing(self._metrics, client, destination, span, trace.set_span_in_context(span, sent))

    def _received(self, metadata: Mapping[str, str] | None) -> Context:
        if not metadata:
            return Context()
        reading = _reading.set(True)
        try:
            return (self._propagator or propagate.get_global_textmap()).extract(metadata, Context())
        finally:
            _reading.reset(reading)


class _Requesting(Observation):
    def __init__(self, metrics: Metrics, client: ClientInfo, operation: str, target: Attributes, span: Span) -> None:
        self._metrics = metrics
        self._client = client
        self._operation = operation
        self._target = target
        self._span = span
        self._began = metrics.began(client)

    def ended(self, error: BaseException | None, seconds: float) -> None:
        self._span.set_attributes(of_server(self._client))  # now it is known for certain
        _end(self._span, error)
        self._metrics.ended(self._client, self._began, self._operation, self._target, error, seconds)


class _Processing(Observation):
    def __init__(
        self,
        metrics: Metrics,
        client: ClientInfo | None,
        destination: Attributes,
        span: Span,
        context: Context,
    ) -> None:
        self.span: Span = span
        self._metrics = metrics
        self._client = client
        self._destination = destination
        self._context = context

    @contextmanager
    def _current(self) -> Generator[None]:
        token = contexts.attach(self._context)
        try:
            yield
        finally:
            contexts.detach(token)

    def within(self) -> AbstractContextManager[object]:
        return self._current()

    def ended(self, error: BaseException | None, seconds: float) -> None:
        _end(self.span, error)
        self._metrics.processed(self._client, self._destination, error, seconds)


def _end(span: Span, error: BaseException | None) -> None:
    """End a span. What an exception says is not written: its text may hold what was in a message."""
    if error is not None:
        span.set_attributes(of_error(error))
        span.set_status(Status(StatusCode.ERROR))
    span.end()
