"""What an application asks of a connector, and what it must not."""

from __future__ import annotations

import gc
import socket
import ssl
import warnings
from typing import Any

import pytest
from tests.adapters.harness import GROUP, bounded, options, run, soon, url_of
from tests.adapters.test_connectors import as_coroutine, dial_to, maker, serve, url_at

import limpet.connect
from limpet import ConnectError, InvalidValue, parse_url
from limpet.asyncio import Client
from limpet.connect import BlockingTransport, MessageTransport
from limpet.service import Service
from limpet.testing.contract.checks._hostile import Harm, Hostile


@pytest.mark.parametrize(
    ("library", "name"),
    [("websockets", "subprotocols"), ("websockets-blocking", "uri"), ("aiohttp", "protocols"), ("picows", "url")],
)
def test_what_the_client_chooses_can_not_be_chosen(library: str, name: str) -> None:
    pytest.importorskip(library.partition("-")[0])
    with pytest.raises(InvalidValue, match=name):
        maker(library)(**{name: "x"})


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("websockets", "additional_headers"),
        ("websockets-blocking", "additional_headers"),
        ("aiohttp", "headers"),
        ("picows", "extra_headers"),
    ],
)
def test_headers_of_the_callers_go_along(library: str, name: str) -> None:
    pytest.importorskip(library.partition("-")[0])

    async def scenario() -> None:
        heads: list[bytes] = []
        connect = maker(library)(**{name: {"X-Mine": "1"}})
        async with await serve(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", heads) as server:
            for _ in range(2):
                with pytest.raises(ConnectError, match="503"):
                    await bounded(as_coroutine(connect, dial_to(url_at(server))))
        assert all(head.count(b"X-Mine: 1") == 1 and head.lower().count(b"user-agent: limpet") == 1 for head in heads)

    run(scenario)


@pytest.mark.parametrize(
    ("library", "wrong"),
    [("websockets", "ssl"), ("websockets", "bogus"), ("websockets-blocking", "ssl"), ("picows", "bogus")],
)
def test_what_the_library_does_not_take_leaves_no_socket(library: str, wrong: str) -> None:
    """Such as TLS settings for a ``ws`` URL."""
    pytest.importorskip(library.partition("-")[0])

    async def scenario() -> None:
        connect = maker(library)(**{wrong: ssl.create_default_context()})
        with Hostile(Harm.STILL, None) as peer:
            with pytest.raises((TypeError, ValueError)) as caught:
                await bounded(as_coroutine(connect, dial_to(peer.url())))
            await soon(lambda: peer.connected and not peer.open)
            assert caught.value.__traceback__ is not None  # keeps alive what nobody has closed

    run(scenario)


@pytest.mark.parametrize("library", ["websockets", "websockets-blocking"])
def test_a_redirect_is_not_followed(library: str) -> None:
    async def scenario() -> None:
        heads: list[bytes] = []
        answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
        async with await serve(answer, heads) as server:
            with pytest.raises(ConnectError, match="HTTP status 302") as caught:
                await bounded(as_coroutine(maker(library)(), dial_to(url_at(server))))
        assert caught.value.status == 302
        assert len(heads) == 1

    run(scenario)


@pytest.mark.parametrize("library", ["websockets", "websockets-blocking"])
@pytest.mark.parametrize(
    "wrong", [{"ssl": ssl.create_default_context()}, {"compression": "none"}, {"additional_header": {}}]
)
def test_an_argument_that_the_library_refuses_leaves_no_socket_open(library: str, wrong: dict[str, Any]) -> None:
    """Here: TLS for a URL without it, an unknown compression, and a name that is not quite one."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"ws://127.0.0.1:{listening.getsockname()[1]}/client"
            with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
                await bounded(as_coroutine(maker(library)(**wrong), dial_to(url)))
            gc.collect()

    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        run(scenario)
        gc.collect()
    assert [str(warning.message) for warning in left_open] == []


def test_a_session_of_the_callers_is_used_and_stays_open() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    from limpet.connect.aiohttp import connector

    async def scenario() -> None:
        async with Service() as service, aiohttp.ClientSession() as session:
            connect = connector(session=session)
            for _ in range(2):
                async with Client(url_of(service), options(), connect=connect) as client:
                    await bounded(client.send_to_group(GROUP, 1))
            with pytest.raises(ConnectError, match=r"HTTP status 401.*: .*access token is not valid"):
                await bounded(Client(url_of(service) + "spoilt", options(), connect=connect).start())
            assert not session.closed
            assert session.trace_configs == []
            endpoint = parse_url(url_of(service))
            async with session.get(f"http://{endpoint.authority}/nothing/here") as response:
                assert response.status == 404  # somebody else's refusals are none of our business

    run(scenario)


def test_the_public_names_say_where_they_are() -> None:
    assert limpet.connect.__all__ == [
        "BlockingConnect",
        "BlockingTransport",
        "Close",
        "Connect",
        "ConnectManager",
        "MessageTransport",
        "refused",
    ]
    for public in (BlockingTransport, MessageTransport):
        assert public.__module__ == "limpet.connect"
