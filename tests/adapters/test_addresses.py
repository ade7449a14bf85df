"""The addresses of a host: their order, and look-ups in a thread that callers share."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import struct
import threading
import time
from typing import Any

import pytest
from tests.helpers.waiting import LIMIT

from limpet import ConnectError
from limpet._transports import addresses, dial_asyncio, dial_blocking
from limpet._transports.addresses import look_up, look_up_aside, numeric
from limpet.anyio import client as anyio_client
from limpet.asyncio import Client as AsyncioClient
from limpet.asyncio import driver as asyncio_driver
from limpet.connect import picows, websockets
from limpet.sync import Client as SyncClient
from limpet.sync import _dialer as sync_dialer
from limpet.testing.contract.harness import fast

V4, V6 = socket.AF_INET, socket.AF_INET6
A4, B4, C4 = ((V4, 1, 6, "", (f"192.0.2.{number}", 80)) for number in range(3))
A6, B6 = ((V6, 1, 6, "", (f"2001:db8::{number}", 80, 0, 0)) for number in range(2))


class Resolver:
    """Answers look-ups when it is told to."""

    def __init__(self) -> None:
        self.answer: list[Any] | Exception = [A4]
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        assert self.may_answer.wait(LIMIT)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([A6, B6, A4, B4, C4], [A6, A4, B6, B4, C4]),
        ([A4, B4, A6], [A4, A6, B4]),
        ([A4, B4], [A4, B4]),
        ([A6], [A6]),
    ],
)
def test_the_families_are_tried_in_turn(resolver: Resolver, found: list[Any], order: list[Any]) -> None:
    resolver.answer = found
    assert look_up("h", 80) == order
    assert look_up_aside("h", 80).result(LIMIT) == order


def test_a_name_without_an_address_is_an_error(resolver: Resolver) -> None:
    resolver.answer = []
    with pytest.raises(OSError, match="the name has no address"):
        look_up("h", 80)
    with pytest.raises(OSError, match="the name has no address"):
        look_up_aside("h", 80).result(LIMIT)


def test_an_ip_address_needs_no_look_up() -> None:
    assert [place for *_, place in numeric("127.0.0.1", 80)] == [("127.0.0.1", 80)]
    assert [family for family, *_ in numeric("::1", 80)] in ([V6], [])  # Python may be built without IPv6
    for name in ("localhost", "nowhere.invalid", "x" * 100, "\udc00"):
        assert numeric(name, 80) == []


def test_look_ups_of_a_name_at_the_same_time_share_a_thread(resolver: Resolver) -> None:
    resolver.may_answer.clear()
    waiting = [look_up_aside("h", 80) for _ in range(1000)]
    other = look_up_aside("h", 81)
    assert not waiting[0].cancel()  # it is not this caller's alone
    resolver.may_answer.set()
    assert {id(one.result(LIMIT)) for one in waiting} == {id(waiting[0].result())}
    assert other.result(LIMIT) == [A4]
    assert resolver.asked == 2


def test_a_result_is_not_kept(resolver: Resolver) -> None:
    assert look_up_aside("h", 80).result(LIMIT) == [A4]
    resolver.answer = [B4]
    assert look_up_aside("h", 80).result(LIMIT) == [B4]
    assert not addresses._under_way


def test_nobody_joins_a_look_up_that_has_hung_for_long(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver.may_answer.clear()
    hangs = look_up_aside("h", 80)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2.0)
    another = look_up_aside("h", 80)
    assert another is not hangs
    assert look_up_aside("h", 80) is another
    resolver.may_answer.set()
    assert [one.result(LIMIT) for one in (hangs, another)] == [[A4], [A4]]


def test_a_forked_child_joins_no_look_up_of_its_parent(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver.may_answer.clear()
    parents = look_up_aside("h", 80)
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)  # as in a child, which has no thread for it
    assert look_up_aside("h", 80) is not parents
    resolver.may_answer.set()
    assert parents.result(LIMIT) == [A4]


@pytest.mark.parametrize("kind", ["asyncio", "anyio", "picows", "websockets", "sync"])
def test_a_connection_that_is_reset_as_soon_as_it_stands_is_a_failure_and_leaves_no_socket(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    def reset(sock: socket.socket) -> socket.socket:
        made.append(sock)
        listener.may_reset.set()
        select.select([sock], [], [], LIMIT)
        return sock

    real, real_blocking = dial_asyncio.dial, dial_blocking.dial

    async def dial(host: str, port: int, **named: Any) -> socket.socket:
        return reset(await real(host, port, **named))

    def blocking_dial(host: str, port: int, wanted: Any) -> socket.socket:
        return reset(real_blocking(host, port, wanted))

    monkeypatch.setattr(dial_asyncio, "dial", dial)
    for module in (asyncio_driver, picows):
        monkeypatch.setattr(module, "dial_tcp", dial)
    monkeypatch.setattr(sync_dialer, "dial_tcp", blocking_dial)
    with Resetting() as listener:
        if kind == "sync":
            with pytest.raises(ConnectError):
                SyncClient(listener.url, fast()).start()
        else:
            asyncio.run(_start_fails(kind, listener.url))
    gc.collect()
    assert made
    assert [sock for sock in made if sock.fileno() >= 0] == []


async def _start_fails(kind: str, url: str) -> None:
    connect = {"picows": picows.connector, "websockets": websockets.connector}.get(kind, lambda: None)()
    client: Any = anyio_client.Client(url, fast()) if kind == "anyio" else AsyncioClient(url, fast(), connect=connect)
    with pytest.raises(ConnectError):
        await client.__aenter__()
    await asyncio.sleep(0.05)  # transports close in the background


class Resetting:
    """Accepts connections, and resets them as soon as it may."""

    def __enter__(self) -> Resetting:
        self.may_reset = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listening.getsockname()[1]}/client/hubs/chat"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            assert self.may_reset.wait(LIMIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
