"""Tokens and passwords go where they must and nowhere else: no redirect, no log, no exception, no repr."""

from __future__ import annotations

import asyncio
import logging
import traceback
from importlib import import_module
from typing import Any

import pytest
from simulation.inspect import inspect
from tests.adapters.harness import bounded, options, run, url_of
from tests.adapters.test_connectors import serve, url_at
from tests.helpers import frames
from tests.helpers.driving import QUIET, URL

from limpet import ConnectError, InvalidValue, Link, Options, Session, State, Stopped, Tunnel, parse_proxy
from limpet.asyncio import Client
from limpet.service import Service

TRANSPORTS = [None, "websockets", "aiohttp", "picows"]


def over(library: str | None) -> dict[str, Any]:
    return {} if library is None else {"connect": import_module(f"limpet.connect.{library}").connector()}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("library", TRANSPORTS)
def test_a_redirect_of_the_handshake_is_not_followed(library: str | None, status: int) -> None:
    async def scenario() -> None:
        asked: list[bytes] = []
        elsewhere = await serve(b"HTTP/1.1 404 Not Found\r\n\r\n", asked)
        target = url_at(elsewhere, "/stolen")
        for location in (target, target.replace("ws://", "http://"), "/relative"):
            heads: list[bytes] = []
            redirect = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            server = await serve(redirect.encode(), heads)
            client = Client(url_at(server), options(), **over(library))
            with pytest.raises(ConnectError) as caught:
                await bounded(client.start())
            assert caught.value.status == status
            assert "SECRET" not in "".join(traceback.format_exception(caught.value))
            assert len(heads) == 1
            server.close()
            await server.wait_closed()
        assert not asked
        elsewhere.close()
        await elsewhere.wait_closed()

    run(scenario)


@pytest.mark.parametrize("library", TRANSPORTS)
def test_no_token_is_in_a_log_of_ours_or_of_a_library(library: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []

    async def scenario() -> None:
        async with Service() as service:
            url = url_of(service)
            secrets.append(url.partition("access_token=")[2])
            client = Client(url, options(), **over(library))
            async with client:
                await client.join_group("g")
                assert client.connection_id is not None
                service.drop(client.connection_id)
                await bounded(asyncio.ensure_future(client.send_to_group("g", "x")))
                token = inspect(client._session).token
                assert token
                secrets.append(token)
            with pytest.raises(ConnectError):
                await Client(url[:-4] + "XXXX", options(), **over(library)).start()
            secrets.append(url[:-4])

    run(scenario)
    for secret in secrets:
        assert secret not in caplog.text


def test_the_password_of_a_proxy_is_for_the_proxy_only() -> None:
    tunnel = Tunnel(parse_proxy("http://ann:PASSWORD@proxy.test:3128"), "h", 443)
    assert b"Proxy-Authorization: Basic" in tunnel.data_to_send()
    session = Session(Options(**QUIET), random=lambda: 0.5)  # type: ignore[arg-type]
    session.start(0.0)
    session.url_ready(URL, 0.0)
    assert session.dial is not None
    handshake = b"".join(Link(session, session.dial, random_bytes=bytes).data_to_send())
    assert b"authorization" not in handshake.lower()
    # And the token is for the service only.
    fresh = Tunnel(parse_proxy("http://ann:PASSWORD@proxy.test:3128"), "h", 443)
    assert b"SECRET" not in fresh.data_to_send()


@pytest.mark.parametrize("host", ["h\r\nX: y", "h\nX: y", "h\tx", "h x", "h\x00", "h%0d%0aX", "user@h", "h/../x@y"])
def test_a_url_can_not_inject_a_header_or_name_another_host(host: str) -> None:
    session = Session(Options(**QUIET), random=lambda: 0.5)  # type: ignore[arg-type]
    session.start(0.0)
    session.url_ready(f"ws://{host}/client?access_token=SECRET", 0.0)
    if session.state is State.STOPPED:
        (stopped,) = [event for event in session.events() if isinstance(event, Stopped)]
        assert "SECRET" not in str(stopped.error)
        return
    assert session.dial is not None
    handshake = b"".join(Link(session, session.dial, random_bytes=bytes).data_to_send())
    request = frames.request_of(handshake)
    assert all(name != b"x" for name, _ in request.extra_headers)
    assert handshake.count(b"\r\nHost:") + handshake.count(b"\r\nhost:") == 1


@pytest.mark.parametrize("protocol", ["x\r\nX: y", "json.webpubsub.azure.v1, other", "", "custom"])
def test_a_subprotocol_is_one_of_ours(protocol: str) -> None:
    with pytest.raises(InvalidValue, match="protocol"):
        Options(protocol=protocol)


def test_what_the_service_hands_out_can_not_inject_into_the_recovery() -> None:
    session = Session(Options(**QUIET), random=lambda: 0.5)  # type: ignore[arg-type]
    session.start(0.0)
    session.url_ready(URL, 0.0)
    session.connected(0.0)
    session.receive_message(
        '{"type":"system","event":"connected",'
        '"connectionId":"c\\r\\nX: y&access_token=z","reconnectionToken":"t #\\r\\n"}',
        0.0,
    )
    session.disconnected(1.0)
    assert session.dial is not None
    assert session.dial.recovery
    request = frames.request_of(b"".join(Link(session, session.dial, random_bytes=bytes).data_to_send()))
    assert all(name != b"x" for name, _ in request.extra_headers)
    assert request.target.count("access_token=") == 1
    assert "\r" not in request.target
