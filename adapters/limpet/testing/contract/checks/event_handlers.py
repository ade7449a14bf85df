"""Events to the application server: its handler sees each of them once, and what it says arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import msgspec

from limpet import Ack, GroupMessage, Recovered, SendError, ServerMessage, State
from limpet.service import EventHandler, HubOptions, ServiceOptions
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.service import BackgroundService

Answer = tuple[int, str, bytes]
"""Status, content type, body."""

_NOTHING: Answer = (204, "", b"")


class Call(msgspec.Struct, frozen=True):
    """One event as its handler sees it."""

    event: str
    user_id: str | None
    data_type: str
    data: bytes


class EventServer:
    """An application server: keeps the events it gets, and says what ``answer`` says to them."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self.calls: list[Call] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 20.0

            def do_OPTIONS(self) -> None:
                """Return whether events from that service are welcome."""
                self.send_response(200)
                self.send_header("WebHook-Allowed-Origin", "*")
                self.end_headers()

            def do_POST(self) -> None:
                """An event."""
                data = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.headers["ce-eventName"], self.headers["ce-userId"], self.headers["Content-Type"], data)
                server.calls.append(call)
                status, content_type, body = answer(call)
                self.send_response(status)
                if content_type:
                    self.send_header("Content-Type", content_type)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads that."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False  # each is waited for at the end
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, name="limpet-handlers", daemon=True
        )

    def options(self) -> ServiceOptions:
        """Of a service that calls this one."""
        url = f"http://127.0.0.1:{self._http.server_address[1]}/{{event}}"
        handler = EventHandler(url=url, system_events=(), retry_delays=())
        return ServiceOptions(hubs={"chat": HubOptions(event_handlers=(handler,))})

    @contextmanager
    def running(self) -> Generator[None]:
        """Answer within the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()


@contextmanager
def handled(harness: Harness, answer: Callable[[Call], Answer]) -> Generator[tuple[BackgroundService, EventServer]]:
    """A service whose events are answered."""
    server = EventServer(answer)
    with server.running(), harness.another(server.options()) as service:
        yield service, server


@check()
async def an_event_is_acknowledged_when_its_handler_has_answered(harness: Harness) -> None:
    def answer(call: Call) -> Answer:
        if call.event == "text":
            return 200, "text/plain", "grün".encode()
        if call.event == "json":
            return 200, "application/json", b'{"id":[1,null]}'
        if call.event == "binary":
            return 200, "application/octet-stream", b"\x00\xff"
        return _NOTHING

    sent: tuple[tuple[str, Any, bytes, str], ...] = (
        ("nothing", "x", b"x", "text/plain"),
        ("text", "grün", "grün".encode(), "text/plain"),
        ("json", {"id": 7}, b'{"id":7}', "application/json"),
        ("binary", b"\x00\x01", b"\x00\x01", "application/octet-stream"),
    )
    with handled(harness, answer) as (service, server):
        async with harness.client(service.url("ann")) as client:
            log = Log(client, ServerMessage)
            for number, (event, data, _, _) in enumerate(sent):
                assert isinstance(await client.call("send_event", event, data), Ack)
                # The handler's answer comes before the ack.
                assert len(server.calls) == number + 1
            await log.wait(ServerMessage, 3)
            assert [(message.data, message.data_type) for message in log.events] == [
                ("grün", "text"),
                ({"id": [1, None]}, "json"),
                (b"\x00\xff", "binary"),
            ]
            assert [message.sequence_id for message in log.events] == [1, 2, 3]
    for call, (event, _, data, content_type) in zip(server.calls, sent, strict=True):
        assert (call.event, call.user_id, call.data) == (event, "ann", data)
        assert call.data_type.startswith(content_type)


@check()
async def an_event_its_handler_fails_is_unknown_and_asked_again_only_if_that_is_wanted(harness: Harness) -> None:
    failing = 1

    def answer(call: Call) -> Answer:
        return (500, "text/plain", b"out of tea") if len(server.calls) <= failing else _NOTHING

    with handled(harness, answer) as (service, server):
        async with harness.client(service.url("ann")) as client:
            with raises(SendError) as caught:
                await client.call("send_event", "order", 0)
            assert (caught.error.name, caught.error.outcome) == ("InternalServerError", "unknown")
            assert isinstance(await client.call("send_event", "order", 0), Ack)
            assert [call.data for call in server.calls] == [b"0"] * 2  # both of them wanted
        server.calls.clear()
        async with harness.client(service.url("ann"), resend="always") as client:
            assert isinstance(await client.call("send_event", "order", 1), Ack)
            assert [call.data for call in server.calls] == [b"1", b"1"]
            failing = 1000
            with raises(SendError) as caught:
                await client.call("send_event", "order", 2)
            assert (caught.error.name, caught.error.outcome) == ("InternalServerError", "unknown")
            assert [call.data for call in server.calls[2:]] == [b"2"] * 4  # three repeats
            assert client.state is State.CONNECTED


@check()
async def an_event_is_handled_once_whatever_the_network_does(harness: Harness) -> None:
    """The connection drops while the handler thinks: its answer and the ack arrive on the recovered one."""
    go_on = threading.Event()

    def answer(call: Call) -> Answer:
        if call.event == "slow":
            go_on.wait(10)
        return 200, "text/plain", call.event.encode()

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client, anyio.create_task_group() as tasks:
                life, messages = Log(client, Recovered), Log(client, ServerMessage)
                acks: list[Ack] = []

                async def send(event: str) -> None:
                    acks.append(await client.call("send_event", event, "x"))

                tasks.start_soon(send, "slow")
                await soon(lambda: server.calls)
                tasks.start_soon(send, "behind")
                service.cut()
                await life.wait(Recovered)
                go_on.set()
                await soon(lambda: len(acks) == 2)
                await messages.wait(ServerMessage, 2)
                assert [message.data for message in messages.events] == ["slow", "behind"]
            assert [call.event for call in server.calls] == ["slow", "behind"]
    finally:
        go_on.set()


@check()
async def events_without_ack_arrive_in_order_and_nothing_else_waits_for_them(harness: Harness) -> None:
    count = 120
    with handled(harness, lambda _: _NOTHING) as (service, server):
        async with harness.client(service.url("ann")) as client:
            log = Log(client, GroupMessage)
            await client.join("answers")
            for number in range(count):
                assert await client.call("send_event", "order", number, ack=False) is None
            await client.send("published", "answers")
            await log.upto("published")
            await soon(lambda: len(server.calls) == count)
    assert [call.data for call in server.calls] == [b"%d" % number for number in range(count)]
