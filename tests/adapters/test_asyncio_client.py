"""The asyncio client's whole API, against the local service and, where that is too polite, a scripted one."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from tests.adapters.harness import GROUP, Log, closed_port, left, nothing_left, options, run, soon, url_of, within
from tests.helpers.scripted import Peer, Scripted

from holdfast import (
    JSON,
    ClientStopped,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    SendError,
    ServerMessage,
    State,
    Stopped,
    TooManyRequests,
)
from holdfast.asyncio import Client
from holdfast.service import Service

# --- Start and stop -----------------------------------------------------------------------------------------------


def test_it_starts_says_who_it_is_and_stops() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service, "ann"), options())
            log = Log(client)
            assert (client.state, client.connection_id, client.user_id) == (State.STOPPED, None, None)
            await client.start()
            assert client.state is State.CONNECTED
            assert client.user_id == "ann"
            (connected,) = log.of(Connected)
            assert client.connection_id == connected.connection_id
            await client.stop()
            assert (client.state, client.connection_id, client.groups) == (State.STOPPED, None, frozenset())
            assert log.names() == ["Connected", "Disconnected", "Stopped"]
            assert log.of(Disconnected)[0].code == 1000
            assert log.of(Stopped)[0].error is None
            assert not service.hub("chat").connections

    run(scenario)


def test_the_context_manager_starts_and_stops_also_when_the_block_raises() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())

            async def block() -> None:
                async with client as entered:
                    assert entered is client
                    assert client.state is State.CONNECTED
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await block()
            assert client.state is State.STOPPED

    run(scenario)


def test_a_second_start_raises_and_harms_nothing() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            with pytest.raises(LocalProtocolError, match="connected"):
                await client.start()
            await client.send_to_group(GROUP, "still there")

    run(scenario)


def test_stop_is_idempotent_and_may_be_called_by_many() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client, Stopped)
            await client.stop()
            await client.start()
            await asyncio.gather(*(client.stop() for _ in range(5)))
            await client.stop()
            assert len(log.events) == 1

    run(scenario)


def test_a_stop_that_is_cancelled_goes_on_for_the_others() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            peer.answers_close = False
            await starting
            first, second = asyncio.create_task(client.stop()), asyncio.create_task(client.stop())
            await asyncio.sleep(0.01)
            first.cancel()
            await within(2, second)
            assert client.state is State.STOPPED
            assert first.cancelled()

    run(scenario)


def test_it_starts_again_after_a_stop_and_listeners_stay() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client)
            ids = set()
            for _ in range(3):
                await client.start()
                ids.add(client.connection_id)
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, "hello")
                await log.wait(GroupMessage, len(ids))
                await client.stop()
            assert len(ids) == 3
            assert log.names() == ["Connected", "GroupMessage", "Disconnected", "Stopped"] * 3

    run(scenario)


def test_it_starts_again_in_another_event_loop() -> None:
    seen: list[Any] = []
    where: list[str] = []
    client = Client(lambda: where[-1], options())

    async def scenario() -> None:
        async with Service() as service:
            where.append(url_of(service))

            async def slow(event: GroupMessage) -> None:
                await asyncio.sleep(0)
                seen.append(event.data)

            client.on(GroupMessage, slow)
            async with client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, "hello")
                await soon(lambda: seen)
            client.off(GroupMessage, slow)

    run(scenario)
    seen.clear()
    run(scenario)
    assert seen == ["hello"]


def test_callbacks_go_on_in_another_event_loop_though_one_was_cut_off() -> None:
    seen: list[Any] = []
    where: list[str] = []
    client = Client(lambda: where[-1], options())
    began = asyncio.Event()

    @client.on(GroupMessage)
    async def slow(event: GroupMessage) -> None:
        began.set()
        if event.data == "first":
            await asyncio.sleep(3600)
        seen.append(event.data)

    async def main(data: str) -> None:
        async with Service() as service:
            where.append(url_of(service))
            async with asyncio.timeout(5), client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, data)
                await soon(lambda: began.is_set() if data == "first" else seen)

    asyncio.run(main("first"))  # which cancels the callback in the end
    asyncio.run(main("second"))
    assert seen == ["second"]


# --- A start that fails -------------------------------------------------------------------------------------------


async def assert_start_fails(client: Client, match: str, status: int | None = None) -> ConnectError:
    """Start must fail as a whole: nothing may be left that could connect later."""
    before = len(left())
    log = Log(client)
    with pytest.raises(ConnectError, match=match) as caught:
        await within(4, client.start())
    assert caught.value.status == status
    assert client.state is State.STOPPED
    assert log.names() == ["Stopped"]
    assert log.events[0].error is caught.value
    await soon(lambda: len(left()) <= before)
    await asyncio.sleep(0.05)
    assert client.state is State.STOPPED
    assert "SECRET" not in str(caught.value)
    return caught.value


def test_start_fails_on_a_refused_port() -> None:
    async def scenario() -> None:
        port = closed_port()
        url = f"ws://127.0.0.1:{port}/client/hubs/chat?access_token=SECRET"
        error = await assert_start_fails(Client(url, options()), f"127.0.0.1 port {port}")
        assert isinstance(error.__cause__, BaseException)

    run(scenario)


def test_start_fails_on_a_name_that_can_not_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async def getaddrinfo(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        await assert_start_fails(
            Client("ws://nowhere.invalid/client/hubs/chat", options()), "nowhere.invalid.*not known"
        )

    run(scenario)


def test_start_fails_in_time_when_the_name_service_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async def getaddrinfo(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(3600)

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        client = Client("ws://nowhere.invalid/client/hubs/chat", options(connect_timeout=0.1))
        await assert_start_fails(client, "timed out")

    run(scenario)


def test_start_fails_on_a_bad_token() -> None:
    async def scenario() -> None:
        async with Service() as service:
            url = f"ws://127.0.0.1:{service.port}/client/hubs/chat?access_token=SECRET"
            await assert_start_fails(Client(url, options()), "401.*access token was refused", 401)
            await assert_start_fails(Client(lambda: url, options()), "401", 401)

    run(scenario)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_start_fails_on_any_refusal_and_says_what_the_service_said(status: int) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            failing = asyncio.create_task(assert_start_fails(Client(service.url, options()), "out of tea", status))
            (await service.handshake()).refuse(status, "out of tea")
            await failing
            assert len(service.peers) == 1

    run(scenario)


@pytest.mark.parametrize("url", ["http://example.test", "ws://", "example.test", "", "ws://a b/", "ws://h:99999/"])
def test_a_bad_url_raises_at_construction_and_fails_the_start_when_provided(url: str) -> None:
    with pytest.raises(InvalidValue, match="url"):
        Client(url)

    async def scenario() -> None:
        await assert_start_fails(Client(lambda: url, options()), "url")

    run(scenario)


@pytest.mark.parametrize("rubbish", [None, 7, b"ws://example.test", ["ws://example.test"], object()])
def test_rubbish_instead_of_a_url(rubbish: Any) -> None:
    with pytest.raises(InvalidType, match="url"):
        Client(rubbish)

    async def scenario() -> None:
        await assert_start_fails(Client(lambda: rubbish, options()), "url must be a str")

        async def provider() -> Any:
            return rubbish

        await assert_start_fails(Client(provider, options()), "url must be a str")

    run(scenario)


def test_wrong_kinds_of_arguments_raise_at_construction() -> None:
    with pytest.raises(InvalidType, match="options"):
        Client("ws://example.test", {"protocol": JSON})  # type: ignore[arg-type]
    with pytest.raises(InvalidType, match="ssl"):
        Client("ws://example.test", ssl=True)  # type: ignore[arg-type]


def test_start_fails_with_the_provider_as_cause() -> None:
    async def scenario() -> None:
        def provider() -> str:
            raise RuntimeError("no token today")

        async def later() -> str:
            await asyncio.sleep(0)
            raise RuntimeError("no token today")

        for function in (provider, later):
            error = await assert_start_fails(Client(function, options()), "no token today")
            assert isinstance(error.__cause__, RuntimeError)

    run(scenario)


def test_a_provider_that_hangs_is_given_up_and_cancelled() -> None:
    async def scenario() -> None:
        cancelled: list[bool] = []

        async def provider() -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return ""

        await assert_start_fails(Client(provider, options(connect_timeout=0.1)), "timed out")
        assert cancelled

    run(scenario)


def test_a_provider_is_asked_once_for_each_connection() -> None:
    async def scenario() -> None:
        async with Service() as service:
            asked: list[str] = []

            async def provider() -> str:
                await asyncio.sleep(0)
                asked.append(url_of(service, f"user-{len(asked)}"))
                return asked[-1]

            client = Client(provider, options())
            for number in range(3):
                async with client:
                    assert client.user_id == f"user-{number}"
            assert len(asked) == 3

    run(scenario)


def test_start_fails_without_a_connected_message() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options(connect_timeout=0.15))
            failing = asyncio.create_task(assert_start_fails(client, "timed out"))
            peer = await service.handshake()
            peer.upgrade()
            await failing
            await peer.gone()
            assert len(service.peers) == 1

    run(scenario)


def test_start_fails_when_the_service_speaks_no_subprotocol_or_no_http() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            failing = asyncio.create_task(assert_start_fails(Client(service.url, options()), "subprotocol"))
            (await service.handshake()).upgrade(None)
            await failing
            for answer in (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 100, b"HTTP/1.1 101 Switching\r\n\r\n", b""):
                failing = asyncio.create_task(assert_start_fails(Client(service.url, options()), "handshake"))
                peer = await service.handshake()
                peer.raw(answer)
                peer.fin()
                await failing

    run(scenario)


@pytest.mark.parametrize("step", ["provider", "tcp", "upgrade", "hello"])
def test_a_cancelled_start_leaves_nothing_behind(step: str) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            asking = asyncio.Event()

            async def provider() -> str:
                asking.set()
                if step == "provider":
                    await asyncio.sleep(3600)
                return service.url

            client = Client(provider, options())
            log = Log(client)
            starting = asyncio.create_task(client.start())
            await asking.wait()
            if step in ("upgrade", "hello"):
                peer = await service.handshake()
                if step == "hello":
                    peer.upgrade()
                    await asyncio.sleep(0.02)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(2, starting)
            assert client.state is State.STOPPED
            await asyncio.sleep(0.05)
            assert log.names() == ["Stopped"]
            # It is as good as new.
            again = asyncio.create_task(client.start())
            if step != "provider":
                while (peer := await service.handshake()).close_code is not None:
                    pass  # the connection that was given up
                peer.upgrade()
                peer.connected()
                await within(2, again)
                await client.stop()
            else:
                again.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await again

    run(scenario)


def test_a_start_with_a_timeout_of_the_application() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.start()
            peer = await service.handshake()
            peer.upgrade()  # too late
            peer.connected()
            await peer.gone()
            assert client.state is State.STOPPED

    run(scenario)


@pytest.mark.parametrize("step", ["provider", "tcp", "upgrade", "hello"])
def test_a_stop_during_start(step: str) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            asking = asyncio.Event()

            async def provider() -> str:
                asking.set()
                if step == "provider":
                    await asyncio.sleep(3600)
                return service.url

            client = Client(provider, options())
            log = Log(client)
            starting = asyncio.create_task(client.start())
            await asking.wait()
            if step in ("upgrade", "hello"):
                peer = await service.handshake()
                if step == "hello":
                    peer.upgrade()
                    await asyncio.sleep(0.02)
            await within(2, client.stop())
            with pytest.raises(ClientStopped):
                await within(2, starting)
            assert log.names() == ["Stopped"]

    run(scenario)


# --- TLS ----------------------------------------------------------------------------------------------------------


def contexts(name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context of one certificate authority."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def obey(peer: Peer, message: dict[str, Any]) -> None:
    peer.ack(message)


def test_tls_with_a_certificate_authority_of_ones_own() -> None:
    server, trust = contexts()

    async def scenario() -> None:
        async with Scripted(obey, tls=server) as service:
            client = Client(service.url, options(), ssl=trust)
            log = Log(client, GroupMessage)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            await client.send_to_group(GROUP, "x" * 100_000)
            peer.deliver(*range(1, 500))
            await log.wait(GroupMessage, 499)
            await client.stop()
            assert await peer.gone() == 1000

    run(scenario)


def test_tls_faults_are_explained() -> None:
    server, trust = contexts()
    other_server, other_trust = contexts("elsewhere.example")

    async def scenario() -> None:
        async with Scripted(tls=server) as service:
            await assert_start_fails(Client(service.url, options()), "127.0.0.1 port .*certificate verify failed")
            await assert_start_fails(Client(service.url, options(), ssl=other_trust), "certificate verify failed")
        async with Scripted(tls=other_server) as service:
            await assert_start_fails(Client(service.url, options(), ssl=other_trust), "not valid for '127.0.0.1'")
        async with Scripted() as service:  # no TLS at all
            url = service.url.replace("ws://", "wss://")
            failing = asyncio.create_task(assert_start_fails(Client(url, options(), ssl=trust), "127.0.0.1 port"))
            await failing

    run(scenario)


def test_tls_with_a_service_that_goes_silent_is_stopped_in_time() -> None:
    server, trust = contexts()

    async def scenario() -> None:
        async with Scripted(obey, tls=server) as service:
            client = Client(service.url, options(), ssl=trust)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            peer.deaf()
            await within(3, client.stop())

    run(scenario)


# --- Requests -----------------------------------------------------------------------------------------------------

DATA: list[tuple[Any, str | None, Any, str]] = [
    ("text", None, "text", "text"),
    ("", None, "", "text"),
    ("grün \U0001f600 \x00", None, "grün \U0001f600 \x00", "text"),
    (b"\x00\xff", None, b"\x00\xff", "binary"),
    (bytearray(b"abc"), None, b"abc", "binary"),
    (memoryview(b"abc"), None, b"abc", "binary"),
    (b"", None, b"", "binary"),
    ({"a": [1, 2.5, None, True]}, None, {"a": [1, 2.5, None, True]}, "json"),
    ([], None, [], "json"),
    (0, None, 0, "json"),
    (False, None, False, "json"),
    ("text", "json", "text", "json"),
]


def test_every_data_type_arrives_as_it_was_sent() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service, "ann"), options()) as client:
            log = Log(client, GroupMessage)
            await client.join_group(GROUP)
            for data, data_type, _, _ in DATA:
                await client.send_to_group(GROUP, data, data_type=data_type)  # type: ignore[arg-type]
            await log.wait(GroupMessage, len(DATA))
            got = [(message.data, message.data_type) for message in log.of(GroupMessage)]
            assert got == [(data, data_type) for _, _, data, data_type in DATA]
            first = log.of(GroupMessage)[0]
            assert (first.group, first.from_user_id, first.sequence_id) == (GROUP, "ann", 1)

    run(scenario)


def test_join_leave_and_no_echo_do_what_they_say() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            log = Log(client, GroupMessage)
            join = await client.join_group(GROUP)
            assert not join.duplicate
            assert client.groups == {GROUP}
            await client.send_to_group(GROUP, 1)
            await client.send_to_group(GROUP, 2, no_echo=True)
            await client.send_to_group("another", 3)
            await client.leave_group(GROUP)
            assert client.groups == frozenset()
            await client.send_to_group(GROUP, 4)
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 5)
            await log.wait(GroupMessage, 2)
            assert [message.data for message in log.events] == [1, 5]

    run(scenario)


def test_without_ack_it_does_not_wait_and_arrives_in_order() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            log = Log(client, GroupMessage)
            await client.join_group(GROUP)
            for number in range(500):
                if number % 3:
                    assert await client.send_to_group(GROUP, number, ack=False) is None
                else:
                    await client.send_to_group(GROUP, number)
            await log.wait(GroupMessage, 500)
            assert [message.data for message in log.events] == list(range(500))
            assert await client.send_event("order", {"id": 7}, ack=False) is None

    run(scenario)


def test_messages_without_ack_right_before_a_stop_are_sent() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as receiver:
            log = Log(receiver, GroupMessage)
            await receiver.join_group(GROUP)
            async with Client(url_of(service), options()) as sender:
                for number in range(50):
                    await sender.send_to_group(GROUP, number, ack=False)
            await log.wait(GroupMessage, 50)

    run(scenario)


def test_an_ack_id_is_answered_as_a_duplicate_when_it_comes_again() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            log = Log(client, GroupMessage)
            await client.join_group(GROUP)
            first = await client.send_to_group(GROUP, "once", ack_id=77)
            again = await client.send_to_group(GROUP, "once", ack_id=77)
            assert (first.ack_id, first.duplicate) == (77, False)
            assert (again.ack_id, again.duplicate) == (77, True)
            assert (await client.send_to_group(GROUP, "last")).ack_id > 77
            await log.wait(GroupMessage, 2)
            assert [message.data for message in log.events] == ["once", "last"]

    run(scenario)


def test_a_refusal_is_an_error_with_a_name() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service, roles=()), options()) as client:
            for call in (
                client.join_group(GROUP),
                client.send_to_group(GROUP, "x"),
                client.leave_group(GROUP),
            ):
                with pytest.raises(SendError) as caught:
                    await call
                assert caught.value.name == "Forbidden"
                assert caught.value.outcome == "rejected"
                assert caught.value.message
            assert client.state is State.CONNECTED
            assert client.groups == frozenset()

    run(scenario)


def test_misuse_raises_at_once_and_sends_nothing() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options(max_pending_requests=2))
            with pytest.raises(ClientStopped):
                await client.send_to_group(GROUP, "x")
            with pytest.raises(ClientStopped):
                await client.join_group(GROUP)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            peer.on_request = None
            await starting
            for wrong in (
                client.join_group(""),
                client.join_group(7),  # type: ignore[arg-type]
                client.join_group("x" * 1025),
                client.leave_group(" "),
                client.send_to_group(GROUP, object()),
                client.send_to_group(GROUP, None),
                client.send_to_group(GROUP, 7, data_type="text"),
                client.send_to_group(GROUP, "x", data_type="strange"),  # type: ignore[arg-type]
                client.send_to_group(GROUP, "x", ack_id=0),
                client.send_to_group(GROUP, "x", ack_id="1"),  # type: ignore[arg-type]
                client.send_to_group(GROUP, "x" * (1 << 20)),
                client.send_event("7", "x"),
            ):
                with pytest.raises(LocalProtocolError):
                    await wrong
            pending = [asyncio.create_task(client.send_to_group(GROUP, number, ack_id=number)) for number in (1, 2)]
            await peer.request()
            await peer.request()
            with pytest.raises(TooManyRequests):
                await client.send_to_group(GROUP, "x")
            assert peer.no_request()
            for number in (1, 2):
                peer.send(type="ack", ackId=number, success=True)
            await asyncio.gather(*pending)
            await client.stop()

    run(scenario)


def test_a_cancelled_call_leaves_the_client_healthy() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await client.send_to_group(GROUP, "x")
            late = [await peer.request() for _ in range(3)]
            sending = asyncio.create_task(client.send_to_group(GROUP, "y"))
            request = await peer.request()
            assert request["ackId"] not in [message["ackId"] for message in late]
            for message in (*late, request):
                peer.ack(message)
            assert (await sending).ack_id == request["ackId"]
            await client.stop()

    run(scenario)


def test_a_call_that_is_cancelled_before_it_was_sent_is_withdrawn() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.handshake()
            waiting = [asyncio.create_task(client.send_to_group(GROUP, number)) for number in range(3)]
            await asyncio.sleep(0.01)
            waiting[1].cancel()
            await asyncio.sleep(0)
            peer.upgrade()
            peer.connected()
            await starting
            await asyncio.gather(waiting[0], waiting[2])
            assert [message["data"] for message in peer.received] == [0, 2]
            await client.stop()

    run(scenario)


def test_many_requests_at_once_keep_their_order() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            log = Log(client, GroupMessage)
            await client.join_group(GROUP)
            acks = await asyncio.gather(*(client.send_to_group(GROUP, number) for number in range(800)))
            assert len({ack.ack_id for ack in acks}) == 800
            await log.wait(GroupMessage, 800)
            assert [message.data for message in log.events] == list(range(800))

    run(scenario, debug=False)


def test_events_of_the_application_server_and_the_plain_protocol() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options(protocol=JSON))
            log = Log(client, ServerMessage, GroupMessage)
            starting = asyncio.create_task(client.start())
            peer = await service.stands(subprotocol=JSON)
            await starting
            peer.send(**{"type": "message", "from": "server", "dataType": "json", "data": {"a": 1}})
            peer.send(**{"type": "message", "from": "group", "group": "g", "dataType": "binary", "data": "AAE="})
            await log.wait(GroupMessage)
            server, group = log.events
            assert (server.data, server.sequence_id) == ({"a": 1}, None)
            assert group.data == b"\x00\x01"
            await client.send_event("order", {"id": 7})
            assert peer.received[-1] == {"type": "event", "event": "order", "dataType": "json", "data": {"id": 7}} | {
                "ackId": peer.received[-1]["ackId"]
            }
            assert not peer.sequence_acks
            await client.stop()

    run(scenario)


# --- Callbacks ----------------------------------------------------------------------------------------------------


def test_callbacks_run_in_order_one_at_a_time_whatever_their_kind() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            calls: list[tuple[str, int]] = []
            running = 0

            def plain(message: GroupMessage) -> None:
                assert not running
                calls.append(("plain", message.data))

            @client.on(GroupMessage)
            async def slow(message: GroupMessage) -> None:
                nonlocal running
                assert not running
                running += 1
                await asyncio.sleep(0.001 * (message.data % 3))
                calls.append(("slow", message.data))
                running -= 1

            client.on(GroupMessage, plain)
            await client.join_group(GROUP)
            for number in range(40):
                await client.send_to_group(GROUP, number)
            await soon(lambda: len(calls) == 80)
            assert calls == [(name, number) for number in range(40) for name in ("slow", "plain")]

    run(scenario)


def test_a_callback_that_raises_is_logged_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            seen: list[int] = []

            def bad(message: GroupMessage) -> None:
                raise RuntimeError("bad")

            async def worse(message: GroupMessage) -> None:
                await asyncio.sleep(0)
                raise asyncio.CancelledError if message.data == 2 else RuntimeError("worse")

            client.on(GroupMessage, bad)
            client.on(GroupMessage, worse)
            client.on(GroupMessage, bad)
            client.on(GroupMessage, lambda message: seen.append(message.data))
            await client.join_group(GROUP)
            for number in range(5):
                await client.send_to_group(GROUP, number)
            await soon(lambda: 4 in seen)

    with caplog.at_level(logging.ERROR, "holdfast"):
        run(scenario)
    assert "a callback for GroupMessage failed" in caplog.text
    assert "RuntimeError: worse" in caplog.text


def test_callbacks_may_call_the_client_and_register_others() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            seen: list[Any] = []

            async def answer(message: GroupMessage) -> None:
                if message.group == GROUP:
                    await client.send_to_group("answers", message.data)

            def once(message: GroupMessage) -> None:
                client.off(GroupMessage, once)
                client.on(GroupMessage, lambda later: seen.append((later.group, later.data)))

            client.on(GroupMessage, once)
            client.on(GroupMessage, answer)
            await client.join_group(GROUP)
            await client.join_group("answers")
            for number in range(20):
                await client.send_to_group(GROUP, number)
            await soon(lambda: ("answers", 19) in seen)
            assert [data for group, data in seen if group == "answers"] == list(range(20))

    run(scenario)


@pytest.mark.parametrize("kind", ["async", "returned", "task"])
def test_a_callback_may_stop_the_client(kind: str) -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client, Stopped)
            done = asyncio.Event()
            tasks: list[asyncio.Task[None]] = []

            async def stop(_: GroupMessage) -> None:
                await client.stop()
                done.set()

            def begin(_: GroupMessage) -> None:
                tasks.append(asyncio.create_task(stop(_)))

            callback: Callable[[GroupMessage], object] = {"async": stop, "returned": lambda _: stop(_), "task": begin}[
                kind
            ]
            client.on(GroupMessage, callback)
            await client.start()
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, "stop")
            await within(2, done.wait())
            await log.wait(Stopped)
            assert client.state is State.STOPPED

    run(scenario)


def test_a_callback_may_start_the_client_again() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client, Connected)

            async def again(_: Stopped) -> None:
                if len(log.events) < 3:
                    await client.start()
                    await client.stop()

            client.on(Stopped, again)
            await client.start()
            await client.stop()
            await log.wait(Connected, 3)
            await soon(lambda: client.state is State.STOPPED)

    run(scenario)


def test_wrong_callbacks_and_types_raise() -> None:
    client = Client("ws://example.test")
    with pytest.raises(InvalidType, match="callable"):
        client.on(GroupMessage, "not callable")  # type: ignore[call-overload]
    for wrong in (int, "GroupMessage", GroupMessage | ServerMessage, None):
        with pytest.raises(InvalidType, match="event type"):
            client.on(wrong, print)  # type: ignore[call-overload]
        with pytest.raises(InvalidType, match="event type"):
            client.on(wrong)  # type: ignore[call-overload]
        with pytest.raises(InvalidType, match="event type"):
            client.events(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidType):
        client.events()
    with pytest.raises(LocalProtocolError, match="not registered"):
        client.off(GroupMessage, print)
    client.on(GroupMessage, print)
    client.on(GroupMessage, print)
    client.off(GroupMessage, print)
    client.off(GroupMessage, print)
    with pytest.raises(LocalProtocolError, match="not registered"):
        client.off(GroupMessage, print)


# --- Iteration ----------------------------------------------------------------------------------------------------


def test_messages_from_before_the_iteration_are_there_and_a_break_loses_nothing() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            await client.join_group(GROUP)
            for number in range(30):
                await client.send_to_group(GROUP, number)
            seen: list[int] = []
            while len(seen) < 30:
                async with asyncio.timeout(5):
                    async for message in client:
                        assert isinstance(message, GroupMessage)
                        seen.append(message.data)
                        if len(seen) % 7 == 0 or len(seen) == 30:
                            break
            assert seen == list(range(30))

    run(scenario)


def test_a_cancelled_iteration_loses_nothing() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            seen: list[int] = []

            async def read() -> None:
                async for message in client:
                    seen.append(message.data)  # noqa: PERF401 - it is cancelled in the middle

            for number in range(1, 40):
                reader = asyncio.create_task(read())
                await asyncio.sleep(0)
                peer.deliver(number)
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            reader = asyncio.create_task(read())
            await soon(lambda: len(seen) >= 39)
            assert seen == list(range(1, 40))
            await client.stop()
            await within(2, reader)

    run(scenario)


def test_iteration_ends_with_the_client_and_raises_its_error() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            for lost in (False, True):
                client = Client(service.url, options(auto_reconnect=False))
                starting = asyncio.create_task(client.start())
                peer = await service.stands()
                await starting

                async def read(client: Client = client) -> list[int]:
                    return [message.data async for message in client]

                reader = asyncio.create_task(read())
                await asyncio.sleep(0)
                peer.deliver(1, 2, 3)
                if lost:
                    peer.close(1008, "go away")
                    with pytest.raises(ConnectError, match="go away"):
                        await within(2, reader)
                else:
                    await asyncio.sleep(0.02)
                    await client.stop()
                    assert await within(2, reader) == [1, 2, 3]
                assert client.state is State.STOPPED

    run(scenario)


def test_events_gives_what_was_asked_for_in_order() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            stream = client.events(Connected, GroupMessage, Stopped)

            async def read() -> list[str]:
                return [type(event).__name__ async for event in stream]

            reader = asyncio.create_task(read())
            async with client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, 1)
                await client.send_to_group(GROUP, 2)
            assert await within(2, reader) == ["Connected", "GroupMessage", "GroupMessage", "Stopped"]

    run(scenario)


def test_two_tasks_can_not_share_one_stream() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            stream = client.events(GroupMessage)
            first = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(LocalProtocolError, match="two tasks"):
                await anext(stream)
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 1)
            assert (await within(2, first)).data == 1

    run(scenario)


def test_a_closed_stream_ends_and_what_waits_in_it_is_dropped() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            await client.join_group(GROUP)
            async with client.events(GroupMessage) as stream:
                waiting = asyncio.create_task(anext(stream, None))
                await asyncio.sleep(0)
            assert await within(2, waiting) is None
            stream = client.events(GroupMessage)
            for number in range(5):
                await client.send_to_group(GROUP, number)
            assert (await anext(stream)).data == 0
            stream.close()
            stream.close()
            assert [event async for event in stream] == []

    run(scenario)


def test_subscribe_joins_iterates_and_leaves() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            async with client.subscribe("a") as a, client.subscribe("b") as b:
                assert client.groups == {"a", "b"}
                for number in range(5):
                    await client.send_to_group("a", number)
                    await client.send_to_group("b", -number)
                assert [(await anext(a)).data for _ in range(5)] == list(range(5))
                assert [(await anext(b)).data for _ in range(5)] == [0, -1, -2, -3, -4]
                async with client.subscribe("a") as again:
                    await client.send_to_group("a", "both")
                    assert (await anext(again)).data == (await anext(a)).data == "both"
                assert client.groups == {"a", "b"}
            await soon(lambda: client.groups == frozenset())

    run(scenario)


def test_subscribe_that_is_refused_raises_and_that_is_stopped_inside_ends() -> None:
    async def scenario() -> None:
        async with Service() as service:
            async with Client(url_of(service, roles=()), options()) as client:
                with pytest.raises(SendError, match="Forbidden"):
                    async with client.subscribe(GROUP):
                        raise AssertionError("not joined")
                with pytest.raises(InvalidValue):
                    async with client.subscribe(""):
                        raise AssertionError("not joined")
            async with Client(url_of(service), options()) as client, client.subscribe(GROUP) as messages:
                await client.stop()
                assert [message async for message in messages] == []

    run(scenario)


def test_a_subscription_cancelled_while_it_joins_does_not_stay_in_the_group() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting

            async def subscribe() -> None:
                async with client.subscribe(GROUP):
                    raise AssertionError("not joined")

            task = asyncio.create_task(subscribe())
            join = await peer.request()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            peer.ack(join)
            leave = await peer.request()
            assert (leave["type"], leave["group"]) == ("leaveGroup", GROUP)
            peer.ack(leave)
            await soon(lambda: client.groups == frozenset())
            await client.stop()

    run(scenario)


# --- Slow consumers -----------------------------------------------------------------------------------------------

LIMIT = 50


async def flood(service: Scripted, client: Client, count: int) -> tuple[Peer, asyncio.Task[None]]:
    """Start the client and send it numbered messages, as fast as it takes them."""
    starting = asyncio.create_task(client.start())
    peer = await service.stands()
    await starting

    async def send() -> None:
        for number in range(1, count + 1):
            peer.deliver(number)
            if number % 20 == 0:
                await asyncio.sleep(0)

    return peer, asyncio.create_task(send())


@pytest.mark.parametrize("how", ["callback", "iteration", "stream"])
def test_a_slow_consumer_pauses_reading_and_loses_nothing(how: str) -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(
                service.url,
                options(max_buffered_messages=LIMIT, keepalive_interval=0.05, keepalive_timeout=0.15, ack_timeout=0.1),
            )
            log = Log(client, Disconnected)
            delivery = client._delivery
            seen: list[int] = []
            go = asyncio.Event()
            most = 0

            async def take(message: Any) -> None:
                nonlocal most
                most = max(most, len(delivery._backlog or ()), len(delivery.inbox.items), *map(len, _items(client)))
                if len(seen) == 5:
                    await go.wait()
                elif message.data % 100 == 0:
                    await asyncio.sleep(0.001)
                seen.append(message.data)

            async def read(stream: Any) -> None:
                async for message in stream:
                    await take(message)

            reader = None
            if how == "callback":
                client.on(GroupMessage, take)
            else:
                reader = asyncio.create_task(read(client if how == "iteration" else client.events(GroupMessage)))
            # More than fits into the buffers of the sockets, so that it can not all be on its way.
            peer, sending = await flood(service, client, 3000)
            await soon(lambda: delivery.held)
            await asyncio.sleep(0.4)  # several times the keepalive timeout: a slow consumer is no dead connection
            assert client.state is State.CONNECTED
            assert len(seen) == 5
            go.set()
            await soon(lambda: len(seen) == 3000)
            assert seen == list(range(1, 3001))
            # One read from the socket (256 KiB) may bring more than the limit, but not again and again.
            assert most <= LIMIT + 3000
            assert delivery.held == 0
            assert not log.events
            await sending
            assert len(service.peers) == 1
            await client.send_to_group(GROUP, "still there")
            await client.stop()
            if reader is not None:
                await within(2, reader)
            assert peer.sequence_acks[-1] == 3000

    run(scenario, debug=False)


def _items(client: Client) -> list[Any]:
    return [buffer.items for buffer in client._delivery.buffers]


def test_buffers_stay_bounded_however_much_is_on_its_way() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options(max_buffered_messages=LIMIT))
            stream = client.events(GroupMessage)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            body = "x" * 10_000
            for number in range(1, 3001):
                peer.send(
                    **{"type": "message", "from": "group", "group": "g", "sequenceId": number}
                    | {
                        "dataType": "text",
                        "data": body,
                    }
                )
            waiting = stream._buffer.items
            await soon(lambda: len(waiting) >= LIMIT)
            await asyncio.sleep(0.1)
            size = len(waiting)
            assert LIMIT <= size <= LIMIT + 40  # what one read from the socket brings: 256 KiB
            await asyncio.sleep(0.1)
            assert len(waiting) == size
            for number in range(1, 3001):
                assert (await within(5, anext(stream))).sequence_id == number
                assert len(waiting) <= LIMIT + 40
            await client.stop()

    run(scenario, debug=False)


def test_without_any_reader_requests_go_on_and_the_newest_messages_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options(max_buffered_messages=LIMIT)) as client:
            await client.join_group(GROUP)
            for number in range(300):
                await client.send_to_group(GROUP, number)
            await client.send_to_group("another", "x")
            seen: list[int] = []
            async for message in client:
                seen.append(message.data)
                if message.data == 299:
                    break
            assert seen == list(range(300 - len(seen), 300))
            assert len(seen) >= LIMIT - 1

    with caplog.at_level(logging.WARNING, "holdfast"):
        run(scenario)
    assert caplog.text.count("nobody takes the messages") == 1


@pytest.mark.parametrize("how", ["callback", "iteration", "stream"])
def test_a_consumer_that_is_behind_can_still_send(how: str) -> None:
    """An answer to each message: its ack comes behind messages that nobody takes until the ack is here."""

    async def scenario() -> None:
        async with Scripted(obey) as service:
            client = Client(service.url, options(max_buffered_messages=LIMIT, ack_timeout=None))
            seen: list[int] = []

            async def take(message: Any) -> None:
                await client.send_to_group("answers", message.data)
                seen.append(message.data)

            async def read(stream: Any) -> None:
                async for message in stream:
                    await take(message)

            reader = None
            if how == "callback":
                client.on(GroupMessage, take)
            else:
                reader = asyncio.create_task(read(client if how == "iteration" else client.events(GroupMessage)))
            _, sending = await flood(service, client, 1000)
            await sending
            await soon(lambda: len(seen) == 1000)
            assert seen == list(range(1, 1001))
            await client.stop()
            if reader is not None:
                await within(2, reader)

    run(scenario, debug=False)


# --- Nothing is left behind ---------------------------------------------------------------------------------------


def test_nothing_is_left_after_stop() -> None:
    async def scenario() -> None:
        async with Scripted(obey) as service:
            before = len(left())
            client = Client(service.url, options(keepalive_interval=1.0, keepalive_timeout=5.0))

            @client.on(GroupMessage)
            async def slow(_: GroupMessage) -> None:
                await asyncio.sleep(0)

            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            peer.deliver(1, 2, 3)
            unanswered = asyncio.create_task(client.join_group(GROUP))
            await asyncio.sleep(0.02)
            await client.stop()
            await asyncio.gather(unanswered, return_exceptions=True)
            await soon(lambda: len(left()) <= before)
        await nothing_left()

    run(scenario)


SCRIPT = """
    import asyncio, ssl, sys
    from holdfast import GroupMessage, Options
    from holdfast.asyncio import Client

    async def main(url, ca):
        trust = ssl.create_default_context(cafile=ca) if ca else None
        client = Client(url, Options(), ssl=trust)
        async def show(message):
            await asyncio.sleep(0)
        client.on(GroupMessage, show)
        async with client:
            await client.join_group("g")
            await client.send_to_group("g", "hello")
        try:
            await Client("ws://127.0.0.1:1/client/hubs/chat").start()
        except Exception as error:
            print(type(error).__name__)

    asyncio.run(main(sys.argv[1], sys.argv[2]))
    print("done")
"""


@pytest.mark.parametrize("secure", [False, True])
def test_a_program_ends_cleanly_in_development_mode(secure: bool, tmp_path: Any) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)

    async def scenario() -> None:
        async with Scripted(obey, tls=server if secure else None) as service:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-X",
                "dev",
                "-W",
                "error",
                "-c",
                textwrap.dedent(SCRIPT),
                service.url,
                str(tmp_path / "ca.pem") if secure else "",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            await service.stands()
            out, err = await within(10, process.communicate())
            assert out.split() == [b"ConnectError", b"done"]
            assert err == b""
            assert process.returncode == 0

    run(scenario)
