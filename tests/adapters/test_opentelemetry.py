"""limpet.opentelemetry with each kind of client, read back by the exporters in memory of the official SDK."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanKind, StatusCode
from tests.helpers.driving import Drive

from limpet import (
    ClientInfo,
    Connected,
    GroupMessage,
    Instrument,
    InvocationError,
    MessagesMissed,
    OutgoingRequest,
    Recovered,
    SendError,
    Session,
)
from limpet.opentelemetry import OpenTelemetry
from limpet.testing.contract import Adapter, run_check
from limpet.testing.contract.builtin import builtin
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP, Steps

ADAPTERS = [adapter for adapter in builtin() if "uvloop" not in adapter.name]

each_client = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)

SECRET = "hunter2"


class Telemetry:
    """An instrument with exporters in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = tracers.get_tracer("tests")
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader])
        self.instrument = OpenTelemetry(tracer_provider=tracers, meter_provider=meters, **options)

    def spans(self, operation: str) -> list[ReadableSpan]:
        """The ended spans of an operation, in the order of their ends."""
        found = self.exporter.get_finished_spans()
        return [span for span in found if (span.attributes or {}).get("messaging.operation.name") == operation]

    def points(self, metric: str) -> list[tuple[dict[str, Any], float]]:
        """The attributes, without those of the server, and the value or the count of each point of a metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        found = []
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for each in scope.metrics:
                    for point in each.data.data_points if each.name == metric else ():
                        attributes = dict(point.attributes or {})
                        assert attributes.pop("server.address", "127.0.0.1") == "127.0.0.1"
                        attributes.pop("server.port", None)
                        found.append((attributes, point.count if hasattr(point, "count") else point.value))
        return found

    def servers(self, metric: str) -> dict[str | None, float]:
        """The value of each point of a metric, by the address of its server."""
        data = self.reader.get_metrics_data()
        assert data is not None
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for each in scope.metrics
            for point in (each.data.data_points if each.name == metric else ())
        ]
        return {(point.attributes or {}).get("server.address"): point.value for point in points}  # type: ignore[union-attr]

    def total(self, metric: str) -> float:
        """The sum of a metric over all attributes."""
        return sum(value for _, value in self.points(metric))

    def all_text(self) -> str:
        """All that was reported, as text."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        data = self.reader.get_metrics_data()
        return spans + (data.to_json() if data is not None else "")


@pytest.fixture(autouse=True)
def no_errors_of_the_sdk(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):  # type: ignore[arg-type]
            assert not (record.name.startswith("opentelemetry") and record.levelno >= logging.WARNING)


@each_client
def test_a_trace_goes_from_publisher_to_subscriber_through_a_cut(adapter: Adapter) -> None:
    async def check(harness: Harness) -> None:
        publishes, subscribes = Telemetry(), Telemetry()
        within: list[tuple[int, Any]] = []

        def waiting(message: GroupMessage) -> Steps:
            yield "sleep", 0.001
            within.append((trace.get_current_span().get_span_context().span_id, baggage.get_baggage("user")))

        client = harness.client(instrument=publishes.instrument)
        member = harness.client(instrument=subscribes.instrument)
        member.on_steps(GroupMessage, waiting)
        recovered = Log(member, Recovered)
        async with client, member:
            await member.join()
            harness.service.cut()
            token = context.attach(baggage.set_baggage("user", "ann"))
            with publishes.tracer.start_as_current_span("order") as outer:
                await client.send("one")
                await client.send("two", ack=False)
            context.detach(token)  # type: ignore[arg-type]
            await recovered.wait(Recovered)
            await soon(lambda: len(subscribes.spans("process")) == 2)
        sent = publishes.spans("send_to_group")
        assert [span.kind for span in sent] == [SpanKind.PRODUCER] * 2
        assert [span.parent and span.parent.span_id for span in sent] == [outer.get_span_context().span_id] * 2
        assert [span.attributes["messaging.message.body.size"] for span in sent if span.attributes] == [3, 3]
        heard = subscribes.spans("process")
        assert [span.kind for span in heard] == [SpanKind.CONSUMER] * 2
        assert [span.parent for span in heard] == [None, None]
        links = [link.context.span_id for span in heard for link in span.links]
        assert links == [span.context.span_id for span in sent]
        assert within == [(span.context.span_id, "ann") for span in heard]
        assert trace.get_current_span().get_span_context() == INVALID_SPAN_CONTEXT

    run_check(check, adapter)


@each_client
def test_requests_are_spans_and_metrics_with_their_outcome(adapter: Adapter) -> None:
    async def check(harness: Harness) -> None:
        telemetry = Telemetry()
        harness.service.answer("add", lambda request: request.data + 1)
        async with harness.client(instrument=telemetry.instrument) as client:
            await client.join()
            await client.call("invoke", "add", 1)
            with raises(InvocationError):
                await client.call("invoke", "other", SECRET)
            with raises(SendError):
                await client.call("send_event", "other", SECRET)
            assert telemetry.total("limpet.client.requests.pending") == 0
        join, add, other, event = (
            telemetry.spans(name)[at]
            for name, at in (("join_group", 0), ("invoke", 0), ("invoke", 1), ("send_event", 0))
        )
        assert [span.name for span in (join, add, other, event)] == [
            "join_group",
            "invoke add",
            "invoke other",
            "send_event other",
        ]
        assert [span.kind for span in (join, add, event)] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.PRODUCER]
        assert join.attributes is not None
        assert other.attributes is not None
        port = join.attributes["server.port"]
        assert dict(join.attributes) == {
            "messaging.system": "webpubsub",
            "messaging.operation.name": "join_group",
            "messaging.destination.name": GROUP,
            "server.address": "127.0.0.1",
            "server.port": port,
        }
        assert join.status.status_code is StatusCode.UNSET
        assert other.status.status_code is event.status.status_code is StatusCode.ERROR
        assert other.attributes["error.type"] == "NotFound"
        assert other.attributes["limpet.outcome"] == "rejected"
        assert ({"messaging.system": "webpubsub", "messaging.operation.name": "join_group"}, 1) in telemetry.points(
            "messaging.client.operation.duration"
        )
        assert telemetry.total("messaging.client.operation.duration") == 4
        assert telemetry.total("messaging.client.sent.messages") == 3
        assert SECRET not in telemetry.all_text()
        assert "access_token" not in telemetry.all_text()

    run_check(check, adapter)


@each_client
def test_messages_recoveries_and_reconnects_are_counted(adapter: Adapter) -> None:
    async def check(harness: Harness) -> None:
        telemetry = Telemetry(groups=lambda group: group)
        client = harness.client(instrument=telemetry.instrument)
        log = Log(client, GroupMessage, Recovered, Connected)
        async with client:
            await client.join()
            harness.service.publish(GROUP, range(5))
            await soon(lambda: len(log.of(GroupMessage)) == 5)
            harness.service.cut()
            await log.wait(Recovered)
            first = client.connection_id
            assert first is not None
            harness.service.end(first)
            await log.wait(Connected, 2)
        received = {
            "messaging.system": "webpubsub",
            "messaging.operation.name": "receive",
            "messaging.operation.type": "receive",
            "messaging.destination.name": GROUP,
        }
        assert telemetry.points("messaging.client.consumed.messages") == [(received, 5)]
        processed = received | {"messaging.operation.name": "process", "messaging.operation.type": "process"}
        assert telemetry.points("messaging.process.duration") == [(processed, 5)]
        assert [span.name for span in telemetry.spans("process")] == [f"process {GROUP}"] * 5
        assert telemetry.total("limpet.client.recoveries") >= 1
        assert telemetry.total("limpet.client.recovery.duration") >= 1
        assert telemetry.total("limpet.client.reconnects") == 1

    run_check(check, adapter)


def with_asyncio(check: Callable[[Harness], Any]) -> None:
    run_check(check, ADAPTERS[0])


def test_groups_are_left_out_of_metrics_or_summed_up() -> None:
    async def check(harness: Harness) -> None:
        bare, summed = (
            Telemetry(),
            Telemetry(groups=lambda group: "orders-{id}" if group.startswith("orders") else None),
        )
        for telemetry in (bare, summed):
            async with harness.client(instrument=telemetry.instrument) as client:
                for group in ("orders-1", "orders-2", "other"):
                    await client.send(1, group)
        shown = [attributes for attributes, _ in bare.points("messaging.client.sent.messages")]
        assert [{key for key in each if "destination" in key} for each in shown] == [set()]
        templates = [
            (attributes.get("messaging.destination.template"), count)
            for attributes, count in summed.points("messaging.client.sent.messages")
        ]
        assert sorted(templates, key=str) == [("orders-{id}", 2), (None, 1)]
        assert [span.name for span in summed.spans("send_to_group")] == [
            "send_to_group orders-{id}",
            "send_to_group orders-{id}",
            "send_to_group",
        ]
        names = [
            span.attributes["messaging.destination.name"] for span in bare.spans("send_to_group") if span.attributes
        ]
        assert names == ["orders-1", "orders-2", "other"], "spans have the names themselves"

    with_asyncio(check)


def test_subscribers_join_the_trace_of_the_publisher_if_told_to_and_read_none_if_told_not_to() -> None:
    async def check(harness: Harness) -> None:
        publisher, parent, deaf = Telemetry(), Telemetry(parent=True), Telemetry(accept_context=False)
        members = [harness.client(instrument=each.instrument) for each in (parent, deaf)]
        for member in members:
            member.on(GroupMessage, lambda message: None)
        async with harness.client(instrument=publisher.instrument) as client, members[0], members[1]:
            for member in members:
                await member.join()
            await client.send(1)
            await soon(lambda: parent.spans("process") and deaf.spans("process"))
        sent, child, alone = publisher.spans("send_to_group")[0], parent.spans("process")[0], deaf.spans("process")[0]
        assert child.parent is not None
        assert (child.parent.span_id, child.context.trace_id) == (sent.context.span_id, sent.context.trace_id)
        assert alone.parent is None
        assert not alone.links

    with_asyncio(check)


def test_nothing_is_written_into_messages_if_told_so() -> None:
    async def check(harness: Harness) -> None:
        telemetry = Telemetry(send_context=False)
        client = harness.client(instrument=telemetry.instrument)
        log = Log(client, GroupMessage)
        async with client:
            await client.join()
            await client.send(1)
            await log.wait(GroupMessage)
        assert log.events[0].metadata is None

    with_asyncio(check)


def test_a_message_that_is_iterated_over_has_a_span_around_the_work() -> None:
    telemetry = Telemetry()
    sent = telemetry.tracer.start_span("sent")
    carrier = {"traceparent": f"00-{sent.get_span_context().trace_id:032x}-{sent.get_span_context().span_id:016x}-01"}
    message = GroupMessage(group="g", data=SECRET, metadata=carrier)
    with telemetry.instrument.process(message) as span:
        assert trace.get_current_span() is span
    assert trace.get_current_span().get_span_context() == INVALID_SPAN_CONTEXT
    with pytest.raises(ZeroDivisionError), telemetry.instrument.process(GroupMessage(group="g", data=1)):
        raise ZeroDivisionError(SECRET)
    linked, failed = telemetry.spans("process")
    assert [link.context.span_id for link in linked.links] == [sent.get_span_context().span_id]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ZeroDivisionError"
    assert [count for _, count in telemetry.points("messaging.process.duration")] == [1, 1]
    assert SECRET not in telemetry.all_text()


@pytest.mark.parametrize(
    "metadata",
    [
        {"traceparent": ""},
        {"traceparent": "00-0-0-0"},
        {"traceparent": "x" * 1000},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"baggage": "no baggage"},
        {"baggage": "=" + "x" * 9000},
        {"baggage": "a=\n"},
    ],
    ids=str,
)
def test_a_broken_context_of_a_peer_is_none_and_is_not_in_the_log(metadata: dict[str, str]) -> None:
    telemetry = Telemetry(parent=True)
    with telemetry.instrument.process(GroupMessage(group="g", data=1, metadata=metadata)):
        assert not baggage.get_all()
    (span,) = telemetry.spans("process")
    assert span.parent is None
    assert not span.links


def test_a_broken_state_of_a_trace_is_left_out_and_is_not_in_the_log() -> None:
    telemetry = Telemetry(parent=True)
    metadata = {"traceparent": f"00-{7:032x}-{9:016x}-01", "tracestate": "a=1,a=2,=,b=3"}
    with telemetry.instrument.process(GroupMessage(group="g", data=1, metadata=metadata)):
        pass
    (span,) = telemetry.spans("process")
    assert span.parent is not None
    assert span.parent.span_id == 9


def test_errors_that_a_peer_names_are_no_values_of_attributes() -> None:
    telemetry = Telemetry()
    client = ClientInfo(Session(random=random.random))
    for name in ("Forbidden", "a name of the peer's", "Timeout"):
        observation = telemetry.instrument.request(client, OutgoingRequest("send_to_group", "g", "x"))
        observation.ended(SendError(1, name, SECRET, "unsent"), 0.1)
    kinds = [span.attributes["error.type"] for span in telemetry.spans("send_to_group") if span.attributes]
    assert kinds == ["Forbidden", "_OTHER", "Timeout"]
    assert telemetry.total("messaging.client.sent.messages") == 0, "they were never sent"
    assert SECRET not in telemetry.all_text()


def test_a_request_that_waits_is_counted_out_where_it_was_counted_in() -> None:
    """The server is not known before the first URL, and may be another one later."""
    telemetry = Telemetry()
    drive = Drive()
    client = ClientInfo(drive.session)
    before = telemetry.instrument.request(client, OutgoingRequest("send_to_group", "g", "x"))
    drive.connect()
    assert client.server_address is not None
    before.ended(None, 0.1)
    assert telemetry.servers("limpet.client.requests.pending") == {None: 0}


def test_a_gap_that_the_service_makes_up_does_not_break_the_export() -> None:
    """The protocols of exporters have 64 bits for a sum."""
    telemetry = Telemetry()
    client = ClientInfo(Session(random=random.random))
    for _ in range(100):
        telemetry.instrument.lifecycle(client, MessagesMissed(1, 2**64 - 1))
    assert 0 < telemetry.total("limpet.client.messages.missed") < 2**63


def test_without_an_sdk_the_context_of_the_surroundings_goes_along() -> None:
    """The API alone makes spans that record nothing."""
    around = trace.SpanContext(7, 9, False, trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(around)))
    request = OutgoingRequest("send_to_group", "g", "x")
    observation = OpenTelemetry().request(ClientInfo(Session(random=random.random)), request)
    observation.ended(None, 0.1)
    context.detach(token)
    assert request.metadata["traceparent"] == f"00-{7:032x}-{9:016x}-01"


def test_the_class_has_no_other_public_names_than_these() -> None:
    own = {name for name in vars(OpenTelemetry) if not name.startswith("_")}
    assert own == {"process", *(name for name in vars(Instrument) if not name.startswith("_"))}
