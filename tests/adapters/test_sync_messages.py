"""Transports of messages that block, by `connect=` of the blocking client: the ends that nobody wishes for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from tests.adapters.test_sync_faults import refuse_threads
from tests.helpers.memory import MemoryConnector, Transport
from tests.helpers.waiting import LIMIT, until

from limpet import (
    ConnectError,
    Dial,
    Disconnected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    Options,
    Recovered,
    ServerMessage,
    State,
    Stopped,
)
from limpet.asyncio import Client as AsyncioClient
from limpet.connect import BlockingTransport, Close
from limpet.sync import Client
from limpet.sync._worker import Worker
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast

URL = "ws://service/client/hubs/chat?access_token=SECRET"


@pytest.fixture
def connector() -> Generator[MemoryConnector]:
    connector = MemoryConnector()
    yield connector
    connector.leave()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("limpet")])


def client_of(connector: MemoryConnector, *, url: Any = URL, connect: Any = None, **options: Any) -> Client:
    return Client(url, fast(close_timeout=0.1, **options), connect=connect or connector.connect)


# ---- As it should be


def test_a_life_over_a_transport_of_somebody_elses(connector: MemoryConnector) -> None:
    client = client_of(connector)
    with client:
        assert (client.connection_id, client.user_id) == ("c1", "ann")
        client.join_group("g")
        (transport,) = connector.transports
        for number in range(3):
            transport.say(
                {"type": "message", "from": "group", "group": "g", "dataType": "json", "data": number}
                | {"sequenceId": number + 1}
            )
        messages = iter(client)
        assert [next(messages).data for _ in range(3)] == [0, 1, 2]
        messages.close()
    assert client.state is State.STOPPED
    assert transport.closed == [1000]
    assert [sent["type"] for sent in transport.sent] == ["joinGroup", "sequenceAck"]
    assert connector.dials[0].url == URL


def test_it_may_be_started_again(connector: MemoryConnector) -> None:
    client = client_of(connector)
    for number in (1, 2):
        with client:
            assert client.connection_id == f"c{number}"
    assert [transport.closed for transport in connector.transports] == [[1000], [1000]]


def test_a_slow_consumer_is_not_read_for(connector: MemoryConnector) -> None:
    with client_of(connector, max_buffered_messages=4) as client:
        stream = client.events(GroupMessage)
        (transport,) = connector.transports
        for number in range(100):
            transport.say({"type": "message", "from": "group", "group": "g", "dataType": "json", "data": number})
        until(lambda: transport.received >= 5)
        time.sleep(0.05)
        assert transport.received < 10
        assert [stream.next(timeout=LIMIT).data for _ in range(100)] == list(range(100))
        stream.close()


def test_who_publishes_without_acks_goes_on_when_the_service_has_caught_up(connector: MemoryConnector) -> None:
    class Slow(Transport):
        def receive(self) -> Any:
            time.sleep(0.01)
            return super().receive()

    connector.kinds = [Slow]
    with client_of(connector) as client:
        for number in range(1000):
            client.send_to_group("g", number, ack=False, timeout=LIMIT)
    published = [sent["data"] for sent in connector.transports[0].sent if sent["type"] == "sendToGroup"]
    assert published == list(range(len(published)))
    assert len(published) > 700  # the rest was not yet sent when it stopped


def test_the_longest_of_patience_is_no_fault(connector: MemoryConnector) -> None:
    options = Options(connect_timeout=1e30, close_timeout=1e30, keepalive_interval=1e30, keepalive_timeout=1e30)
    with Client(URL, options, connect=connector.connect) as client:
        client.join_group("g")
    with BackgroundService() as service, Client(service.url(), options) as client:
        client.join_group("g")


# ---- What ends a transport


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ConnectionError("gone"), 1001),
        (SystemExit(), 1001),
        (Close(1011, "oops"), 1001),
        (None, 1001),
        (42, 1001),
    ],
    ids=repr,
)
def test_whatever_ends_receive_is_recovered_from(connector: MemoryConnector, end: object, code: int) -> None:
    with client_of(connector) as client:
        recovered = client.events(Recovered)
        connector.transports[0].say(end)
        recovered.next(timeout=LIMIT)
        recovered.close()
        assert client.connection_id == "c1"
        assert connector.dials[1].recovery
        until(lambda: connector.transports[0].closed == [code])


@pytest.mark.parametrize(("end", "code"), [(b"binary", 1003), (bytearray(b"binary"), 1003), (Close(1008), 1001)])
def test_what_ends_the_connection_leads_to_a_new_one(connector: MemoryConnector, end: object, code: int) -> None:
    with client_of(connector) as client:
        lost = client.events(Disconnected)
        connector.transports[0].say(end)
        if code == 1001:
            assert lost.next(timeout=LIMIT).code == 1008
            until(lambda: client.connection_id == "c2")
        lost.close()
        until(lambda: connector.transports[0].closed == [code])


def test_a_send_that_raises_is_recovered_from_and_repeated(connector: MemoryConnector) -> None:
    class Broken(Transport):
        def send(self, message: str | bytes) -> None:
            raise ConnectionError("gone")

    connector.kinds = [Broken]
    with client_of(connector) as client:
        client.join_group("g")
        assert connector.dials[1].recovery


def test_what_arrived_before_a_send_failed_is_received(connector: MemoryConnector) -> None:
    class Broken(Transport):
        def send(self, message: str | bytes) -> None:
            if "event" in str(message):
                self.say({"type": "message", "from": "server", "dataType": "json", "data": "last", "sequenceId": 1})
                self.say({"type": "system", "event": "disconnected", "message": "enough"})
                self.say(Close(1000))
            raise ConnectionError("gone")

    connector.kinds = [Broken]
    with client_of(connector) as client, client.events(ServerMessage, Disconnected) as events:
        client.send_event("hello", "x", ack=False)
        message, disconnected = events.next(timeout=LIMIT), events.next(timeout=LIMIT)
        assert isinstance(message, ServerMessage)
        assert message.data == "last"
        assert isinstance(disconnected, Disconnected)
        assert (disconnected.code, disconnected.reason) == (1000, "enough")


def test_a_close_that_raises_is_a_close(connector: MemoryConnector) -> None:
    class Broken(Transport):
        def close(self, code: int, reason: str) -> None:
            super().close(code, reason)
            raise OSError("gone already")

    connector.kinds = [Broken]
    with client_of(connector):
        pass
    assert connector.transports[0].closed == [1000]


def test_a_stop_before_the_clients_own_thread_has_begun_waits_for_the_close(
    connector: MemoryConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Transport):
        def close(self, code: int, reason: str) -> None:
            time.sleep(0.05)
            super().close(code, reason)

    begin, run = threading.Event(), Worker._run

    def late(worker: Worker) -> None:
        begin.wait(LIMIT)
        run(worker)

    monkeypatch.setattr(Worker, "_run", late)
    connector.kinds = [Slow]
    client = Client(URL, fast(close_timeout=LIMIT), connect=connector.connect)
    client.start()  # the thread that reads messages has told that it is connected
    stopping = threading.Thread(target=client.stop)
    stopping.start()
    until(lambda: len(client._driver.worker.mailbox))
    begin.set()
    stopping.join(LIMIT)
    assert connector.transports[0].closed == [1000]


class Refused(Exception):
    status = 403


@pytest.mark.parametrize(
    ("failure", "status"), [(Refused("you may not"), 403), (OSError("no way"), None), (SystemExit(1), None)], ids=repr
)
def test_a_connect_that_raises_is_told(connector: MemoryConnector, failure: BaseException, status: int | None) -> None:
    def connect(_: Dial) -> BlockingTransport:
        raise failure

    with pytest.raises(ConnectError, match=f"cannot connect to .*{failure}") as caught:
        client_of(connector, connect=connect).start()
    assert caught.value.status == status
    assert "SECRET" not in str(caught.value)


def test_a_provider_that_exits_has_no_url(connector: MemoryConnector) -> None:
    def provide() -> str:
        raise SystemExit("enough")

    with pytest.raises(ConnectError, match="no URL to connect to: enough"):
        client_of(connector, url=provide).start()


# ---- What hangs


class HangingSend(Transport):
    def send(self, message: str | bytes) -> None:
        self.hang()


class SendUntilClosed(Transport):
    """As it should be: to close ends what waits."""

    def __init__(self, dial: Dial, number: int, hang: Callable[[], None]) -> None:
        super().__init__(dial, number, hang)
        self._gone = threading.Event()

    def send(self, message: str | bytes) -> None:
        self._gone.wait()
        raise ConnectionError("closed")

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self._gone.set()


class HangingReceive(Transport):
    def receive(self) -> Any:
        return super().receive() if not self.received else self.hang()


class HangingClose(Transport):
    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.hang()


class NothingWorks(HangingSend, HangingClose, HangingReceive):
    pass


@pytest.mark.parametrize(
    "kind", [HangingSend, SendUntilClosed, HangingReceive, HangingClose, NothingWorks], ids=lambda kind: kind.__name__
)
def test_a_stop_does_not_wait_for_a_transport_that_hangs(connector: MemoryConnector, kind: type[Transport]) -> None:
    connector.kinds = [kind]
    client = client_of(connector)
    client.start()
    if kind is not HangingClose:
        with pytest.raises(TimeoutError):
            client.join_group("g", timeout=0.05)
    stopped: list[Stopped] = []
    client.on(Stopped, stopped.append)
    client.stop()
    assert client.state is State.STOPPED
    until(lambda: stopped == [Stopped(None)])
    until(lambda: connector.transports[0].closed == ([1000] if kind in (HangingReceive, HangingClose) else [1001]))
    with client:  # it can do without the threads that are left
        client.join_group("g")


def test_who_can_not_send_is_not_in_the_way_of_time(connector: MemoryConnector) -> None:
    connector.kinds = [SendUntilClosed]
    with client_of(connector, keepalive_interval=0.05, keepalive_timeout=0.15) as client:
        recovered = client.events(Recovered)
        recovered.next(timeout=LIMIT)  # silence was noticed, the old transport closed, a new one opened
        recovered.close()
        until(lambda: connector.transports[0].closed == [1001])


@pytest.mark.parametrize("end", ["stop", "timeout"])
def test_what_opens_when_nobody_wants_it_any_more_is_closed_at_once(connector: MemoryConnector, end: str) -> None:
    asked = threading.Event()

    def connect(dial: Dial) -> BlockingTransport:
        asked.set()
        connector.hang()
        return connector.connect(dial)

    client = client_of(connector, connect=connect, connect_timeout=0.05 if end == "timeout" else 3600.0)
    outcome: list[Exception] = []

    def start() -> None:
        while not asked.is_set():  # on a busy machine the time may be over before anything was opened
            try:
                client.start()
            except Exception as error:  # noqa: BLE001 - looked at below
                outcome[:] = [error]

    starting = threading.Thread(target=start)
    starting.start()
    assert asked.wait(LIMIT)
    if end == "stop":
        client.stop()
    starting.join(LIMIT)
    assert [type(error).__name__ for error in outcome] == ["ClientStopped" if end == "stop" else "ConnectError"]
    assert not connector.transports
    connector.leave()
    until(lambda: connector.transports and connector.transports[0].closed == [1000])
    assert not connector.transports[0].received


# ---- No threads


def test_without_a_thread_to_write_there_is_no_transport(
    connector: MemoryConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_threads(patch, "limpet-write", 1)
        with pytest.raises(ConnectError, match="can't start new thread"):
            client_of(connector).start()
    until(lambda: connector.transports[0].closed == [1000])
    with client_of(connector) as client:
        client.join_group("g")


def test_without_a_thread_to_close_it_is_closed_when_its_own_is_free(
    connector: MemoryConnector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connector.kinds = [HangingSend]
    with client_of(connector) as client:
        with pytest.raises(TimeoutError):
            client.join_group("g", timeout=0.05)
        refuse_threads(monkeypatch, "limpet-close", 1)
    assert client.state is State.STOPPED
    assert "can't start new thread" in caplog.text
    assert not connector.transports[0].closed
    connector.leave()
    until(lambda: connector.transports[0].closed == [1001])


# ---- What cannot be meant


def test_what_is_no_blocking_connect_is_refused(connector: MemoryConnector) -> None:
    async def connect(_: Dial) -> Any: ...

    wrong: Any = connect
    with pytest.raises(InvalidType, match=r"connect must be a plain function.*not an async function"):
        Client(URL, connect=wrong)
    with pytest.raises(InvalidType, match=r"connect must be a plain function.*not str"):
        Client(URL, connect="websockets")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="ssl and proxy"):
        Client(URL, connect=connector.connect, proxy="http://proxy")
    with pytest.raises(ConnectError, match="connect is async; this client needs a plain function"):
        client_of(connector, connect=lambda dial: connect(dial)).start()


def test_what_is_no_blocking_transport_is_refused(connector: MemoryConnector) -> None:
    class Async(Transport):
        async def send(self, message: str | bytes) -> None: ...  # type: ignore[override]

    connector.kinds = [Async]
    with pytest.raises(ConnectError, match="must return a BlockingTransport, not Async: its send is async"):
        client_of(connector).start()
    with pytest.raises(ConnectError, match="not NoneType: it has no method send"):
        client_of(connector, connect=lambda _: None).start()


def test_an_async_client_says_that_it_needs_an_async_connect(connector: MemoryConnector) -> None:
    import asyncio

    async def scenario() -> None:
        wrong: Any = connector.connect
        with pytest.raises(ConnectError, match=r"connect must be an async function, .*; it returned Transport at once"):
            await AsyncioClient(URL, fast(), connect=wrong).start()

    asyncio.run(scenario())


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_a_text_is_told_by_its_type(connector: MemoryConnector) -> None:
    def connect(_: Dial) -> BlockingTransport:
        raise Speechless

    with pytest.raises(ConnectError, match="Speechless"), client_of(connector, connect=connect, connect_timeout=LIMIT):
        raise AssertionError("connected")
