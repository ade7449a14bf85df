"""The service behind a network that breaks: faults of the service, connection strings, the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from azure.messaging.webpubsubservice import WebPubSubServiceClient

import limpet
from limpet import Backoff, Connected, Disconnected, InvalidValue, LocalProtocolError, Options, Recovered
from limpet.service import Service
from limpet.sync import Client
from limpet.testing import BackgroundService, EventLog, VirtualService, trace
from limpet_core.service import JSON

QUICK = Options(recovery_interval=0.02, reconnect=Backoff(initial=0.01, maximum=0.05))


@pytest.fixture
def service() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


# ---- Faults of the service


def test_a_lost_ack_is_asked_for_again_and_the_request_is_not_executed_twice(service: BackgroundService) -> None:
    with Client(service.url("ann", groups=["g"]), QUICK) as client:
        messages = iter(client)
        service.lose_ack()
        assert client.send_to_group("g", "x").duplicate
        assert next(messages).data == "x"
        assert not client.send_to_group("g", "y").duplicate
        assert next(messages).data == "y"
    assert len(service.log.of(trace.ConnectionRecovered)) == 1


def test_only_the_ack_of_one_client_is_lost_also_past_the_network(service: BackgroundService) -> None:
    with Client(service.direct_url(), QUICK) as other, Client(service.direct_url(), QUICK) as client:
        service.lose_ack(client.connection_id)
        assert not other.send_to_group("g", "x").duplicate
        assert client.send_to_group("g", "y").duplicate


def test_a_lost_ack_that_no_request_came_for_is_taken_back(service: BackgroundService) -> None:
    with Client(service.url()) as client:
        service.lose_ack()
        service.heal()
        client.join_group("g")
        assert service.log.of(trace.ConnectionDropped) == []


def test_a_service_that_fails_while_it_runs_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    service = BackgroundService()
    service.start()
    stop = Service.stop
    with monkeypatch.context() as patched:

        async def stop_and_fail(service: Service) -> None:
            await stop(service)
            raise ZeroDivisionError

        patched.setattr(Service, "stop", stop_and_fail)
        with pytest.raises(RuntimeError, match="the service has failed: ZeroDivisionError") as caught:
            service.stop()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    service.stop()  # told once
    with service:
        assert service.connections == 0


def test_a_recovery_is_refused(service: BackgroundService) -> None:
    with Client(service.url("ann"), QUICK) as client:
        news = client.events(Recovered, Connected, Disconnected)
        first = client.connection_id
        assert first is not None
        service.drop(first, for_good=True)
        kinds = [next(news) for _ in range(2)]
        assert [type(event) for event in kinds] == [Disconnected, Connected]
        assert client.connection_id != first
        refused = service.log.wait(trace.RecoveryRefused)
        assert refused.connection_id == first
        assert not service.drop(first, for_good=True)


# ---- Who connects where


def test_the_official_server_sdk_works_by_way_of_the_network_and_past_it(service: BackgroundService) -> None:
    for connection_string in (service.connection_string, service.direct_connection_string):
        server = WebPubSubServiceClient.from_connection_string(connection_string, hub="news")
        url = server.get_client_access_token(user_id="ann", groups=["g"])["url"]
        with server, Client(url, QUICK) as client:
            server.send_to_group("g", {"n": 1})
            assert next(iter(client)).data == {"n": 1}
            assert service.cut() == (2 if connection_string == service.connection_string else 0)
    assert service.log.of(trace.ConnectionDropped)


def test_hubs_are_apart(service: BackgroundService) -> None:
    with (
        Client(service.url(hub="one", groups=["g"])) as one,
        Client(service.direct_url(hub="two", groups=["g"])) as two,
    ):
        service.publish("g", ["for one"], hub="one")
        service.publish("g", ["for two"], hub="two")
        assert (next(iter(one)).data, next(iter(two)).data) == ("for one", "for two")
        assert service.members("g", hub="one") == {one.connection_id}
        assert service.members("g") == set()


def test_what_json_can_not_hold_is_not_published(service: BackgroundService) -> None:
    with pytest.raises(InvalidValue, match="nan"):
        service.publish("g", [{"price": float("nan")}])


@pytest.mark.parametrize("kind", [BackgroundService, VirtualService])
@pytest.mark.parametrize("group", [None, "", " ", "g" * 1025], ids=["None", "empty", "blank", "long"])
def test_a_group_that_no_client_can_be_in_is_refused(
    kind: type[BackgroundService | VirtualService], group: Any
) -> None:
    with _running(kind) as service:
        with pytest.raises(LocalProtocolError, match="group must "):
            service.publish(group, ["x"])
        assert service.log.of(trace.Published) == []


@pytest.mark.parametrize("kind", [BackgroundService, VirtualService])
@pytest.mark.parametrize("message", ["abc", b"abc", {"a": 1}, 5, None], ids=repr)
def test_a_single_message_in_place_of_a_list_is_refused(
    kind: type[BackgroundService | VirtualService], message: Any
) -> None:
    with _running(kind) as service:
        with pytest.raises(TypeError, match=r"messages is a list of messages, not .*: publish\(group, \[message\]\)"):
            service.publish("g", message)
        assert service.log.of(trace.Published) == []
        service.publish("g", (text for text in ("any", "iterable")))
        assert [event.data for event in service.log.of(trace.Published)] == ['"any"', '"iterable"']


@contextmanager
def _running(kind: type[BackgroundService | VirtualService]) -> Generator[BackgroundService | VirtualService]:
    service = kind()
    if isinstance(service, VirtualService):
        yield service
    else:
        with service:
            yield service


def test_connection_strings_name_the_scheme_and_the_port(service: BackgroundService) -> None:
    assert service.connection_string.startswith("Endpoint=http://127.0.0.1:")
    assert service.connection_string != service.direct_connection_string
    assert service.connection_string.partition(";")[2] == service.direct_connection_string.partition(";")[2]


def test_over_tls_the_connection_string_says_https() -> None:
    authority = trustme.CA()
    server, client = (_context(authority, server) for server in (True, False))
    with BackgroundService(tls=server) as service:
        assert service.connection_string.startswith("Endpoint=https://127.0.0.1:")
        for url in (service.url(groups=["g"]), service.direct_url(groups=["g"])):
            assert url.startswith("wss://127.0.0.1:")
            with Client(url, QUICK, ssl=client) as one:
                service.publish("g", [1])
                assert next(iter(one)).data == 1


def _context(authority: trustme.CA, server: bool) -> object:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    if server:
        authority.issue_cert("127.0.0.1").configure_cert(context)
    else:
        authority.configure_trust(context)
    return context


# ---- The log


def opened(number: int) -> trace.ConnectionOpened:
    return trace.ConnectionOpened("chat", f"c{number}", None, JSON, ())


def test_a_log_lists_by_type_and_condition() -> None:
    log = EventLog()
    assert (len(log), list(log), str(log)) == (0, [], "  nothing")
    for event in (opened(1), trace.ShutDown(), opened(2)):
        log.note(event)
    assert log.of(trace.ConnectionOpened) == [opened(1), opened(2)]
    assert log.of(trace.ConnectionOpened, lambda event: event.connection_id == "c2") == [opened(2)]
    assert log.wait(trace.ConnectionOpened) == opened(1)
    assert log.wait(trace.ConnectionOpened, count=2) == opened(2)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        log.wait(trace.ConnectionOpened, count=0)
    log.clear()
    assert len(log) == 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (limpet.Acked, r"limpet\.Acked is an event of a client; the log has trace\.Acked"),
        (
            limpet.Recovered,
            r"limpet\.Recovered is an event of a client; the log has the types of limpet\.testing\.trace",
        ),
        ((trace.Joined, limpet.Invoked), r"the log has trace\.Invoked"),
        (str, "an event type of limpet.testing.trace is needed, not <class 'str'>"),
        ("Joined", "an event type of limpet.testing.trace is needed, not 'Joined'"),
        (None, "an event type of limpet.testing.trace is needed, not None"),
        ((), r"an event type of limpet\.testing\.trace is needed, not \(\)"),
        (type[trace.Joined], r"an event type of limpet\.testing\.trace is needed, not type\["),
        (list[trace.Joined], r"an event type of limpet\.testing\.trace is needed, not list\["),
    ],
)
def test_a_log_refuses_what_is_no_type_of_its_events(kind: Any, text: str) -> None:
    log = EventLog()  # is empty: an event of a wrong type is told before there are any
    with pytest.raises(TypeError, match=text):
        log.of(kind)
    with pytest.raises(TypeError, match=text):
        log.wait(kind, timeout=0.01)


def test_a_log_takes_a_union_a_tuple_and_a_base_of_its_types() -> None:
    log = EventLog()
    log.note(opened(1))
    kinds: list[Any] = [trace.TraceEvent, (trace.Joined, trace.ConnectionOpened), object]
    assert [log.of(kind) for kind in kinds] == [[opened(1)]] * 3


def test_a_wait_in_vain_names_each_type_of_a_union_or_tuple() -> None:
    kinds: list[Any] = [(trace.Joined, trace.Left), trace.Joined | trace.Left]
    for kind in kinds:
        with pytest.raises(TimeoutError, match=r"^0 of 1 Joined or Left within 0\.01 s"):
            EventLog().wait(kind, timeout=0.01)


def test_a_log_waits_for_what_another_thread_notes() -> None:
    log = EventLog()
    thread = threading.Timer(0.02, lambda: [log.note(opened(number)) for number in range(3)])
    thread.start()
    assert log.wait(trace.ConnectionOpened, lambda event: event.connection_id != "c0") == opened(1)
    thread.join()


def test_a_wait_in_vain_tells_what_was_seen() -> None:
    log = EventLog()
    for number in range(30):
        log.note(opened(number))
    begun = time.monotonic()
    with pytest.raises(TimeoutError) as late:
        log.wait(trace.Joined, timeout=0.02)
    assert time.monotonic() - begun < 10
    text = str(late.value)
    assert text.startswith("0 of 1 Joined within 0.02 s; the service saw\n  (10 older events)\n  ConnectionOpened(")
    assert "'c29'" in text
    assert "'c9'" not in text


def test_a_log_keeps_the_newest() -> None:
    log = EventLog()
    for number in range(10_001):
        log.note(opened(number))
    assert (len(log), next(iter(log))) == (10_000, opened(1))


def test_heal_ends_all_faults_of_the_network() -> None:
    with BackgroundService() as service:
        service.slow_down(0.5, segment=10)
        service.stall()
        service.refuse()
        service.cut_after(0)
        service.heal()
        assert service.call(lambda _, proxy: (proxy.delay, proxy.segment)) == (0.0, None)
        with Client(service.url("ann")) as client:
            client.join_group("g")
        assert service.cuts == 0
