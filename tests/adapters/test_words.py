"""What Limpet's own clients say to people, the same for every client and connector: the contract asks for no text."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import anyio
import pytest
import trustme

from limpet import ConnectError, GroupMessage, InvalidType, InvalidValue, LocalProtocolError, Recovering
from limpet.testing.contract import Adapter, Check, run_check
from limpet.testing.contract.builtin import builtin, connectors
from limpet.testing.contract.checks._hostile import Harm, Hostile
from limpet.testing.contract.checks._names import name, name_that_hangs
from limpet.testing.contract.checks._not_a_service import NotAService
from limpet.testing.contract.harness import Harness, Log, logged, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject


async def fails(client: Subject) -> str:
    with prompt(), raises(ConnectError) as caught:
        async with client:
            raise AssertionError("it cannot have started")
    return str(caught.error)


async def a_wrong_argument_is_named(harness: Harness) -> None:
    for url in ("http://example.test", "ws://", "example.test", "", "ws://a b/", "ws://h:99999/"):
        with raises(InvalidValue) as caught:
            harness.client(url)
        assert "url" in str(caught.error)
    for rubbish in (7, b"ws://example.test", ["ws://example.test"], object()):
        with raises(InvalidType) as mistaken:
            harness.client(rubbish)
        assert "url" in str(mistaken.error)
    rubbish_types: tuple[Any, ...] = (int, "GroupMessage", GroupMessage | Recovering, None)
    for wrong in rubbish_types:
        with raises(InvalidType):
            harness.client().client.on(wrong)
        with raises(InvalidType):
            harness.client().client.on(wrong, print)


async def an_address_without_a_service_is_named(harness: Harness) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert f"127.0.0.1 port {port}" in await fails(harness.client(f"ws://127.0.0.1:{port}/client/hubs/chat"))
    with name("service.test", ("127.0.0.2", 9), ("127.0.0.3", 9)):
        assert "service.test" in await fails(harness.client("ws://service.test:9/client/hubs/chat"))


async def a_refusal_has_its_status_and_reason(harness: Harness) -> None:
    assert "the access token was refused" in await fails(harness.client(harness.service.url() + "x"))
    for status in (400, 401, 403, 404, 429, 500, 503):
        with NotAService.refusing(status, "out of tea") as server:
            text = await fails(harness.client(server.url))
        assert str(status) in text
        assert "out of tea" in text


async def a_redirect_is_named(harness: Harness) -> None:
    with NotAService(b"") as elsewhere, NotAService.refusing(307, "Moved", Location=elsewhere.url) as server:
        text = await fails(harness.client(server.url))
    assert f"redirects to {elsewhere.url.replace('SECRET', '***')}" in text


async def what_took_too_long_is_named(harness: Harness) -> None:
    provider = harness.client().slow_provider(harness.service.url, seconds=0.5)
    assert "timed out" in await fails(harness.client(provider, connect_timeout=0.1))
    with name_that_hangs("service.test"):
        assert "timed out" in await fails(harness.client("ws://service.test:9/client/hubs/chat", connect_timeout=0.2))


async def a_provider_that_fails_is_quoted(harness: Harness) -> None:
    answers: list[Any] = [ZeroDivisionError("no URL today"), "http://example.test", 7, None]

    def provide() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = harness.client(provide)
    assert "no URL today" in await fails(client)
    for _ in range(3):
        assert "url" in await fails(client)


async def silence_is_the_reason_of_a_loss(harness: Harness) -> None:
    async with harness.client(keepalive_interval=0.05, keepalive_timeout=0.3, check_timeout=0.3) as client:
        log = Log(client, Recovering)
        harness.service.stall()
        assert "nothing was heard" in (await log.wait(Recovering)).reason
        harness.service.cut()
        harness.service.resume()
        await client.join()
    async with harness.client(check_timeout=0.3) as client:
        log = Log(client, Recovering)
        harness.service.stall()
        await client.check()
        assert "of a check" in (await log.wait(Recovering)).reason
        harness.service.cut()
        harness.service.resume()
        await client.join()


async def a_second_reader_is_told_what_to_do(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        stream = client.events(GroupMessage)
        outcome: list[object] = []

        async def read() -> None:
            try:
                outcome.append((await anext(stream)).data)
            except LocalProtocolError as error:
                outcome.append(str(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            await soon(lambda: outcome)
            harness.service.publish(GROUP, [1])
        stream.close()
    assert "client.events(GroupMessage)" in str(outcome[0])


async def messages_that_nobody_reads_are_told(harness: Harness) -> None:
    with logged() as warnings:
        async with harness.client(max_buffered_messages=4) as client:
            await client.join()
            for number in range(10):
                await client.send(number)
    assert [text.split(":")[0] for text in warnings] == ["no callback or iterator reads messages"]


async def a_certificate_of_another_is_named(harness: Harness) -> None:
    with Hostile(Harm.STILL_BEHIND_TLS, harness.service_tls) as peer:
        assert "certificate" in await fails(harness.client(peer.url("localhost")))


CHECKS: tuple[Check, ...] = (
    a_wrong_argument_is_named,
    an_address_without_a_service_is_named,
    a_refusal_has_its_status_and_reason,
    a_redirect_is_named,
    what_took_too_long_is_named,
    a_provider_that_fails_is_quoted,
    silence_is_the_reason_of_a_loss,
    a_second_reader_is_told_what_to_do,
    messages_that_nobody_reads_are_told,
    a_certificate_of_another_is_named,
)


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("adapter", [*builtin(), *connectors()], ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_words(check: Check, adapter: Adapter, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    run_check(check, adapter, tls=tls if check is a_certificate_of_another_is_named else None)
