"""/metrics: what it counts, in the format of Prometheus, and who may read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.adapters.service.sockets import ROLES, Client, with_service
from tests.adapters.service.webhook import ask, open_client, run, running, webhook
from tests.core.service.virtual import ServiceUnderTest

from limpet.service import Service, ServiceOptions
from limpet.service._metrics import _BOUNDS, HandlerTimes, ServiceMetrics
from limpet.sync import Client as SyncClient
from limpet.testing import BackgroundService


class Values:
    """The samples of a page."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._samples = [sample for family in families for sample in family.samples]
        self.names = {sample.name for sample in self._samples}

    def __call__(self, name: str, **labels: str) -> float | None:
        found = [sample.value for sample in self._samples if sample.name == name and sample.labels == labels]
        return found[0] if found else None


async def read(service: Service, **headers: str) -> Values:
    async with httpx.AsyncClient(base_url=service.endpoint, headers=headers) as http:
        answer = await http.get("/metrics")
        assert answer.status_code == 200, answer.text
        return Values(parse(answer.text))


def core_values(metrics: ServiceMetrics) -> Values:
    return Values(parse(metrics.page("")[0].decode()))


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "text/plain;version=,;=;q", "\xff;\x7f"])
def test_any_accept_header_is_answered(accept: str) -> None:
    """The library compares versions as numbers, whatever they are."""
    content, media_type = ServiceMetrics(ServiceUnderTest().core).page(accept)
    assert b"limpet_hubs 0.0" in content
    assert media_type.startswith("text/plain")


def test_connections_groups_and_messages_are_counted_from_the_first_request_on() -> None:
    async def scenario(service: Service) -> None:
        before = await Client.open(service.client_url("chat", user_id="zoe", roles=ROLES))
        await before.receive()
        empty = await read(service)
        assert empty("limpet_connections", hub="chat", state="attached") == 1
        assert empty("limpet_connections_opened_total") == 0
        client = await Client.open(service.client_url("chat", user_id="ann", roles=ROLES))
        await client.receive()
        await client.send(type="joinGroup", group="g", ackId=1)
        await client.receive()
        await client.send(type="sendToGroup", group="g", data="hello", dataType="text", ackId=2)
        await client.receive()
        await client.receive()
        await client.send(type="unheardOf", ackId=3)
        await client.receive()
        values = await read(service)
        assert values("limpet_connections", hub="chat", state="attached") == 2
        assert values("limpet_connections", hub="chat", state="recoverable") == 0
        assert values("limpet_connections_opened_total") == 1
        assert values("limpet_hubs") == 1
        assert values("limpet_groups", hub="chat") == 1
        assert values("limpet_users", hub="chat") == 2
        assert values("limpet_messages_received_total", source="client", kind="group") == 1
        assert values("limpet_received_bytes_total", source="client", kind="group") == len('"hello"')
        assert values("limpet_messages_sent_total") == 1
        assert values("limpet_sent_bytes_total") == len('"hello"')
        assert values("limpet_requests_total", outcome="acked") == 2
        assert values("limpet_requests_total", outcome="refused") == 1
        assert values("limpet_unacknowledged_messages", hub="chat") == 1
        await client.leave()
        while (values := await read(service))("limpet_connections_closed_total", code="1000") is None:
            pass
        assert values("limpet_connections", hub="chat", state="attached") == 1
        await before.leave()

    with_service(scenario)


def test_both_formats_can_be_read() -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            plain = await http.get("/metrics")
            accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"
            open_metrics = await http.get("/metrics", headers={"Accept": accept})
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert plain.headers["cache-control"] == "no-store"
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert Values(parse(plain.text)).names == Values(parse_open(open_metrics.text)).names

    with_service(scenario)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_option_of_the_trace_page_is_that_of_the_metrics(enabled: bool) -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            for headers in ({}, {"X-Forwarded-For": "203.0.113.9"}):
                assert (await http.get("/metrics", headers=headers)).status_code == (200 if enabled else 403)

    with_service(scenario, ServiceOptions(trace=enabled))


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_other_sites_in_the_same_browser_get_nothing(site: str, status: int) -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            assert (await http.get("/metrics", headers={"Sec-Fetch-Site": site})).status_code == status

    with_service(scenario)


def test_a_refused_request_begins_no_counting() -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            before = len(service.core.observers)  # the memory of the trace page
            await http.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
            assert len(service.core.observers) == before
            await http.get("/metrics")
            await http.get("/metrics")
            assert len(service.core.observers) == before + 1

    with_service(scenario)


@pytest.mark.parametrize("when", ["from the start", "after a reload"])
def test_calls_of_event_handlers_are_counted_by_outcome_with_their_time(when: str) -> None:
    async def scenario() -> None:
        async with (
            webhook() as hook,
            running(hook.options() if when == "from the start" else ServiceOptions()) as service,
        ):

            async def fails(request: Request) -> Response:
                return PlainTextResponse("no", 400)

            hook.answers = {"bad": fails}
            await read(service)
            service.reload(hook.options())
            client = await open_client(service)
            await ask(client)
            await ask(client, "bad")
            values = await read(service)
            answered = values("limpet_event_handler_seconds_count", outcome="2xx")
            assert answered is not None
            assert answered >= 1
            assert values("limpet_event_handler_seconds_count", outcome="4xx") == 1
            assert values("limpet_event_handler_seconds_bucket", outcome="2xx", le="+Inf") == answered
            assert (values("limpet_event_handler_seconds_sum", outcome="2xx") or 0.0) > 0
            received = values("limpet_messages_received_total", source="client", kind="event")
            assert received == 2
            await client.leave()

    run(scenario())


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.0051, 3.0, 10.0, 11.0])
def test_a_call_counts_in_each_bucket_whose_bound_it_does_not_exceed(seconds: float) -> None:
    times = HandlerTimes()
    times.add(seconds)
    cumulated = dict(times.cumulated())
    assert [cumulated[str(bound)] for bound in _BOUNDS] == [seconds <= bound for bound in _BOUNDS]
    assert cumulated["+Inf"] == 1


def test_recoveries_streams_and_invocations_are_counted() -> None:
    with BackgroundService() as service:
        endpoint = service.call(lambda running, proxy: running.endpoint)
        http = httpx.Client(base_url=endpoint)
        values = Values(parse(http.get("/metrics").text))
        service.answer("add", lambda request: request.data + 1)
        with SyncClient(service.url()) as client:
            client.join_group("g")
            service.cut()
            client.send_to_group("g", "x")
            client.invoke("add", 1)
            with client.open_stream("g") as stream:
                stream.write("one")
                stream.write("two")
                values = Values(parse(http.get("/metrics").text))
                assert values("limpet_streams_open", hub="chat") == 1
        values = Values(parse(http.get("/metrics").text))
        http.close()
    assert values("limpet_transports_lost_total") == 1
    assert values("limpet_recoveries_total") == 1
    assert values("limpet_invocations_total", outcome="answered") == 1
    assert values("limpet_messages_received_total", source="client", kind="invocation") == 1
    assert values("limpet_messages_received_total", source="client", kind="stream") == 2
    assert values("limpet_streams_started_total") == 1
    assert values("limpet_streams_ended_total", outcome="ended") == 1


def test_clients_that_are_too_slow_are_counted() -> None:
    service = ServiceUnderTest(retained_messages=2)
    metrics = ServiceMetrics(service.core)
    client = service.connect(groups=("room",))
    for number in range(4):
        client.publish(number)
    values = core_values(metrics)
    assert values("limpet_slow_consumers_total") == 1
    assert values("limpet_connections_closed_total", code="1008") == 1


def test_names_that_clients_choose_are_no_labels_and_hubs_beyond_a_hundred_share_one() -> None:
    service = ServiceUnderTest()
    metrics = ServiceMetrics(service.core)
    for number in range(103):
        service.connect(user="secretuser", groups=("secretgroup",), hub=f"hub{number}")
    page = metrics.page("")[0].decode()
    values = Values(parse(page))
    assert values("limpet_hubs") == 103
    assert values("limpet_connections", hub="(others)", state="attached") == 3
    assert page.count('limpet_groups{hub="') == 101
    assert "secret" not in page
